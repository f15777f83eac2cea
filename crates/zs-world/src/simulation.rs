//! Searches with the documents that a simulation LLM should write for them, to train one that answers
//! the *query*.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use zs_core::{Document, DocumentQuality, contains_words};

use super::{
    DOCUMENTS_PER_SEARCH, Fact, QueryKind, QueryMix, Relation, World, WorldPreset, WorldQuestion,
};

/// One search with the documents that the simulation LLM should write for it.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulationCase {
    /// The hop of the question that the query is for.
    pub hop: usize,
    /// Quality of the query.
    pub kind: QueryKind,
    /// The query.
    pub query: String,
    /// Quality of the documents.
    pub quality: DocumentQuality,
    /// The documents.
    pub documents: Vec<CaseDocument>,
}

/// A document of a [`SimulationCase`].
#[derive(Clone, Debug, PartialEq)]
pub struct CaseDocument {
    /// The document.
    pub document: Document,
    /// True if the document states the fact that the query should be about.
    pub supports: bool,
}

/// A search for one hop of a question, and what it should return.
///
/// - Useful documents are what the real engine returns for *this* query. For an oracle query the
///   supporting passage is among them; for a vague, truncated or wrong query the answer is there
///   only where the engine really returns it.
/// - Noisy documents are related results without any passage that states the queried fact or
///   mentions the answer.
///
/// The paper tunes on what a real engine returned and a judge labelled. Showing the model sloppy
/// queries with what they really retrieve is ours: a simulation LLM that sees the answer otherwise
/// learns to give it to any query, and a policy trained against it stops naming entities.
///
/// # References
///
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588), section 3.3
#[must_use]
pub fn simulation_case(
    world: &World,
    question: &WorldQuestion,
    hop: usize,
    queries: &QueryMix,
    rng: &mut ChaCha8Rng,
) -> SimulationCase {
    let fact = question.chain[hop];
    let kind = queries.draw(rng);
    let query = world.draw_query(question, hop, kind, rng);
    let is_useful = rng.random_bool(0.5);
    let passages = if is_useful {
        let mut found = world.search(&query, DOCUMENTS_PER_SEARCH);
        if kind == QueryKind::Oracle {
            world.force_support(&mut found, fact);
        }
        world.fill_up(found, |_| true, rng)
    } else {
        world.search_noisy(question, fact, &query, rng)
    };
    SimulationCase {
        hop,
        kind,
        query,
        quality: if is_useful { DocumentQuality::Useful } else { DocumentQuality::Noisy },
        documents: passages
            .into_iter()
            .map(|it| CaseDocument {
                document: world.passage(it),
                supports: world.supports(it, fact),
            })
            .collect(),
    }
}

impl World {
    /// The mention of a fact's object in a passage that states the fact; spouses are mutual.
    pub(crate) fn read(&self, passage: usize, fact: Fact) -> Option<String> {
        // Composing a passage takes longer than looking up what it states.
        if !self.supports(passage, fact) {
            return None;
        }
        let (_, mentions) = self.passage_with_mentions(passage);
        mentions.into_iter().find_map(|(index, mention)| {
            let stated = self.facts[index];
            match stated == fact {
                true => Some(mention),
                false => is_same_marriage(stated, fact).then(|| self.mention(stated.subject)),
            }
        })
    }

    /// Returns true if a passage states a fact, or the same the other way round.
    pub(crate) fn supports(&self, passage: usize, fact: Fact) -> bool {
        let current = self.current_facts(passage);
        current.into_iter().map(|it| self.facts[it]).any(|stated| {
            let [there, back] = [(fact.subject, fact.object), (fact.object, fact.subject)];
            let pair = (stated.subject, stated.object);
            stated.relation == fact.relation && (pair == there || pair == back)
        })
    }

    /// Makes sure that a passage which states the fact is among the results.
    pub(crate) fn force_support(&self, found: &mut Vec<usize>, fact: Fact) {
        if found.iter().any(|&it| self.supports(it, fact)) {
            return;
        }
        found.truncate(DOCUMENTS_PER_SEARCH - 1);
        found.extend(self.passages_that_state(fact).first());
    }

    /// Related results that neither state the fact nor mention the question's answer.
    pub(crate) fn search_noisy(
        &self,
        question: &WorldQuestion,
        fact: Fact,
        query: &str,
        rng: &mut ChaCha8Rng,
    ) -> Vec<usize> {
        let is_noise = |it: usize| self.is_noise(it, question, fact);
        // Half of the time noise is about something else that has the same relation.
        let other = self.random_entity(self.entity_type(fact.subject), rng);
        let query = match rng.random_bool(0.5) {
            true => query.to_owned(),
            false => format!("{} {}", self.name(other), fact.relation.keyword()),
        };
        let mut found = self.search(&query, 4 * DOCUMENTS_PER_SEARCH);
        found.retain(|&it| is_noise(it));
        found.truncate(DOCUMENTS_PER_SEARCH);
        found.shuffle(rng);
        self.fill_up(found, is_noise, rng)
    }

    fn is_noise(&self, passage: usize, question: &WorldQuestion, fact: Fact) -> bool {
        if self.preset() == WorldPreset::Easy {
            let stated = self.facts[passage];
            let mentions = |entity| stated.subject == entity || stated.object == entity;
            let answer = question.chain[question.chain.len() - 1].object;
            let states_it = mentions(fact.subject) && mentions(fact.object);
            return !states_it && !mentions(answer);
        }
        if self.supports(passage, fact) {
            return false;
        }
        // Answers such as "yes" and "2" are no part of a passage.
        if question.kind.chance().is_some() {
            return true;
        }
        let text = self.passage(passage).text;
        !question.question.golden_answers.iter().any(|it| contains_words(&text, it))
    }

    /// Adds any acceptable passages until a search's worth is there.
    fn fill_up(
        &self,
        mut found: Vec<usize>,
        accept: impl Fn(usize) -> bool,
        rng: &mut ChaCha8Rng,
    ) -> Vec<usize> {
        while found.len() < DOCUMENTS_PER_SEARCH {
            let any = rng.random_range(0..self.num_passages());
            if accept(any) && !found.contains(&any) {
                found.push(any);
            }
        }
        found
    }
}

fn is_same_marriage(a: Fact, b: Fact) -> bool {
    let are_marriages = [a, b].iter().all(|it| it.relation == Relation::Spouse);
    are_marriages && (a.subject, a.object) == (b.object, b.subject)
}

#[cfg(test)]
mod tests {
    use zs_core::{Domain, StreamKey, contains_words};

    use super::*;
    use crate::Split;

    #[test]
    fn documents_are_what_the_engine_returns_for_the_query() {
        let world = World::generate(4, Split::Validation);
        let mut rng = StreamKey::new(5).rng(Domain::Corpus);
        let queries = QueryMix { oracle: 0.3, ..QueryMix::default() };
        for question in world.questions(1, 1, 150).iter().chain(&world.questions(1, 2, 150)) {
            for (hop, fact) in question.chain.iter().enumerate() {
                let case = simulation_case(&world, question, hop, &queries, &mut rng);
                assert_eq!(case.documents.len(), DOCUMENTS_PER_SEARCH);
                let documents: Vec<Document> =
                    case.documents.iter().map(|it| it.document.clone()).collect();
                let contains =
                    |words: &str| documents.iter().any(|it| contains_words(&it.text, words));
                let answer = &question.question.golden_answers[0];
                match (case.quality, case.kind) {
                    (DocumentQuality::Noisy, _) => assert!(!contains(answer), "{case:?}"),
                    (DocumentQuality::Useful, QueryKind::Oracle) => {
                        assert!(contains(world.name(fact.object)), "{case:?}");
                    }
                    (DocumentQuality::Useful, _) => {
                        let real = world.search(&case.query, DOCUMENTS_PER_SEARCH);
                        let real: Vec<_> = real.into_iter().map(|it| world.passage(it)).collect();
                        assert_eq!(documents[..real.len()], real);
                    }
                }
            }
        }
    }
}
