//! Where questions and documents come from.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use zs_core::Document;
use zs_search::http::HttpConfig;
use zs_search::{
    BudgetConfig, FaultConfig, RateLimitConfig, RetrieverConfig, RetryConfig, WebConfig,
};
use zs_simulator::{RemoteConfig, SimulatedConfig};
use zs_world::Split;

use super::{Check, ensure, load};
use crate::components::Components;

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
    /// A file in any form that `zs_data::read_questions` knows.
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
    /// A simulation LLM on servers that speak OpenAI's chat completions.
    Remote {
        /// Which servers, and how they sample.
        servers: RemoteConfig,
        /// What they are prompted with; ZeroSearch's prompts unless said.
        #[serde(default)]
        templates: TemplatesConfig,
    },
    /// The policy itself writes the documents.
    SelfSearch {
        /// What it is prompted with, as a template with `query`, `k` and `words`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        template: Option<String>,
        /// How it samples.
        #[serde(default)]
        sampling: SimulatedConfig,
    },
    /// A retrieval server of Search-R1 or ZeroSearch.
    Retriever(RetrieverConfig),
    /// Live web search.
    Web(WebConfig),
    /// What was recorded for the same query.
    Replay {
        /// Recorded turns (JSON Lines, packed or not).
        turns: PathBuf,
    },
    /// The same documents for every query.
    Fixed {
        /// The documents.
        documents: Vec<Document>,
    },
    /// Remembers answers in a folder, across runs and processes.
    Cached {
        /// The engine.
        engine: Box<EngineConfig>,
        /// The folder.
        dir: PathBuf,
        /// Anything that sets answers apart from earlier ones, e.g. after a model was replaced in
        /// its place.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        version: String,
    },
    /// Asks no faster than so many searches a second.
    RateLimited {
        /// The engine.
        engine: Box<EngineConfig>,
        /// How fast.
        limit: RateLimitConfig,
    },
    /// Sends searches again whose engine was out of reach.
    Retried {
        /// The engine.
        engine: Box<EngineConfig>,
        /// How often.
        #[serde(default)]
        retry: RetryConfig,
    },
    /// Ends the run when so much is spent.
    Budgeted {
        /// The engine.
        engine: Box<EngineConfig>,
        /// How much.
        budget: BudgetConfig,
    },
    /// Errors, delays and garbage on purpose.
    Faulty {
        /// The engine.
        engine: Box<EngineConfig>,
        /// How much of them.
        faults: FaultConfig,
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
pub fn load_engine(path: &Path, components: &Components) -> Result<EngineConfig> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct EngineFile {
        engine: EngineConfig,
    }
    impl Check for EngineFile {
        fn check(&self, _: &Components) -> Result<()> {
            self.engine.check("engine")
        }
    }
    Ok(load::<EngineFile>(path, components)?.engine)
}

impl EngineConfig {
    /// The engine itself, below everything that is added to it.
    #[must_use]
    pub fn innermost(&self) -> &Self {
        match self {
            Self::Cached { engine, .. }
            | Self::RateLimited { engine, .. }
            | Self::Retried { engine, .. }
            | Self::Budgeted { engine, .. }
            | Self::Faulty { engine, .. } => engine.innermost(),
            Self::Bm25 { .. }
            | Self::Simulated { .. }
            | Self::Remote { .. }
            | Self::SelfSearch { .. }
            | Self::Retriever(_)
            | Self::Web(_)
            | Self::Replay { .. }
            | Self::Fixed { .. } => self,
        }
    }

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
            Self::SelfSearch { sampling, .. } => {
                let model = PathBuf::new();
                let (templates, sampling) = (TemplatesConfig::Auto, sampling.clone());
                Self::Simulated { model, templates, sampling }.check(key)
            }
            Self::Fixed { .. } | Self::Replay { .. } => Ok(()),
            Self::Remote { servers, .. } => {
                let RemoteConfig { temperature, top_p, max_tokens, .. } = *servers;
                let name = |name: &str| format!("{key}.servers.{name}");
                let is_temperature = temperature.is_finite() && temperature >= 0.0;
                ensure(is_temperature, &name("temperature"), "at least 0", temperature)?;
                ensure(top_p > 0.0 && top_p <= 1.0, &name("top_p"), "in (0, 1]", top_p)?;
                ensure(max_tokens > 0, &name("max_tokens"), "at least 1", max_tokens)?;
                if let Some((field, expected)) = servers.problem() {
                    bail!("`{}` must be {expected}", name(field));
                }
                check_http(&servers.http, &name("http"))
            }
            Self::Retriever(config) => {
                let size = config.batch_size;
                ensure(size > 0, &format!("{key}.batch_size"), "at least 1", size)?;
                check_http(&config.http, &format!("{key}.http"))
            }
            Self::Web(config) => check_http(&config.http, &format!("{key}.http")),
            Self::Cached { engine, .. } => engine.check(&format!("{key}.engine")),
            Self::RateLimited { engine, limit } => {
                let RateLimitConfig { per_second, burst } = *limit;
                let is_rate = per_second.is_finite() && per_second > 0.0;
                ensure(is_rate, &format!("{key}.limit.per_second"), "above 0", per_second)?;
                ensure(burst > 0, &format!("{key}.limit.burst"), "at least 1", burst)?;
                engine.check(&format!("{key}.engine"))
            }
            Self::Retried { engine, retry } => {
                let attempts = retry.max_attempts;
                ensure(attempts > 0, &format!("{key}.retry.max_attempts"), "at least 1", attempts)?;
                engine.check(&format!("{key}.engine"))
            }
            Self::Budgeted { engine, budget } => {
                if budget.max_searches.is_none() && budget.max_dollars.is_none() {
                    bail!("`{key}.budget` needs `max_searches`, `max_dollars` or both");
                }
                engine.check(&format!("{key}.engine"))
            }
            Self::Faulty { engine, faults } => {
                for (name, rate) in [
                    ("error_rate", faults.error_rate),
                    ("garbage_rate", faults.garbage_rate),
                    ("delay_rate", faults.delay_rate),
                ] {
                    let is_rate = (0.0..=1.0).contains(&rate);
                    ensure(is_rate, &format!("{key}.faults.{name}"), "in [0, 1]", rate)?;
                }
                engine.check(&format!("{key}.engine"))
            }
        }
    }
}

fn check_http(config: &HttpConfig, key: &str) -> Result<()> {
    match config.problem() {
        None => Ok(()),
        Some((field, must)) => bail!("`{key}.{field}` must be {must}"),
    }
}
