//! A corpus of odd files of our own making: questions, documents, predictions, turns, queries, requests
//! and replies as other programs write them, each with its expected result beside it.
//!
//! The files are generated; set `ODD_FILES_DIR` to a new folder to keep them.

mod alike;
mod cases;
mod exchanges;
mod parquet;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zs_data::Note;
use zs_eval::Protocol;

use crate::common::zs;

/// A file and what must come out.
struct OddFile {
    name: String,
    contents: Vec<u8>,
    expected: Value,
}

/// Content of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Questions,
    Documents,
    Predictions,
    Turns,
    Queries,
    /// Request to `/v1/completions`.
    Completion,
    /// Request to `/v1/chat/completions`.
    Chat,
    /// Request to `/retrieve`.
    Retrieval,
    RetrieverReply,
    CompletionReply,
    WebReply,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Questions,
        Self::Documents,
        Self::Predictions,
        Self::Turns,
        Self::Queries,
        Self::Completion,
        Self::Chat,
        Self::Retrieval,
        Self::RetrieverReply,
        Self::CompletionReply,
        Self::WebReply,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Questions => "questions",
            Self::Documents => "documents",
            Self::Predictions => "predictions",
            Self::Turns => "turns",
            Self::Queries => "queries",
            Self::Completion => "completion request",
            Self::Chat => "chat request",
            Self::Retrieval => "retrieval request",
            Self::RetrieverReply => "reply of a retrieval server",
            Self::CompletionReply => "reply of a completion server",
            Self::WebReply => "reply of a web provider",
        }
    }

    fn of(name: &str) -> Self {
        Self::ALL.into_iter().find(|it| it.name() == name).unwrap()
    }

    fn is_request(self) -> bool {
        matches!(self, Self::Completion | Self::Chat | Self::Retrieval)
    }

    /// True for files that `zs data check` reads.
    fn is_data(self) -> bool {
        let replies = [Self::RetrieverReply, Self::CompletionReply, Self::WebReply];
        !self.is_request() && !replies.contains(&self)
    }

    /// The rows of a file as JSON, with the decisions of the reader; an error, in one line.
    fn read(self, path: &Path) -> Result<(Vec<Value>, Vec<Note>), String> {
        let error = |it: zs_data::DataError| it.to_string();
        if !self.is_data() {
            let bytes = fs::read(path).unwrap();
            let rows = match self {
                Self::Completion => exchanges::answers("/v1/completions", &bytes),
                Self::Chat => exchanges::answers("/v1/chat/completions", &bytes),
                Self::Retrieval => exchanges::answers("/retrieve", &bytes),
                Self::RetrieverReply => exchanges::retriever_reply(&bytes),
                Self::CompletionReply => exchanges::completion_reply(&bytes),
                _ => exchanges::web_reply(&bytes),
            };
            return Ok((rows?, Vec::new()));
        }
        Ok(match self {
            Self::Questions => {
                let set = zs_data::read_question_set(path, false).map_err(error)?;
                let row = |it: &zs_core::Question| json!([it.id, it.text, it.golden_answers]);
                (set.questions.iter().map(row).collect(), set.notes)
            }
            Self::Documents => {
                let corpus = zs_data::read_corpus(path).map_err(error)?;
                let row = |it: &zs_core::Document| json!([it.id, it.title, it.text]);
                (corpus.documents.iter().map(row).collect(), corpus.notes)
            }
            Self::Predictions => {
                let rows = zs_eval::open_predictions(path, &Protocol::strict()).map_err(error)?;
                let (records, report) = rows.collect_reported(false).map_err(error)?;
                let row = |it: &zs_eval::QuestionRecord| json!([it.prediction, it.exact_match]);
                (records.iter().map(row).collect(), report.notes)
            }
            Self::Turns => {
                let rows = zs_data::open_episodes(path).map_err(error)?;
                let (episodes, report) = rows.collect_reported(false).map_err(error)?;
                let turn = |it: &zs_data::RecordedTurn| {
                    let texts: Vec<&String> = it.documents.iter().map(|it| &it.text).collect();
                    json!([it.query, texts])
                };
                let row = |it: &zs_data::RecordedEpisode| {
                    let turns: Vec<Value> = it.turns.iter().map(turn).collect();
                    json!([it.question, it.golden_answers, turns])
                };
                (episodes.iter().map(row).collect(), report.notes)
            }
            Self::Queries => {
                let (queries, report) = zs_data::read_queries(path).map_err(error)?;
                (queries.into_iter().map(Value::from).collect(), report.notes)
            }
            _ => unreachable!("no file of data"),
        })
    }
}

/// Writes each file with `NAME.expected.json` beside it.
fn generate(dir: &Path) -> usize {
    let files = cases::all();
    for file in &files {
        let path = dir.join(&file.name);
        assert!(!path.exists(), "two odd files are called {}", file.name);
        fs::write(&path, &file.contents).unwrap();
        fs::write(beside(&path), format!("{:#}\n", file.expected)).unwrap();
    }
    files.len()
}

fn beside(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.expected.json", path.display()))
}

fn counts(notes: &[Note]) -> BTreeMap<String, usize> {
    let name = |it: &Note| json!(it.kind).as_str().unwrap().to_owned();
    notes.iter().map(|it| (name(it), it.count)).collect()
}

#[test]
fn odd_files_are_read_right_or_refused_aloud() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = std::env::var_os("ODD_FILES_DIR").map_or(scratch.path().to_owned(), PathBuf::from);
    fs::create_dir_all(&dir).unwrap();
    assert!(generate(&dir) >= 200);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(&dir).unwrap().map(|it| it.unwrap().path()).collect();
    paths.retain(|it| beside(it).exists());
    paths.sort();
    let mut problems = String::new();
    for path in &paths {
        let expected: Value = serde_json::from_slice(&fs::read(beside(path)).unwrap()).unwrap();
        let kind = Kind::of(expected["kind"].as_str().unwrap());
        let problem = match (kind.read(path), expected["error"].as_str()) {
            (Ok((rows, notes)), None) => {
                let read = json!({ "kind": kind.name(), "rows": rows, "notes": counts(&notes) });
                (read != expected).then(|| format!("{read} is not {expected}"))
            }
            (Err(error), Some(expected)) => {
                let name = path.file_name().unwrap().to_string_lossy();
                let names_file = !kind.is_data() || error.contains(&*name);
                let is_right = error.contains(expected) && names_file;
                (!is_right || error.contains('\n'))
                    .then(|| format!("`{error}` does not say `{expected}`"))
            }
            (read, _) => Some(format!("{read:?} is not {expected}")),
        };
        if let Some(problem) = problem {
            problems.push_str(&format!("{}: {problem}\n", path.display()));
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
    paths.retain(|it| {
        let expected: Value = serde_json::from_slice(&fs::read(beside(it)).unwrap()).unwrap();
        Kind::of(expected["kind"].as_str().unwrap()).is_data()
    });
    check_command(&dir, &paths);
}

/// `zs data check` finds the kind of each file, counts the same decisions, and fails.
fn check_command(dir: &Path, paths: &[PathBuf]) {
    let is_damaged = |it: &&PathBuf| !it.to_string_lossy().contains("cut_short");
    let names: Vec<&str> = paths
        .iter()
        .filter(is_damaged)
        .map(|it| it.file_name().unwrap().to_str().unwrap())
        .collect();
    let arguments: Vec<&str> =
        ["data", "check", "--json"].into_iter().chain(names.iter().copied()).collect();
    let output = zs(dir, &arguments);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut problems = String::new();
    for (name, file) in names.iter().zip(report["files"].as_array().unwrap()) {
        let path = beside(&dir.join(name));
        let expected: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let errors = file["first_errors"].as_array().unwrap();
        let is_right = match expected["error"].as_str() {
            Some(error) => errors.iter().any(|it| it.as_str().unwrap().contains(error)),
            None => {
                let notes: BTreeMap<&str, u64> = file["notes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|it| (it["kind"].as_str().unwrap(), it["count"].as_u64().unwrap()))
                    .collect();
                errors.is_empty()
                    && file["kind"] == expected["kind"]
                    && file["rows"] == expected["rows"].as_array().unwrap().len()
                    && json!(notes) == expected["notes"]
            }
        };
        if !is_right {
            problems.push_str(&format!("{name}: {file} is not {expected}\n"));
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
    for name in ["q_plain.jsonl", "q_list_json.jsonl", "q_quotes_text.tsv", "d_chinese.jsonl"] {
        assert_eq!(zs(dir, &["data", "check", name]).status.code(), Some(0), "{name}");
    }
    for name in ["q_list_like.jsonl", "d_empty_rows.jsonl", "d_mixed_scripts.jsonl", "q_zip.csv"] {
        assert_eq!(zs(dir, &["data", "check", name]).status.code(), Some(1), "{name}");
    }
}

/// A pipe is read as the file is.
#[cfg(unix)]
#[test]
fn pipes_are_read_as_files_are() {
    let scratch = tempfile::tempdir().unwrap();
    generate(scratch.path());
    for name in ["q_bom.jsonl", "q_packed_gzip.jsonl", "q_quotes_text.tsv", "q_verl.parquet"] {
        let path = scratch.path().join(name);
        let folder = tempfile::tempdir().unwrap();
        for target in ["piped", name] {
            let pipe = folder.path().join(target);
            let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
            assert!(made.success());
            let contents = fs::read(&path).unwrap();
            let (first, rest) = contents.split_at(1);
            let writer = std::thread::spawn({
                let (pipe, first, rest) = (pipe.clone(), first.to_vec(), rest.to_vec());
                move || {
                    use std::io::Write;
                    let mut pipe = fs::OpenOptions::new().write(true).open(pipe).unwrap();
                    pipe.write_all(&first).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    pipe.write_all(&rest).unwrap();
                }
            });
            let read = Kind::Questions.read(&pipe).unwrap();
            writer.join().unwrap();
            let texts = |rows: &[Value]| rows.iter().map(|it| it[1].clone()).collect::<Vec<_>>();
            let (rows, notes) = Kind::Questions.read(&path).unwrap();
            assert_eq!((texts(&read.0), read.1), (texts(&rows), notes), "{name} as {target}");
        }
    }
}

/// `zs score --quirks` scores under several protocols, and reads its file once.
#[cfg(unix)]
#[test]
fn a_pipe_is_scored_once() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let rows = "{\"golden_answers\":[\"a\"],\"prediction\":\"a b\"}\n".repeat(3);
    fs::write(dir.join("file"), &rows).unwrap();
    let pipe = dir.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let score = |name: &str| {
        let output = zs(dir, &["score", "--quirks", "--json", "--predictions", name]);
        assert!(output.status.success(), "{output:?}");
        let mut scores: Value = serde_json::from_slice(&output.stdout).unwrap();
        scores["predictions"] = Value::Null;
        scores
    };
    let writer = std::thread::spawn(move || fs::write(pipe, rows).unwrap());
    let piped = score("pipe");
    writer.join().unwrap();
    assert_eq!(piped, score("file"));
    let effect = |it: &&Value| it["quirk"] == "containment";
    let containment = piped["effects"].as_array().unwrap().iter().find(effect).unwrap();
    assert_eq!(containment["exact_match"], 1.0);
}

/// A line of 80 MiB, packed into a few kilobytes, is refused with its row, in bounded memory.
#[test]
fn lines_that_are_too_long_are_refused_with_their_row() {
    use std::io::Write;
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bomb.jsonl.gz");
    let mut packer =
        flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), Default::default());
    packer.write_all(b"{\"question\":\"q\",\"answer\":\"a\"}\n{\"question\":\"").unwrap();
    let part = vec![b'x'; 1 << 20];
    (0..80).for_each(|_| packer.write_all(&part).unwrap());
    packer.write_all(b"\"}\n{\"question\":\"r\",\"answer\":\"a\"}\n").unwrap();
    packer.finish().unwrap();
    let message = zs_data::read_questions(&path).unwrap_err().to_string();
    assert!(
        message.ends_with(
            "row 2: longer than 67108864 bytes; check that each row has a line of its own"
        ),
        "{message}"
    );
    let set = zs_data::read_question_set(&path, true).unwrap();
    assert_eq!((set.questions.len(), set.skipped.count), (2, 1));
}
