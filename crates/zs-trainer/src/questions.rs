//! Sources of questions by name.

use serde::{Deserialize, Serialize};
use zs_core::registry::{BoxedError, Registry, RegistryError, Settings, SettingsError};
use zs_data::{QuestionSet, QuestionSource};

use crate::world::{WorldSource, generate_world, world_questions};

/// Sources of questions by name.
pub type QuestionRegistry = Registry<Box<dyn QuestionSource>>;

/// Questions about an embedded world, 1-hop and 2-hop in turn; of a hard world, of every kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorldQuestions {
    /// World.
    pub world: WorldSource,
    /// Questions of each number of hops; half of the questions of a hard world.
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
        Ok(QuestionSet { questions, ..QuestionSet::default() })
    }
}

/// Registers a source whose struct is its settings.
///
/// # Errors
///
/// Fails when the name is taken.
pub(crate) fn register_question_source<Q: QuestionSource + Settings>(
    registry: &mut QuestionRegistry,
) -> Result<(), RegistryError> {
    registry.register(|it: Q, (): &(), _| Ok(Box::new(it) as _))
}

/// Creates a registry of `file` and `world`.
#[must_use]
pub(crate) fn question_sources() -> QuestionRegistry {
    let mut registry = Registry::new("question source");
    let registered = zs_data::register_question_sources(&mut registry)
        .and_then(|()| register_question_source::<WorldQuestions>(&mut registry));
    debug_assert!(registered.is_ok(), "an empty registry has no name taken");
    registry
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zs_core::registry::Spec;

    use super::*;

    fn read(settings: serde_json::Value) -> Result<QuestionSet, BoxedError> {
        let spec: Spec = serde_json::from_value(settings)?;
        question_sources().build(&spec, &())?.read(false)
    }

    #[test]
    fn questions_on_worlds_alternate_between_one_and_two_hops() {
        let world = json!({ "seed": 3, "split": "train" });
        let set = read(json!({ "kind": "world", "world": world, "per_hop": 4 })).unwrap();
        let hops: Vec<_> = set.questions.iter().filter_map(|it| it.hops).collect();
        assert_eq!(hops, [1, 2, 1, 2, 1, 2, 1, 2]);
    }

    #[test]
    fn questions_on_hard_worlds_have_a_type() {
        let world = json!({ "seed": 3, "split": "train", "preset": "hard" });
        let set = read(json!({ "kind": "world", "world": world, "per_hop": 20 })).unwrap();
        assert_eq!(set.questions.len(), 40);
        assert!(set.questions.iter().all(|it| it.question_type.is_some()));
    }

    #[test]
    fn some_questions_are_asked_for() {
        let world = json!({ "seed": 3, "split": "train" });
        let error = read(json!({ "kind": "world", "world": world, "per_hop": 0 })).unwrap_err();
        assert!(error.to_string().contains("must be at least 1, is 0"), "{error}");
    }
}
