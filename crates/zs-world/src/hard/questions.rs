//! Questions about a hard world: chains of facts, and kinds that join several of them.

use std::collections::BTreeSet;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use zs_core::{Domain, Question, StreamKey};

use super::Hard;
use super::index::Index;
use crate::name::misspell_given_name;
use crate::relation::fill;
use crate::{
    EntityId, EntityType, QuestionKind, Relation, World, WorldQuestion, pick, pick_weighted,
};

/// Attempts for each question that is wanted, until a world counts as exhausted.
const ATTEMPTS: usize = 20;

impl World {
    /// Up to `n` distinct questions, drawn until none is left; `draw` may fail.
    pub(crate) fn distinct_questions(
        &self,
        key: StreamKey,
        n: usize,
        mut draw: impl FnMut(&mut ChaCha8Rng) -> Option<WorldQuestion>,
    ) -> Vec<WorldQuestion> {
        let mut rng = key.rng(Domain::Questions);
        let mut texts = BTreeSet::new();
        let mut ids = BTreeSet::new();
        let mut questions = Vec::with_capacity(n);
        for _ in 0..n.saturating_mul(ATTEMPTS) {
            if questions.len() == n {
                break;
            }
            let Some(it) = draw(&mut rng) else { continue };
            // Other mentions of the same entities would ask the same again.
            let is_new = texts.insert(it.question.text.clone());
            if ids.insert(it.question.id.clone()) && is_new {
                questions.push(it);
            }
        }
        questions
    }
}

/// The first draw that suits; `None` after many that do not.
pub(super) fn retry<T>(
    rng: &mut ChaCha8Rng,
    mut draw: impl FnMut(&mut ChaCha8Rng) -> Option<T>,
) -> Option<T> {
    (0..500).find_map(|_| draw(rng))
}

/// Parts of a question.
pub(super) struct Draft {
    pub(super) kind: QuestionKind,
    pub(super) text: String,
    /// Every right answer, best first.
    pub(super) answers: Vec<String>,
    /// The facts that it needs.
    pub(super) path: Vec<usize>,
    /// The number of the question among those that need the same facts.
    pub(super) variant: Option<usize>,
    pub(super) mentions: Vec<(EntityId, String)>,
}

/// Composes the questions of one world.
pub(crate) struct Composer<'a> {
    pub(super) world: &'a World,
    pub(super) hard: &'a Hard,
    pub(super) index: &'a Index,
}

impl Composer<'_> {
    /// A question of any kind, by the weights of the difficulty; `None` where the world has none.
    pub(crate) fn draw(&self, rng: &mut ChaCha8Rng) -> Option<WorldQuestion> {
        // What decides the kind is drawn once, so that rejected draws leave the weights as they are.
        match pick_weighted(&self.hard.difficulty.kinds.weights(), rng) {
            0 => {
                let hops = pick_weighted(&self.hard.difficulty.hops, rng) + 1;
                self.chain(hops, rng)
            }
            1 => self.intersection(rng),
            2 => self.ordinal(rng),
            3 => self.comparison(rng),
            4 => self.yes_no(rng),
            _ => self.count(rng),
        }
    }

    /// A question whose answer is the last object of a chain of facts.
    pub(crate) fn chain(&self, hops: usize, rng: &mut ChaCha8Rng) -> Option<WorldQuestion> {
        retry(rng, |rng| self.draw_chain(hops, rng))
    }

    fn draw_chain(&self, hops: usize, rng: &mut ChaCha8Rng) -> Option<WorldQuestion> {
        let path = self.draw_path(hops, rng)?;
        let (last, first) = (path[path.len() - 1], path[0]);
        let mention = self.mention_in_question(self.world.facts[first].subject, rng);
        let subject = self.phrase(&path[..path.len() - 1], &mention, rng);
        let grammar = self.world.facts[last].relation.grammar();
        let text = fill(pick::<&str>(grammar.questions, rng), &subject, "");
        let kind = if hops == 1 { QuestionKind::Single } else { QuestionKind::Bridge };
        let answers = self.names_of(self.world.facts[last].object);
        let mentions = vec![(self.world.facts[first].subject, mention)];
        Some(self.question(Draft { kind, text, answers, path, variant: None, mentions }))
    }

    /// Facts each of which is about the object of the one before, through other entities each.
    pub(super) fn draw_path(&self, hops: usize, rng: &mut ChaCha8Rng) -> Option<Vec<usize>> {
        let facts = &self.world.facts;
        let first = rng.random_range(0..facts.len());
        let mut path = vec![first];
        let mut seen = vec![facts[first].subject, facts[first].object];
        if !self.is_askable(first) {
            return None;
        }
        while path.len() < hops {
            let last = facts[path[path.len() - 1]];
            if last.relation.grammar().phrases.is_empty() {
                return None;
            }
            let next: Vec<usize> = self
                .world
                .facts_about(last.object)
                .filter(|&it| self.is_askable(it) && !seen.contains(&facts[it].object))
                .collect();
            if next.is_empty() {
                return None;
            }
            let next = *pick(&next, rng);
            seen.push(facts[next].object);
            path.push(next);
        }
        Some(path)
    }

    /// Returns true if a question may ask for the fact: jobs are too few to be no good guess, and a
    /// description that a text gives away is no question.
    fn is_askable(&self, fact: usize) -> bool {
        let fact = self.world.facts[fact];
        let describes = World::describing_relation(self.world.entity_type(fact.subject));
        let is_given = self.world.is_namesake(fact.subject) && describes == Some(fact.relation);
        fact.relation != Relation::Job && !fact.relation.is_list() && !is_given
    }

    /// The noun phrase of the last object of a path, e.g. `"the spouse of the director of Badan"`.
    pub(super) fn phrase(&self, path: &[usize], subject: &str, rng: &mut ChaCha8Rng) -> String {
        path.iter().fold(subject.to_owned(), |subject, &fact| {
            let grammar = self.world.facts[fact].relation.grammar();
            fill(pick::<&str>(grammar.phrases, rng), &subject, "")
        })
    }

    /// A mention that a question may begin with: in full, by the second name, or of a person by the
    /// surname alone or with a misspelled given name where no one else has the surname.
    pub(super) fn mention_in_question(&self, entity: EntityId, rng: &mut ChaCha8Rng) -> String {
        let name = self.world.name(entity);
        if let Some(alias) = self.world.alias(entity).filter(|_| rng.random_bool(0.5)) {
            return alias.to_owned();
        }
        let is_person = self.world.entity_type(entity) == EntityType::Person;
        if is_person && !self.world.is_namesake(entity) && self.index.has_own_surname(name) {
            let (given, surname) = name.split_once(' ').unwrap_or(("", name));
            if rng.random_bool(self.hard.difficulty.misspelled) {
                return format!("{} {surname}", misspell_given_name(given, rng));
            }
            if rng.random_bool(self.hard.difficulty.partial) {
                return surname.to_owned();
            }
        }
        self.world.mention(entity)
    }

    /// Every right form of an answer: the name, the second name, and the name with its description.
    pub(super) fn names_of(&self, entity: EntityId) -> Vec<String> {
        let mut names = vec![self.world.name(entity).to_owned()];
        names.extend(self.world.alias(entity).map(str::to_owned));
        if self.world.is_namesake(entity) {
            names.push(self.world.mention(entity));
        }
        names
    }

    /// A question with everything that follows from the facts that it needs.
    pub(super) fn question(&self, draft: Draft) -> WorldQuestion {
        let Draft { kind, text, answers, path, variant, mentions } = draft;
        let chain: Vec<_> = path.iter().map(|&it| self.world.facts[it]).collect();
        let question = Question::new("", text, answers);
        let mut asked = WorldQuestion { question, kind, chain, mentions };
        let hops = asked.searches(self.world).len();
        let (split, seed) = (self.world.split.word(), self.world.seed);
        let places: Vec<String> = path.iter().chain(&variant).map(ToString::to_string).collect();
        let places = places.join("-");
        asked.question.id = format!("hard-{split}{seed}-{}-{hops}hop-{places}", kind.word());
        asked.question.hops = Some(hops as u8);
        asked.question.question_type = Some(kind.word().to_owned());
        let titles = asked.chain.iter().map(|it| self.world.title(it.subject));
        asked.question.gold_titles = titles.collect();
        asked.question.gold_titles.dedup();
        asked
    }
}
