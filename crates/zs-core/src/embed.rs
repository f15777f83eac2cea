//! Models that turn texts into vectors.

use std::fmt::Debug;

use crate::SearchError;

/// Vector of one text, or the reason that there is none.
pub type EmbedResult = Result<Vec<f32>, SearchError>;

/// Side of a search that a text is on. Many models put another prefix before each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextRole {
    /// A query.
    Query,
    /// A passage that queries find.
    Passage,
}

/// Model that turns texts into vectors, whose inner products rank passages for a query.
///
/// # Implementing
///
/// [`embed`](Self::embed) returns one result a text, in their order; vectors have one length and
/// finite numbers. A text that fails must not fail others.
///
/// ```
/// use zs_core::{EmbedResult, Embedder, TextRole};
///
/// /// Number of letters and of words.
/// #[derive(Debug)]
/// struct Counts;
///
/// impl Embedder for Counts {
///     fn embed(&self, texts: &[&str], _: TextRole, _: u64) -> Vec<EmbedResult> {
///         let count = |it: &&str| Ok(vec![it.len() as f32, it.split(' ').count() as f32]);
///         texts.iter().map(count).collect()
///     }
///
///     fn identity(&self) -> String {
///         "counts".to_owned()
///     }
/// }
///
/// let vectors = Counts.embed(&["a grass"], TextRole::Query, 0);
/// assert_eq!(vectors[0].as_ref().unwrap(), &[7.0, 2.0]);
/// ```
pub trait Embedder: Debug + Send + Sync {
    /// Vectors of texts of one role; `seed` is that of the first request, for waits between attempts.
    fn embed(&self, texts: &[&str], role: TextRole, seed: u64) -> Vec<EmbedResult>;

    /// Name that differs for models whose vectors differ, e.g. a digest of the weights. An index
    /// answers only queries of the model that its passages were embedded with.
    fn identity(&self) -> String;
}
