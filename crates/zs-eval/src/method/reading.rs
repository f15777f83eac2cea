//! The reading step of Search-o1: the model reads the documents and passes on the helpful part.

use zs_core::{
    Document, SearchEngine, SearchError, SearchRequest, SearchResult, StreamKey, without_thoughts,
};
use zs_model::{Generator, SamplingParams, TokenId};

use super::PromptTemplate;
use crate::EvaluateError;

/// An engine whose documents are read by a model, which writes one document in their place.
///
/// Reading is greedy, so it is as deterministic as the inner engine. Documents that do not fit the
/// model's context are dropped from the end. Empty results and failed searches are unchanged.
///
/// # References
///
/// - [Search-o1](https://arxiv.org/abs/2501.05366), section 3.3; there the reader also sees the
///   reasoning so far
#[derive(Debug)]
pub(crate) struct ReadingEngine<'a> {
    engine: &'a dyn SearchEngine,
    reader: &'a dyn Generator,
    template: PromptTemplate,
    params: SamplingParams,
}

impl<'a> ReadingEngine<'a> {
    pub(crate) fn new(
        engine: &'a dyn SearchEngine,
        reader: &'a dyn Generator,
        max_new_tokens: usize,
        show_titles: bool,
    ) -> Result<Self, EvaluateError> {
        let source = include_str!("../../templates/search_o1_read.jinja");
        let template = PromptTemplate::new(source, show_titles)?;
        let params =
            SamplingParams { temperature: 0.0, max_new_tokens, ..SamplingParams::default() };
        Ok(Self { engine, reader, template, params })
    }

    fn prompt(
        &self,
        request: &SearchRequest<'_>,
        documents: &[Document],
    ) -> Result<Vec<TokenId>, BoxError> {
        let (question, query, reader) = (request.question, request.query, self.reader);
        let max_new_tokens = self.params.max_new_tokens;
        let (_, tokens) = self.template.fit(question, query, documents, reader, max_new_tokens)?;
        match tokens.len() + max_new_tokens <= reader.context_length() {
            true => Ok(tokens),
            false => Err("the question alone exceeds the context of the reader".into()),
        }
    }

    /// Reads all results in one batch.
    fn read(
        &self,
        requests: &[SearchRequest<'_>],
        results: &mut [SearchResult],
    ) -> Result<(), BoxError> {
        let mut prompts = Vec::new();
        let mut positions = Vec::new();
        for (position, (request, result)) in requests.iter().zip(results.iter()).enumerate() {
            if let Ok(documents) = result
                && !documents.is_empty()
            {
                prompts.push((self.prompt(request, documents)?, StreamKey::new(request.seed)));
                positions.push(position);
            }
        }
        if prompts.is_empty() {
            return Ok(());
        }
        let completions = self.reader.generate(&prompts, &self.params)?;
        let tokenizer = self.reader.tokenizer();
        let read = positions.into_iter().zip(prompts).zip(completions);
        for ((position, (prompt, _)), completion) in read {
            let reply = tokenizer.decode_reply(&prompt, &completion.tokens);
            let text = without_thoughts(&reply).trim();
            results[position] = Ok(vec![Document::new("", text)]);
        }
        Ok(())
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl SearchEngine for ReadingEngine<'_> {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let mut results = self.engine.search_batch(requests);
        if let Err(error) = self.read(requests, &mut results) {
            // A failure concerns the whole batch, so every search of it reports the error.
            let message = error.to_string();
            let failed = |it: &SearchRequest<'_>| {
                Err(SearchError::Engine {
                    engine: self.name().to_owned(),
                    query: it.query.to_owned(),
                    source: message.clone().into(),
                })
            };
            return requests.iter().map(failed).collect();
        }
        results
    }

    fn is_deterministic(&self) -> bool {
        self.engine.is_deterministic()
    }
}
