//! From searches that somebody recorded to a clean set for search simulation tuning.
//!
//! ```text
//! recorded turns -> clean (malformed queries dropped, documents mended) -> distinct
//!                -> judge (useful or noisy, document by document) -> balance -> split by question
//! ```
//!
//! Every step counts what it drops, in [`Dropped`].

mod build;
mod clean;
mod judge;
mod turns;
mod verdict;

pub use build::{Dropped, Splits, assemble, distinct};
pub use clean::{MalformedQuery, check_query, mend_documents};
pub use judge::{Agreement, ContainmentJudge, Judge, JudgeCase, JudgeError, agreement};
pub use turns::{RawSearch, read_turns};
pub use verdict::{JUDGE_TEMPLATE, JudgePrompt, VerdictError, parse_verdict};
