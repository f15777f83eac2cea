//! Searches as they were recorded: the documents that a real engine returned, without the engine.

use std::collections::HashMap;
use std::path::Path;

use zs_core::{Document, SearchEngine, SearchError, SearchRequest, SearchResult};
use zs_data::{DataError, open_episodes};

/// Returns what was recorded for a query: for the very question, if there is a recording of it, and
/// else for whichever question was first. Queries are compared without case and with white space
/// squeezed. A query that nobody recorded fails.
///
/// ```
/// use zs_core::{DocumentQuality, Question, SearchEngine, SearchRequest};
/// use zs_search::ReplayEngine;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("turns.jsonl");
/// let row = r#"{"question": "Q?", "turns": [{"query": "a Grass", "docs": [{"title": "Bamboo", "text": "A grass."}]}]}"#;
/// std::fs::write(&path, row)?;
/// let engine = ReplayEngine::read(&path)?;
/// let question = Question::new("q", "Q?", ["bamboo"]);
/// let quality = DocumentQuality::Useful;
/// let request = SearchRequest { query: "A  grass", question: &question, quality, read: &[], k: 3, seed: 0 };
/// assert_eq!(engine.search(request)?[0].title, "Bamboo");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct ReplayEngine {
    /// By query, and then by question in the order of the file.
    recorded: HashMap<String, Vec<(String, Vec<Document>)>>,
}

impl ReplayEngine {
    /// Reads recorded turns, in any form of [`open_episodes`].
    ///
    /// # Errors
    ///
    /// Fails at the first row that is malformed, and when no search was recorded.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let mut engine = Self::default();
        for episode in open_episodes(path)? {
            let episode = episode?;
            for turn in episode.turns {
                engine.add(&turn.query, &episode.question, turn.documents);
            }
        }
        if engine.recorded.is_empty() {
            return Err(DataError::Empty { path: path.to_owned(), noun: "recorded search" });
        }
        Ok(engine)
    }

    /// Number of distinct queries recorded.
    #[must_use]
    pub fn num_queries(&self) -> usize {
        self.recorded.len()
    }

    /// Adds a search, unless there is one of this query and question already.
    fn add(&mut self, query: &str, question: &str, documents: Vec<Document>) {
        let recorded = self.recorded.entry(squeezed(query)).or_default();
        let question = squeezed(question);
        if !recorded.iter().any(|(known, _)| *known == question) {
            recorded.push((question, documents));
        }
    }

    fn answer(&self, request: &SearchRequest<'_>) -> SearchResult {
        let question = squeezed(&request.question.text);
        let recorded = self.recorded.get(&squeezed(request.query)).and_then(|all| {
            all.iter().find(|(known, _)| *known == question).or_else(|| all.first())
        });
        match recorded {
            Some((_, documents)) => Ok(documents.iter().take(request.k).cloned().collect()),
            None => Err(SearchError::Engine {
                engine: self.name().to_owned(),
                query: request.query.to_owned(),
                source: "nobody recorded this query".into(),
            }),
        }
    }
}

impl SearchEngine for ReplayEngine {
    fn name(&self) -> &str {
        "replay"
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        requests.iter().map(|it| self.answer(it)).collect()
    }
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use zs_core::{DocumentQuality, Question};

    use super::*;
    use crate::conformance::{check_engine, check_failure_is_contained};

    fn read(rows: &str) -> Result<ReplayEngine, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("turns.jsonl.gz");
        let mut packed =
            flate2::write::GzEncoder::new(File::create(&path).unwrap(), Default::default());
        packed.write_all(rows.as_bytes()).unwrap();
        packed.finish().unwrap();
        ReplayEngine::read(&path)
    }

    const ROWS: &str = r#"
{"question": "First?", "id": 1, "turns": [
 {"query": "who directed the film", "docs": [{"title": "A", "text": "a"}, {"text": " "}, {"text": "b"}]}]}
"#;

    /// Rows of a file stand in one line each.
    fn rows() -> String {
        let mut rows = ROWS.replace('\n', "");
        rows.push_str("\n{\"question\": \"Second?\", \"turns\": [");
        rows.push_str("{\"query\": \"Who directed  the film\", \"docs\": [{\"text\": \"c\"}]},");
        for index in 0..7 {
            rows.push_str(&format!("{{\"query\": \"film {index}\", \"docs\": []}},"));
        }
        rows.push_str("{\"query\": \"other\", \"docs\": []}]}\n");
        rows
    }

    #[test]
    fn recordings_are_found_by_query_and_question() {
        let engine = read(&rows()).unwrap();
        assert_eq!(engine.num_queries(), 9);
        check_engine(&engine);
        check_failure_is_contained(&engine, "never recorded");
        let check = |query: &str, question: &str, k: usize, expected: Option<&[&str]>| {
            let question = Question::new("q", question, ["a"]);
            let quality = DocumentQuality::Useful;
            let request =
                SearchRequest { query, question: &question, quality, read: &[], k, seed: 0 };
            let found = engine.search(request).ok();
            let texts: Option<Vec<String>> =
                found.map(|it| it.into_iter().map(|it| it.text).collect());
            let expected: Option<Vec<String>> =
                expected.map(|it| it.iter().map(|text| (*text).to_owned()).collect());
            assert_eq!(texts, expected, "{query}");
        };
        check("Who directed the film", "first?", 5, Some(&["a", "b"]));
        check("who directed the film", "Second?", 5, Some(&["c"]));
        check("who directed the film", "Third?", 1, Some(&["a"]));
        check("other", "Second?", 5, Some(&[]));
        check("unknown", "First?", 5, None);
    }

    #[test]
    fn bad_files_are_named() {
        assert!(matches!(read("\n{\"question\": 1}"), Err(DataError::Row { row: 2, .. })));
        assert!(matches!(read(""), Err(DataError::Empty { .. })));
        let missing = ReplayEngine::read(Path::new("no-such-turns.jsonl")).unwrap_err();
        assert!(missing.to_string().starts_with("no-such-turns.jsonl"));
    }
}
