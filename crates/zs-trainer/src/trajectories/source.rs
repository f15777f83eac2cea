//! Episodes out of files of any form, one reader for all.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;
use zs_core::{Document, NO_DOCUMENTS, Question, TranscriptTurn};
use zs_data::{
    DataError, Fields, RecordedTranscript, RowContext, RowError, Rows, open_episode_rows,
    recorded_transcript,
};
use zs_rl::{
    DemonstratedTurn, Demonstration, RecordError, RewardedTrajectory, Trajectory, TrajectoryGroup,
    read_records,
};
use zs_simulator::parse_documents;

use crate::RecordedGroup;

/// Episode of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceEpisode {
    /// Episode that a rollout of `zs` recorded, in tokens.
    Played {
        /// The episode.
        trajectory: Box<Trajectory>,
        /// Its question, where the record holds it: those of training do, those of `zs eval` do not.
        question: Option<Question>,
    },
    /// Episode as text.
    Written(Demonstration),
}

impl SourceEpisode {
    /// Question of the episode, where the row holds it.
    #[must_use]
    pub fn question(&self) -> Option<&Question> {
        match self {
            Self::Played { question, .. } => question.as_ref(),
            Self::Written(demonstration) => Some(&demonstration.question),
        }
    }
}

/// Opens a file of episodes in any format of [`RowReader`](zs_data::RowReader). The fields of each row
/// decide its form:
///
/// | fields | form |
/// |---|---|
/// | `version`, `record` | records of `zs`: `trajectories.jsonl` of `zs eval`, `rollouts/step-*.jsonl.zst` of `zs train` |
/// | `turns` with `text` | [`Demonstration`], as `zs data trajectories` writes it |
/// | others | chats and texts with tags, as [`recorded_transcript`] reads them |
///
/// The results of searches in chats and texts are taken apart into documents where they are JSON or
/// written as `Doc 1: …`; any other result is one document.
///
/// # Errors
///
/// As [`RowReader::open`](zs_data::RowReader::open); each row fails on its own.
///
/// ```
/// use zs_trainer::trajectories::{SourceEpisode, open_source_episodes};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("episodes.jsonl");
/// let row = r#"{"question": "who?", "text": "<search> q </search><information>Doc 1: Ann.</information><answer> Ann </answer>"}"#;
/// std::fs::write(&path, row)?;
/// let episodes = open_source_episodes(&path)?.next().unwrap()?;
/// let SourceEpisode::Written(demonstration) = &episodes[0] else { unreachable!() };
/// assert_eq!(demonstration.turns[0].documents[0].text, "Ann.");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open_source_episodes(path: &Path) -> Result<Rows<Vec<SourceEpisode>>, DataError> {
    let (stem, rows) = open_episode_rows(path)?;
    Ok(rows.try_filter_map(move |row, context| episodes(row, context, &stem).map(Some)))
}

fn episodes(
    row: Fields,
    context: &mut RowContext<'_>,
    stem: &str,
) -> Result<Vec<SourceEpisode>, RowError> {
    if row.contains_key("version") && row.contains_key("record") {
        return records(row);
    }
    if row.contains_key("turns") {
        return demonstration(row).map(|it| vec![SourceEpisode::Written(it)]);
    }
    let RecordedTranscript { question, transcript } = recorded_transcript(row, context, stem)?;
    let turns = transcript.turns.into_iter().map(demonstrated).collect();
    Ok(vec![SourceEpisode::Written(Demonstration { question, turns })])
}

/// Episodes of a record, which may be one, those of a question, or those of a question and a step.
fn records(row: Fields) -> Result<Vec<SourceEpisode>, RowError> {
    let has = |field: &str| row["record"].get(field).is_some();
    let (is_step, is_group) = (has("group"), has("trajectories"));
    let line = Value::Object(row).to_string();
    if is_step {
        return Ok(of_group(record::<RecordedGroup>(&line)?.group));
    }
    if is_group {
        return Ok(of_group(record(&line)?));
    }
    let trajectory = Box::new(record(&line)?);
    Ok(vec![SourceEpisode::Played { trajectory, question: None }])
}

fn of_group(group: TrajectoryGroup) -> Vec<SourceEpisode> {
    let TrajectoryGroup { question, trajectories } = group;
    let played = |it: RewardedTrajectory| SourceEpisode::Played {
        trajectory: Box::new(it.trajectory),
        question: Some(question.clone()),
    };
    trajectories.into_iter().map(played).collect()
}

fn record<T: DeserializeOwned>(line: &str) -> Result<T, RowError> {
    let Some(read) = read_records(line.as_bytes(), line.len()).next() else {
        return Err(RowError::invalid("an empty record"));
    };
    read.map_err(|error| match error {
        RecordError::Parse { source, .. } => not_json("record of an episode", source),
        error => RowError::invalid(error.to_string().trim_start_matches("row 1: ")),
    })
}

fn not_json(noun: &'static str, error: serde_json::Error) -> RowError {
    RowError::NotJson { noun, field: String::new(), error }
}

fn demonstration(row: Fields) -> Result<Demonstration, RowError> {
    let turns = row.get("turns").and_then(Value::as_array);
    if turns.is_some_and(|it| it.iter().any(|turn| turn.get("query").is_some())) {
        return Err(RowError::invalid(
            "recorded searches are no whole episode; make episodes of them with `zs data \
             trajectories --turns FILE`",
        ));
    }
    serde_json::from_value(Value::Object(row)).map_err(|error| not_json("demonstration", error))
}

fn demonstrated(turn: TranscriptTurn) -> DemonstratedTurn {
    DemonstratedTurn { text: turn.text, documents: documents(&turn.observation) }
}

/// The documents of an `<information>` block.
fn documents(observation: &str) -> Vec<Document> {
    let inner = observation.trim().strip_prefix("<information>");
    let Some(inner) = inner.and_then(|it| it.strip_suffix("</information>")) else {
        return Vec::new();
    };
    let body = inner.trim();
    if body.is_empty() || body == NO_DOCUMENTS {
        return Vec::new();
    }
    let lower = body.to_ascii_lowercase();
    let is_list = ["doc", "**doc", "[", "{"].iter().any(|it| lower.starts_with(it));
    let listed = if is_list { parse_documents(body, usize::MAX) } else { Vec::new() };
    match listed.is_empty() {
        true => vec![Document::new("", body)],
        false => listed,
    }
}

#[cfg(test)]
mod tests {
    use zs_core::Action;

    use super::*;

    fn read(row: &str) -> Result<Vec<SourceEpisode>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.jsonl");
        std::fs::write(&path, row).unwrap();
        let read = open_source_episodes(&path).unwrap().next().unwrap();
        read.map_err(|it| it.to_string())
    }

    #[test]
    fn results_are_taken_apart() {
        let check = |body: &str, expected: &[(&str, &str)]| {
            let read = documents(&format!("<information>{body}</information>"));
            let read: Vec<_> =
                read.iter().map(|it| (it.title.as_str(), it.text.as_str())).collect();
            assert_eq!(read, expected, "{body}");
        };
        check("Doc 1(Title: \"T (a)\") a b\nDoc 2: c\n", &[("T (a)", "a b"), ("", "c")]);
        check(r#"[{"title":"T","text":"a"}]"#, &[("T", "a")]);
        check("one\ntwo", &[("", "one\ntwo")]);
        check("No information available.", &[]);
        check("", &[]);
        assert!(documents("try again").is_empty());
    }

    #[test]
    fn the_fields_of_a_row_decide() {
        let trajectory = r#"{"question_id":"q","prompt":[1],"turns":[],"truncated":false}"#;
        let question = r#"{"id":"q","question":"?","golden_answers":["a"]}"#;
        let group = format!(
            r#"{{"question":{question},"trajectories":[{{"trajectory":{trajectory},"reward":{{"total":0.0,"components":[]}}}}]}}"#
        );
        let record = |it: &str| format!(r#"{{"version":2,"record":{it}}}"#);
        let step = format!(
            r#"{{"step":1,"noise_probability":0.0,"group":{group},"advantages":[[null]]}}"#
        );
        let of = |row: &str| match &read(row).unwrap()[..] {
            [SourceEpisode::Played { trajectory, question }] => {
                (trajectory.question_id.clone(), question.is_some())
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(of(&record(trajectory)), ("q".to_owned(), false));
        assert_eq!(of(&record(&group)), ("q".to_owned(), true));
        assert_eq!(of(&record(&step)), ("q".to_owned(), true));
        let written = r#"{"id":"q","question":"?","golden_answers":[],"turns":[{"text":"<answer> a </answer>"}]}"#;
        let chat = r#"{"messages":[{"role":"user","content":"?"},{"role":"assistant","content":"<answer> a </answer>"}]}"#;
        for row in [written, chat] {
            let [SourceEpisode::Written(it)] = &read(row).unwrap()[..] else { panic!("{row}") };
            assert_eq!(zs_core::parse_action(&it.turns[0].text), Action::Answer("a".to_owned()));
        }
    }

    #[test]
    fn rows_of_no_form_are_named() {
        let check = |row: &str, expected: &str| {
            let message = read(row).unwrap_err();
            assert!(message.contains("e.jsonl, row 1") && message.contains(expected), "{message}");
        };
        check(r#"{"version":9,"record":{}}"#, "`version` 9");
        check(r#"{"version":2,"record":{"prompt":[1]}}"#, "not a record of an episode");
        check(
            r#"{"question":"q","turns":[{"query":"x","docs":[]}]}"#,
            "zs data trajectories --turns",
        );
        check(r#"{"question":"q","turns":[{"txt":"x"}]}"#, "not a demonstration");
        check(r#"{"x":1}"#, "field `messages` is missing");
    }
}
