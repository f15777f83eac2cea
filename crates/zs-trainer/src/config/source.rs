//! Files that describe a search engine alone.

use std::path::Path;

use serde::Deserialize;
use zs_core::registry::Spec;

use super::{Check, RunFileError, load, resolved};
use crate::components::Components;

/// Reads a file whose only key is `engine`, described as in a run file.
///
/// ```toml
/// engine = { kind = "bm25", corpus = "corpus.jsonl" }
/// engine = { kind = "bm25", world = { seed = 1, split = "train" } }
/// engine = { kind = "simulated", model = "target/simulator", templates = "tiny" }
/// engine = { kind = "remote", servers = { endpoints = ["http://10.0.0.1:6001/v1"], model = "sim" } }
/// engine = { kind = "retriever", endpoints = ["http://127.0.0.1:8000"], protocol = "search_r1" }
/// engine = { kind = "web", provider = "serper" }   # key in SERPER_API_KEY
/// ```
///
/// Those that hold an `engine` of their own add one thing to it, in any order:
///
/// ```toml
/// [engine]
/// kind = "cached"
/// dir = "target/cache"
/// [engine.engine]
/// kind = "budgeted"
/// budget = { max_dollars = 20.0 }
/// engine = { kind = "web", provider = "serper" }
/// ```
///
/// # Errors
///
/// As [`load`](super::load).
pub fn load_engine(path: &Path, components: &Components) -> Result<Spec, RunFileError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct EngineFile {
        engine: Spec,
    }
    impl Check for EngineFile {
        fn check(&self, _: &Components) -> Result<(), RunFileError> {
            Ok(())
        }

        fn resolve(&mut self, components: &Components) -> Result<(), RunFileError> {
            self.engine = resolved(&components.engines, &self.engine, "engine")?;
            Ok(())
        }
    }
    Ok(load::<EngineFile>(path, components)?.engine)
}
