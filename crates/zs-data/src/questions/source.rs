//! Sources of questions by name.

use std::fmt::Debug;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zs_core::Question;
use zs_core::registry::{BoxedError, Registry, RegistryError, Settings, SettingsError};

use super::read_question_set;
use crate::{Note, SkippedRows};

/// Source of the questions of a run.
///
/// # Implementing
///
/// [`read`](Self::read) is called once before the first step, and again when a run resumes: it must
/// give the same questions. Register the source with its [`Settings`], as
/// [`register_question_sources`] does.
pub trait QuestionSource: Debug + Send + Sync {
    /// Reads or generates the questions. With `skip_bad_rows`, malformed rows are left out and
    /// counted instead of failing.
    ///
    /// # Errors
    ///
    /// Fails where there is no question.
    fn read(&self, skip_bad_rows: bool) -> Result<QuestionSet, BoxedError>;
}

/// Questions of a source.
#[derive(Debug, Default)]
pub struct QuestionSet {
    /// Questions; ids are distinct.
    pub questions: Vec<Question>,
    /// Rows that were left out.
    pub skipped: SkippedRows,
    /// Decisions of the reader about rows that are not in the plainest form.
    pub notes: Vec<Note>,
}

/// Questions of a file, in any form that [`open_questions`](crate::open_questions) reads.
///
/// ```
/// use zs_core::registry::{Registry, Spec};
/// use zs_data::{QuestionSource, register_question_sources};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("questions.jsonl");
/// std::fs::write(&path, "{\"question\": \"who wrote Dune?\", \"answer\": \"Frank Herbert\"}\n")?;
/// let mut registry: Registry<Box<dyn QuestionSource>> = Registry::new("question source");
/// register_question_sources(&mut registry)?;
/// let spec = Spec::named("file").with("path", path.to_str());
/// let set = registry.build(&spec, &())?.read(false)?;
/// assert_eq!(set.questions[0].text, "who wrote Dune?");
/// # Ok::<(), zs_core::registry::BoxedError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionFile {
    /// File.
    pub path: PathBuf,
    /// Maximum number of questions, from the start of the file.
    #[serde(default)]
    pub limit: Option<usize>,
}

impl Settings for QuestionFile {
    const KIND: &'static str = "file";

    fn check(&self) -> Result<(), SettingsError> {
        match self.limit {
            Some(0) => Err(SettingsError::out_of_range("limit", "be at least 1, is 0")),
            _ => Ok(()),
        }
    }

    fn inputs(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }
}

impl QuestionSource for QuestionFile {
    fn read(&self, skip_bad_rows: bool) -> Result<QuestionSet, BoxedError> {
        let mut set = read_question_set(&self.path, skip_bad_rows)?;
        set.questions.truncate(self.limit.unwrap_or(usize::MAX));
        Ok(set)
    }
}

/// Registers the sources of this crate: [`QuestionFile`] as `file`.
///
/// # Errors
///
/// Fails when a name is taken.
pub fn register_question_sources(
    registry: &mut Registry<Box<dyn QuestionSource>>,
) -> Result<(), RegistryError> {
    registry.register(|it: QuestionFile, (), _| Ok(Box::new(it) as Box<dyn QuestionSource>))
}

#[cfg(test)]
mod tests {
    use zs_core::registry::Spec;

    use super::*;

    const ROWS: &str = "{\"id\":\"a\",\"question\":\"q\",\"answer\":\"x\"}\n{\"id\":\"b\"}\n\
        {\"id\":\"c\",\"question\":\"r\",\"answer\":\"y\"}\n";

    /// Builds the source of `settings` over [`ROWS`] and gives the ids of its questions and the
    /// number of skipped rows, or the error in one line.
    fn read(settings: &[(&str, usize)], skip_bad_rows: bool) -> Result<(String, usize), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("questions.jsonl");
        std::fs::write(&path, ROWS).unwrap();
        let mut registry = Registry::new("question source");
        register_question_sources(&mut registry).unwrap();
        let spec = Spec::named("file").with("path", path.to_str());
        let spec = settings.iter().fold(spec, |spec, (key, value)| spec.with(key, *value));
        let source = registry.build(&spec, &()).map_err(|it| it.to_string())?;
        assert_eq!(registry.inputs(&spec).unwrap(), [path]);
        let set = source.read(skip_bad_rows).map_err(|it| it.to_string())?;
        let ids = set.questions.into_iter().map(|it| it.id).collect::<Vec<_>>().join(" ");
        Ok((ids, set.skipped.count))
    }

    #[track_caller]
    fn check(
        settings: &[(&str, usize)],
        skip_bad_rows: bool,
        expected: Result<(&str, usize), &str>,
    ) {
        match (read(settings, skip_bad_rows), expected) {
            (Ok((ids, skipped)), Ok(expected)) => assert_eq!((ids.as_str(), skipped), expected),
            (Err(message), Err(expected)) => assert!(message.contains(expected), "{message}"),
            (read, expected) => panic!("{read:?} is not {expected:?}"),
        }
    }

    #[test]
    fn files_are_read_up_to_their_limit() {
        check(&[], true, Ok(("a c", 1)));
        check(&[("limit", 1)], true, Ok(("a", 1)));
        check(&[], false, Err("row 2: field `question` is missing"));
        check(&[("limit", 0)], false, Err("`limit` of question source `file` must be at least 1"));
        check(&[("limits", 1)], false, Err("did you mean `limit`?"));
    }
}
