//! Findings about one data file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;
use zs_core::{Question, normalize_answer};
use zs_data::{
    DataError, Note, NoteLevel, RowError, Rows, distinct_questions, open_documents, open_episodes,
    open_queries, open_questions,
};
use zs_eval::{Protocol, open_predictions};
use zs_search::ScriptCounts;
use zs_trainer::trajectories::{SourceEpisode, open_source_episodes};

use super::kind::Kind;

/// Bad rows that are quoted.
const NUM_QUOTED: usize = 5;

/// Contents of one file.
#[derive(Debug, Serialize)]
pub(super) struct FileReport {
    /// Path of the file; JSON holds text only.
    pub(super) file: String,
    /// Content that the file was read as.
    pub(super) kind: Kind,
    /// Rows that can be read.
    pub(super) rows: usize,
    /// Rows that are questions.
    pub(super) questions: usize,
    /// Number of rows by set, where rows name one.
    pub(super) by_set: BTreeMap<String, usize>,
    /// Rows whose id an earlier row of the same set has.
    pub(super) duplicate_ids: usize,
    /// Rows that ask what an earlier row asks, but for case, punctuation and articles.
    pub(super) duplicate_questions: usize,
    /// Rows without an answer, or with a blank one.
    pub(super) empty_answers: usize,
    /// Rows that are refused for another reason.
    pub(super) bad_rows: usize,
    /// The first errors.
    pub(super) first_errors: Vec<String>,
    /// Decisions of the reader.
    pub(super) notes: Vec<Note>,
    /// Scripts of the texts.
    pub(super) scripts: ScriptCounts,
    /// Every question, and how often it is asked.
    #[serde(skip)]
    pub(super) asked: HashMap<String, usize>,
}

impl FileReport {
    /// Reads the file `path` to its end; `name` names it in the report.
    pub(super) fn of(path: &Path, name: &Path, kind: Kind) -> Result<Self> {
        let mut report = Self {
            file: name.display().to_string(),
            kind,
            rows: 0,
            questions: 0,
            by_set: BTreeMap::new(),
            duplicate_ids: 0,
            duplicate_questions: 0,
            empty_answers: 0,
            bad_rows: 0,
            first_errors: Vec::new(),
            notes: Vec::new(),
            scripts: ScriptCounts::default(),
            asked: HashMap::new(),
        };
        let read = match kind {
            Kind::Questions => open_questions(path).and_then(|it| report.read_questions(it)),
            Kind::Documents => open_documents(path).and_then(|it| {
                let mut ids: HashSet<u64> = HashSet::new();
                report.read_rows(it, |report, it, row| {
                    report.scripts.add(&it.text, row);
                    if !it.id.is_empty() && !ids.insert(hash(&it.id)) {
                        report.repeated_id(&it.id, row);
                    }
                })
            }),
            Kind::Predictions => open_predictions(path, &Protocol::strict()).and_then(|it| {
                report.read_rows(it, |report, it, _| {
                    if let Some(set) = it.data_source {
                        *report.by_set.entry(set).or_default() += 1;
                    }
                })
            }),
            Kind::Turns => open_episodes(path).and_then(|it| {
                report.read_rows(it, |report, it, row| report.scripts.add(&it.question, row))
            }),
            Kind::Trajectories => open_source_episodes(path).and_then(|it| {
                report.read_rows(it, |report, episodes, row| {
                    for question in episodes.iter().filter_map(SourceEpisode::question) {
                        report.scripts.add(&question.text, row);
                        *report.asked.entry(normalize_answer(&question.text)).or_default() += 1;
                    }
                })
            }),
            Kind::Queries => open_queries(path).and_then(|it| {
                report.read_rows(it, |report, it, row| report.scripts.add(&it, row))
            }),
        };
        match read {
            Ok(()) if report.rows == 0 && report.first_errors.is_empty() => {
                let noun = kind.name();
                report.first_errors.push(format!("{}: the file holds no {noun}", path.display()));
            }
            Ok(()) => {}
            Err(error @ DataError::Read { .. }) => bail!(error),
            // The rest of the file cannot be read.
            Err(error) => report.bad_row(&error),
        }
        if path != name {
            let (path, name) = (path.display().to_string(), name.display().to_string());
            report.first_errors.iter_mut().for_each(|it| *it = it.replace(&path, &name));
        }
        Ok(report)
    }

    /// Returns true if a row would be left out or refused, or could be read otherwise.
    pub(super) fn is_doubtful(&self) -> bool {
        !self.first_errors.is_empty()
            || self.notes.iter().any(|it| it.kind.level() != NoteLevel::Decided)
            || self.script_warning().is_some()
    }

    /// Warning about documents that BM25 will not find in the language that it chooses for them.
    fn script_warning(&self) -> Option<String> {
        let is_corpus = self.kind == Kind::Documents;
        is_corpus.then(|| self.scripts.warning(self.kind.name(), self.scripts.language()))?
    }

    /// Decisions of the reader and warnings, a line each.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let notes = self.notes.iter().map(|it| match it.kind.level() {
            NoteLevel::Ambiguous => format!("ambiguous: {it}"),
            _ => it.to_string(),
        });
        notes.chain(self.script_warning())
    }

    fn read_rows<T: 'static>(
        &mut self,
        mut rows: Rows<T>,
        mut take: impl FnMut(&mut Self, T, usize),
    ) -> Result<(), DataError> {
        while let Some(row) = rows.next() {
            match row {
                Ok(row) => {
                    self.rows += 1;
                    take(self, row, rows.row());
                }
                Err(error @ DataError::Row { .. }) => self.bad_row(&error),
                Err(error) => return Err(error),
            }
        }
        self.notes = rows.notes();
        Ok(())
    }

    fn read_questions(&mut self, rows: Rows<Question>) -> Result<(), DataError> {
        let mut read: Vec<(Question, usize)> = Vec::new();
        self.read_rows(rows, |report, question, row| {
            report.scripts.add(&question.text, row);
            read.push((question, row));
        })?;
        for (question, _) in &read {
            self.questions += 1;
            if let Some(set) = &question.data_source {
                *self.by_set.entry(set.clone()).or_default() += 1;
            }
            let times = self.asked.entry(normalize_answer(&question.text)).or_default();
            *times += 1;
            self.duplicate_questions += usize::from(*times > 1);
        }
        let distinct = distinct_questions(read);
        self.notes.extend(distinct.note);
        self.duplicate_ids = distinct.repeated.len();
        for (row, error) in distinct.repeated {
            let path = PathBuf::from(&self.file);
            self.quote(&DataError::Row { path, row, error });
        }
        Ok(())
    }

    fn repeated_id(&mut self, id: &str, row: usize) {
        self.duplicate_ids += 1;
        let error = RowError::invalid(format!("field `id` is `{id}`, as in an earlier row"));
        self.quote(&DataError::Row { path: PathBuf::from(&self.file), row, error });
    }

    fn bad_row(&mut self, error: &DataError) {
        match error {
            DataError::Row { error: RowError::Empty { .. }, .. } => self.empty_answers += 1,
            _ => self.bad_rows += 1,
        }
        self.quote(error);
    }

    fn quote(&mut self, error: &DataError) {
        if self.first_errors.len() < NUM_QUOTED {
            self.first_errors.push(error.to_string());
        }
    }
}

/// Hash of an id: those of a corpus of millions of documents fit into memory.
fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
