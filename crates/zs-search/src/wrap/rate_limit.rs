//! A limit on searches a second, as providers ask for.

use std::num::NonZeroU32;
use std::time::Duration;

use garde::Validate;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use serde::{Deserialize, Serialize};
use zs_core::registry::check;
use zs_core::{SearchEngine, SearchRequest, SearchResult};

/// Rate of requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct RateLimitConfig {
    /// Searches a second in the long run.
    #[garde(custom(check::positive))]
    pub per_second: f64,
    /// Searches at once after a pause.
    #[serde(default = "default_burst")]
    #[garde(custom(check::at_least_one))]
    pub burst: u32,
}

fn default_burst() -> u32 {
    1
}

/// Failure to keep a limit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RateLimitError {
    /// The rate or the burst is out of range.
    #[error(
        "`per_second` must be above 0 and `burst` at least 1; they are {per_second} and {burst}"
    )]
    OutOfRange {
        /// The rate.
        per_second: f64,
        /// The burst.
        burst: u32,
    },
}

/// Holds searches back so that no more than so many a second reach the engine; those that are due
/// together go in one batch.
///
/// # References
///
/// - The generic cell rate algorithm, as [governor](https://docs.rs/governor) has it
pub struct RateLimitedEngine<E, C: Clock = DefaultClock> {
    engine: E,
    limiter: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    sleep: fn(&C, Duration),
}

impl<E: SearchEngine> RateLimitedEngine<E> {
    /// An engine that is asked no faster than the limit.
    ///
    /// # Errors
    ///
    /// Fails on a rate that is not above 0 and a burst of 0.
    pub fn new(engine: E, config: RateLimitConfig) -> Result<Self, RateLimitError> {
        Self::with_clock(engine, config, DefaultClock::default(), |_, wait| {
            std::thread::sleep(wait);
        })
    }
}

impl<E: SearchEngine, C: Clock + Clone> RateLimitedEngine<E, C> {
    fn with_clock(
        engine: E,
        config: RateLimitConfig,
        clock: C,
        sleep: fn(&C, Duration),
    ) -> Result<Self, RateLimitError> {
        let RateLimitConfig { per_second, burst } = config;
        let out_of_range = || RateLimitError::OutOfRange { per_second, burst };
        let period = Duration::try_from_secs_f64(1.0 / per_second).map_err(|_| out_of_range())?;
        let quota = Quota::with_period(period).ok_or_else(out_of_range)?;
        let quota = quota.allow_burst(NonZeroU32::new(burst).ok_or_else(out_of_range)?);
        let limiter = RateLimiter::direct_with_clock(quota, clock.clone());
        Ok(Self { engine, limiter, clock, sleep })
    }
}

impl<E: SearchEngine, C: Clock> std::fmt::Debug for RateLimitedEngine<E, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RateLimitedEngine").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl<E: SearchEngine, C: Clock + Send + Sync> SearchEngine for RateLimitedEngine<E, C>
where
    C::Instant: Send + Sync,
{
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn inner(&self) -> Option<&dyn SearchEngine> {
        Some(&self.engine)
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let mut results = Vec::with_capacity(requests.len());
        let mut due = 0;
        while due < requests.len() {
            match self.limiter.check() {
                Ok(()) => due += 1,
                Err(not_until) => {
                    // What is due already does not wait for the rest.
                    results.extend(self.engine.search_batch(&requests[results.len()..due]));
                    (self.sleep)(&self.clock, not_until.wait_time_from(self.clock.now()));
                }
            }
        }
        results.extend(self.engine.search_batch(&requests[results.len()..]));
        results
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use governor::clock::{FakeRelativeClock, Reference};
    use zs_core::{Document, DocumentQuality, Question};

    use super::*;
    use crate::FixedEngine;
    use crate::conformance::check_engine;

    /// Notes how many searches came at once.
    #[derive(Debug, Default)]
    struct Counting(Mutex<Vec<usize>>);

    impl SearchEngine for Counting {
        fn name(&self) -> &str {
            "counting"
        }

        fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
            if !requests.is_empty() {
                self.0.lock().unwrap().push(requests.len());
            }
            requests.iter().map(|it| Ok(vec![Document::new("", it.query)])).collect()
        }
    }

    #[test]
    fn searches_come_as_fast_as_allowed() {
        let clock = FakeRelativeClock::default();
        let start = clock.now();
        let config = RateLimitConfig { per_second: 2.0, burst: 3 };
        let sleep = |clock: &FakeRelativeClock, wait: Duration| clock.advance(wait);
        let engine =
            RateLimitedEngine::with_clock(Counting::default(), config, clock.clone(), sleep)
                .unwrap();
        let question = Question::new("q", "?", ["a"]);
        let queries: Vec<String> = (0..7).map(|it| it.to_string()).collect();
        let requests: Vec<SearchRequest<'_>> = queries
            .iter()
            .map(|query| SearchRequest {
                query,
                question: &question,
                quality: DocumentQuality::Useful,
                read: &[],
                k: 1,
                seed: 0,
            })
            .collect();
        let results = engine.search_batch(&requests);
        let texts: Vec<String> = results.into_iter().map(|it| it.unwrap().remove(0).text).collect();
        assert_eq!(texts, queries);
        assert_eq!(*engine.engine.0.lock().unwrap(), [3, 1, 1, 1, 1]);
        // Four searches beyond the burst, half a second each.
        let took: Duration = clock.now().duration_since(start).into();
        assert_eq!(took, Duration::from_secs(2));
    }

    #[test]
    fn keeps_the_contract_and_refuses_nonsense() {
        let config = RateLimitConfig { per_second: 1e6, burst: 1000 };
        check_engine(&RateLimitedEngine::new(FixedEngine::default(), config).unwrap());
        for (per_second, burst) in [(0.0, 1), (-1.0, 1), (f64::NAN, 1), (1.0, 0)] {
            let config = RateLimitConfig { per_second, burst };
            assert!(RateLimitedEngine::new(FixedEngine::default(), config).is_err());
        }
    }
}
