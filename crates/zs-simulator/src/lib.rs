//! Search engines: the simulation LLM of `ZeroSearch`, BM25 over a local corpus, fixed documents for
//! tests; and the embedded synthetic world that lets all of it run offline.
//!
//! All engines implement [`zs_core::SearchEngine`] and are held to it by [`conformance`].
//!
//! - [`SimulatedEngine`]: a language model writes useful or noisy documents for a query. [`tuning`]
//!   makes the data that it is fine-tuned on, [`audit`] says how faithful it is.
//! - [`Bm25Engine`]: retrieval from documents in memory or an index on disk.
//! - `RemoteEngine`, `RetrieverEngine`, `WebEngine`: simulation, retrieval and live search on servers
//!   (feature `http`); [`SelfSearchEngine`]: the policy's own memory; [`ReplayEngine`]: recordings.
//! - [`CachedEngine`], [`RateLimitedEngine`], [`RetryingEngine`], [`BudgetedEngine`],
//!   [`FaultInjector`], [`MeteredEngine`]: around any engine, in any order. What all of them cost
//!   goes into a [`Ledger`].
//! - [`world`]: a synthetic encyclopedia with questions, a tokenizer and training text.
//!
//! **Invariant:** an engine knows neither the training step nor why documents are noisy; a request
//! says which quality it wants. Everything but servers is deterministic given its seeds.
//!
//! ```
//! use zs_core::{DocumentQuality, SearchEngine, SearchRequest};
//! use zs_simulator::world::{Split, World};
//!
//! let world = World::generate(1, Split::Train);
//! let asked = world.questions(0, 1, 1).remove(0);
//! let subject = world.name(asked.chain[0].subject);
//! let query = format!("{subject} {}", asked.chain[0].relation.keyword());
//!
//! let quality = DocumentQuality::Useful;
//! let request =
//!     SearchRequest { query: &query, question: &asked.question, quality, read: &[], k: 3, seed: 0 };
//! let documents = world.engine().search(request)?;
//! let answer = &asked.question.golden_answers[0];
//! assert!(documents.iter().any(|it| it.text.contains(answer)));
//! # Ok::<(), zs_core::SearchError>(())
//! ```

pub mod audit;
mod bm25;
pub mod collect;
pub mod conformance;
mod fixed;
#[cfg(feature = "http")]
pub mod http;
mod ledger;
#[cfg(feature = "http")]
mod remote;
mod replay;
#[cfg(feature = "http")]
mod retriever;
mod self_search;
mod simulated;
pub mod tuning;
#[cfg(feature = "http")]
mod web;
pub mod world;
mod wrap;

pub use bm25::{Bm25Engine, Bm25Error, Bm25Fields, BuildProgress, IndexBuild, IndexSummary};
pub use fixed::{FaultyEngine, FixedEngine};
pub use ledger::{EngineCost, Latency, Ledger, Price, Usage};
#[cfg(feature = "http")]
pub use remote::{RemoteApi, RemoteConfig, RemoteEngine};
pub use replay::ReplayEngine;
#[cfg(feature = "http")]
pub use retriever::{RetrieverConfig, RetrieverEngine, RetrieverProtocol};
pub use self_search::SelfSearchEngine;
pub use simulated::{
    QueryGate, SimulatedConfig, SimulatedEngine, SimulatedStats, SimulationError, SimulationPrompt,
    SimulationTemplates, TINY_NOISY, TINY_USEFUL, TemplateError, TemplateHeader, parse_documents,
};
#[cfg(feature = "http")]
pub use web::{WebConfig, WebEngine, WebProvider};
pub use wrap::{
    BudgetConfig, BudgetedEngine, CacheError, CachedEngine, FaultConfig, FaultInjector,
    MeteredEngine, MispairedEngine, RateLimitConfig, RateLimitError, RateLimitedEngine,
    RetryConfig, RetryingEngine,
};
