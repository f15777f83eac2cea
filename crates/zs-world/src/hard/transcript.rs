//! Interactions about hard worlds.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use zs_core::{Document, render_observation};

use super::render::join;
use crate::difficulty::max_searches;
use crate::transcript::{
    FOUND, GUESS, NEED, NOISE_PROBABILITY, NOT_FOUND, PROMPT_TEMPLATE, VERBOSE, VERBOSE_PROBABILITY,
};
use crate::wording::{NAME_FOUND, NAME_QUERY, NEED_NAME, NUMBERS, YES_OR_NO};
use crate::{
    Behaviour, DOCUMENTS_PER_SEARCH, EntityId, EntityType, Example, Fact, QueryKind, QuestionKind,
    World, WorldQuestion, pick, pick_weighted,
};

/// Probability that the careless behaviour answers with what the first part of a chain asks for.
const STOPS_EARLY: f64 = 0.7;

impl World {
    /// An interaction about a question of a hard world; [`transcript`](crate::transcript) says what
    /// the behaviours are.
    pub(crate) fn hard_transcript(
        &self,
        question: &WorldQuestion,
        behaviour: Behaviour,
        rng: &mut ChaCha8Rng,
    ) -> Example {
        let mut example = Example::ending();
        example.show(PROMPT_TEMPLATE.replace("{{ question }}", &question.question.text));
        let known = question.mentions.iter().cloned().collect();
        let mut script = Script { world: self, question, known, example, rng };
        match behaviour {
            Behaviour::Guess => {
                let guess = script.any_answer();
                script.answer(GUESS, &guess);
            }
            Behaviour::UselessQuery => script.search_for_too_little(),
            Behaviour::Careless => script.search_once(),
            Behaviour::Good => script.follow_the_chain(),
        }
        script.example
    }
}

struct Script<'a> {
    world: &'a World,
    question: &'a WorldQuestion,
    /// Mentions of entities by the question and by documents that were read.
    known: BTreeMap<EntityId, String>,
    example: Example,
    rng: &'a mut ChaCha8Rng,
}

impl Script<'_> {
    fn search_for_too_little(&mut self) {
        let first = self.question.chain[0];
        let kinds = [QueryKind::Keyword, QueryKind::WrongEntity, QueryKind::TypeOnly];
        let kind = kinds[pick_weighted(&[0.4, 0.4, 0.2], self.rng)];
        let query = self.world.draw_query(self.question, 0, kind, self.rng);
        let found = self.world.search(&query, DOCUMENTS_PER_SEARCH);
        self.search(&need(first, &self.mention(first)), &query, &found);
        let read = self.misread(&found);
        self.answer_with(first, &self.mention(first), &read);
    }

    fn search_once(&mut self) {
        let parts = self.question.searches(self.world);
        let (part, num_parts) = (parts[0].to_vec(), parts.len());
        let mention = self.mention(part[0]);
        let query = self.query(part[0], &mention);
        let found = self.world.search(&query, DOCUMENTS_PER_SEARCH);
        self.search(&need(part[0], &mention), &query, &found);
        let is_chain = matches!(self.question.kind, QuestionKind::Single | QuestionKind::Bridge);
        let stops_early = is_chain && num_parts > 1 && self.rng.random_bool(STOPS_EARLY);
        let read = match self.read(&part, &found) {
            Some(read) if stops_early => read[0].clone(),
            _ => self.misread(&found),
        };
        self.answer_with(part[0], &mention, &read);
    }

    fn follow_the_chain(&mut self) {
        let parts: Vec<Vec<Fact>> =
            self.question.searches(self.world).into_iter().map(<[Fact]>::to_vec).collect();
        let mut spare = max_searches(parts.len()) - parts.len();
        let mut notes: Vec<String> = Vec::new();
        for part in &parts {
            let fact = part[0];
            let mut mention = self.mention(fact);
            let so_far = notes.last().map_or("", String::as_str);
            let mut thought = format!("{so_far} {}", need(fact, &mention)).trim().to_owned();
            let read = loop {
                let query = self.query(fact, &mention);
                let is_noisy = spare > 0 && self.rng.random_bool(NOISE_PROBABILITY);
                let found = match is_noisy {
                    true => self.world.search_noisy(self.question, fact, &query, self.rng),
                    false => self.world.search(&query, DOCUMENTS_PER_SEARCH),
                };
                self.search(&thought, &query, &found);
                if let Some(read) = self.read(part, &found) {
                    break read;
                }
                if spare >= 2 && self.world.alias(fact.subject) == Some(mention.as_str()) {
                    spare -= 2;
                    let full = self.look_up(fact.subject, &mention);
                    thought = NAME_FOUND.replace("{s}", &mention).replace("{o}", &full);
                    mention = full;
                } else if spare >= 1 {
                    spare -= 1;
                    NOT_FOUND.clone_into(&mut thought);
                } else {
                    let read = self.misread(&found);
                    return self.answer_with(fact, &mention, &read);
                }
            };
            notes.push(found_text(fact, &mention, &join(&read)));
            self.known.extend(part.iter().map(|it| it.object).zip(read));
        }
        // What joins several facts needs all of them.
        let is_chain = matches!(self.question.kind, QuestionKind::Single | QuestionKind::Bridge);
        let first = if is_chain { notes.len() - 1 } else { 0 };
        let answer = self.right_answer();
        self.answer(&notes[first..].join(" "), &answer);
    }

    /// The full name behind a second name, which it searches for.
    fn look_up(&mut self, entity: EntityId, alias: &str) -> String {
        let query = NAME_QUERY.replace("{s}", alias);
        let found = self.world.search(&query, DOCUMENTS_PER_SEARCH);
        self.search(&NEED_NAME.replace("{s}", alias), &query, &found);
        self.world.mention(entity)
    }

    fn mention(&self, fact: Fact) -> String {
        let known = self.known.get(&fact.subject);
        known.cloned().unwrap_or_else(|| self.world.mention(fact.subject))
    }

    fn query(&mut self, fact: Fact, mention: &str) -> String {
        let entity_type = self.world.entity_type(fact.subject);
        self.world.phrase_query(mention, fact.relation.keyword(), entity_type, self.rng)
    }

    /// The mentions of what a part of the question asks for, where documents state all of it.
    fn read(&self, part: &[Fact], found: &[usize]) -> Option<Vec<String>> {
        part.iter().map(|fact| found.iter().find_map(|&it| self.world.read(it, *fact))).collect()
    }

    fn search(&mut self, thought: &str, query: &str, found: &[usize]) {
        self.example.learn(format!("<think> {thought} </think> <search> {query} </search>"));
        let documents: Vec<Document> = found.iter().map(|&it| self.world.passage(it)).collect();
        self.example.show(render_observation(&documents, false));
    }

    /// Answers with what was read, as if it were what the fact is about.
    fn answer_with(&mut self, fact: Fact, mention: &str, read: &str) {
        match self.question.kind.chance() {
            None => self.answer(&found_text(fact, mention, read), read),
            Some(_) => self.answer(GUESS, read),
        }
    }

    fn answer(&mut self, thought: &str, answer: &str) {
        let last = self.question.chain[self.question.chain.len() - 1];
        let is_open = self.question.kind.chance().is_none();
        let text = match is_open && self.rng.random_bool(VERBOSE_PROBABILITY) {
            true => VERBOSE.replace("{k}", last.relation.keyword()).replace("{o}", answer),
            false => answer.to_owned(),
        };
        self.example.learn(format!("<think> {thought} </think> <answer> {text} </answer>"));
    }

    /// The right answer as the question or the documents have it.
    fn right_answer(&self) -> String {
        let answers = &self.question.question.golden_answers;
        let known = self.known.values().find(|it| answers.contains(it));
        known.unwrap_or(&answers[0]).clone()
    }

    /// An answer of the right kind.
    fn any_answer(&mut self) -> String {
        match self.question.kind {
            QuestionKind::YesNo => (*pick(&YES_OR_NO, self.rng)).to_owned(),
            QuestionKind::Count => self.rng.random_range(1..=NUMBERS.len()).to_string(),
            QuestionKind::Comparison => pick(&self.question.mentions, self.rng).1.clone(),
            _ => {
                let any = self.world.random_entity(self.answer_type(), self.rng);
                self.world.name(any).to_owned()
            }
        }
    }

    /// Something of the right type that the documents state; anything where they do not.
    fn misread(&mut self, found: &[usize]) -> String {
        if self.question.kind.chance().is_some() {
            return self.any_answer();
        }
        let wanted = self.answer_type();
        let stated = found.iter().flat_map(|&it| self.world.passage_with_mentions(it).1);
        let fitting: Vec<String> = stated
            .filter(|(fact, _)| self.world.facts[*fact].relation.grammar().object == wanted)
            .map(|it| it.1)
            .collect();
        match fitting.is_empty() {
            true => self.any_answer(),
            false => pick(&fitting, self.rng).clone(),
        }
    }

    /// The type of an answer that is an entity.
    fn answer_type(&self) -> EntityType {
        let chain = &self.question.chain;
        // An intersection and an order ask for what the first part lists or names.
        let fact = match self.question.kind {
            QuestionKind::Intersection | QuestionKind::Ordinal => chain[0],
            _ => chain[chain.len() - 1],
        };
        fact.relation.grammar().object
    }
}

fn need(fact: Fact, mention: &str) -> String {
    NEED.replace("{k}", fact.relation.keyword()).replace("{s}", mention)
}

fn found_text(fact: Fact, mention: &str, object: &str) -> String {
    let text = FOUND.replace("{k}", fact.relation.keyword());
    text.replace("{s}", mention).replace("{o}", object)
}
