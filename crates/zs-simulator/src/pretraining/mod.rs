//! Pre-training text on embedded worlds as rows of tokens: the examples of [`zs_world`], simulation
//! prompts with their replies, and the tokenizer.

mod example;
mod mix;
mod repetition;
mod simulation;

use zs_model::Tokenizer;
use zs_world::WorldPreset;

pub use example::{ExampleError, encode_example};
pub use mix::{BASE_FOLLOW, CorpusMix, generate_examples};
pub use repetition::repetition_drill;
pub use simulation::simulation_example;
pub(crate) use simulation::{case_example, render_reply};

/// Parses [`zs_world::tokenizer_json`].
#[must_use]
pub fn world_tokenizer() -> Tokenizer {
    preset_tokenizer(WorldPreset::Easy)
}

/// Parses the tokenizer of a preset of worlds.
#[must_use]
pub fn preset_tokenizer(preset: WorldPreset) -> Tokenizer {
    Tokenizer::from_bytes(preset.tokenizer_json().as_bytes(), "world/tokenizer.json")
        .expect("the definition is fixed and tested")
}

/// Returns `true` for the tokenizer of models that were trained on embedded worlds of any preset.
#[must_use]
pub fn is_world_tokenizer(tokenizer: &Tokenizer) -> bool {
    let marks =
        [zs_world::BOS_TOKEN, zs_world::EOS_TOKEN, zs_world::PAD_TOKEN, "<search>", "Doc 1:"];
    [WorldPreset::Easy, WorldPreset::Hard].into_iter().map(preset_tokenizer).any(|world| {
        tokenizer.vocab_size() == world.vocab_size()
            && marks.iter().all(|it| tokenizer.token_id(it) == world.token_id(it))
    })
}
