//! Questions about a world.

use std::collections::BTreeSet;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use zs_core::{Domain, Question, StreamKey};

use super::relation::fill;
use super::{EntityId, Fact, World, pick};

/// Kind of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionKind {
    /// One fact.
    Single,
    /// A chain of facts: each is about the object of the one before.
    Bridge,
    /// The one entity for which two facts hold.
    Intersection,
    /// The first, second or third of a list by year.
    Ordinal,
    /// The older one of two that the question names, or the one with the older maker.
    Comparison,
    /// Yes or no, equally often.
    YesNo,
    /// One, two or three, equally often.
    Count,
}

impl QuestionKind {
    /// The word that data sets label the kind with, e.g. `"yes_no"`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Bridge => "bridge",
            Self::Intersection => "intersection",
            Self::Ordinal => "ordinal",
            Self::Comparison => "comparison",
            Self::YesNo => "yes_no",
            Self::Count => "count",
        }
    }

    /// The probability that a choice among the possible answers is right, where those are known
    /// from the question; `None` for kinds whose answers are names and years.
    #[must_use]
    pub fn chance(self) -> Option<f64> {
        match self {
            Self::Comparison | Self::YesNo => Some(1.0 / 2.0),
            Self::Count => Some(1.0 / 3.0),
            _ => None,
        }
    }
}

/// A question with the facts that answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldQuestion {
    /// The question as a dataset has it; `gold_titles` are the titles of the chain's subjects, and
    /// `hops` counts its [`searches`](Self::searches).
    pub question: Question,
    /// Kind of the question.
    pub kind: QuestionKind,
    /// The facts to join, in the order in which their subjects become known. In a chain the object
    /// of each is the subject of the next, and the last object is the answer.
    pub chain: Vec<Fact>,
    /// The entities of the chain that the question mentions, and how.
    pub mentions: Vec<(EntityId, String)>,
}

impl WorldQuestion {
    /// The chain in parts that one search each finds: facts with one relation about one name.
    #[must_use]
    pub fn searches(&self, world: &World) -> Vec<&[Fact]> {
        let is_same = |a: &Fact, b: &Fact| {
            a.relation == b.relation && world.name(a.subject) == world.name(b.subject)
        };
        self.chain.chunk_by(is_same).collect()
    }
}

impl World {
    /// Up to `n` distinct questions whose answer is the end of a chain of so many facts.
    ///
    /// Two questions are distinct when they follow different facts. Fewer than `n` come back where
    /// the world has fewer; an easy world has over 2,000 of one and of two hops each, and a hard one
    /// has chains of up to four. Every answer is stated by a passage, and no chain leads back to
    /// where it started.
    #[must_use]
    pub fn questions(&self, seed: u64, hops: u8, n: usize) -> Vec<WorldQuestion> {
        if let Some(hard) = &self.hard {
            let composer = hard.composer(self);
            let key = self.question_key(seed, 16 + u32::from(hops));
            let draw = |rng: &mut _| composer.chain(usize::from(hops), rng);
            return match hops {
                1..=4 => self.distinct_questions(key, n, draw),
                _ => Vec::new(),
            };
        }
        let mut rng = self.question_key(seed, u32::from(hops)).rng(Domain::Questions);
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

    /// Up to `n` distinct questions of the world's mix: of an easy one, one and two hops in turn; of
    /// a hard one, every kind as often as its difficulty says.
    #[must_use]
    pub fn mixed_questions(&self, seed: u64, n: usize) -> Vec<WorldQuestion> {
        if let Some(hard) = &self.hard {
            let composer = hard.composer(self);
            let key = self.question_key(seed, 16);
            return self.distinct_questions(key, n, |rng| composer.draw(rng));
        }
        let [one_hop, two_hop] = [1, 2].map(|it| self.questions(seed, it, n.div_ceil(2)));
        one_hop.into_iter().zip(two_hop).flat_map(|(one, two)| [one, two]).take(n).collect()
    }

    fn question_key(&self, seed: u64, sample: u32) -> StreamKey {
        let (step, group) = (self.seed, self.split as u32);
        StreamKey { step, group, sample, ..StreamKey::new(seed) }
    }

    /// Draws a question whose answer is the end of a chain of so many facts.
    ///
    /// # Panics
    ///
    /// Panics when the world has no chains of that length.
    pub fn random_question(&self, hops: u8, rng: &mut ChaCha8Rng) -> WorldQuestion {
        if let Some(hard) = &self.hard {
            assert!((1..=4).contains(&hops), "chains have one to four hops");
            let drawn = hard.composer(self).chain(usize::from(hops), rng);
            return drawn.expect("a world of 1,000 passages has chains of every length");
        }
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

    /// Draws a question of the world's mix: of an easy one, with one or two hops.
    ///
    /// # Panics
    ///
    /// Panics when a hard world has no question of its mix.
    pub fn draw_question(&self, rng: &mut ChaCha8Rng) -> WorldQuestion {
        let Some(hard) = &self.hard else {
            return self.random_question(rng.random_range(1..=2), rng);
        };
        let composer = hard.composer(self);
        let drawn = (0..1_000).find_map(|_| composer.draw(rng));
        drawn.expect("a world of 1,000 passages has questions of every kind")
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
        let kind = if hops == 1 { QuestionKind::Single } else { QuestionKind::Bridge };
        let first = facts[0].subject;
        let mentions = vec![(first, self.name(first).to_owned())];
        WorldQuestion { question, kind, chain: facts, mentions }
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
            for WorldQuestion { question, chain, .. } in &questions {
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
