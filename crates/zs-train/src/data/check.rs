//! `zs data check`: what is in question files, and what is wrong with it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;
use zs_core::normalize_answer;
use zs_data::{DataError, RowError, open_questions};

use crate::report_table::table;
use crate::session::Session;

/// Bad rows that are quoted.
const NUM_QUOTED: usize = 5;

/// Arguments of `zs data check`.
#[derive(Debug, Args)]
pub struct DataCheckArgs {
    /// Question files; overlap is counted between each pair of them.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Print JSON instead of tables.
    #[arg(long)]
    pub json: bool,
}

/// Contents of one file.
#[derive(Debug, Default, Serialize)]
struct FileReport {
    file: String,
    /// Rows that are questions.
    questions: usize,
    /// Number of questions by set, where rows name one.
    by_set: BTreeMap<String, usize>,
    /// Rows whose id an earlier row has.
    duplicate_ids: usize,
    /// Rows that ask what an earlier row asks, but for case, punctuation and articles.
    duplicate_questions: usize,
    /// Rows without an answer, or with a blank one.
    empty_answers: usize,
    /// Rows that are no questions for another reason.
    bad_rows: usize,
    /// The first of both kinds.
    first_errors: Vec<String>,
    /// Every question, and how often it is asked.
    #[serde(skip)]
    asked: HashMap<String, usize>,
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
pub(crate) fn data_check(args: &DataCheckArgs, session: &Session) -> Result<()> {
    let files = args.files.iter().map(|it| check(it)).collect::<Result<Vec<_>>>()?;
    let mut overlaps = Vec::new();
    for (index, first) in files.iter().enumerate() {
        for second in &files[index + 1..] {
            let questions = first.asked.keys().filter(|it| second.asked.contains_key(*it)).count();
            let (first, second) = (first.file.clone(), second.file.clone());
            overlaps.push(Overlap { first, second, questions });
        }
    }
    if args.json {
        let json = serde_json::json!({ "files": files, "overlap": overlaps });
        session.print(&format!("{json:#}\n"));
        return Ok(());
    }
    let mut rows = table([
        "file",
        "questions",
        "duplicate ids",
        "duplicate questions",
        "empty answers",
        "bad rows",
    ]);
    for it in &files {
        let counts =
            [it.questions, it.duplicate_ids, it.duplicate_questions, it.empty_answers, it.bad_rows];
        let counts = counts.map(|it| it.to_string());
        rows.add_row(std::iter::once(it.file.clone()).chain(counts));
        for (set, count) in &it.by_set {
            rows.add_row([format!("  {set}"), count.to_string()]);
        }
    }
    let mut text = format!("{rows}\n");
    for it in overlaps.iter().filter(|it| it.questions > 0) {
        let (first, second) = (&it.first, &it.second);
        text.push_str(&format!("{} questions are in {first} and in {second}\n", it.questions));
    }
    if files.len() > 1 && overlaps.iter().all(|it| it.questions == 0) {
        text.push_str("no question is in two files\n");
    }
    for error in files.iter().flat_map(|it| &it.first_errors) {
        text.push_str(&format!("{error}\n"));
    }
    session.print(&text);
    Ok(())
}

fn check(path: &Path) -> Result<FileReport> {
    let mut report = FileReport { file: path.display().to_string(), ..FileReport::default() };
    let mut ids: HashMap<String, usize> = HashMap::new();
    for question in open_questions(path)? {
        let question = match question {
            Ok(question) => question,
            Err(error @ DataError::Row { .. }) => {
                match &error {
                    DataError::Row { error: RowError::Empty { .. }, .. } => {
                        report.empty_answers += 1;
                    }
                    _ => report.bad_rows += 1,
                }
                if report.first_errors.len() < NUM_QUOTED {
                    report.first_errors.push(error.to_string());
                }
                continue;
            }
            // The rest of the file cannot be read.
            Err(error) => bail!(error),
        };
        report.questions += 1;
        if let Some(set) = question.data_source {
            *report.by_set.entry(set).or_default() += 1;
        }
        let count = |seen: &mut HashMap<String, usize>, key| {
            let times = seen.entry(key).or_default();
            *times += 1;
            usize::from(*times > 1)
        };
        report.duplicate_ids += count(&mut ids, question.id);
        report.duplicate_questions += count(&mut report.asked, normalize_answer(&question.text));
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_wrong_is_counted_and_nothing_stops_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.jsonl");
        let rows = [
            r#"{"id":"a","question":"Who is it?","answer":"x","data_source":"nq"}"#,
            r#"{"id":"a","question":"who is it","answer":"y","data_source":"nq"}"#,
            r#"{"id":"b","question":"q","golden_answers":[]}"#,
            r#"{"id":"c","question":"q","answer":" "}"#,
            r#"{"id":"d","question":7,"answer":"x"}"#,
            "{",
            r#"{"id":"e","question":"last?","answer":"x"}"#,
        ];
        std::fs::write(&path, rows.join("\n")).unwrap();
        let report = check(&path).unwrap();
        assert_eq!(report.questions, 3);
        assert_eq!(report.by_set, [("nq".to_owned(), 2)].into());
        assert_eq!((report.duplicate_ids, report.duplicate_questions), (1, 1));
        assert_eq!((report.empty_answers, report.bad_rows), (2, 2));
        assert_eq!(report.first_errors.len(), 4);
        assert!(report.asked.contains_key("who is it") && report.asked.contains_key("last"));
    }
}
