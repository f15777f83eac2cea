//! Pre-training text on embedded worlds as rows of tokens: the examples of [`zs_world`], simulation
//! prompts with their replies, and the tokenizer.

mod example;
mod mix;
mod repetition;
mod simulation;

use zs_model::Tokenizer;

pub use example::{ExampleError, encode_example};
pub use mix::{BASE_FOLLOW, CorpusMix, generate_examples};
pub use repetition::repetition_drill;
pub use simulation::simulation_example;
pub(crate) use simulation::{case_example, render_reply};

/// Parses [`zs_world::tokenizer_json`].
#[must_use]
pub fn world_tokenizer() -> Tokenizer {
    Tokenizer::from_bytes(zs_world::tokenizer_json().as_bytes(), "world/tokenizer.json")
        .expect("the definition is fixed and tested")
}
