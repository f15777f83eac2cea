//! Queries about an embedded world, of which it is known what they should find.

use rand::RngExt;
use serde::{Deserialize, Serialize};
use zs_core::{Document, DocumentQuality, Domain, Question, SearchEngine, StreamKey};

use super::{Probe, hold_answer, search_all};
use zs_core::contains_words;
use zs_world::{QueryKind, QueryMix, World};

/// Kind of an audited query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditKind {
    /// A good query for the only hop of a one-hop question.
    OnlyHop,
    /// A good query for the first hop of a two-hop question; its documents hold no final answer.
    FirstHop,
    /// A good query for the second hop of a two-hop question.
    SecondHop,
    /// A query for the hop that leads to the answer which does not name its subject in full.
    Sloppy,
}

/// One query of an audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditQuery {
    /// The question.
    pub question: Question,
    /// Kind of the query.
    pub kind: AuditKind,
    /// The query.
    pub query: String,
    /// The name of the entity that the query should be about.
    pub subject: String,
}

/// Shares of an audit, in `[0, 1]`; a failed search counts as one that holds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AuditReport {
    /// Good queries for the last hop whose useful documents contain the answer.
    pub useful_contains_answer: f64,
    /// The same for one-hop questions alone.
    pub useful_contains_answer_one_hop: f64,
    /// The same for two-hop questions alone.
    pub useful_contains_answer_two_hop: f64,
    /// Good queries for the last hop whose noisy documents contain the answer.
    pub noisy_contains_answer: f64,
    /// Sloppy queries whose useful documents contain the answer. What the real engine has here is
    /// the aim; more means that the engine answers the question and not the query.
    pub sloppy_contains_answer: f64,
    /// First-hop queries whose useful documents contain the final answer, which none should.
    pub first_hop_contains_answer: f64,
    /// First-hop queries with a useful document that names the subject.
    pub first_hop_names_subject: f64,
    /// Searches that failed.
    pub failed: f64,
    /// Searches carried out.
    pub num_searches: usize,
}

/// `n` queries of each kind about one world.
#[must_use]
pub fn audit_queries(world: &World, n: usize, key: StreamKey) -> Vec<AuditQuery> {
    let kinds = [AuditKind::OnlyHop, AuditKind::FirstHop, AuditKind::SecondHop, AuditKind::Sloppy];
    let mut queries = Vec::with_capacity(kinds.len() * n);
    for kind in kinds {
        let mut rng = StreamKey { turn: kind as u32, ..key }.rng(Domain::Corpus);
        for _ in 0..n {
            let (num_hops, hop) = match kind {
                AuditKind::OnlyHop => (1, 0),
                AuditKind::FirstHop => (2, 0),
                AuditKind::SecondHop => (2, 1),
                AuditKind::Sloppy => [(1, 0), (2, 1)][rng.random_range(0..2)],
            };
            let question = world.random_question(num_hops, &mut rng);
            let how = match kind {
                AuditKind::Sloppy => QueryMix::unnamed().draw(&mut rng),
                _ => QueryKind::Oracle,
            };
            let query = world.draw_query(&question, hop, how, &mut rng);
            let subject = world.name(question.chain[hop].subject).to_owned();
            queries.push(AuditQuery { question: question.question, kind, query, subject });
        }
    }
    queries
}

/// Searches for every query, as useful, and for the good last-hop ones as noisy too.
///
/// ```
/// use zs_core::StreamKey;
/// use zs_simulator::audit::{audit, audit_queries};
/// use zs_world::{Split, World};
///
/// let world = World::generate(0, Split::Validation);
/// let queries = audit_queries(&world, 20, StreamKey::new(1));
/// let report = audit(world.engine().as_ref(), &queries, 3, 7);
/// assert!(report.useful_contains_answer > 0.9);
/// assert!(report.sloppy_contains_answer < 0.3);
/// ```
#[must_use]
pub fn audit(
    engine: &dyn SearchEngine,
    queries: &[AuditQuery],
    k: usize,
    seed: u64,
) -> AuditReport {
    let searches: Vec<(DocumentQuality, &AuditQuery)> = queries
        .iter()
        .map(|it| (DocumentQuality::Useful, it))
        .chain(queries.iter().filter(|it| it.is_last_hop()).map(|it| (DocumentQuality::Noisy, it)))
        .collect();
    let numbered = searches.iter().enumerate();
    let probes: Vec<Probe<'_>> = numbered
        .map(|(index, &(quality, it))| {
            let key = StreamKey { sample: index as u32, ..StreamKey::new(seed) };
            let seed = key.derive_seed(Domain::Search);
            Probe { question: &it.question, query: &it.query, quality, seed }
        })
        .collect();
    let results = search_all(engine, &probes, k);
    let failed = results.iter().filter(|it| it.is_err()).count();
    let outcomes: Vec<Outcome> = searches
        .iter()
        .zip(results)
        .map(|(&(quality, query), result)| Outcome::of(quality, query, result.unwrap_or_default()))
        .collect();
    let share = |hit: fn(&Outcome) -> bool, of: &dyn Fn(&Outcome) -> bool| {
        let chosen: Vec<&Outcome> = outcomes.iter().filter(|it| of(it)).collect();
        let hits = chosen.iter().filter(|it| hit(it)).count();
        hits as f64 / chosen.len().max(1) as f64
    };
    let has_answer = |it: &Outcome| it.has_answer;
    let useful = |kind: AuditKind| {
        move |it: &Outcome| it.quality == DocumentQuality::Useful && it.kind == kind
    };
    let (only, second) = (useful(AuditKind::OnlyHop), useful(AuditKind::SecondHop));
    AuditReport {
        useful_contains_answer: share(has_answer, &|it| only(it) || second(it)),
        useful_contains_answer_one_hop: share(has_answer, &only),
        useful_contains_answer_two_hop: share(has_answer, &second),
        noisy_contains_answer: share(has_answer, &|it| it.quality == DocumentQuality::Noisy),
        sloppy_contains_answer: share(has_answer, &useful(AuditKind::Sloppy)),
        first_hop_contains_answer: share(has_answer, &useful(AuditKind::FirstHop)),
        first_hop_names_subject: share(|it| it.names_subject, &useful(AuditKind::FirstHop)),
        failed: failed as f64 / outcomes.len().max(1) as f64,
        num_searches: outcomes.len(),
    }
}

impl AuditQuery {
    fn is_last_hop(&self) -> bool {
        matches!(self.kind, AuditKind::OnlyHop | AuditKind::SecondHop)
    }
}

struct Outcome {
    quality: DocumentQuality,
    kind: AuditKind,
    has_answer: bool,
    names_subject: bool,
}

impl Outcome {
    fn of(quality: DocumentQuality, query: &AuditQuery, documents: Vec<Document>) -> Self {
        Self {
            quality,
            kind: query.kind,
            has_answer: hold_answer(&documents, &query.question),
            names_subject: documents.iter().any(|it| contains_words(&it.text, &query.subject)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zs_search::{FaultyEngine, FixedEngine};
    use zs_world::Split;

    #[test]
    fn the_real_engine_answers_queries_and_not_questions() {
        let world = World::generate(2, Split::Validation);
        let queries = audit_queries(&world, 150, StreamKey::new(0));
        assert_eq!(queries, audit_queries(&world, 150, StreamKey::new(0)));
        let report = audit(world.engine().as_ref(), &queries, 3, 0);
        assert!(report.useful_contains_answer >= 0.95, "{report:?}");
        assert!(report.useful_contains_answer_two_hop >= 0.95, "{report:?}");
        assert!(report.first_hop_names_subject >= 0.99, "{report:?}");
        assert!(report.first_hop_contains_answer <= 0.1, "{report:?}");
        assert!(report.sloppy_contains_answer <= 0.2, "{report:?}");
        assert_eq!((report.failed, report.num_searches), (0.0, 900));
    }

    #[test]
    fn failures_count_as_nothing_found() {
        let world = World::generate(2, Split::Validation);
        let queries = audit_queries(&world, 5, StreamKey::new(0));
        let engine = FaultyEngine::new(FixedEngine::default(), |_| true);
        let expected = AuditReport { failed: 1.0, num_searches: 30, ..AuditReport::default() };
        assert_eq!(audit(&engine, &queries, 3, 0), expected);
        assert_eq!(audit(&engine, &[], 3, 0), AuditReport::default());
    }
}
