//! A set of episodes that is being built: what is kept, what is dropped and why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;
use zs_core::{Action, Question, normalize_answer, parse_action};
use zs_data::{digest, read_question_set, write_atomic, write_json};
use zs_rl::{DemonstratedTurn, Demonstration};
use zs_simulator::collect::{Dropped, Input, is_validation};

use super::manifest::{EpisodePart, ExcludedFile, TrajectoryManifest};
use super::{BuildError, DropReason, TrajectorySettings};

/// Result of making an episode: its turns, or the reason that there are none and what exactly is
/// wrong.
pub(super) type Made = Result<Vec<DemonstratedTurn>, (DropReason, Option<String>)>;

/// Questions of files that no episode may be of.
#[derive(Debug, Default)]
struct Excluded {
    files: Vec<ExcludedFile>,
    /// Files of each question, by its normalised text.
    by_text: BTreeMap<String, Vec<usize>>,
}

impl Excluded {
    fn read(paths: &[PathBuf]) -> Result<Self, BuildError> {
        let mut excluded = Self::default();
        for (index, path) in paths.iter().enumerate() {
            let mut questions = 0;
            // Rows that cannot be scored exclude nothing; those that can must all count.
            for question in read_question_set(path, true)?.questions {
                let files = excluded.by_text.entry(normalize_answer(&question.text)).or_default();
                if files.last() != Some(&index) {
                    files.push(index);
                    questions += 1;
                }
            }
            excluded.files.push(ExcludedFile { path: path.clone(), questions, dropped: 0 });
        }
        Ok(excluded)
    }
}

/// Line of `dropped.jsonl`.
#[derive(Serialize)]
struct DroppedRow {
    question: String,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// A set that is being built.
pub(super) struct EpisodeSet<'a> {
    settings: &'a TrajectorySettings,
    excluded: Excluded,
    num_read: usize,
    dropped: Dropped,
    dropped_rows: Vec<DroppedRow>,
    /// Queries of the kept episodes of each question.
    kept: BTreeMap<String, BTreeSet<Vec<String>>>,
    train: Vec<Demonstration>,
    validation: Vec<Demonstration>,
}

impl<'a> EpisodeSet<'a> {
    pub(super) fn new(settings: &'a TrajectorySettings) -> Result<Self, BuildError> {
        Ok(Self {
            settings,
            excluded: Excluded::read(&settings.exclude)?,
            num_read: 0,
            dropped: Dropped::default(),
            dropped_rows: Vec::new(),
            kept: BTreeMap::new(),
            train: Vec::new(),
            validation: Vec::new(),
        })
    }

    /// Adds the episode that `make` makes of a question, unless the question is excluded.
    pub(super) fn add(&mut self, question: &Question, make: impl FnOnce() -> Made) {
        self.num_read += 1;
        if let Some(files) = self.excluded.by_text.get(&normalize_answer(&question.text)) {
            files.iter().for_each(|it| self.excluded.files[*it].dropped += 1);
            return self.leave_out(&question.text, DropReason::Excluded, None);
        }
        match make() {
            Ok(turns) => self.keep(Demonstration { question: question.clone(), turns }),
            Err((reason, detail)) => self.leave_out(&question.text, reason, detail),
        }
    }

    /// Counts a row that cannot be read.
    pub(super) fn add_unreadable(&mut self, message: String) {
        self.num_read += 1;
        self.leave_out("", DropReason::UnreadableRow, Some(message));
    }

    fn keep(&mut self, episode: Demonstration) {
        let text = episode.question.text.clone();
        let queries = episode.turns.iter().filter_map(|it| match parse_action(&it.text) {
            Action::Search(query) => Some(normalize_answer(&query)),
            Action::Answer(_) | Action::Invalid => None,
        });
        let queries: Vec<String> = queries.collect();
        let kept = self.kept.entry(normalize_answer(&text)).or_default();
        if kept.contains(&queries) {
            return self.leave_out(&text, DropReason::Duplicate, None);
        }
        if kept.len() >= self.settings.per_question {
            return self.leave_out(&text, DropReason::EnoughOfQuestion, None);
        }
        kept.insert(queries);
        match is_validation(&text, self.settings.validation_share, self.settings.seed) {
            true => self.validation.push(episode),
            false => self.train.push(episode),
        }
    }

    fn leave_out(&mut self, question: &str, reason: DropReason, detail: Option<String>) {
        self.dropped.add(reason.to_string(), 1);
        let (question, reason) = (question.to_owned(), reason.to_string());
        self.dropped_rows.push(DroppedRow { question, reason, detail });
    }

    /// Writes the set; the manifest comes last.
    pub(super) fn write(self, inputs: Vec<PathBuf>) -> Result<TrajectoryManifest, BuildError> {
        let out = &self.settings.out;
        if self.train.is_empty() {
            let reasons: Vec<String> =
                self.dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            return Err(BuildError::Nothing { dropped: reasons.join(", ") });
        }
        zs_data::create_dir(out).map_err(zs_data::FileError::io(out, "create"))?;
        let mut parts = BTreeMap::new();
        for (name, episodes) in
            [("train.jsonl", &self.train), ("validation.jsonl", &self.validation)]
        {
            let bytes = json_lines(episodes)?;
            write_atomic(&out.join(name), &bytes)?;
            parts.insert(name.to_owned(), EpisodePart::of(episodes, &bytes));
        }
        write_atomic(&out.join("dropped.jsonl"), &json_lines(&self.dropped_rows)?)?;
        let input = |path: PathBuf| Ok(Input { sha256: digest::of_file(&path)?, path });
        let inputs = inputs.into_iter().map(input).collect::<Result<_, BuildError>>()?;
        let manifest = TrajectoryManifest {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settings: self.settings.clone(),
            inputs,
            num_read: self.num_read,
            dropped: self.dropped,
            excluded: self.excluded.files,
            parts,
        };
        write_json(&out.join("manifest.json"), &manifest)?;
        Ok(manifest)
    }
}

fn json_lines(rows: &[impl Serialize]) -> Result<Vec<u8>, BuildError> {
    let mut bytes = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut bytes, row)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}
