//! Sources of questions by name.

use std::fmt::Debug;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zs_core::Question;
use zs_core::registry::{BoxedError, Registry, RegistryError, Settings, SettingsError};

use crate::world::{WorldSource, generate_world, world_questions};

/// Sources of questions by name.
pub type QuestionRegistry = Registry<Box<dyn QuestionSource>>;

/// Source of the questions of a run.
///
/// # Implementing
///
/// [`read`](Self::read) is called once before the first step, and again when a run resumes: it must
/// give the same questions. A type that is also its [`Settings`] is chosen by name after one line of
/// registration.
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
}

/// Rows that were left out of a reading.
#[derive(Debug, Default)]
pub struct SkippedRows {
    /// Number of them.
    pub count: usize,
    /// Error of the first.
    pub first: Option<BoxedError>,
}

/// Questions of a file, in any form that `zs_eval::read_questions` knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionFile {
    /// File.
    pub path: PathBuf,
    /// Maximum number of questions, from the start of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
        let (mut questions, bad_rows) = match skip_bad_rows {
            true => zs_eval::read_sound_questions(&self.path)?,
            false => (zs_eval::read_questions(&self.path)?, Vec::new()),
        };
        questions.truncate(self.limit.unwrap_or(usize::MAX));
        let count = bad_rows.len();
        let first = bad_rows.into_iter().next().map(Into::into);
        Ok(QuestionSet { questions, skipped: SkippedRows { count, first } })
    }
}

/// Questions about an embedded world, 1-hop and 2-hop in turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorldQuestions {
    /// World.
    pub world: WorldSource,
    /// Questions of each number of hops.
    pub per_hop: usize,
}

impl Settings for WorldQuestions {
    const KIND: &'static str = "world";

    fn check(&self) -> Result<(), SettingsError> {
        match self.per_hop {
            0 => Err(SettingsError::out_of_range("per_hop", "be at least 1, is 0")),
            _ => Ok(()),
        }
    }
}

impl QuestionSource for WorldQuestions {
    fn read(&self, _: bool) -> Result<QuestionSet, BoxedError> {
        let (world, seed) = (generate_world(self.world), self.world.seed);
        let questions = world_questions(&world, seed, self.per_hop);
        Ok(QuestionSet { questions, skipped: SkippedRows::default() })
    }
}

/// Registers a source whose struct is its settings.
///
/// # Errors
///
/// Fails when the name is taken.
pub fn register_question_source<Q: QuestionSource + Settings>(
    registry: &mut QuestionRegistry,
) -> Result<(), RegistryError> {
    registry.register(|it: Q, (): &(), _| Ok(Box::new(it) as _))
}

/// Registers `file` and `world`.
///
/// # Errors
///
/// Fails when a name is taken.
pub fn register_question_sources(registry: &mut QuestionRegistry) -> Result<(), RegistryError> {
    register_question_source::<QuestionFile>(registry)?;
    register_question_source::<WorldQuestions>(registry)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zs_core::registry::Spec;

    use super::*;

    const ROWS: &str = "{\"id\":\"a\",\"question\":\"q\",\"answer\":\"x\"}\n{\"id\":\"b\"}\n\
        {\"id\":\"c\",\"question\":\"r\",\"answer\":\"y\"}\n";

    fn read(settings: &serde_json::Value, skip_bad_rows: bool) -> Result<QuestionSet, BoxedError> {
        let mut registry = Registry::new("question source");
        register_question_sources(&mut registry)?;
        let spec: Spec = serde_json::from_value(settings.clone())?;
        registry.build(&spec, &())?.read(skip_bad_rows)
    }

    #[test]
    fn files_are_read_up_to_their_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("questions.jsonl");
        std::fs::write(&path, ROWS).unwrap();
        let set = read(&json!({ "kind": "file", "path": path }), true).unwrap();
        assert_eq!((set.questions.len(), set.skipped.count), (2, 1));
        assert!(set.skipped.first.unwrap().to_string().contains("row 2"));
        let set = read(&json!({ "kind": "file", "path": path, "limit": 1 }), true).unwrap();
        assert_eq!(set.questions.len(), 1);
        let error = read(&json!({ "kind": "file", "path": path }), false).unwrap_err();
        assert!(error.to_string().contains("row 2"), "{error}");
    }

    #[test]
    fn questions_on_worlds_alternate_between_one_and_two_hops() {
        let world = json!({ "seed": 3, "split": "train" });
        let set = read(&json!({ "kind": "world", "world": world, "per_hop": 4 }), false).unwrap();
        let hops: Vec<_> = set.questions.iter().filter_map(|it| it.hops).collect();
        assert_eq!(hops, [1, 2, 1, 2, 1, 2, 1, 2]);
    }

    #[test]
    fn counts_are_checked() {
        let world = json!({ "seed": 3, "split": "train" });
        for settings in [
            json!({ "kind": "file", "path": "q", "limit": 0 }),
            json!({ "kind": "world", "world": world, "per_hop": 0 }),
        ] {
            let error = read(&settings, false).unwrap_err().to_string();
            assert!(error.contains("must be at least 1, is 0"), "{error}");
        }
    }
}
