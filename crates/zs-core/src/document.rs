//! Documents that a search engine returns.

use serde::{Deserialize, Serialize};

/// One retrieved or simulated document.
///
/// ```
/// use zs_core::Document;
///
/// let document = Document::new("Bamboo", "Bamboo is a grass.");
/// assert_eq!(document.title, "Bamboo");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Identifier inside its corpus; empty for simulated documents.
    #[serde(default)]
    pub id: String,
    /// Title; empty where the engine has none.
    #[serde(default)]
    pub title: String,
    /// The text put between `<information>` and `</information>`.
    pub text: String,
    /// The engine's relevance score, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
}

impl Document {
    /// A document without identifier or score.
    #[must_use]
    pub fn new(title: impl Into<String>, text: impl Into<String>) -> Self {
        Self { title: title.into(), text: text.into(), ..Self::default() }
    }

    /// Splits the `contents` of Search-R1's and Pyserini's corpora into title and text: the title is
    /// the first line, without one pair of quotes around it. Contents of one line have no title.
    ///
    /// ```
    /// use zs_core::Document;
    ///
    /// let split = Document::split_contents("\"\"Heroes\" (album)\"\nAn album.");
    /// assert_eq!(split, ("\"Heroes\" (album)", "An album."));
    /// assert_eq!(Document::split_contents("An album."), ("", "An album."));
    /// ```
    #[must_use]
    pub fn split_contents(contents: &str) -> (&str, &str) {
        let Some((title, text)) = contents.split_once('\n') else { return ("", contents) };
        let title = title.trim();
        let inner = title.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
        (inner.unwrap_or(title).trim(), text)
    }
}

/// Kind of documents that the simulation LLM is asked for.
///
/// Drawn per query with the curriculum's noise probability; engines that cannot act on it ignore it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentQuality {
    /// Documents that help to answer the query.
    Useful,
    /// Related but unhelpful documents.
    Noisy,
}

impl DocumentQuality {
    /// The word used in prompts and metrics: `"useful"` or `"noisy"`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Useful => "useful",
            Self::Noisy => "noisy",
        }
    }
}
