//! Embedded worlds, as run files name them.

use serde::{Deserialize, Serialize};
use zs_core::Question;
use zs_world::{Split, World, WorldPreset};

/// An embedded world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldSource {
    /// Its seed.
    pub seed: u64,
    /// Its split.
    pub split: Split,
    /// Its preset, easy unless told otherwise.
    #[serde(default, skip_serializing_if = "WorldPreset::is_easy")]
    pub preset: WorldPreset,
}

/// The world of a description.
#[must_use]
pub fn generate_world(source: WorldSource) -> World {
    source.preset.generate(source.seed, source.split)
}

/// Twice `per_hop` questions of a world's mix: of an easy world, as many of one hop as of two, in
/// turn.
#[must_use]
pub fn world_questions(world: &World, seed: u64, per_hop: usize) -> Vec<Question> {
    world.mixed_questions(seed, 2 * per_hop).into_iter().map(|it| it.question).collect()
}
