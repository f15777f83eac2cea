//! Interactions of mixed quality, in the very form that the RL loop produces.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use zs_core::{Document, render_observation};

use super::{
    DOCUMENTS_PER_SEARCH, EntityId, EntityType, Example, Fact, QueryKind, Relation, World,
    WorldPreset, WorldQuestion, pick, pick_weighted,
};

/// The policy's prompt, a minijinja template with the variable `question`.
pub const PROMPT_TEMPLATE: &str = "Question: {{ question }}\n";

pub(crate) const NEED: &str = "I need the {k} of {s}.";
pub(crate) const FOUND: &str = "The {k} of {s} is {o}.";
pub(crate) const NOT_FOUND: &str = "Not found, search again.";
pub(crate) const GUESS: &str = "I know this.";
pub(crate) const VERBOSE: &str = "the {k} is {o}";

/// Everything that a transcript says of its own.
pub(crate) const PHRASES: [&str; 6] = [PROMPT_TEMPLATE, NEED, FOUND, NOT_FOUND, GUESS, VERBOSE];

/// Searches of the best behaviour at most, in an easy world.
const MAX_SEARCHES: usize = 4;
/// Probability that the best behaviour is shown documents that do not help, so that it learns to
/// check.
pub(crate) const NOISE_PROBABILITY: f64 = 0.25;
pub(crate) const VERBOSE_PROBABILITY: f64 = 0.15;

/// Behaviour of the policy of a transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// Answers at once, with anything of the right type.
    Guess,
    /// Searches for too little, then answers with something out of the documents.
    UselessQuery,
    /// Searches well once, then stops early or reads the wrong thing.
    Careless,
    /// Follows the whole chain, checks the documents, and searches again where they do not help.
    Good,
}

/// Weights of the behaviours; they need not sum to one.
///
/// The default is the base model's mix: mostly poor, as a base language model is, so that there is
/// something to be learned by reinforcement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BehaviourMix {
    /// Weight of [`Behaviour::Guess`].
    pub guess: f64,
    /// Weight of [`Behaviour::UselessQuery`].
    pub useless_query: f64,
    /// Weight of [`Behaviour::Careless`].
    pub careless: f64,
    /// Weight of [`Behaviour::Good`].
    pub good: f64,
}

impl Default for BehaviourMix {
    fn default() -> Self {
        Self { guess: 0.35, useless_query: 0.2, careless: 0.25, good: 0.2 }
    }
}

impl BehaviourMix {
    /// Draws a behaviour.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> Behaviour {
        let choices = [
            (self.guess, Behaviour::Guess),
            (self.useless_query, Behaviour::UselessQuery),
            (self.careless, Behaviour::Careless),
            (self.good, Behaviour::Good),
        ];
        choices[pick_weighted(&choices.map(|it| it.0), rng)].1
    }
}

/// An interaction about a question: prompt, turns and observations, ended by an answer.
///
/// What the policy writes is learned; prompt and observations are only shown.
#[must_use]
pub fn transcript(
    world: &World,
    question: &WorldQuestion,
    behaviour: Behaviour,
    rng: &mut ChaCha8Rng,
) -> Example {
    if world.preset() == WorldPreset::Hard {
        return world.hard_transcript(question, behaviour, rng);
    }
    let mut script = Script { world, question, example: Example::ending(), rng };
    script.example.show(PROMPT_TEMPLATE.replace("{{ question }}", &question.question.text));
    match behaviour {
        Behaviour::Guess => script.guess(),
        Behaviour::UselessQuery => script.search_for_too_little(),
        Behaviour::Careless => script.search_once(),
        Behaviour::Good => script.follow_the_chain(),
    }
    script.example
}

struct Script<'a> {
    world: &'a World,
    question: &'a WorldQuestion,
    example: Example,
    rng: &'a mut ChaCha8Rng,
}

impl Script<'_> {
    fn guess(&mut self) {
        let last = self.last_fact();
        let guess = self.world.random_entity(last.relation.grammar().object, self.rng);
        self.answer(GUESS, last.relation, guess);
    }

    fn search_for_too_little(&mut self) {
        let first = self.question.chain[0];
        let last = self.last_fact();
        let kinds = [QueryKind::Keyword, QueryKind::WrongEntity, QueryKind::TypeOnly];
        let kind = kinds[pick_weighted(&[0.4, 0.4, 0.2], self.rng)];
        let query = self.world.draw_query(self.question, 0, kind, self.rng);
        let found = self.world.search(&query, DOCUMENTS_PER_SEARCH);
        self.search(&self.need(first), &query, &found);
        let read = self.misread(&found, last.relation);
        self.answer(&self.found(first.subject, last.relation, read), last.relation, read);
    }

    fn search_once(&mut self) {
        let first = self.question.chain[0];
        let query = self.world.oracle_query(first, self.rng);
        let found = self.world.search(&query, DOCUMENTS_PER_SEARCH);
        self.search(&self.need(first), &query, &found);
        let stops_early = self.question.chain.len() > 1 && self.rng.random_bool(0.7);
        let read = match stops_early {
            true => first.object,
            false => self.misread(&found, first.relation),
        };
        self.answer(&self.found(first.subject, first.relation, read), first.relation, read);
    }

    fn follow_the_chain(&mut self) {
        let mut num_searches = 0;
        let mut so_far = String::new();
        for fact in self.question.chain.clone() {
            let mut thought = format!("{so_far} {}", self.need(fact)).trim().to_owned();
            let mut last_query = String::new();
            loop {
                let mut query = self.world.oracle_query(fact, self.rng);
                while query == last_query {
                    query = self.world.oracle_query(fact, self.rng);
                }
                let is_noisy =
                    num_searches < MAX_SEARCHES - 1 && self.rng.random_bool(NOISE_PROBABILITY);
                let found = match is_noisy {
                    true => self.world.search_noisy(self.question, fact, &query, self.rng),
                    false => self.world.search(&query, DOCUMENTS_PER_SEARCH),
                };
                self.search(&thought, &query, &found);
                num_searches += 1;
                if found.iter().any(|&it| self.world.supports(it, fact)) {
                    break;
                }
                if num_searches == MAX_SEARCHES {
                    let read = self.misread(&found, fact.relation);
                    let thought = self.found(fact.subject, fact.relation, read);
                    return self.answer(&thought, fact.relation, read);
                }
                NOT_FOUND.clone_into(&mut thought);
                last_query = query;
            }
            so_far = self.found(fact.subject, fact.relation, fact.object);
            if num_searches == MAX_SEARCHES && fact != self.last_fact() {
                // No search is left for the next hop; what was found is all there is.
                return self.answer(&so_far, fact.relation, fact.object);
            }
        }
        let last = self.last_fact();
        self.answer(&so_far, last.relation, last.object);
    }

    fn search(&mut self, thought: &str, query: &str, found: &[usize]) {
        self.example.learn(format!("<think> {thought} </think> <search> {query} </search>"));
        let documents: Vec<Document> = found.iter().map(|&it| self.world.passage(it)).collect();
        self.example.show(render_observation(&documents, false));
    }

    fn answer(&mut self, thought: &str, relation: Relation, answer: EntityId) {
        let name = self.world.name(answer);
        let text = match self.rng.random_bool(VERBOSE_PROBABILITY) {
            true => VERBOSE.replace("{k}", relation.keyword()).replace("{o}", name),
            false => name.to_owned(),
        };
        self.example.learn(format!("<think> {thought} </think> <answer> {text} </answer>"));
    }

    /// Something of the right type that the documents mention; anything of it where they do not.
    fn misread(&mut self, found: &[usize], relation: Relation) -> EntityId {
        let wanted: EntityType = relation.grammar().object;
        let mentioned: Vec<EntityId> = found
            .iter()
            .map(|&it| self.world.facts()[it])
            .flat_map(|it| [it.subject, it.object])
            .filter(|&it| self.world.entity_type(it) == wanted)
            .collect();
        match mentioned.is_empty() {
            true => self.world.random_entity(wanted, self.rng),
            false => *pick(&mentioned, self.rng),
        }
    }

    fn last_fact(&self) -> Fact {
        self.question.chain[self.question.chain.len() - 1]
    }

    fn need(&self, fact: Fact) -> String {
        let name = self.world.name(fact.subject);
        NEED.replace("{k}", fact.relation.keyword()).replace("{s}", name)
    }

    fn found(&self, subject: EntityId, relation: Relation, object: EntityId) -> String {
        FOUND
            .replace("{k}", relation.keyword())
            .replace("{s}", self.world.name(subject))
            .replace("{o}", self.world.name(object))
    }
}

#[cfg(test)]
mod tests {
    use zs_core::{Action, Domain, StreamKey, exact_match, parse_action};

    use super::*;
    use crate::Split;

    fn actions(example: &Example) -> Vec<Action> {
        let turns = example.segments.iter().filter(|it| it.learned);
        turns.map(|it| parse_action(&it.text)).collect()
    }

    #[test]
    fn transcripts_are_turns_and_observations() {
        let world = World::generate(0, Split::Train);
        let mut rng = StreamKey::new(0).rng(Domain::Corpus);
        for question in world.questions(3, 1, 60).iter().chain(&world.questions(3, 2, 60)) {
            for behaviour in
                [Behaviour::Guess, Behaviour::UselessQuery, Behaviour::Careless, Behaviour::Good]
            {
                let example = transcript(&world, question, behaviour, &mut rng);
                assert!(example.ends && !example.segments[0].learned);
                let alternates =
                    example.segments.windows(2).all(|it| it[0].learned != it[1].learned);
                assert!(alternates, "{example:?}");
                let actions = actions(&example);
                let (last, searches) = actions.split_last().unwrap();
                assert!(matches!(last, Action::Answer(_)), "{example:?}");
                assert!(searches.iter().all(|it| matches!(it, Action::Search(_))));
                let num_searches = match behaviour {
                    Behaviour::Guess => 0..=0,
                    Behaviour::UselessQuery | Behaviour::Careless => 1..=1,
                    Behaviour::Good => question.chain.len()..=MAX_SEARCHES,
                };
                assert!(num_searches.contains(&searches.len()), "{example:?}");
            }
        }
    }

    #[test]
    fn only_good_behaviour_answers_well() {
        let world = World::generate(1, Split::Train);
        let mut rng = StreamKey::new(0).rng(Domain::Corpus);
        let questions = world.questions(3, 2, 200);
        let mut score = |behaviour| {
            let hits = questions.iter().filter(|question| {
                let example = transcript(&world, question, behaviour, &mut rng);
                let Some(Action::Answer(answer)) = actions(&example).pop() else { return false };
                exact_match(&answer, &question.question.golden_answers)
            });
            hits.count() as f64 / questions.len() as f64
        };
        assert!(score(Behaviour::Good) > 0.7);
        for behaviour in [Behaviour::Guess, Behaviour::UselessQuery, Behaviour::Careless] {
            assert!(score(behaviour) < 0.1, "{behaviour:?}");
        }
    }
}
