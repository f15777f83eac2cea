//! Embedded worlds, as run files name them.

use serde::{Deserialize, Serialize};
use zs_core::Question;
use zs_world::{Split, World};

/// Part of the embedded world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum SplitName {
    /// Training text and training questions.
    Train,
    /// Choosing between checkpoints.
    Validation,
    /// Final figures only.
    Test,
}

impl From<SplitName> for Split {
    fn from(name: SplitName) -> Self {
        match name {
            SplitName::Train => Self::Train,
            SplitName::Validation => Self::Validation,
            SplitName::Test => Self::Test,
        }
    }
}

/// An embedded world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldSource {
    /// Its seed.
    pub seed: u64,
    /// Its split.
    pub split: SplitName,
}

/// The world of a description.
#[must_use]
pub fn generate_world(source: WorldSource) -> World {
    World::generate(source.seed, source.split.into())
}

/// `per_hop` questions of one hop and as many of two, in turn.
#[must_use]
pub fn world_questions(world: &World, seed: u64, per_hop: usize) -> Vec<Question> {
    let one_hop = world.questions(seed, 1, per_hop);
    let two_hop = world.questions(seed, 2, per_hop);
    one_hop.into_iter().zip(two_hop).flat_map(|(one, two)| [one.question, two.question]).collect()
}
