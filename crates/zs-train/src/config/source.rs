//! Where questions and documents come from.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use zs_core::Document;
use zs_simulator::SimulatedConfig;
use zs_simulator::world::Split;

use super::{Check, ensure, load};

/// Which part of the embedded world.
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

/// Where questions come from.
///
/// ```toml
/// questions = { kind = "file", path = "questions.jsonl" }
/// questions = { kind = "world", world = { seed = 1, split = "train" }, per_hop = 400 }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum QuestionSource {
    /// A file in any form that `zs_eval::read_questions` knows.
    File {
        /// The file.
        path: PathBuf,
        /// Questions at most, from the start of the file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<usize>,
    },
    /// Questions about an embedded world, 1-hop and 2-hop in turn.
    World {
        /// The world.
        world: WorldSource,
        /// Questions of each kind.
        per_hop: usize,
    },
}

impl QuestionSource {
    pub(crate) fn check(&self, key: &str) -> Result<()> {
        match self {
            Self::File { limit, .. } => {
                ensure(*limit != Some(0), &format!("{key}.limit"), "at least 1", 0)
            }
            Self::World { per_hop, .. } => {
                ensure(*per_hop > 0, &format!("{key}.per_hop"), "at least 1", per_hop)
            }
        }
    }
}

/// Which search engine answers.
///
/// ```toml
/// engine = { kind = "bm25", corpus = "corpus.jsonl" }
/// engine = { kind = "bm25", world = { seed = 1, split = "train" } }
/// engine = { kind = "simulated", model = "target/simulator", templates = "tiny" }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum EngineConfig {
    /// BM25 over exactly one of a corpus, an index and a world.
    Bm25 {
        /// A corpus, indexed in memory.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        corpus: Option<PathBuf>,
        /// An index on disk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        index: Option<PathBuf>,
        /// The passages of an embedded world.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        world: Option<WorldSource>,
    },
    /// A simulation LLM.
    Simulated {
        /// Its model directory.
        model: PathBuf,
        /// What it is prompted with; by default what its tokenizer suggests.
        #[serde(default)]
        templates: TemplatesConfig,
        /// How it samples.
        #[serde(default)]
        sampling: SimulatedConfig,
    },
    /// The same documents for every query.
    Fixed {
        /// The documents.
        documents: Vec<Document>,
    },
}

/// What a simulation LLM is prompted with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TemplatesConfig {
    /// [`Tiny`](Self::Tiny) for models over the embedded world's vocabulary, else
    /// [`Zerosearch`](Self::Zerosearch).
    #[default]
    Auto,
    /// The short prompts of models that were trained on embedded worlds.
    Tiny,
    /// The prompts of ZeroSearch's released simulation LLMs.
    Zerosearch,
    /// Prompts with an example, for models that were not tuned.
    ZerosearchPrompt,
    /// Prompts that show the query and never the question.
    QueryGrounded,
    /// Templates in files of your own.
    Files {
        /// For useful documents.
        useful: PathBuf,
        /// For noisy documents.
        noisy: PathBuf,
    },
    /// Templates of your own.
    Custom {
        /// For useful documents.
        useful: String,
        /// For noisy documents.
        noisy: String,
    },
}

/// Reads a file whose only key is `engine`, described as in a run file.
///
/// # Errors
///
/// As [`load`](super::load).
pub fn load_engine(path: &Path) -> Result<EngineConfig> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct EngineFile {
        engine: EngineConfig,
    }
    impl Check for EngineFile {
        fn check(&self) -> Result<()> {
            self.engine.check("engine")
        }
    }
    Ok(load::<EngineFile>(path)?.engine)
}

impl EngineConfig {
    pub(crate) fn check(&self, key: &str) -> Result<()> {
        match self {
            Self::Bm25 { corpus, index, world } => {
                let given = [corpus.is_some(), index.is_some(), world.is_some()];
                if given.iter().filter(|it| **it).count() != 1 {
                    bail!("`{key}` needs exactly one of `corpus`, `index` and `world`");
                }
                Ok(())
            }
            Self::Simulated { sampling, .. } => {
                let key = |name: &str| format!("{key}.sampling.{name}");
                let SimulatedConfig { temperature, top_p, max_new_tokens, batch_size, .. } =
                    *sampling;
                let is_temperature = temperature.is_finite() && temperature >= 0.0;
                ensure(is_temperature, &key("temperature"), "at least 0", temperature)?;
                ensure(top_p > 0.0 && top_p <= 1.0, &key("top_p"), "in (0, 1]", top_p)?;
                ensure(max_new_tokens > 0, &key("max_new_tokens"), "at least 1", max_new_tokens)?;
                ensure(batch_size > 0, &key("batch_size"), "at least 1", batch_size)
            }
            Self::Fixed { .. } => Ok(()),
        }
    }
}
