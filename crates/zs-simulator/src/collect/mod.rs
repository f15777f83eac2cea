//! Makes clean sets for search simulation tuning from recorded searches.
//!
//! ```text
//! recorded turns -> clean (malformed queries dropped, documents repaired) -> distinct
//!                -> judge (useful or noisy, document by document) -> balance -> split by question
//! ```
//!
//! Every step counts dropped searches in [`Dropped`]. `collect_tuning_set` (feature `http`, for models
//! as judges) runs all steps, from files of recorded turns or from new episodes, into a directory with
//! a manifest.

mod build;
mod clean;
#[cfg(feature = "http")]
mod error;
mod judge;
#[cfg(feature = "http")]
mod llm_judge;
#[cfg(feature = "http")]
mod manifest;
#[cfg(feature = "http")]
mod played;
#[cfg(feature = "http")]
mod tuning_set;
mod turns;
mod verdict;

pub use build::{Dropped, Splits, assemble, distinct, is_validation};
#[cfg(feature = "http")]
pub(crate) use build::{split_draw, text_hash};
pub use clean::{MalformedQuery, check_query, mend_documents};
#[cfg(feature = "http")]
pub use error::CollectError;
pub use judge::{Agreement, ContainmentJudge, Judge, JudgeCase, JudgeError, agreement};
#[cfg(feature = "http")]
pub use llm_judge::{LlmJudge, LlmJudgeConfig};
#[cfg(feature = "http")]
pub use manifest::{Input, Judged, Manifest, Part, Settings};
#[cfg(feature = "http")]
pub use played::{CollectEvent, EpisodeSource, PlayQuestions, PlayedSearch};
#[cfg(feature = "http")]
pub use tuning_set::{CollectConfig, JudgeChoice, SearchSource, collect_tuning_set};
pub use turns::{RawSearch, read_turns};
pub use verdict::{JUDGE_TEMPLATE, JudgePrompt, VerdictError, parse_verdict};
