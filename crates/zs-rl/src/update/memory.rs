//! Recovery of an update whose device runs out of memory.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use zs_core::panic_message;

use super::UpdateError;
use crate::algorithm::LearningState;

/// Number of tokens of a micro-batch; halved at most once.
///
/// Devices report exhausted memory by a panic of the computation that ran out. A failed computation
/// leaves no partial results here, so it can be repeated.
pub(super) struct MicroBatchTokens {
    tokens: usize,
    halved: bool,
}

impl MicroBatchTokens {
    /// The configured number, unless it was halved in an earlier update.
    pub(super) fn new(configured: usize, state: &LearningState) -> Self {
        Self {
            tokens: state.micro_batch_tokens.unwrap_or(configured),
            halved: state.micro_batch_tokens.is_some(),
        }
    }

    /// Reduced number for later updates, if it was halved.
    pub(super) fn halved(&self) -> Option<usize> {
        self.halved.then_some(self.tokens)
    }

    /// Runs the work, and once more with half the tokens if the memory is exhausted; any other
    /// panic is resumed.
    ///
    /// # Errors
    ///
    /// Fails when the memory is exhausted with half the tokens too, now or in an earlier update.
    pub(super) fn attempt<T>(
        &mut self,
        mut work: impl FnMut(usize) -> T,
    ) -> Result<T, UpdateError> {
        loop {
            let tokens = self.tokens;
            match catch_unwind(AssertUnwindSafe(|| work(tokens))) {
                Ok(done) => return Ok(done),
                Err(panic) if !is_out_of_memory(panic_message(panic.as_ref())) => {
                    resume_unwind(panic)
                }
                Err(_) if self.halved || tokens < 2 => {
                    return Err(UpdateError::OutOfMemory { micro_batch_tokens: tokens });
                }
                Err(_) => {
                    self.tokens = tokens / 2;
                    self.halved = true;
                }
            }
        }
    }
}

/// Returns true if a panic's message says that an allocation failed, in the words of CUDA, HIP and wgpu
/// runtimes.
///
/// ```
/// assert!(zs_rl::is_out_of_memory("CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\""));
/// assert!(!zs_rl::is_out_of_memory("index out of bounds"));
/// ```
#[must_use]
pub fn is_out_of_memory(message: &str) -> bool {
    let message: String =
        message.to_lowercase().chars().filter(|it| it.is_ascii_alphanumeric()).collect();
    message.contains("outofmemory") || message.contains("failedtoallocate")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Work that fits with at most `limit` tokens.
    #[track_caller]
    fn check(limit: usize, halved_before: bool, expected: Result<usize, UpdateError>) {
        let state = LearningState {
            micro_batch_tokens: halved_before.then_some(100),
            ..LearningState::default()
        };
        let mut tokens = MicroBatchTokens::new(100, &state);
        let found = tokens.attempt(|tokens| {
            assert!(tokens <= limit, "CUDA_ERROR_OUT_OF_MEMORY: {tokens} do not fit");
            tokens
        });
        assert_eq!(found, expected);
        if let Ok(fits) = found {
            assert_eq!(tokens.halved(), (fits < 100 || halved_before).then_some(fits));
        }
    }

    #[test]
    fn memory_is_given_one_more_chance() {
        check(100, false, Ok(100));
        check(60, false, Ok(50));
        check(40, false, Err(UpdateError::OutOfMemory { micro_batch_tokens: 50 }));
        check(100, true, Ok(100));
        check(60, true, Err(UpdateError::OutOfMemory { micro_batch_tokens: 100 }));
    }

    #[test]
    #[should_panic(expected = "another reason")]
    fn other_panics_go_on() {
        let mut tokens = MicroBatchTokens::new(8, &LearningState::default());
        let _ = tokens.attempt(|_| panic!("another reason"));
    }
}
