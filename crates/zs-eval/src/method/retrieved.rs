//! Retrieval-augmented generation: one search with the question, and its documents in the prompt.

use zs_core::{Document, Domain, Question, SearchEngine, SearchRequest};
use zs_model::Generator;
use zs_rl::{Episode, RolloutConfig};

use super::PromptTemplate;
use crate::EvaluateError;

/// A question with the documents found for it, rendered as one prompt.
#[derive(Clone, Debug)]
pub(crate) struct Retrieved {
    /// The question, with the whole prompt as its text.
    pub(crate) question: Question,
    /// The documents.
    pub(crate) documents: Vec<Document>,
    /// The error of a failed search.
    pub(crate) error: Option<String>,
}

impl Retrieved {
    /// Searches for all questions in one batch and renders the prompts.
    ///
    /// Documents are dropped from the end until the prompt leaves room for `min_turn_tokens`.
    pub(crate) fn search(
        generator: &dyn Generator,
        engine: &dyn SearchEngine,
        template: &PromptTemplate,
        episodes: &[Episode<'_>],
        config: &RolloutConfig,
    ) -> Result<Vec<Self>, EvaluateError> {
        let seed = |it: &Episode<'_>| it.key.derive_seed(Domain::Search);
        let requests: Vec<SearchRequest<'_>> = episodes
            .iter()
            .map(|it| SearchRequest::of(it.question, config.num_documents, seed(it)))
            .collect();
        let found = engine.search_batch(&requests);
        if found.len() != requests.len() {
            return Err(EvaluateError::EngineContract {
                engine: engine.name().to_owned(),
                requests: requests.len(),
                results: found.len(),
            });
        }
        episodes
            .iter()
            .zip(found)
            .map(|(episode, result)| {
                let (mut documents, error) = match result {
                    Ok(documents) => (documents, None),
                    Err(error) => (Vec::new(), Some(error.to_string())),
                };
                documents.truncate(config.num_documents);
                let question = episode.question;
                let (query, min_tokens) = (&question.text, config.min_turn_tokens);
                let (text, _) = template.fit(question, query, &documents, generator, min_tokens)?;
                let question = Question { text, ..question.clone() };
                Ok(Self { question, documents, error })
            })
            .collect()
    }
}
