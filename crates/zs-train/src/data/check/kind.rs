//! Kinds of data files, by their fields.

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;
use zs_data::{DataError, Fields, RowReader};

/// Rows that are looked at.
const NUM_ROWS: usize = 20;

/// Content of a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Questions with answers.
    Questions,
    /// Corpus.
    Documents,
    /// Answers of another program, to be scored.
    Predictions,
    /// Searches of recorded episodes.
    Turns,
    /// Whole episodes.
    Trajectories,
    /// Queries.
    Queries,
}

/// Kinds with a field that each has and the earlier ones lack. Questions stand last: what is no file
/// of another kind is reported as one of questions.
const FIELDS: [(Kind, &[&str]); 6] = [
    (Kind::Turns, &["turns"]),
    (Kind::Predictions, &["prediction", "transcript"]),
    (
        Kind::Questions,
        &[
            "question",
            "prompt",
            "extra_info",
            "reward_model",
            "golden_answers",
            "answer",
            "answers",
            "possible_answers",
        ],
    ),
    (Kind::Trajectories, &["record", "messages", "conversations"]),
    (Kind::Documents, &["text", "contents", "passage", "content"]),
    (Kind::Queries, &["query"]),
];

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Questions => "questions",
            Self::Documents => "documents",
            Self::Predictions => "predictions",
            Self::Turns => "turns",
            Self::Trajectories => "trajectories",
            Self::Queries => "queries",
        }
    }
}

/// The kind of a file by the fields of its first rows.
pub(super) fn of(path: &Path) -> Result<Kind> {
    let rows = match RowReader::new("row").open::<Fields>(path) {
        Ok(rows) => rows,
        Err(error @ DataError::Read { .. }) => return Err(error.into()),
        // Reported with the reading itself.
        Err(_) => return Ok(Kind::Questions),
    };
    let rows: Vec<Fields> = rows.take(NUM_ROWS).filter_map(Result::ok).collect();
    let has = |field: &str| {
        let mut names = rows.iter().flat_map(Fields::keys);
        names.any(|it| it.trim().eq_ignore_ascii_case(field))
    };
    if rows.iter().any(has_written_turns) {
        return Ok(Kind::Trajectories);
    }
    let found = FIELDS.iter().find(|(_, fields)| fields.iter().any(|it| has(it)));
    Ok(found.map_or(Kind::Questions, |it| it.0))
}

/// True for a row whose turns are texts of a policy, and not queries alone.
fn has_written_turns(row: &Fields) -> bool {
    let turns = row.get("turns").and_then(Value::as_array);
    turns.is_some_and(|it| it.iter().any(|turn| turn.get("text").is_some()))
}
