//! Search engines.

mod bm25;
mod corpus;
mod simulated;
pub mod world;

pub use bm25::{Bm25Engine, Bm25Error};
pub use corpus::{CorpusError, read_corpus};
pub use simulated::{
    SimulatedConfig, SimulatedEngine, SimulatedStats, SimulationError, SimulationPrompt,
    SimulationTemplates, TINY_NOISY, TINY_USEFUL, TemplateError, parse_documents,
};
