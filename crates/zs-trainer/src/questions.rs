//! Sources of questions by name.

use serde::{Deserialize, Serialize};
use zs_core::registry::{BoxedError, Registry, RegistryError, Settings, SettingsError};
use zs_data::{QuestionSet, QuestionSource, SkippedRows};

use crate::world::{WorldSource, generate_world, world_questions};

/// Sources of questions by name.
pub type QuestionRegistry = Registry<Box<dyn QuestionSource>>;

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
    zs_data::register_question_sources(registry)?;
    register_question_source::<WorldQuestions>(registry)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zs_core::registry::Spec;

    use super::*;

    fn read(settings: &serde_json::Value, skip_bad_rows: bool) -> Result<QuestionSet, BoxedError> {
        let mut registry = Registry::new("question source");
        register_question_sources(&mut registry)?;
        let spec: Spec = serde_json::from_value(settings.clone())?;
        registry.build(&spec, &())?.read(skip_bad_rows)
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
        let settings = json!({ "kind": "world", "world": world, "per_hop": 0 });
        let error = read(&settings, false).unwrap_err().to_string();
        assert!(error.contains("must be at least 1, is 0"), "{error}");
    }
}
