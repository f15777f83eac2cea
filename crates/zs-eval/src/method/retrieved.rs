//! Retrieval-augmented generation: one search with the question, its documents in the prompt.

use minijinja::{Environment, context};
use zs_core::{
    Document, DocumentQuality, Domain, Question, SearchEngine, SearchRequest, render_observation,
};
use zs_model::Generator;
use zs_rl::{Episode, RolloutConfig};

use super::TEMPLATE;
use crate::EvaluateError;

/// A question with the documents that were found for it, already written into one prompt.
#[derive(Clone, Debug)]
pub(crate) struct Retrieved {
    /// The question; its text is the whole prompt.
    pub(crate) question: Question,
    /// What was found.
    pub(crate) documents: Vec<Document>,
    /// Why nothing was, where the search failed.
    pub(crate) error: Option<String>,
}

impl Retrieved {
    /// Searches for every question at once and writes the prompts.
    ///
    /// Documents are dropped from the end until the prompt leaves room for `min_turn_tokens`, so the
    /// question is never cut.
    pub(crate) fn search(
        generator: &dyn Generator,
        engine: &dyn SearchEngine,
        template: &Environment<'_>,
        episodes: &[Episode<'_>],
        config: &RolloutConfig,
    ) -> Result<Vec<Self>, EvaluateError> {
        let requests: Vec<SearchRequest<'_>> = episodes
            .iter()
            .map(|it| SearchRequest {
                query: &it.question.text,
                question: it.question,
                quality: DocumentQuality::Useful,
                read: &[],
                k: config.num_documents,
                seed: it.key.derive_seed(Domain::Search),
            })
            .collect();
        let found = engine.search_batch(&requests);
        if found.len() != requests.len() {
            return Err(EvaluateError::EngineContract {
                engine: engine.name().to_owned(),
                requests: requests.len(),
                results: found.len(),
            });
        }
        let limit = generator.context_length().saturating_sub(config.min_turn_tokens);
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
                let mut kept = documents.len();
                let text = loop {
                    let text =
                        render(template, question, &documents[..kept], config.document_titles)?;
                    let tokens = generator.tokenizer().encode_prompt(&text)?;
                    if tokens.len() <= limit || kept == 0 {
                        break text;
                    }
                    kept -= 1;
                };
                let question = Question { text, ..question.clone() };
                Ok(Self { question, documents, error })
            })
            .collect()
    }
}

fn render(
    template: &Environment<'_>,
    question: &Question,
    documents: &[Document],
    titles: bool,
) -> Result<String, EvaluateError> {
    let documents = render_observation(documents, titles);
    template
        .get_template(TEMPLATE)
        .and_then(|it| {
            it.render(context! {
                question => question.text.as_str(),
                documents => documents.trim(),
            })
        })
        .map_err(|it| EvaluateError::Template { message: format!("{it:#}") })
}
