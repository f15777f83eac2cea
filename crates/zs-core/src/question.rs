//! A question and what counts as its answer.

use serde::{Deserialize, Serialize};

/// A question with its golden answers.
///
/// Serialises in the FlashRAG form, `{"id", "question", "golden_answers"}`, plus optional fields
/// that evaluation breaks results down by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Stable identifier inside its dataset.
    pub id: String,
    /// The question, as shown to the policy model.
    #[serde(rename = "question")]
    pub text: String,
    /// Every accepted answer, best first; never empty in a valid dataset.
    pub golden_answers: Vec<String>,
    /// Number of facts that must be joined to answer, where the dataset names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hops: Option<u8>,
    /// Titles of the documents that support the answer, where the dataset says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gold_titles: Vec<String>,
    /// The dataset that the question is from, where a file holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_source: Option<String>,
    /// Kind of the question (`bridge`, `comparison` …), where the dataset names it.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub question_type: Option<String>,
}

impl Question {
    /// A question with one or more golden answers and no further labels.
    #[must_use]
    pub fn new<A: Into<String>>(
        id: impl Into<String>,
        text: impl Into<String>,
        golden_answers: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            id: id.into(),
            text: text.into(),
            golden_answers: golden_answers.into_iter().map(Into::into).collect(),
            hops: None,
            gold_titles: Vec::new(),
            data_source: None,
            question_type: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_flashrag_form() {
        let row = r#"{"id":"q1","question":"who?","golden_answers":["a","b"]}"#;
        let question: Question = serde_json::from_str(row).unwrap();
        assert_eq!(question, Question::new("q1", "who?", ["a", "b"]));
        assert_eq!(serde_json::to_string(&question).unwrap(), row);
    }
}
