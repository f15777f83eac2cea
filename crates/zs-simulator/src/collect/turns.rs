//! Recorded interactions: one JSON object a line, with the turns of one episode.

use std::path::Path;

use zs_core::Document;
use zs_data::{DataError, RecordedEpisode, RowError, open_episodes};

/// A recorded search, before validation.
#[derive(Clone, Debug, PartialEq)]
pub struct RawSearch {
    /// The question that was being answered.
    pub question: String,
    /// Its accepted answers; never empty.
    pub golden_answers: Vec<String>,
    /// The query, as the policy wrote it.
    pub query: String,
    /// Documents that the engine returned.
    pub documents: Vec<Document>,
    /// Index of the search in its episode, from 1.
    pub hop: u8,
}

/// Reads the searches of recorded episodes, in any form of [`open_episodes`].
///
/// # Errors
///
/// Fails, naming file and row, at the first row that has another form or no answer.
///
/// ```
/// let row = r#"{"question": "Who?", "answer": "Anna", "turns":
///     [{"query": "author", "docs": [{"title": "T", "text": "It was Anna."}]}]}"#.replace('\n', "");
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("turns.jsonl");
/// std::fs::write(&path, row)?;
/// let searches = zs_simulator::collect::read_turns(&path)?;
/// assert_eq!((searches[0].query.as_str(), searches[0].hop), ("author", 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_turns(path: &Path) -> Result<Vec<RawSearch>, DataError> {
    let episodes = open_episodes(path)?.try_map(|episode, _| {
        let RecordedEpisode { question, golden_answers, turns } = episode;
        if golden_answers.is_empty() {
            let problem = "no answer in `golden_answers` or `answer`; give at least one";
            return Err(RowError::invalid(problem));
        }
        let searches = turns.into_iter().enumerate().map(|(index, turn)| RawSearch {
            question: question.clone(),
            golden_answers: golden_answers.clone(),
            query: turn.query,
            documents: turn.documents,
            hop: (index + 1).min(u8::MAX.into()) as u8,
        });
        Ok(searches.collect::<Vec<_>>())
    });
    Ok(episodes.collect_all()?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rows: &str, expected: Result<usize, &str>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("turns.jsonl");
        std::fs::write(&path, rows).unwrap();
        match (read_turns(&path), expected) {
            (Ok(searches), Ok(count)) => assert_eq!(searches.len(), count),
            (Err(error), Err(message)) => {
                let said = error.to_string();
                assert!(said.contains("turns.jsonl, row 2") && said.contains(message), "{said}");
            }
            (read, expected) => panic!("{read:?} is not {expected:?}"),
        }
    }

    #[test]
    fn both_recorded_forms_are_read() {
        let good = r#"{"question":"q","answer":"a","turns":[{"query":"x","docs":[]},{"query":"y","docs":[{"title":"t","text":"u"}]}]}"#;
        let other = r#"{"id":"1","question":"q","golden_answers":["a"],"turns":[]}"#;
        check(&format!("{good}\n\n{other}\n"), Ok(2));
        check(&format!("{good}\n{{\"question\":\"q\",\"turns\":[]}}"), Err("`golden_answers`"));
        check(&format!("{good}\n{{\"answer\":\"q\",\"turns\":[]}}"), Err("question"));
        check(&format!("{good}\n{{oops"), Err("not a question"));
    }
}
