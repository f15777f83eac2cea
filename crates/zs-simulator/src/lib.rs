//! The simulation LLM of `ZeroSearch` as a search engine, the data that it is fine-tuned on, and
//! audits of its faithfulness.
//!
//! All engines implement [`zs_core::SearchEngine`] and pass the suite [`zs_search::conformance`].
//!
//! - [`SimulatedEngine`]: a language model writes useful or noisy documents for a query. [`tuning`]
//!   builds the data that it is fine-tuned on, [`collect`] builds clean tuning sets from recorded
//!   turns, [`audit`] measures its faithfulness, [`pretraining`] generates text for training a small
//!   one from scratch.
//! - `question_generation` (feature `http`): a model writes questions and answers from passages.
//! - `RemoteEngine`: the same on servers (feature `http`); [`SelfSearchEngine`]: the policy's own
//!   knowledge.
//!
//! **Invariant:** an engine knows neither the training step nor the curriculum; a request names its
//! quality. Everything except servers is deterministic given its seeds.
//!
//! ```
//! use std::sync::Arc;
//! use zs_core::{DocumentQuality, Question, SearchEngine, SearchRequest};
//! use zs_model::testing::ScriptedGenerator;
//! use zs_simulator::{SimulatedEngine, SimulationTemplates};
//!
//! let model = ScriptedGenerator::new(|_, _| "Doc 1: Bamboo is a grass.".to_owned());
//! let templates = SimulationTemplates::zerosearch_sft();
//! let engine = SimulatedEngine::new(Arc::new(model), templates, Default::default());
//! let question = Question::new("q", "What is bamboo?", ["a grass"]);
//! let quality = DocumentQuality::Useful;
//! let request =
//!     SearchRequest { query: "bamboo", question: &question, quality, read: &[], k: 1, seed: 0 };
//! assert_eq!(engine.search(request)?[0].text, "Bamboo is a grass.");
//! # Ok::<(), zs_core::SearchError>(())
//! ```

pub mod audit;
mod chat_reply;
pub mod collect;
pub mod pretraining;
#[cfg(feature = "http")]
pub mod question_generation;
mod register;
#[cfg(feature = "http")]
mod remote;
#[cfg(feature = "http")]
mod resumable_set;
mod self_search;
mod simulated;
mod templates_config;
pub mod tuning;

#[cfg(feature = "http")]
pub use register::RemoteSettings;
pub use register::{
    ModelLoader, SearchedPolicy, SelfSearchSettings, SimulatedSettings, register_engines,
};
#[cfg(feature = "http")]
pub use remote::{RemoteApi, RemoteConfig, RemoteEngine};
#[cfg(feature = "http")]
pub use resumable_set::SetError;
pub use self_search::SelfSearchEngine;
pub use simulated::{
    QueryGate, SimulatedConfig, SimulatedEngine, SimulatedStats, SimulationError, SimulationPrompt,
    SimulationTemplates, TemplateError, TemplateHeader, parse_documents,
};
pub use templates_config::TemplatesConfig;
