//! Searches answered for another row of the batch: a defect of the reference code, to measure what it
//! costs.

use std::collections::HashMap;

use zs_core::{EngineScope, Question, SearchEngine, SearchRequest, SearchResult};

/// Passes each request on with the question of another row.
///
/// The reference code drops the rows that do not search and then pairs query `k` with the question
/// and answer of row `k` of the *whole* batch. So once a row has answered or stumbled, every query
/// behind it is answered for someone else's question.
///
/// ```text
/// request k of a turn  ->  question of row k of the batch
/// ```
///
/// The batch is found by the question of the first request of a turn, so no question may be in two
/// batches; requests of a question that is in none are passed on as they are.
///
/// ```
/// use zs_core::{Document, DocumentQuality, Question, SearchEngine, SearchRequest, SearchResult};
/// use zs_search::MispairedEngine;
///
/// /// Answers every query.
/// #[derive(Debug)]
/// struct Oracle;
///
/// impl SearchEngine for Oracle {
///     fn name(&self) -> &str {
///         "oracle"
///     }
///
///     fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
///         let answer = |it: &SearchRequest<'_>| it.question.golden_answers[0].clone();
///         requests.iter().map(|it| Ok(vec![Document::new("", answer(it))])).collect()
///     }
/// }
///
/// let rows = [Question::new("a", "?", ["Anna"]), Question::new("b", "?", ["Boris"])];
/// let engine = MispairedEngine::new(Oracle, [rows.to_vec()]);
/// let request = |question| SearchRequest {
///     query: "q", question, quality: DocumentQuality::Useful, read: &[], k: 1, seed: 0,
/// };
/// // Row 0 has answered; the query of row 1 is now the first.
/// assert_eq!(engine.search(request(&rows[1]))?[0].text, "Anna");
/// # Ok::<(), zs_core::SearchError>(())
/// ```
///
/// # References
///
/// - ZeroSearch reference code, `generation.py` 503 and 592
#[derive(Debug)]
pub struct MispairedEngine<E> {
    engine: E,
    batches: Vec<Vec<Question>>,
    /// The batch that a question is in.
    batch_of: HashMap<String, usize>,
}

impl<E: SearchEngine> MispairedEngine<E> {
    /// An engine that mixes up the rows of these batches: for each, the question of every row, in
    /// order.
    pub fn new(engine: E, batches: impl IntoIterator<Item = Vec<Question>>) -> Self {
        let batches: Vec<Vec<Question>> = batches.into_iter().collect();
        let rows = batches.iter().enumerate().flat_map(|(batch, rows)| {
            rows.iter().map(move |question| (question.id.clone(), batch))
        });
        Self { batch_of: rows.collect(), engine, batches }
    }
}

impl<E: SearchEngine> SearchEngine for MispairedEngine<E> {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn inner(&self) -> Option<&dyn SearchEngine> {
        Some(&self.engine)
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let batch = requests.first().and_then(|it| self.batch_of.get(&it.question.id));
        let rows = batch.map_or(&[][..], |it| &self.batches[*it]);
        let mispaired: Vec<SearchRequest<'_>> = requests
            .iter()
            .enumerate()
            .map(|(row, request)| SearchRequest {
                question: rows.get(row).unwrap_or(request.question),
                ..*request
            })
            .collect();
        self.engine.search_batch(&mispaired)
    }

    /// Returns false: the result of a request depends on its place.
    fn is_deterministic(&self) -> bool {
        false
    }

    fn scope(&self) -> EngineScope {
        EngineScope::Request
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use zs_core::DocumentQuality;

    use super::*;

    /// Remembers whose question it was asked about.
    #[derive(Debug, Default)]
    struct Asked(Mutex<Vec<String>>);

    impl SearchEngine for Asked {
        fn name(&self) -> &str {
            "asked"
        }

        fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
            let mut asked = self.0.lock().unwrap();
            asked.extend(requests.iter().map(|it| format!("{} {}", it.query, it.question.id)));
            requests.iter().map(|_| Ok(Vec::new())).collect()
        }
    }

    #[track_caller]
    fn check(searching: &[&str], expected: &[&str]) {
        let question = |id: &str| Question::new(id, "?", ["a"]);
        // Two batches of two questions with two episodes each.
        let batch = |ids: [&str; 4]| ids.map(question).to_vec();
        let engine = MispairedEngine::new(
            Asked::default(),
            [batch(["a", "a", "b", "b"]), batch(["c", "c", "d", "d"])],
        );
        let questions: Vec<Question> = searching.iter().map(|it| question(it)).collect();
        let requests: Vec<SearchRequest<'_>> = questions
            .iter()
            .map(|question| SearchRequest {
                query: &question.id,
                question,
                quality: DocumentQuality::Useful,
                read: &[],
                k: 1,
                seed: 0,
            })
            .collect();
        assert_eq!(engine.search_batch(&requests).len(), searching.len());
        assert_eq!(*engine.engine.0.lock().unwrap(), expected);
    }

    #[test]
    fn queries_are_paired_with_rows_of_the_whole_batch() {
        check(&["a", "a", "b", "b"], &["a a", "a a", "b b", "b b"]);
        check(&["a", "b", "b"], &["a a", "b a", "b b"]);
        check(&["b", "b"], &["b a", "b a"]);
        check(&["d"], &["d c"]);
        check(&["elsewhere"], &["elsewhere elsewhere"]);
        check(&[], &[]);
    }
}
