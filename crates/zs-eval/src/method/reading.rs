//! The reading step of Search-o1: the model goes through what was found and passes on what helps.

use minijinja::{Environment, context};
use zs_core::{
    Document, SearchEngine, SearchError, SearchRequest, SearchResult, StreamKey, render_observation,
};
use zs_model::{Generator, SamplingParams, TokenId};

use super::{TEMPLATE, template};
use crate::EvaluateError;

/// An engine whose documents are read by a model, which writes one document in their place.
///
/// Reading is greedy, so it is as deterministic as the engine beneath. Documents that do not fit the
/// model's context are left out from the end. A search that finds nothing or fails is passed on as
/// it is.
///
/// # References
///
/// - [Search-o1](https://arxiv.org/abs/2501.05366), section 3.3; there the reader also sees the
///   reasoning so far
#[derive(Debug)]
pub(crate) struct ReadingEngine<'a> {
    engine: &'a dyn SearchEngine,
    reader: &'a dyn Generator,
    template: Environment<'static>,
    params: SamplingParams,
    titles: bool,
}

impl<'a> ReadingEngine<'a> {
    pub(crate) fn new(
        engine: &'a dyn SearchEngine,
        reader: &'a dyn Generator,
        max_new_tokens: usize,
        titles: bool,
    ) -> Result<Self, EvaluateError> {
        let template = template(include_str!("../../templates/search_o1_read.jinja"))
            .map_err(|it| EvaluateError::Template { message: format!("{it:#}") })?;
        let params =
            SamplingParams { temperature: 0.0, max_new_tokens, ..SamplingParams::default() };
        Ok(Self { engine, reader, template, params, titles })
    }

    fn prompt(
        &self,
        request: &SearchRequest<'_>,
        documents: &[Document],
    ) -> Result<Vec<TokenId>, BoxError> {
        let limit = self.reader.context_length().saturating_sub(self.params.max_new_tokens);
        let mut kept = documents.len();
        loop {
            let shown = render_observation(&documents[..kept], self.titles);
            let text = self.template.get_template(TEMPLATE)?.render(context! {
                question => request.question.text.as_str(),
                query => request.query,
                documents => shown.trim(),
            })?;
            let tokens = self.reader.tokenizer().encode_prompt(&text)?;
            if tokens.len() <= limit {
                return Ok(tokens);
            }
            if kept == 0 {
                return Err("the question alone exceeds the reader's context".into());
            }
            kept -= 1;
        }
    }

    /// Reads all results of a batch together.
    fn read(
        &self,
        requests: &[SearchRequest<'_>],
        results: &mut [SearchResult],
    ) -> Result<(), BoxError> {
        let mut prompts = Vec::new();
        let mut places = Vec::new();
        for (place, (request, result)) in requests.iter().zip(results.iter()).enumerate() {
            if let Ok(documents) = result
                && !documents.is_empty()
            {
                prompts.push((self.prompt(request, documents)?, StreamKey::new(request.seed)));
                places.push(place);
            }
        }
        if prompts.is_empty() {
            return Ok(());
        }
        let completions = self.reader.generate(&prompts, &self.params)?;
        for (place, completion) in places.into_iter().zip(completions) {
            let text = self.reader.tokenizer().decode(&completion.tokens);
            results[place] = Ok(vec![Document::new("", text.trim())]);
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
            // Reading fails for the batch as a whole; every search of it says why.
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
