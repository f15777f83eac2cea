//! Usage of an engine, and its price.

use serde::{Deserialize, Serialize};

/// Counts of one engine. A *search* is a request of the policy; a *call* is a request that an engine
/// sends over the wire, of which a search may need none (a cache), one, or several (retries).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Searches answered in any way.
    pub searches: u64,
    /// Of those, how many failed.
    pub failed_searches: u64,
    /// Of those, how many a cache answered.
    pub cache_hits: u64,
    /// Searches that were answered without a part of the engine, which failed.
    pub degraded_searches: u64,
    /// Searches that a cache was asked for, whether it knew them or not.
    pub cache_lookups: u64,
    /// Batches whose answers a cache could not read or keep; they went to the engine all the same.
    pub cache_failures: u64,
    /// Calls over the wire, every attempt counted.
    pub calls: u64,
    /// Of those, how many failed.
    pub failed_calls: u64,
    /// Of those, how many repeated an earlier call.
    pub retries: u64,
    /// Tokens of prompts, as the server or the model here counted them.
    pub prompt_tokens: u64,
    /// Tokens of replies, as the server or the model here counted them.
    pub completion_tokens: u64,
    /// Bytes of request bodies.
    pub bytes_sent: u64,
    /// Bytes of reply bodies.
    pub bytes_received: u64,
}

impl Usage {
    /// These counts and those.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.combine(other, u64::saturating_add)
    }

    /// Difference from earlier counts.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        self.combine(earlier, u64::saturating_sub)
    }

    fn combine(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            searches: with(self.searches, other.searches),
            failed_searches: with(self.failed_searches, other.failed_searches),
            cache_hits: with(self.cache_hits, other.cache_hits),
            degraded_searches: with(self.degraded_searches, other.degraded_searches),
            cache_lookups: with(self.cache_lookups, other.cache_lookups),
            cache_failures: with(self.cache_failures, other.cache_failures),
            calls: with(self.calls, other.calls),
            failed_calls: with(self.failed_calls, other.failed_calls),
            retries: with(self.retries, other.retries),
            prompt_tokens: with(self.prompt_tokens, other.prompt_tokens),
            completion_tokens: with(self.completion_tokens, other.completion_tokens),
            bytes_sent: with(self.bytes_sent, other.bytes_sent),
            bytes_received: with(self.bytes_received, other.bytes_received),
        }
    }
}

/// Price of an engine's provider, in dollars.
///
/// ```text
/// dollars = per_1000_calls * calls / 1000
///         + per_million_prompt_tokens * prompt_tokens / 10^6
///         + per_million_completion_tokens * completion_tokens / 10^6
/// ```
///
/// ```
/// use zs_search::{Price, Usage};
///
/// let price = Price { per_1000_calls: 2.0, per_million_prompt_tokens: 0.5, ..Price::default() };
/// let usage = Usage { calls: 1500, prompt_tokens: 4_000_000, ..Usage::default() };
/// assert_eq!(price.dollars(&usage), 5.0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Price {
    /// Dollars for a thousand calls.
    pub per_1000_calls: f64,
    /// Dollars for a million tokens of prompts.
    pub per_million_prompt_tokens: f64,
    /// Dollars for a million tokens of replies.
    pub per_million_completion_tokens: f64,
}

impl Price {
    /// Cost of some usage, in dollars.
    #[must_use]
    pub fn dollars(&self, usage: &Usage) -> f64 {
        self.per_1000_calls * usage.calls as f64 / 1e3
            + self.per_million_prompt_tokens * usage.prompt_tokens as f64 / 1e6
            + self.per_million_completion_tokens * usage.completion_tokens as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_differences_are_opposites() {
        let a = Usage { searches: 5, calls: 3, bytes_sent: 9, ..Usage::default() };
        let b = Usage { searches: 2, retries: 1, ..Usage::default() };
        assert_eq!(a.plus(b).since(a), b);
        assert_eq!(b.since(a).searches, 0);
    }
}
