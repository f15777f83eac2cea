//! Records in JSON Lines with a format version, so that files outlive the code that wrote them.

use std::io::{self, BufRead, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Format version that [`write_records`] writes; [`read_records`] reads it and all earlier ones.
///
/// Version 2 added to trajectories, all optional: `prefill`, `over_budget`, `consults`, `refused_consults`,
/// `programs`, `branch` and `counterfactuals`; and the provenance of helper models.
pub const RECORD_VERSION: u32 = 2;

/// Errors of reading and writing records. Rows count from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The writer failed.
    #[error("row {row}: cannot be written")]
    Write {
        /// The row.
        row: usize,
        /// The writer's error.
        #[source]
        source: io::Error,
    },
    /// The value has no JSON form.
    #[error("row {row}: cannot be written as JSON")]
    Serialize {
        /// The row.
        row: usize,
        /// The serialiser's error.
        #[source]
        source: serde_json::Error,
    },
    /// The reader failed, or the bytes are not UTF-8.
    #[error("row {row}: cannot be read")]
    Read {
        /// The row.
        row: usize,
        /// The reader's error.
        #[source]
        source: io::Error,
    },
    /// The row is longer than the caller accepts.
    #[error("row {row}: longer than {limit} bytes; check that each record has a line of its own")]
    TooLong {
        /// The row.
        row: usize,
        /// Accepted bytes.
        limit: usize,
    },
    /// The row is not a record: not JSON, cut off, or with a field missing, unknown or of the wrong
    /// type.
    #[error("row {row}: not a record: {source}")]
    Parse {
        /// The row.
        row: usize,
        /// The parser's error; names field and column.
        source: serde_json::Error,
    },
    /// The row was written by another version of the format.
    #[error(
        "row {row}: has `version` {found}, but this build reads versions 1 to {RECORD_VERSION}; read \
         it with the release that wrote it"
    )]
    Version {
        /// The row.
        row: usize,
        /// The row's version.
        found: u32,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordLine<T> {
    version: u32,
    record: T,
}

/// Read before the record, whose shape depends on it.
#[derive(Deserialize)]
struct Header {
    version: u32,
}

/// Writes one line a record: `{"version":2,"record":{…}}`.
///
/// Numbers that JSON cannot express (infinities, NaN) are written as `null`, and
/// [read](zs_core::null_as_nan) as NaN where a record has log-probabilities, rewards or advantages.
///
/// # Errors
///
/// Fails at the first record that cannot be written; the records before it are written.
///
/// ```
/// use zs_rl::{Trajectory, read_records, write_records};
///
/// let trajectory = Trajectory::new("q1", vec![1, 2]);
/// let mut file = Vec::new();
/// write_records(&mut file, [&trajectory]).unwrap();
/// let read: Trajectory = read_records(file.as_slice(), 1 << 20).next().unwrap().unwrap();
/// assert_eq!(read, trajectory);
/// ```
pub fn write_records<T: Serialize>(
    mut writer: impl Write,
    records: impl IntoIterator<Item = T>,
) -> Result<(), RecordError> {
    for (index, record) in records.into_iter().enumerate() {
        let row = index + 1;
        let mut line = serde_json::to_string(&RecordLine { version: RECORD_VERSION, record })
            .map_err(|source| RecordError::Serialize { row, source })?;
        line.push('\n');
        writer.write_all(line.as_bytes()).map_err(|source| RecordError::Write { row, source })?;
    }
    Ok(())
}

/// Reads the records of [`write_records`], one at a time; blank lines are passed over, and lines of
/// more than `max_line_bytes` are not held in memory.
///
/// # Errors
///
/// Each item fails on its own, naming its row. One that cannot be read, or is too long, is the last.
pub fn read_records<T: DeserializeOwned>(
    mut reader: impl BufRead,
    max_line_bytes: usize,
) -> impl Iterator<Item = Result<T, RecordError>> {
    let (mut row, mut line, mut is_over) = (0, Vec::new(), false);
    std::iter::from_fn(move || {
        while !is_over {
            row += 1;
            match read_line(&mut reader, &mut line, row, max_line_bytes) {
                Ok("") => is_over = true,
                Ok(text) if text.trim().is_empty() => {}
                Ok(text) => return Some(parse(row, text)),
                Err(error) => {
                    // A reader that failed once fails at every further call.
                    is_over = true;
                    return Some(Err(error));
                }
            }
        }
        None
    })
}

/// Reads a line with its end; returns an empty text at the end of the reader.
fn read_line<'a>(
    reader: &mut impl BufRead,
    line: &'a mut Vec<u8>,
    row: usize,
    limit: usize,
) -> Result<&'a str, RecordError> {
    let read_error = |source| RecordError::Read { row, source };
    line.clear();
    // One byte more for the line end.
    let most = (limit as u64).saturating_add(1);
    reader.take(most).read_until(b'\n', line).map_err(read_error)?;
    if line.len() > limit && !line.ends_with(b"\n") {
        return Err(RecordError::TooLong { row, limit });
    }
    std::str::from_utf8(line).map_err(|it| {
        let problem = format!("it is not UTF-8 text: {it}");
        read_error(io::Error::new(io::ErrorKind::InvalidData, problem))
    })
}

fn parse<T: DeserializeOwned>(row: usize, line: &str) -> Result<T, RecordError> {
    let parse_error = |source| RecordError::Parse { row, source };
    let Header { version: found } = serde_json::from_str(line).map_err(parse_error)?;
    if !(1..=RECORD_VERSION).contains(&found) {
        return Err(RecordError::Version { row, found });
    }
    let record: RecordLine<T> = serde_json::from_str(line).map_err(parse_error)?;
    Ok(record.record)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use zs_core::{Action, Document, DocumentQuality};
    use zs_model::{Completion, StopReason};

    use super::*;
    use crate::consult::HelperKind;
    use crate::program::{ProgramCheck, ProgramOutcome};
    use crate::{
        BranchOrigin, Consult, Counterfactual, ReplacedDocuments, SearchRecord, Trajectory, Turn,
    };

    /// A consultation with what else is at hand.
    fn consult((turn, it): (usize, &Turn)) -> Consult {
        let completion = it.completion.clone();
        Consult {
            turn,
            agent: HelperKind::ALL[turn % 3],
            reply: completion.tokens.clone(),
            reply_log_probs: completion.log_probs.clone(),
            completion,
            text: it.text.clone(),
            request: it.text.clone(),
            reply_text: it.observation_text.clone(),
            error: (turn == 1).then(|| "down".to_owned()),
        }
    }

    fn check((turn, it): (usize, &Turn)) -> ProgramCheck {
        let (before, after) = (it.action.clone(), Action::Search(it.text.clone()));
        let reason = "because".to_owned();
        let outcome = match turn {
            0 => ProgramOutcome::Modified { before, after, reason },
            1 => ProgramOutcome::Injected { text: it.text.clone(), reason },
            2 => ProgramOutcome::Failed { message: it.text.clone() },
            _ => ProgramOutcome::RateLimited,
        };
        ProgramCheck { turn, function: "f".to_owned(), outcome }
    }

    fn counterfactual((turn, it): (usize, &Turn)) -> Option<Counterfactual> {
        let search = it.search.as_ref()?;
        let documents = match search.quality {
            DocumentQuality::Useful => ReplacedDocuments::Noisy,
            DocumentQuality::Noisy => ReplacedDocuments::None,
        };
        let answer = search.error.clone();
        Some(Counterfactual { turn, documents, answer, tokens_sampled: turn })
    }

    /// A reader that fails at every call, as a decoder of damaged data does.
    #[test]
    fn what_cannot_be_read_is_the_last_item() {
        struct Broken;
        impl std::io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("damaged"))
            }
        }
        let read: Vec<_> = read_records::<u8>(std::io::BufReader::new(Broken), 9).take(9).collect();
        assert!(matches!(read[..], [Err(RecordError::Read { row: 1, .. })]), "{read:?}");
    }

    fn trajectory() -> impl Strategy<Value = Trajectory> {
        let finite = || (-1e30_f32..1e30_f32).prop_union(-30.0_f32..0.0);
        let completion = vec((any::<u32>(), finite()), 0..5).prop_map(|it| {
            let (tokens, log_probs) = it.into_iter().unzip();
            let stop_reason = StopReason::EndOfSequence;
            Completion { tokens, log_probs, sampling_log_probs: None, stop_reason }
        });
        let action = prop_oneof![
            Just(Action::Invalid),
            "\\PC*".prop_map(Action::Search),
            "\\PC*".prop_map(Action::Answer),
        ];
        let search =
            proptest::option::of(("\\PC*", any::<bool>(), finite(), any::<bool>()).prop_map(
                |(query, noisy, score, failed)| SearchRecord {
                    documents: vec![Document { score: Some(score), ..Document::new("t", &*query) }],
                    query,
                    quality: [DocumentQuality::Useful, DocumentQuality::Noisy][usize::from(noisy)],
                    error: failed.then(|| "line\nbreak".to_owned()),
                },
            ));
        let turn = (completion, any::<String>(), action, vec(any::<u32>(), 0..4), search).prop_map(
            |(completion, text, action, observation, search)| Turn {
                completion,
                observation_text: text.clone(),
                text,
                action,
                observation,
                search,
            },
        );
        ("\\PC*", vec(any::<u32>(), 1..4), vec(turn, 0..4), any::<bool>()).prop_map(
            |(question_id, prompt, turns, truncated)| Trajectory {
                prefill: if truncated { "<think>\n".to_owned() } else { String::new() },
                over_budget: truncated,
                consults: turns.iter().enumerate().map(consult).collect(),
                refused_consults: u32::from(truncated),
                programs: turns.iter().enumerate().map(check).collect(),
                branch: truncated.then_some(BranchOrigin { parent: 2, turn: turns.len() }),
                counterfactuals: turns.iter().enumerate().filter_map(counterfactual).collect(),
                turns,
                truncated,
                ..Trajectory::new(question_id, prompt)
            },
        )
    }

    proptest! {
        #[test]
        fn written_records_read_back(trajectories in vec(trajectory(), 0..4)) {
            let mut file = Vec::new();
            write_records(&mut file, &trajectories).unwrap();
            let read: Result<Vec<Trajectory>, _> = read_records(file.as_slice(), usize::MAX).collect();
            prop_assert_eq!(read.unwrap(), trajectories);
        }
    }

    #[track_caller]
    fn check_error(file: &[u8], row: usize, expected: &str) {
        let first = read_records::<Trajectory>(file, 200).find_map(Result::err).unwrap();
        let source = std::error::Error::source(&first).map(ToString::to_string);
        let message = format!("{first} {}", source.unwrap_or_default());
        assert!(message.starts_with(&format!("row {row}: ")), "{message}");
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn the_first_version_is_still_read() {
        // As the first release wrote it, a reward's components included.
        let row = r#"{"version":1,"record":{"question":{"id":"q","question":"?","golden_answers":["a"]},"trajectories":[{"trajectory":{"question_id":"q","prompt":[1],"turns":[{"completion":{"tokens":[2],"log_probs":[-0.5],"stop_reason":"end_of_sequence"},"text":"x","action":{"kind":"invalid"},"observation":[],"observation_text":""}],"truncated":false},"reward":{"total":0.0,"components":[{"name":"f1","score":0.0}]}}]}}"#;
        let group: crate::TrajectoryGroup =
            read_records(row.as_bytes(), row.len()).next().unwrap().unwrap();
        assert_eq!(group.trajectories[0].trajectory.turns[0].completion.tokens, [2]);
        assert!(group.trajectories[0].trajectory.consults.is_empty());
    }

    #[test]
    fn errors_name_row_and_field() {
        const GOOD: &str = r#"{"version":1,"record":{"question_id":"q","prompt":[1],"turns":[],"truncated":false}}"#;
        check_error(format!("{GOOD}\n\n{}", &GOOD[..40]).as_bytes(), 3, "EOF");
        check_error(GOOD.replace("prompt", "prompts").as_bytes(), 1, "prompts");
        check_error(GOOD.replace(":1,", ":3,").as_bytes(), 1, "`version` 3");
        check_error(GOOD.replace(":1,", ":0,").as_bytes(), 1, "reads versions 1 to 2");
        check_error(b"{}", 1, "missing field `version`");
        check_error(b"\xff\n", 1, "UTF-8");
        check_error(&[GOOD.as_bytes(), b"\n", &[b' '; 200], b"{}"].concat(), 2, "longer than 200");
    }
}
