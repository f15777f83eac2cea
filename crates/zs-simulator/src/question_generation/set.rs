//! Files of a set of questions: those that are kept, by split, and those that were dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use zs_core::{Document, Question, normalize_answer};
use zs_data::{digest, write_atomic, write_json};

use super::filter::Pair;
use super::manifest::{QuestionManifest, QuestionPart, QuestionSources};
use super::{GenerationError, PairDrop};
use crate::collect::{Dropped, split_draw};
use crate::resumable_set::{MANIFEST, json_lines};

/// Digits of the digest that is a question's id.
const ID_DIGITS: usize = 16;

/// A row of a split.
#[derive(Serialize)]
struct QuestionRow<'a> {
    #[serde(flatten)]
    question: Question,
    passage_id: &'a str,
}

/// A row of `dropped.jsonl`.
#[derive(Serialize)]
struct DroppedRow<'a> {
    passage_id: &'a str,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    question: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    /// Reply or error of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// A set that is being made.
pub(super) struct QuestionSet<'a> {
    passages: &'a [Document],
    dropped: Dropped,
    rows: Vec<DroppedRow<'a>>,
}

impl<'a> QuestionSet<'a> {
    pub(super) fn new(passages: &'a [Document]) -> Self {
        Self { passages, dropped: Dropped::default(), rows: Vec::new() }
    }

    /// Counts and names what is dropped.
    pub(super) fn drop(
        &mut self,
        passage: usize,
        reason: PairDrop,
        pair: Option<&Pair>,
        detail: Option<String>,
    ) {
        self.dropped.add(reason.to_string(), 1);
        self.rows.push(DroppedRow {
            passage_id: &self.passages[passage].id,
            reason: reason.to_string(),
            question: pair.map(|it| it.question.clone()),
            answer: pair.map(|it| it.answer.clone()),
            detail,
        });
    }

    /// Writes the set; the manifest comes last.
    pub(super) fn write(
        self,
        pairs: Vec<Pair>,
        num_passages: usize,
        num_pairs: usize,
        sources: QuestionSources,
        out: &Path,
    ) -> Result<QuestionManifest, GenerationError> {
        let path = out.join("dropped.jsonl");
        write_atomic(&path, &json_lines(&path, &self.rows)?)?;
        let settings = &sources.settings;
        let (validation, test) = (settings.validation_share, settings.test_share);
        let split = |pair: &Pair| {
            let draw = split_draw(&self.passages[pair.passage].text, settings.seed);
            match draw {
                _ if draw < validation => "validation.jsonl",
                _ if draw < validation + test => "test.jsonl",
                _ => "train.jsonl",
            }
        };
        let mut files: BTreeMap<&str, Vec<Pair>> =
            ["train.jsonl", "validation.jsonl", "test.jsonl"]
                .into_iter()
                .map(|it| (it, Vec::new()))
                .collect();
        for pair in pairs {
            files.entry(split(&pair)).or_default().push(pair);
        }
        if files["train.jsonl"].is_empty() {
            let reasons: Vec<String> =
                self.dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            return Err(GenerationError::Nothing { dropped: reasons.join(", ") });
        }
        let mut parts = BTreeMap::new();
        for (name, pairs) in files {
            let rows: Vec<QuestionRow<'_>> = pairs.iter().map(|it| self.row(it)).collect();
            let path = out.join(name);
            let bytes = json_lines(&path, &rows)?;
            write_atomic(&path, &bytes)?;
            let passages: BTreeSet<usize> = pairs.iter().map(|it| it.passage).collect();
            let part = QuestionPart {
                questions: rows.len(),
                passages: passages.len(),
                sha256: digest::of_bytes(&bytes),
            };
            parts.insert(name.to_owned(), part);
        }
        let manifest = QuestionManifest {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sources,
            num_passages,
            num_pairs,
            dropped: self.dropped,
            parts,
        };
        write_json(&out.join(MANIFEST), &manifest)?;
        Ok(manifest)
    }

    fn row(&self, pair: &Pair) -> QuestionRow<'a> {
        let passage = &self.passages[pair.passage];
        let mut id = digest::of_bytes(normalize_answer(&pair.question).as_bytes());
        id.truncate(ID_DIGITS);
        let titles = [&passage.title].into_iter().filter(|it| !it.is_empty()).cloned();
        let question = Question {
            gold_titles: titles.collect(),
            ..Question::new(id, pair.question.as_str(), [pair.answer.as_str()])
        };
        QuestionRow { question, passage_id: &passage.id }
    }
}
