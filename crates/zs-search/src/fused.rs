//! Several engines as one, their rankings fused by reciprocal rank.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::check;
use zs_core::{
    Document, EngineScope, SearchEngine, SearchError, SearchRequest, SearchResult, guarded_search,
};

use crate::Ledger;
use crate::wrap::{deepened, missing};

const NAME: &str = "fused";

/// Consequence of a part that fails where others have an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartFailure {
    /// The search fails with the error of the part.
    #[default]
    Fail,
    /// The search is answered without the part, and counted in [`Usage::degraded_searches`](crate::Usage).
    Degrade,
}

/// Settings of the fusion.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
#[serde(default)]
pub struct FusionConfig {
    /// Constant that is added to ranks.
    #[garde(custom(check::non_negative))]
    pub rank_constant: f64,
    /// Documents that each engine is asked for, or more where a request wants more.
    #[garde(custom(check::at_least_one))]
    pub depth: usize,
    /// Consequence of an engine that fails.
    pub on_failure: PartFailure,
}

impl Default for FusionConfig {
    fn default() -> Self {
        Self { rank_constant: 60.0, depth: 50, on_failure: PartFailure::default() }
    }
}

/// Search by several engines at once, fused by reciprocal rank.
///
/// ```text
/// score(d) = sum over engines e that found d: 1 / (c + rank_e(d))
/// ```
///
/// - `rank_e(d)`: place of `d` among the documents of `e`, from 1; `c`: the rank constant, 60
///
/// Documents are the same where ids and titles are, ids being given, and where titles and texts are.
/// The text is that of the first engine that has it. Equal scores keep the order of the engines, and
/// of the documents of one engine. The engines are asked side by side.
///
/// # References
///
/// - Cormack, Clarke and Büttcher (2009), *Reciprocal Rank Fusion outperforms Condorcet and individual
///   Rank Learning Methods*, whose `k` is `c` here
///
/// ```
/// use std::sync::Arc;
///
/// use zs_core::{Document, Question, SearchEngine, SearchRequest};
/// use zs_search::{FixedEngine, FusedEngine, FusionConfig};
///
/// let [a, b, c] = ["a", "b", "c"].map(|it| Document::new(it, it));
/// let words = FixedEngine::new(vec![a, b.clone()]);
/// let vectors = FixedEngine::new(vec![c, b]);
/// let engines: Vec<Arc<dyn SearchEngine>> = vec![Arc::new(words), Arc::new(vectors)];
/// let engine = FusedEngine::new(engines, FusionConfig::default(), Arc::default());
/// let question = Question::new("q", "?", ["x"]);
/// // 2 / 62 is more than 1 / 61.
/// assert_eq!(engine.search(SearchRequest::of(&question, 1, 0))?[0].title, "b");
/// # Ok::<(), zs_core::SearchError>(())
/// ```
#[derive(Debug)]
pub struct FusedEngine {
    engines: Vec<Arc<dyn SearchEngine>>,
    config: FusionConfig,
    ledger: Arc<Ledger>,
}

impl FusedEngine {
    /// The engines as one.
    #[must_use]
    pub fn new(
        engines: Vec<Arc<dyn SearchEngine>>,
        config: FusionConfig,
        ledger: Arc<Ledger>,
    ) -> Self {
        Self { engines, config, ledger }
    }

    /// Results of every engine, one list an engine.
    fn ask(&self, requests: &[SearchRequest<'_>]) -> Vec<Vec<SearchResult>> {
        std::thread::scope(|scope| {
            let asked: Vec<_> = self
                .engines
                .iter()
                .map(|engine| scope.spawn(move || guarded_search(engine, requests)))
                .collect();
            asked
                .into_iter()
                .map(|it| it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    }

    /// Fuses the results of one request, and says whether an engine is missing from them.
    fn fuse(&self, results: Vec<SearchResult>, k: usize) -> (SearchResult, bool) {
        let num_engines = results.len();
        let mut error: Option<SearchError> = None;
        let mut lists = Vec::with_capacity(num_engines);
        for result in results {
            match result {
                Ok(documents) => lists.push(documents),
                Err(failure) => drop(error.get_or_insert(failure)),
            }
        }
        match error {
            Some(error) if lists.is_empty() || self.config.on_failure == PartFailure::Fail => {
                (Err(error), false)
            }
            error => (Ok(fuse(lists, self.config.rank_constant, k)), error.is_some()),
        }
    }
}

impl SearchEngine for FusedEngine {
    fn name(&self) -> &str {
        NAME
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let deep = deepened(requests, self.config.depth);
        let mut found: Vec<_> = self.ask(&deep).into_iter().map(Vec::into_iter).collect();
        let mut num_degraded = 0;
        let mut answer = |request: &SearchRequest<'_>| {
            let results = found.iter_mut().zip(&self.engines).map(|(results, engine)| {
                results.next().unwrap_or_else(|| Err(missing(engine, request)))
            });
            let (result, is_degraded) = self.fuse(results.collect(), request.k);
            num_degraded += u64::from(is_degraded);
            result
        };
        let results = requests.iter().map(&mut answer).collect();
        self.ledger.record_degraded(NAME, num_degraded);
        results
    }

    fn is_deterministic(&self) -> bool {
        self.engines.iter().all(|it| it.is_deterministic())
    }

    fn scope(&self) -> EngineScope {
        match self.engines.iter().all(|it| it.scope() == EngineScope::Query) {
            true => EngineScope::Query,
            false => EngineScope::Request,
        }
    }

    fn exhausted(&self) -> Option<String> {
        self.engines.iter().find_map(|it| it.exhausted())
    }
}

/// Documents of several rankings, with the sums of their reciprocal ranks as scores.
fn fuse(lists: Vec<Vec<Document>>, rank_constant: f64, k: usize) -> Vec<Document> {
    let mut fused: Vec<(f64, Document)> = Vec::new();
    let mut by_id: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut by_text: BTreeMap<(String, String), usize> = BTreeMap::new();
    for list in lists {
        let mut counted = BTreeSet::new();
        for (rank, document) in (1_u32..).zip(list) {
            let id = (document.id.clone(), document.title.clone());
            let text = (document.title.clone(), document.text.clone());
            let known = if id.0.is_empty() { None } else { by_id.get(&id) };
            let place = known.or_else(|| by_text.get(&text)).copied().unwrap_or(fused.len());
            // An engine that has a document twice counts once, for the better rank.
            if !counted.insert(place) {
                continue;
            }
            if place == fused.len() {
                fused.push((0.0, document));
            }
            if !id.0.is_empty() {
                by_id.entry(id).or_insert(place);
            }
            by_text.entry(text).or_insert(place);
            fused[place].0 += 1.0 / (rank_constant + f64::from(rank));
        }
    }
    // A stable sort: equal scores stay in the order of engines and ranks.
    fused.sort_by(|a, b| b.0.total_cmp(&a.0));
    fused.truncate(k);
    let scored = |(score, it): (f64, Document)| Document { score: Some(score as f32), ..it };
    fused.into_iter().map(scored).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zs_core::Question;

    use super::*;
    use crate::conformance::{check_engine, check_failure_is_contained, check_own_question};
    use crate::{Bm25Engine, FaultyEngine, FixedEngine};

    fn document(id: &str, text: &str) -> Document {
        Document { id: id.to_owned(), score: Some(7.0), ..Document::new("T", text) }
    }

    fn fixed(documents: &[(&str, &str)]) -> Arc<dyn SearchEngine> {
        Arc::new(FixedEngine::new(documents.iter().map(|(id, text)| document(id, text)).collect()))
    }

    fn fused(engines: Vec<Arc<dyn SearchEngine>>, on_failure: PartFailure) -> FusedEngine {
        let config = FusionConfig { on_failure, ..FusionConfig::default() };
        FusedEngine::new(engines, config, Arc::default())
    }

    /// Ids and scores of the documents that are found.
    #[track_caller]
    fn check(lists: &[&[(&str, &str)]], k: usize, expected: &[(&str, f64)]) {
        let engine = fused(lists.iter().map(|it| fixed(it)).collect(), PartFailure::Fail);
        let question = Question::new("q", "?", ["a"]);
        let found = engine.search(SearchRequest::of(&question, k, 0)).unwrap();
        let ids: Vec<&str> = found.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, expected.iter().map(|it| it.0).collect::<Vec<_>>());
        for (found, (_, score)) in found.iter().zip(expected) {
            assert!((f64::from(found.score.unwrap()) - score).abs() < 1e-7, "{found:?}");
        }
    }

    #[test]
    fn scores_follow_the_formula() {
        let (first, second, third) = (1.0 / 61.0, 1.0 / 62.0, 1.0 / 63.0);
        let abc: &[_] = &[("a", "1"), ("b", "2"), ("c", "3")];
        check(
            &[abc, &[("c", "3"), ("a", "1")]],
            9,
            &[("a", first + second), ("c", first + third), ("b", second)],
        );
        check(&[abc, &[("c", "3"), ("a", "1")]], 1, &[("a", first + second)]);
        check(&[abc, abc], 0, &[]);
        check(&[&[], abc], 2, &[("a", first), ("b", second)]);
        // Equal scores: the first engine's first.
        check(
            &[&[("x", "8"), ("b", "2")], &[("y", "9")]],
            3,
            &[("x", first), ("y", first), ("b", second)],
        );
        // Twice in one ranking counts once.
        check(&[&[("a", "1"), ("a", "1"), ("b", "2")]], 3, &[("a", first), ("b", third)]);
        // The same text under another id, or none.
        check(
            &[abc, &[("", "2"), ("z", "1")]],
            9,
            &[("a", first + second), ("b", first + second), ("c", third)],
        );
        // The same id with another text is the same document, whatever was cut out of it.
        check(&[abc, &[("c", "cut")]], 9, &[("c", first + third), ("a", first), ("b", second)]);
    }

    #[test]
    fn keeps_the_contract() {
        let documents = (0..90).map(|it| {
            let text = format!("The director of film {it} was born in {}.", 1900 + it % 70);
            Document { id: it.to_string(), ..Document::new(format!("Film {}", it % 9), text) }
        });
        let bm25 = Arc::new(Bm25Engine::from_documents(documents.collect()).unwrap());
        let engine = fused(vec![bm25.clone(), fixed(&[("a", "b")]), bm25], PartFailure::Fail);
        assert!(engine.is_deterministic() && engine.scope() == EngineScope::Query);
        check_engine(&engine);
        check_own_question(&engine);
    }

    /// An engine that fails on `bad`, and one that never does.
    fn with_failure(on_failure: PartFailure) -> FusedEngine {
        let faulty =
            FaultyEngine::new(FixedEngine::new(vec![document("a", "1")]), |it| it.query == "bad");
        fused(vec![Arc::new(faulty), fixed(&[("b", "2")])], on_failure)
    }

    #[test]
    fn a_member_that_fails_is_an_error_or_a_counted_degradation() {
        check_failure_is_contained(&with_failure(PartFailure::Fail), "bad");
        let engine = with_failure(PartFailure::Degrade);
        let question = Question::new("q", "bad", ["a"]);
        let good = Question::new("q", "good", ["a"]);
        let requests = [&question, &good, &question].map(|it| SearchRequest::of(it, 3, 0));
        let found = engine.search_batch(&requests);
        let ids: Vec<Vec<&str>> = found
            .iter()
            .map(|it| it.as_ref().unwrap().iter().map(|it| it.id.as_str()).collect())
            .collect();
        assert_eq!(ids, [vec!["b"], vec!["a", "b"], vec!["b"]]);
        assert_eq!(engine.ledger.totals()[0].usage.degraded_searches, 2);
        // Without any answer there is none.
        let none = FaultyEngine::new(FixedEngine::default(), |_| true);
        let engine = fused(vec![Arc::new(none)], PartFailure::Degrade);
        assert!(engine.search(requests[0]).is_err());
        assert!(engine.ledger.totals().is_empty());
    }

    #[test]
    fn a_member_that_panics_fails() {
        #[derive(Debug)]
        struct Broken;

        impl SearchEngine for Broken {
            fn name(&self) -> &str {
                "broken"
            }

            fn search_batch(&self, _: &[SearchRequest<'_>]) -> Vec<SearchResult> {
                panic!("an index out of bounds")
            }
        }

        let engine = fused(vec![fixed(&[("a", "1")]), Arc::new(Broken)], PartFailure::Fail);
        let question = Question::new("q", "?", ["a"]);
        let error = engine.search(SearchRequest::of(&question, 3, 0)).unwrap_err();
        assert!(zs_core::with_causes(&error).contains("out of bounds"), "{error}");
    }

    proptest! {
        /// Scores never rise down the list, no document comes twice, and the order of equal engines
        /// does not matter for the scores.
        #[test]
        fn fusion_is_a_ranking(
            lists in proptest::collection::vec(proptest::collection::vec(0_u8..12, 0..12), 1..5),
            k in 0_usize..15,
        ) {
            let list = |ids: &Vec<u8>| -> Vec<Document> {
                ids.iter().map(|it| document(&it.to_string(), &format!("text {it}"))).collect()
            };
            let found = fuse(lists.iter().map(list).collect(), 60.0, k);
            prop_assert!(found.len() <= k);
            prop_assert!(found.windows(2).all(|it| it[0].score >= it[1].score));
            let distinct: BTreeSet<&str> = found.iter().map(|it| it.id.as_str()).collect();
            prop_assert_eq!(distinct.len(), found.len());
            let backwards = fuse(lists.iter().rev().map(list).collect(), 60.0, k);
            let scores = |found: &[Document]| -> Vec<Option<f32>> { found.iter().map(|it| it.score).collect() };
            prop_assert_eq!(scores(&found), scores(&backwards));
        }
    }
}
