//! Questions, corpora and recorded searches of the preset: `data.toml` in the folder that `--data` names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zs_data::digest;
use zs_trainer::Components;
use zs_trainer::config::{Check, RunFileError, ensure, load};

use crate::error::{ReproduceError, Result};

/// The file in the folder.
pub(super) const DATA_FILE: &str = "data.toml";

/// Files of the preset. Paths are relative to the folder.
///
/// ```toml
/// questions = ["nq.parquet", "hotpotqa.jsonl"]
/// corpus = "wiki.jsonl.gz"
/// turns = ["recorded.jsonl.gz"]
///
/// [[tests]]
/// name = "hotpotqa"
/// questions = "hotpotqa_dev.jsonl"
/// corpus = "hotpotqa_passages.jsonl.gz"
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RealData {
    /// Training questions; those that the corpus answers are used.
    pub questions: Vec<PathBuf>,
    /// Passages that the policy searches in training.
    pub corpus: PathBuf,
    /// Recorded searches: more episodes of the cold start, and what the simulation LLM learns.
    pub turns: Vec<PathBuf>,
    /// Test sets; their questions are left out of training.
    pub tests: Vec<TestSet>,
}

/// A test set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestSet {
    /// Its name in the report.
    pub name: String,
    /// Questions.
    pub questions: PathBuf,
    /// Passages that are searched: a corpus, or an index of `zs index build`.
    pub corpus: PathBuf,
}

impl Check for RealData {
    fn check(&self, _: &Components) -> Result<(), RunFileError> {
        let counts = [
            ("questions", self.questions.len()),
            ("turns", self.turns.len()),
            ("tests", self.tests.len()),
        ];
        for (key, count) in counts {
            ensure(count > 0, key, "at least one", count)?;
        }
        let mut names = BTreeSet::new();
        for test in &self.tests {
            let is_word = |it: char| it.is_ascii_alphanumeric() || "-_".contains(it);
            let is_name = !test.name.is_empty() && test.name.chars().all(is_word);
            let expected = "letters, digits, `-` and `_`, and no name twice";
            ensure(is_name && names.insert(&test.name), "tests.name", expected, &test.name)?;
        }
        Ok(())
    }
}

impl RealData {
    /// Reads `data.toml` and finds every file that it names.
    pub(super) fn read(folder: &Path, components: &Components) -> Result<Self> {
        let path = folder.join(DATA_FILE);
        let mut data: Self = load(&path, components)?;
        for (key, file) in data.files_mut() {
            *file = folder.join(&*file);
            if !file.exists() {
                let file = file.display();
                return Err(ReproduceError::arguments(format!(
                    "{}: `{key}`: {file}: no such file",
                    path.display()
                )));
            }
        }
        Ok(data)
    }

    fn files_mut(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        let mut files = vec![("corpus", &mut self.corpus)];
        files.extend(self.questions.iter_mut().map(|it| ("questions", it)));
        files.extend(self.turns.iter_mut().map(|it| ("turns", it)));
        for test in &mut self.tests {
            files.extend([
                ("tests.questions", &mut test.questions),
                ("tests.corpus", &mut test.corpus),
            ]);
        }
        files
    }

    /// SHA-256 of every file; an index, which checks its own files, has none.
    pub(super) fn digests(&self) -> Result<BTreeMap<String, String>> {
        let mut digests = BTreeMap::new();
        for (_, file) in self.clone().files_mut() {
            if !file.is_dir() {
                digests.insert(file.display().to_string(), digest::of_file(file)?);
            }
        }
        Ok(digests)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const GOOD: &str = "questions = [\"q.jsonl\"]\ncorpus = \"c.jsonl\"\nturns = [\"t.jsonl\"]\n\n[[tests]]\nname = \"a\"\nquestions = \"q.jsonl\"\ncorpus = \"c.jsonl\"\n";

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["q.jsonl", "c.jsonl", "t.jsonl"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::write(folder.path().join(DATA_FILE), text).unwrap();
        let read = RealData::read(folder.path(), &Components::built_in());
        let found = read.and_then(|it| it.digests()).map_or_else(
            |error| zs_core::with_causes(&error),
            |digests| format!("{} files", digests.len()),
        );
        assert!(found.contains(expected), "{found}");
    }

    #[test]
    fn every_file_is_known_before_anything_runs() {
        check(GOOD, "3 files");
        check(&GOOD.replace("t.jsonl", "u.jsonl"), "data.toml: `turns`: ");
        check(&GOOD.replace("[\"t.jsonl\"]", "[]"), "`turns` must be at least one");
        check(&GOOD.replace("\"a\"", "\"a b\""), "`tests.name` must be letters");
        check(&GOOD.replace("corpus = \"c.jsonl\"\nturns", "turns"), "missing field `corpus`");
    }
}
