//! Queries, good and sloppy, as policies of any skill would write them.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::name::misspell_name;
use super::{EntityType, Fact, QUERIES, World, WorldQuestion, pick, pick_weighted};

/// Relation of a query to the fact that the policy needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueryKind {
    /// The subject's full name and the relation's keyword.
    Oracle,
    /// The keyword alone.
    Keyword,
    /// The keyword and what the subject is.
    TypeOnly,
    /// The keyword with another entity of the subject's type.
    WrongEntity,
    /// The keyword with a part of the subject's name.
    Truncated,
    /// The subject with the keyword of another relation: the question's last one where that is
    /// another, as by a policy that skips a hop.
    WrongRelation,
    /// The subject's full name alone.
    EntityOnly,
    /// The keyword with the subject's name, miscopied: other syllables after the first.
    Misspelled,
}

/// Weights of the kinds of queries; they need not sum to one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryMix {
    /// Weight of [`QueryKind::Oracle`].
    pub oracle: f64,
    /// Weight of [`QueryKind::Keyword`].
    pub keyword: f64,
    /// Weight of [`QueryKind::TypeOnly`].
    pub type_only: f64,
    /// Weight of [`QueryKind::WrongEntity`].
    pub wrong_entity: f64,
    /// Weight of [`QueryKind::Truncated`].
    pub truncated: f64,
    /// Weight of [`QueryKind::WrongRelation`].
    pub wrong_relation: f64,
    /// Weight of [`QueryKind::EntityOnly`].
    pub entity_only: f64,
    /// Weight of [`QueryKind::Misspelled`].
    #[serde(default)]
    pub misspelled: f64,
}

impl Default for QueryMix {
    fn default() -> Self {
        Self {
            oracle: 0.64,
            keyword: 0.06,
            type_only: 0.04,
            wrong_entity: 0.06,
            truncated: 0.08,
            wrong_relation: 0.08,
            entity_only: 0.04,
            misspelled: 0.0,
        }
    }
}

impl QueryMix {
    /// The queries of the default mix that do not name their subject in full.
    #[must_use]
    pub fn unnamed() -> Self {
        Self {
            oracle: 0.0,
            wrong_relation: 0.0,
            entity_only: 0.0,
            misspelled: 0.08,
            ..Self::default()
        }
    }

    /// The same mix for hops after the first, where a simulation LLM cannot know the subject: a
    /// query with another name looks right to it, so such queries become good ones.
    #[must_use]
    pub fn of_later_hops(self) -> Self {
        let oracle = self.oracle + self.wrong_entity + self.misspelled;
        Self { oracle, wrong_entity: 0.0, misspelled: 0.0, ..self }
    }

    /// Draws a kind of query.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> QueryKind {
        let choices = [
            (self.oracle, QueryKind::Oracle),
            (self.keyword, QueryKind::Keyword),
            (self.type_only, QueryKind::TypeOnly),
            (self.wrong_entity, QueryKind::WrongEntity),
            (self.truncated, QueryKind::Truncated),
            (self.wrong_relation, QueryKind::WrongRelation),
            (self.entity_only, QueryKind::EntityOnly),
            (self.misspelled, QueryKind::Misspelled),
        ];
        choices[pick_weighted(&choices.map(|it| it.0), rng)].1
    }
}

impl World {
    /// Draws a query of a kind for one hop of a question.
    ///
    /// # Panics
    ///
    /// Panics when the question has no such hop.
    pub fn draw_query(
        &self,
        question: &WorldQuestion,
        hop: usize,
        kind: QueryKind,
        rng: &mut ChaCha8Rng,
    ) -> String {
        let fact = question.chain[hop];
        let keyword = fact.relation.keyword();
        let subject_type = self.entity_type(fact.subject);
        let name = &self.mention(fact.subject);
        match kind {
            QueryKind::Oracle => self.oracle_query(fact, rng),
            QueryKind::Keyword => keyword.to_owned(),
            QueryKind::TypeOnly => match rng.random_bool(0.5) {
                true => format!("{keyword} {}", subject_type.noun()),
                false => format!("{keyword} of the {}", subject_type.noun()),
            },
            QueryKind::WrongEntity => {
                let other = self.random_entity(subject_type, rng);
                self.phrase_query(self.name(other), keyword, subject_type, rng)
            }
            QueryKind::Truncated => {
                let part = truncate_name(self.name(fact.subject), rng);
                self.phrase_query(part, keyword, subject_type, rng)
            }
            QueryKind::WrongRelation => {
                let last = question.chain[question.chain.len() - 1].relation;
                let others: Vec<_> = subject_type
                    .relations_in(self.preset())
                    .filter(|it| *it != fact.relation)
                    .collect();
                let other = match last != fact.relation || others.is_empty() {
                    true => last,
                    false => *pick(&others, rng),
                };
                self.phrase_query(name, other.keyword(), subject_type, rng)
            }
            QueryKind::EntityOnly => name.clone(),
            QueryKind::Misspelled => {
                let other = misspell_name(self.name(fact.subject), self.split(), rng);
                self.phrase_query(&other, keyword, subject_type, rng)
            }
        }
    }

    /// A query that names the subject in full and the relation.
    pub(crate) fn oracle_query(&self, fact: Fact, rng: &mut ChaCha8Rng) -> String {
        let subject_type = self.entity_type(fact.subject);
        let mention = self.mention(fact.subject);
        self.phrase_query(&mention, fact.relation.keyword(), subject_type, rng)
    }

    pub(crate) fn phrase_query(
        &self,
        name: &str,
        keyword: &str,
        subject_type: EntityType,
        rng: &mut ChaCha8Rng,
    ) -> String {
        let phrasing = QUERIES[pick_weighted(&[0.6, 0.25, 0.15], rng)];
        phrasing.replace("{s}", name).replace("{k}", keyword).replace("{t}", subject_type.noun())
    }
}

/// A person's given name or surname; the first syllables of any other name.
fn truncate_name<'a>(name: &'a str, rng: &mut ChaCha8Rng) -> &'a str {
    match name.split_once(' ') {
        Some((given, surname)) => {
            if rng.random_bool(0.7) {
                given
            } else {
                surname
            }
        }
        // Names are ASCII; the first syllable has two or three letters.
        None => &name[..name.len().min(if name.len() > 5 { 4 } else { 2 })],
    }
}

#[cfg(test)]
mod tests {
    use zs_core::{Domain, StreamKey, contains_words};

    use super::*;
    use crate::Split;

    /// An upper bound of what any policy can reach on the real engine.
    #[test]
    fn oracle_queries_retrieve_the_supporting_passage() {
        for seed in [0, 1] {
            let world = World::generate(seed, Split::Test);
            let mut rng = StreamKey::new(1).rng(Domain::Corpus);
            let mut hits = 0;
            let facts: Vec<usize> = (0..world.facts().len()).step_by(3).collect();
            assert!(facts.len() >= 300);
            for &index in &facts {
                let query = world.oracle_query(world.facts()[index], &mut rng);
                hits += usize::from(world.search(&query, 3).contains(&index));
            }
            let share = hits as f64 / facts.len() as f64;
            assert!(share >= 0.97, "{share}");
        }
    }

    #[test]
    fn sloppy_queries_are_what_they_say() {
        let world = World::generate(1, Split::Train);
        let mut rng = StreamKey::new(2).rng(Domain::Corpus);
        for question in world.questions(0, 2, 60) {
            let first = question.chain[0];
            let name = world.name(first.subject);
            let mut query = |kind| world.draw_query(&question, 0, kind, &mut rng);
            assert!(contains_words(&query(QueryKind::Oracle), name));
            assert_eq!(query(QueryKind::EntityOnly), name);
            let without = [
                QueryKind::Keyword,
                QueryKind::TypeOnly,
                QueryKind::Truncated,
                QueryKind::Misspelled,
            ];
            for kind in without {
                assert!(!contains_words(&query(kind), name), "{kind:?}");
            }
            let wrong = query(QueryKind::WrongRelation);
            assert!(contains_words(&wrong, name));
            assert!(contains_words(&wrong, question.chain[1].relation.keyword()));
        }
    }
}
