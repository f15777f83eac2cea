//! Search engines that need no tensors: BM25 over a local corpus, retrieval servers, live web search,
//! recordings and fixed documents; wrappers around any engine; and the [`Ledger`] of usage and costs.
//!
//! All engines implement [`zs_core::SearchEngine`] and pass the suite [`conformance`].
//!
//! - [`Bm25Engine`]: retrieval from documents in memory or an index on disk; [`DenseEngine`]: by vectors
//!   of an [`Embedder`](zs_core::Embedder), which [`EmbeddingBuild`] writes.
//! - `RetrieverEngine`, `ElasticsearchEngine`, `QdrantEngine`, `WebEngine`: retrieval servers, search
//!   servers and live web search (feature `http`); `PostgresEngine`: full text search of a database
//!   (feature `postgres`).
//! - [`ReplayEngine`], [`FixedEngine`]: recordings, and documents for tests.
//! - [`FusedEngine`], [`RerankedEngine`]: several engines as one, and another order of its documents.
//! - [`CachedEngine`], [`RateLimitedEngine`], [`RetryingEngine`], [`BudgetedEngine`],
//!   [`FaultInjector`], [`MeteredEngine`]: around any engine, in any order.
//! - [`register_engines`]: all of them by name, as run files choose them.
//!
//! **Invariant:** this crate does not depend on a tensor framework, even indirectly. An engine knows
//! neither the training step nor why documents are noisy; everything except servers is deterministic
//! given its seeds.
//!
//! ```
//! use zs_core::{Document, DocumentQuality, Question, SearchEngine, SearchRequest};
//! use zs_search::Bm25Engine;
//!
//! let documents = vec![Document::new("Bamboo", "A grass."), Document::new("Oak", "A tree.")];
//! let engine = Bm25Engine::from_documents(documents)?;
//! let question = Question::new("q", "What is bamboo?", ["a grass"]);
//! let quality = DocumentQuality::Useful;
//! let request =
//!     SearchRequest { query: "bamboo", question: &question, quality, read: &[], k: 1, seed: 0 };
//! assert_eq!(engine.search(request)?[0].text, "A grass.");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bm25;
pub mod conformance;
mod corpus_file;
mod dense;
#[cfg(feature = "http")]
mod embed;
mod fixed;
mod fused;
#[cfg(feature = "http")]
pub mod http;
mod ledger;
#[cfg(feature = "http")]
mod parallel;
mod register;
mod replay;
mod rerank;
#[cfg(feature = "http")]
mod retriever;
#[cfg(feature = "http")]
mod server;
mod spending;
mod usage;
#[cfg(feature = "http")]
mod web;
mod wrap;

pub use bm25::{
    Bm25Config, Bm25Engine, Bm25Error, Bm25Fields, Bm25Language, BuildProgress, IndexBuild,
    IndexSummary, Script, ScriptCounts,
};
pub use dense::{
    DenseEngine, DenseError, EmbeddingBuild, EmbeddingProgress, EmbeddingSummary, VECTORS_DIR,
};
#[cfg(feature = "http")]
pub use embed::{EmbeddingServer, EmbeddingServerConfig};
pub use fixed::{FaultyEngine, FixedEngine};
pub use fused::{FusedEngine, FusionConfig, PartFailure};
pub use ledger::{EngineCost, Latency, Ledger};
#[cfg(feature = "http")]
pub use register::RerankedSettings;
pub use register::{
    Bm25Settings, BudgetedSettings, CachedSettings, DenseSettings, EmbedderLoader, EngineContext,
    EngineRegistry, EngineSettings, FaultySettings, FixedSettings, FusedSettings,
    RateLimitedSettings, ReplaySettings, RetriedSettings, register_engine, register_engines,
    register_others,
};
pub use replay::ReplayEngine;
pub use rerank::{RerankConfig, RerankRequest, RerankResult, RerankedEngine, Reranker};
#[cfg(feature = "http")]
pub use rerank::{RerankProtocol, RerankServer, RerankServerConfig};
#[cfg(feature = "http")]
pub use retriever::{RetrieverConfig, RetrieverEngine, RetrieverProtocol};
#[cfg(feature = "http")]
pub use server::{
    ElasticsearchConfig, ElasticsearchDialect, ElasticsearchEngine, QdrantConfig, QdrantEngine,
    ServerError, VectorField,
};
#[cfg(feature = "postgres")]
pub use server::{PostgresConfig, PostgresEngine};
pub use spending::JournalError;
pub use usage::{Price, Usage};
#[cfg(feature = "http")]
pub use web::{WebConfig, WebEngine, WebProvider};
pub use wrap::{
    BudgetConfig, BudgetedEngine, CacheError, CachedEngine, FaultConfig, FaultInjector,
    MeteredEngine, MispairedEngine, RateLimitConfig, RateLimitError, RateLimitedEngine,
    RetryConfig, RetryingEngine,
};
