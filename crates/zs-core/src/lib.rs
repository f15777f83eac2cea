//! Types that all `zs` crates share: questions, documents, actions, search engines,
//! scoring and counter-based randomness.
//!
//! **Invariant:** no tensors, no IO, no async. Everything here is plain data, a pure function, or a
//! trait over them, so an engine or a reward can be written against this crate alone.
//!
//! ```
//! use zs_core::{Action, YesNoRule, exact_match, f1, parse_action};
//!
//! let action = parse_action("<think> easy </think> <answer> The Beatles </answer>");
//! assert_eq!(action, Action::Answer("The Beatles".to_owned()));
//!
//! let golden = ["Beatles".to_owned()];
//! assert!(exact_match("The Beatles", &golden));
//! assert_eq!(f1("The Beatles band", &golden, YesNoRule::Ignore), 2.0 / 3.0);
//! ```

mod action;
mod caught;
mod causes;
mod document;
mod embed;
mod names;
mod null_as_nan;
mod observation;
mod question;
mod random;
pub mod registry;
mod scoring;
mod search;
mod thoughts;
mod transcript;

pub use action::{Action, parse_action};
pub use caught::{caught, panic_message};
pub use causes::with_causes;
pub use document::{Document, DocumentQuality};
pub use embed::{EmbedResult, Embedder, TextRole};
pub use names::{SENTENCE_WORDS, contains_words, names_in, query_names_entity};
pub use null_as_nan::{NullAsNan, null_as_nan};
pub use observation::{
    INVALID_ACTION_MESSAGE, NO_DOCUMENTS, RESERVED_TAGS, neutralize_tags, render_observation,
};
pub use question::Question;
pub use random::{Domain, StreamKey};
pub use scoring::{
    WordOverlap, YesNoRule, cover_exact_match, exact_match, f1, normalize_answer, strip_answer,
    word_overlap,
};
pub use search::{
    EngineScope, MALFORMED_REPLY, SearchEngine, SearchError, SearchRequest, SearchResult,
    guarded_search,
};
pub use thoughts::{is_never_closed, prefill, without_prefill, without_thoughts};
pub use transcript::{Transcript, TranscriptTurn};
