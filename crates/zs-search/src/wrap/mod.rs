//! Engines around engines: each adds one thing to whatever engine is inside, and passes the rest on,
//! so that they compose in any order.

mod budget;
mod cache;
mod fault;
mod meter;
mod mispair;
mod rate_limit;
mod retry;

pub use self::budget::{BudgetConfig, BudgetedEngine};
pub use self::cache::{CacheError, CachedEngine};
pub use self::fault::{FaultConfig, FaultInjector};
pub use self::meter::MeteredEngine;
pub use self::mispair::MispairedEngine;
pub use self::rate_limit::{RateLimitConfig, RateLimitError, RateLimitedEngine};
pub use self::retry::{RetryConfig, RetryingEngine};

use zs_core::{SearchEngine, SearchRequest, SearchResult};

/// Passes on those requests that `passes` picks, in one batch, and answers the others with `answer`.
fn search_some<'a>(
    engine: &dyn SearchEngine,
    requests: &[SearchRequest<'a>],
    passes: impl Fn(usize) -> bool,
    mut answer: impl FnMut(usize) -> SearchResult,
) -> Vec<SearchResult> {
    let passed: Vec<SearchRequest<'a>> =
        (0..requests.len()).filter(|it| passes(*it)).map(|it| requests[it]).collect();
    let found = if passed.is_empty() { Vec::new() } else { engine.search_batch(&passed) };
    let mut found = found.into_iter();
    (0..requests.len())
        .map(|index| match passes(index) {
            // An engine that returns too few results has broken its contract; say so.
            true => found.next().unwrap_or_else(|| Err(missing(engine, &requests[index]))),
            false => answer(index),
        })
        .collect()
}

/// Requests for at least `depth` documents; those for none stay so.
pub(crate) fn deepened<'a>(requests: &[SearchRequest<'a>], depth: usize) -> Vec<SearchRequest<'a>> {
    let at_least = |k: usize| if k == 0 { 0 } else { k.max(depth) };
    requests.iter().map(|it| SearchRequest { k: at_least(it.k), ..*it }).collect()
}

pub(crate) fn missing(
    engine: &dyn SearchEngine,
    request: &SearchRequest<'_>,
) -> zs_core::SearchError {
    zs_core::SearchError::Engine {
        engine: engine.name().to_owned(),
        query: request.query.to_owned(),
        source: "it returned fewer results than there were requests".into(),
    }
}
