//! `zs data check`: what is in data files, how it is read, and what is wrong with it.

mod kind;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use self::kind::Kind;
use self::report::FileReport;
use crate::report_table::table;
use crate::session::Session;

/// Arguments of `zs data check`.
#[derive(Debug, Args)]
pub struct DataCheckArgs {
    /// Files of questions, documents, predictions, recorded turns, whole episodes or queries; overlap is
    /// counted between each pair of files with questions.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Read every file as this kind, instead of detecting it from its fields.
    #[arg(long, value_name = "KIND")]
    pub kind: Option<Kind>,
    /// Print JSON instead of tables.
    #[arg(long)]
    pub json: bool,
}

/// Questions that two files share.
#[derive(Debug, Serialize)]
struct Overlap {
    first: String,
    second: String,
    /// Distinct questions that both ask.
    questions: usize,
}

/// Reads every file to its end and prints the findings.
///
/// # Errors
///
/// Fails, after printing, where a row would be left out, refused or could be read otherwise.
pub(crate) fn data_check(args: &DataCheckArgs, session: &Session) -> Result<()> {
    let files = args.files.iter().map(|it| check(it, args.kind)).collect::<Result<Vec<_>>>()?;
    let mut overlaps = Vec::new();
    for (index, first) in files.iter().enumerate() {
        for second in &files[index + 1..] {
            let questions = first.asked.keys().filter(|it| second.asked.contains_key(*it)).count();
            let (first, second) = (first.file.clone(), second.file.clone());
            overlaps.push(Overlap { first, second, questions });
        }
    }
    session.print(&match args.json {
        true => format!("{:#}\n", serde_json::json!({ "files": files, "overlap": overlaps })),
        false => text(&files, &overlaps),
    });
    let doubtful: Vec<String> =
        files.iter().filter(|it| it.is_doubtful()).map(|it| it.file.clone()).collect();
    if !doubtful.is_empty() {
        bail!(
            "some rows would be skipped or rejected, or are ambiguous, in {}",
            doubtful.join(", ")
        );
    }
    Ok(())
}

fn text(files: &[FileReport], overlaps: &[Overlap]) -> String {
    let mut rows = table([
        "file",
        "read as",
        "rows",
        "duplicate ids",
        "duplicate questions",
        "empty answers",
        "bad rows",
    ]);
    for it in files {
        let counts =
            [it.rows, it.duplicate_ids, it.duplicate_questions, it.empty_answers, it.bad_rows];
        let names = [it.file.clone(), it.kind.name().to_owned()];
        rows.add_row(names.into_iter().chain(counts.map(|it| it.to_string())));
        for (set, count) in &it.by_set {
            rows.add_row([format!("  {set}"), String::new(), count.to_string()]);
        }
    }
    let mut text = format!("{rows}\n");
    for it in overlaps.iter().filter(|it| it.questions > 0) {
        let (first, second) = (&it.first, &it.second);
        text.push_str(&format!("{} questions are in {first} and in {second}\n", it.questions));
    }
    if !overlaps.is_empty() && overlaps.iter().all(|it| it.questions == 0) {
        text.push_str("no question is in two files\n");
    }
    for file in files {
        for line in file.lines() {
            text.push_str(&format!("{}: {line}\n", file.file));
        }
        for error in &file.first_errors {
            text.push_str(&format!("{error}\n"));
        }
    }
    text
}

fn check(path: &Path, kind: Option<Kind>) -> Result<FileReport> {
    // A pipe can be read once only, and is looked at twice.
    let is_pipe = std::fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir());
    if !is_pipe {
        let kind = kind.map_or_else(|| kind::of(path), Ok)?;
        return FileReport::of(path, path, kind);
    }
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join(path.file_name().unwrap_or_default());
    std::io::copy(&mut std::fs::File::open(path)?, &mut std::fs::File::create(&copy)?)?;
    let kind = kind.map_or_else(|| kind::of(&copy), Ok)?;
    FileReport::of(&copy, path, kind)
}

#[cfg(test)]
mod tests {
    use zs_data::NoteKind;

    use super::*;

    fn report(name: &str, contents: &str) -> FileReport {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, contents).unwrap();
        check(&path, None).unwrap()
    }

    #[test]
    fn everything_wrong_is_counted_and_nothing_stops_it() {
        let rows = [
            r#"{"id":"a","question":"Who is it?","answer":"x","data_source":"nq"}"#,
            r#"{"id":"a","question":"who is it","answer":"y","data_source":"nq"}"#,
            r#"{"id":"b","question":"q","golden_answers":[]}"#,
            r#"{"id":"c","question":"q","answer":" "}"#,
            r#"{"id":"d","question":[7],"answer":"x"}"#,
            "{",
            r#"{"id":"e","question":"last?","answer":"x"}"#,
        ];
        let report = report("q.jsonl", &rows.join("\n"));
        assert_eq!((report.kind, report.rows, report.questions), (Kind::Questions, 3, 3));
        assert_eq!(report.by_set, [("nq".to_owned(), 2)].into());
        assert_eq!((report.duplicate_ids, report.duplicate_questions), (1, 1));
        assert_eq!((report.empty_answers, report.bad_rows), (2, 2));
        assert_eq!(report.first_errors.len(), 5);
        assert!(report.asked.contains_key("who is it") && report.asked.contains_key("last"));
        assert!(report.is_doubtful());
    }

    #[test]
    fn ids_of_documents_are_compared() {
        let rows = r#"{"id":"a","text":"x"}
{"id":"a","text":"y"}
{"id":"","text":"y"}
{"id":"","text":"z"}
{"id":"b","text":"x"}"#;
        let report = report("d.jsonl", rows);
        assert_eq!((report.rows, report.duplicate_ids), (5, 1));
        assert!(
            report.first_errors[0].contains("row 2: field `id` is `a`"),
            "{:?}",
            report.first_errors
        );
        assert!(report.is_doubtful());
    }

    #[track_caller]
    fn check_kind(contents: &str, kind: Kind, notes: &[NoteKind], is_doubtful: bool) {
        let report = report("file.jsonl", contents);
        let noted: Vec<NoteKind> = report.notes.iter().map(|it| it.kind).collect();
        assert_eq!((report.kind, &noted[..]), (kind, notes), "{contents}");
        assert_eq!(report.is_doubtful(), is_doubtful, "{contents}: {:?}", report.first_errors);
    }

    #[test]
    fn files_are_known_by_their_fields() {
        use NoteKind::*;
        check_kind(r#"{"question":"q","answer":"a"}"#, Kind::Questions, &[], false);
        check_kind(r#"{"question":"q","answer":"['a']"}"#, Kind::Questions, &[ListInText], false);
        check_kind(r#"{"question":"q","answer":"[a]"}"#, Kind::Questions, &[ListLikeText], true);
        check_kind(r#"{"prompt":"q","answer":"a"}"#, Kind::Questions, &[], false);
        check_kind(r#"{"title":"t","text":"x"}"#, Kind::Documents, &[], false);
        let empty = "{\"text\":\"\"}\n{\"text\":\"a\"}";
        check_kind(empty, Kind::Documents, &[EmptyDocument], true);
        check_kind(r#"{"contents":"首都"}"#, Kind::Documents, &[], false);
        check_kind(r#"{"question":"首都?","answer":"a"}"#, Kind::Questions, &[], false);
        check_kind(r#"{"answer":"a","prediction":"b"}"#, Kind::Predictions, &[], false);
        check_kind(r#"{"question":"q","turns":[]}"#, Kind::Turns, &[], false);
        let episode = r#"{"id":"q","question":"q","golden_answers":[],"turns":[{"text":"x"}]}"#;
        check_kind(episode, Kind::Trajectories, &[], false);
        let chat = r#"{"messages":[{"role":"user","content":"q"}]}"#;
        check_kind(chat, Kind::Trajectories, &[], false);
        check_kind(r#"{"messages":[{"role":"x","content":"q"}]}"#, Kind::Trajectories, &[], true);
        check_kind(r#"{"query":"q"}"#, Kind::Queries, &[], false);
        check_kind(r#"{"qury":"q"}"#, Kind::Questions, &[], true);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_reported() {
        let report = report("q.jsonl", "PK\u{3}\u{4}");
        assert!(report.first_errors[0].contains("zip archive") && report.is_doubtful());
    }
}
