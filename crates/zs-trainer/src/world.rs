//! Embedded worlds, as run files name them.

use serde::{Deserialize, Serialize};
use zs_core::Question;
use zs_world::{Split, World};

/// An embedded world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldSource {
    /// Its seed.
    pub seed: u64,
    /// Its split.
    pub split: Split,
}

/// The world of a description.
#[must_use]
pub fn generate_world(source: WorldSource) -> World {
    World::generate(source.seed, source.split)
}

/// `per_hop` questions of one hop and as many of two, in turn.
#[must_use]
pub fn world_questions(world: &World, seed: u64, per_hop: usize) -> Vec<Question> {
    let one_hop = world.questions(seed, 1, per_hop);
    let two_hop = world.questions(seed, 2, per_hop);
    one_hop.into_iter().zip(two_hop).flat_map(|(one, two)| [one.question, two.question]).collect()
}
