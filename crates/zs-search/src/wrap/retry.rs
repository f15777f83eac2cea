//! A second chance for searches whose engine was out of reach.

use std::time::Duration;

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::check;
use zs_core::{SearchEngine, SearchRequest, SearchResult};

/// Number of attempts, and the waits between them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
#[serde(default)]
pub struct RetryConfig {
    /// Attempts a search at most, the first included.
    #[garde(custom(check::at_least_one))]
    pub max_attempts: u32,
    /// Seconds before the second attempt; each further wait is twice as long.
    #[garde(custom(check::non_negative))]
    pub backoff_s: f64,
    /// Seconds of a wait at most.
    #[garde(custom(check::non_negative))]
    pub max_backoff_s: f64,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { max_attempts: 3, backoff_s: 1.0, max_backoff_s: 30.0 }
    }
}

/// Sends those searches of a batch again that failed for a reason that may pass
/// ([`SearchError::is_transient`](zs_core::SearchError::is_transient)), together, up to a number of
/// attempts. Others are not disturbed.
///
/// Engines over HTTP retry on their own, call by call; this is for engines that do not.
#[derive(Debug)]
pub struct RetryingEngine<E> {
    engine: E,
    config: RetryConfig,
}

impl<E: SearchEngine> RetryingEngine<E> {
    /// An engine that gets further chances.
    pub fn new(engine: E, config: RetryConfig) -> Self {
        Self { engine, config }
    }

    fn wait(&self, attempt: u32) -> Duration {
        let wait = self.config.backoff_s * 2.0_f64.powi(attempt.min(60) as i32 - 1);
        Duration::try_from_secs_f64(wait.min(self.config.max_backoff_s)).unwrap_or_default()
    }
}

impl<E: SearchEngine> SearchEngine for RetryingEngine<E> {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn inner(&self) -> Option<&dyn SearchEngine> {
        Some(&self.engine)
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let mut results = self.engine.search_batch(requests);
        for attempt in 1..self.config.max_attempts {
            let may_pass = |it: &SearchResult| matches!(it, Err(error) if error.is_transient());
            let failed: Vec<usize> = (0..results.len().min(requests.len()))
                .filter(|it| may_pass(&results[*it]))
                .collect();
            if failed.is_empty() || self.engine.exhausted().is_some() {
                break;
            }
            std::thread::sleep(self.wait(attempt));
            let again: Vec<SearchRequest<'_>> = failed.iter().map(|it| requests[*it]).collect();
            for (index, result) in failed.into_iter().zip(self.engine.search_batch(&again)) {
                results[index] = result;
            }
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use zs_core::{Document, DocumentQuality, Question, SearchError};

    use super::*;
    use crate::FixedEngine;
    use crate::conformance::check_engine;

    /// Fails `twice` on its first two batches, and `never` always.
    #[derive(Debug, Default)]
    struct Shaky(Mutex<Vec<usize>>);

    impl SearchEngine for Shaky {
        fn name(&self) -> &str {
            "shaky"
        }

        fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
            let mut batches = self.0.lock().unwrap();
            batches.push(requests.len());
            let answer = |it: &SearchRequest<'_>| {
                let (engine, source) = ("shaky".to_owned(), "away".into());
                match it.query {
                    "twice" if batches.len() <= 2 => {
                        Err(SearchError::Unreachable { engine, source })
                    }
                    "never" => Err(SearchError::Unreachable { engine, source }),
                    "refused" => {
                        Err(SearchError::Engine { engine, query: it.query.to_owned(), source })
                    }
                    query => Ok(vec![Document::new("", query)]),
                }
            };
            requests.iter().map(answer).collect()
        }
    }

    #[test]
    fn only_what_may_pass_is_sent_again() {
        let config = RetryConfig { max_attempts: 4, backoff_s: 0.0, max_backoff_s: 0.0 };
        check_engine(&RetryingEngine::new(FixedEngine::default(), config));
        let engine = RetryingEngine::new(Shaky::default(), config);
        let question = Question::new("q", "?", ["a"]);
        let quality = DocumentQuality::Useful;
        let requests = ["a", "twice", "refused", "never"].map(|query| SearchRequest {
            query,
            question: &question,
            quality,
            read: &[],
            k: 1,
            seed: 0,
        });
        let results = engine.search_batch(&requests);
        let fine: Vec<bool> = results.iter().map(Result::is_ok).collect();
        assert_eq!(fine, [true, true, false, false]);
        assert_eq!(*engine.engine.0.lock().unwrap(), [4, 2, 2, 1]);
    }

    #[test]
    fn waits_double_up_to_a_limit() {
        let config = RetryConfig { max_attempts: 9, backoff_s: 1.0, max_backoff_s: 5.0 };
        let engine = RetryingEngine::new(FixedEngine::default(), config);
        let waits: Vec<u64> = (1..6).map(|it| engine.wait(it).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
    }
}
