//! One- and two-hop questions about a world.

use std::collections::BTreeSet;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use zs_core::{Domain, Question, StreamKey};

use super::relation::fill;
use super::{Fact, World, pick};

/// A question with the facts that answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldQuestion {
    /// The question as a dataset has it; `gold_titles` are the chain's subjects.
    pub question: Question,
    /// The facts to join, in order: the object of each is the subject of the next, and the last
    /// object is the answer.
    pub chain: Vec<Fact>,
}

impl World {
    /// Up to `n` distinct questions of one or two hops, drawn without replacement.
    ///
    /// Two questions are distinct when they follow different facts. Fewer than `n` come back where
    /// the world has fewer; a world has over 2,000 of each kind. Every answer is stated by a
    /// passage, and a two-hop question never leads back to where it started.
    #[must_use]
    pub fn questions(&self, seed: u64, hops: u8, n: usize) -> Vec<WorldQuestion> {
        let key = StreamKey { step: self.seed, group: self.split as u32, ..StreamKey::new(seed) };
        let mut rng = StreamKey { sample: u32::from(hops), ..key }.rng(Domain::Questions);
        let mut chains: Vec<Vec<usize>> = match hops {
            1 => (0..self.facts.len()).map(|it| vec![it]).collect(),
            2 => (0..self.facts.len()).flat_map(|it| self.two_hop_chains(it)).collect(),
            _ => Vec::new(),
        };
        chains.shuffle(&mut rng);
        let mut texts = BTreeSet::new();
        let mut questions = Vec::with_capacity(n.min(chains.len()));
        for chain in chains {
            if questions.len() == n {
                break;
            }
            let question = self.phrase_question(&chain, &mut rng);
            if texts.insert(question.question.text.clone()) {
                questions.push(question);
            }
        }
        questions
    }

    /// Draws a question of one or two hops.
    pub fn random_question(&self, hops: u8, rng: &mut ChaCha8Rng) -> WorldQuestion {
        loop {
            let first = rng.random_range(0..self.facts.len());
            if hops == 1 {
                return self.phrase_question(&[first], rng);
            }
            let chains: Vec<Vec<usize>> = self.two_hop_chains(first).collect();
            if !chains.is_empty() {
                let chain = pick(&chains, rng).clone();
                return self.phrase_question(&chain, rng);
            }
        }
    }

    fn two_hop_chains(&self, first: usize) -> impl Iterator<Item = Vec<usize>> {
        let Fact { subject, relation, object } = self.facts[first];
        let is_bridge = !relation.grammar().phrases.is_empty();
        let seconds = if is_bridge { self.facts_about(object) } else { 0..0 };
        seconds
            .filter(move |&second| self.facts[second].object != subject)
            .map(move |second| vec![first, second])
    }

    fn phrase_question(&self, chain: &[usize], rng: &mut ChaCha8Rng) -> WorldQuestion {
        let facts: Vec<Fact> = chain.iter().map(|&it| self.facts[it]).collect();
        let last = facts[facts.len() - 1];
        let mut subject = self.name(facts[0].subject).to_owned();
        for fact in &facts[..facts.len() - 1] {
            subject = fill(pick::<&str>(fact.relation.grammar().phrases, rng), &subject, "");
        }
        let text = fill(pick::<&str>(last.relation.grammar().questions, rng), &subject, "");
        let hops = facts.len() as u8;
        let path: Vec<String> = chain.iter().map(ToString::to_string).collect();
        let id = format!("{}{}-{hops}hop-{}", self.split.word(), self.seed, path.join("-"));
        let question = Question {
            hops: Some(hops),
            gold_titles: facts.iter().map(|it| self.name(it.subject).to_owned()).collect(),
            ..Question::new(id, text, [self.name(last.object)])
        };
        WorldQuestion { question, chain: facts }
    }
}

#[cfg(test)]
mod tests {
    use zs_core::contains_words;

    use super::*;
    use crate::Split;

    #[test]
    fn answers_are_supported_and_questions_distinct() {
        let world = World::generate(1, Split::Test);
        for hops in [1, 2] {
            let questions = world.questions(9, hops, 600);
            assert_eq!(questions.len(), 600);
            assert_eq!(questions, world.questions(9, hops, 600));
            let ids: BTreeSet<_> = questions.iter().map(|it| &it.question.id).collect();
            let texts: BTreeSet<_> = questions.iter().map(|it| &it.question.text).collect();
            assert_eq!((ids.len(), texts.len()), (600, 600));
            for WorldQuestion { question, chain } in &questions {
                assert_eq!(chain.len(), usize::from(hops));
                assert!(chain.is_sorted_by(|a, b| a.object == b.subject));
                assert!(question.text.contains(world.name(chain[0].subject)), "{question:?}");
                let last = chain[chain.len() - 1];
                assert_ne!(last.object, chain[0].subject);
                assert_eq!(question.golden_answers, [world.name(last.object)]);
                for fact in chain {
                    let index = world.fact_index(fact.subject, fact.relation).unwrap();
                    let passage = world.passage(index);
                    assert!(contains_words(&passage.text, world.name(fact.subject)));
                    assert!(contains_words(&passage.text, world.name(fact.object)));
                }
            }
        }
        assert!(world.questions(9, 3, 5).is_empty());
    }
}
