//! The simulation LLM as a search engine: a language model that writes the documents.

mod counters;
mod header;
mod parse;
mod prompt;

use std::sync::Arc;

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::check;
use zs_core::{
    DocumentQuality, SearchEngine, SearchError, SearchRequest, SearchResult, StreamKey,
    query_names_entity,
};
use zs_model::{Completion, Generator, SamplingParams, StopReason, TextLimit, TokenId};

use zs_search::Ledger;

pub(crate) use counters::Counters;
pub use header::TemplateHeader;
pub use parse::parse_documents;
pub use prompt::{SimulationPrompt, SimulationTemplates, TemplateError};

/// Sampling settings of the simulation LLM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct SimulatedConfig {
    /// Softmax temperature; 0.8 in `ZeroSearch`.
    #[garde(custom(check::non_negative))]
    pub temperature: f32,
    /// Nucleus mass.
    #[garde(custom(check::positive_fraction))]
    pub top_p: f32,
    /// Tokens of a reply at most; 600 in `ZeroSearch`.
    #[garde(custom(check::at_least_one))]
    pub max_new_tokens: usize,
    /// Number of replies sampled at once.
    #[garde(custom(check::at_least_one))]
    pub batch_size: usize,
    /// Gate on the queries that get useful documents.
    #[garde(skip)]
    pub gate: QueryGate,
}

/// Gate on the queries that get useful documents from a simulated engine.
///
/// A simulation LLM that is shown question and golden answer answers any query, even one that no
/// real engine could handle, so a policy trained on it stops naming the entity that it searches
/// for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueryGate {
    /// All queries, as in the paper.
    #[default]
    Open,
    /// Queries that contain the full name of an entity in the question or in the documents read so
    /// far; all others get noisy documents. Names are sequences of capitalised words.
    NamesEntity,
}

impl QueryGate {
    /// The quality of the documents that a request gets.
    #[must_use]
    pub fn quality(self, request: &SearchRequest<'_>) -> DocumentQuality {
        let passes = match self {
            Self::Open => true,
            Self::NamesEntity => query_names_entity(request.question, request.read, request.query),
        };
        if passes { request.quality } else { DocumentQuality::Noisy }
    }
}

impl Default for SimulatedConfig {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_p: 1.0,
            max_new_tokens: 600,
            batch_size: 64,
            gate: QueryGate::Open,
        }
    }
}

/// Counts of an engine's searches so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulatedStats {
    /// Requests answered in any way.
    pub num_requests: u64,
    /// Documents returned.
    pub num_documents: u64,
    /// Replies without any document.
    pub num_malformed: u64,
    /// Replies that were truncated at the token limit.
    pub num_cut: u64,
    /// Requests that failed before a reply: a prompt too long, a template or model that failed.
    pub num_failed: u64,
}

/// Search by simulation: a language model is shown question, golden answer and query, and writes
/// useful or noisy documents as the request asks.
///
/// A reply is a function of the model, the prompt and the request's seed; batches do not matter.
///
/// # References
///
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588), section 3.3. The reference code pairs query
///   `k` with the question of row `k` of the *unfiltered* batch, so most replies are about another
///   question; here a request carries its own.
#[derive(Debug)]
pub struct SimulatedEngine {
    generator: Arc<dyn Generator>,
    limit: TextLimit,
    templates: SimulationTemplates,
    config: SimulatedConfig,
    counters: Counters,
    name: &'static str,
    ledger: Arc<Ledger>,
}

/// Errors of sampling the simulation LLM; the source of a [`SearchError::Engine`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// The prompt leaves no room for a reply.
    #[error(
        "the prompt has {num_tokens} tokens, which leaves no room for a reply in the model's \
         context of {context_length}; use a shorter template or a longer context"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        num_tokens: usize,
        /// Tokens that the model holds.
        context_length: usize,
    },
    /// A query or prompt is not worth encoding.
    #[error(transparent)]
    Limit(#[from] zs_model::TextLimitError),
    /// The prompt could not be written.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The prompt could not be encoded.
    #[error(transparent)]
    Tokenizer(#[from] zs_model::TokenizerError),
    /// The model failed, for a whole batch of prompts.
    #[error("the simulation model failed: {message}")]
    Generate {
        /// Message of the model.
        message: String,
    },
}

impl SimulatedEngine {
    /// An engine that samples from a model.
    pub fn new(
        generator: Arc<dyn Generator>,
        templates: SimulationTemplates,
        config: SimulatedConfig,
    ) -> Self {
        let (counters, ledger) = (Counters::default(), Arc::default());
        let limit = TextLimit::new(generator.tokenizer(), generator.context_length());
        Self { generator, limit, templates, config, counters, name: "simulated", ledger }
    }

    /// Records the tokens of its prompts and replies in this ledger.
    #[must_use]
    pub fn with_ledger(mut self, ledger: Arc<Ledger>) -> Self {
        self.ledger = ledger;
        self
    }

    /// The model that is asked.
    pub(crate) fn generator(&self) -> &Arc<dyn Generator> {
        &self.generator
    }

    /// Sets another name.
    pub(crate) fn with_name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Counts of the engine's searches so far.
    #[must_use]
    pub fn stats(&self) -> SimulatedStats {
        self.counters.stats()
    }

    /// The prompt of a request as tokens.
    fn encode(&self, request: &SearchRequest<'_>) -> Result<Vec<TokenId>, SimulationError> {
        let prompt = SimulationPrompt {
            question: &request.question.text,
            golden_answers: &request.question.golden_answers,
            query: request.query,
            k: request.k,
        };
        let text = self.templates.render(self.config.gate.quality(request), &prompt)?;
        self.limit.check(&text)?;
        let tokens = self.generator.tokenizer().encode_prompt(&text)?;
        let context_length = self.generator.context_length();
        if tokens.len() >= context_length {
            let num_tokens = tokens.len();
            return Err(SimulationError::PromptTooLong { num_tokens, context_length });
        }
        Ok(tokens)
    }

    /// The replies to some prompts, in order, or why there are none.
    fn generate(
        &self,
        prompts: &[(Vec<TokenId>, StreamKey)],
    ) -> Result<Vec<Completion>, SimulationError> {
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        let params = SamplingParams {
            temperature: self.config.temperature,
            top_p: self.config.top_p,
            max_new_tokens: self.config.max_new_tokens,
            ..SamplingParams::default()
        };
        let completions = self.generator.generate(prompts, &params);
        let completions =
            completions.map_err(|it| SimulationError::Generate { message: it.to_string() })?;
        self.ledger.record(self.name, |usage| {
            let read = prompts.iter().map(|(tokens, _)| tokens.len() as u64);
            let written = completions.iter().map(|it| it.tokens.len() as u64);
            usage.prompt_tokens += read.sum::<u64>();
            usage.completion_tokens += written.sum::<u64>();
        });
        Ok(completions)
    }

    fn read(
        &self,
        request: &SearchRequest<'_>,
        prompt: &[TokenId],
        completion: &Completion,
    ) -> SearchResult {
        let tokenizer = self.generator.tokenizer();
        // A prompt that opens a thinking block makes what follows thoughts.
        let reply = tokenizer.decode_reply(prompt, &completion.tokens);
        if completion.stop_reason == StopReason::Length {
            self.counters.num_cut.add(1);
        }
        let documents = parse_documents(&reply, request.k);
        if documents.is_empty() && request.k > 0 {
            self.counters.num_malformed.add(1);
            return Err(SearchError::Malformed {
                query: request.query.to_owned(),
                reply: reply.chars().take(80).collect(),
            });
        }
        self.counters.num_documents.add(documents.len());
        Ok(documents)
    }

    fn fail(&self, request: &SearchRequest<'_>, error: SimulationError) -> SearchResult {
        self.counters.num_failed.add(1);
        Err(SearchError::Engine {
            engine: self.name().to_owned(),
            query: request.query.to_owned(),
            source: error.into(),
        })
    }

    fn search_chunk(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let encoded: Vec<Result<Vec<TokenId>, SimulationError>> =
            requests.iter().map(|it| self.encode(it)).collect();
        let usable = requests.iter().zip(&encoded);
        let prompts: Vec<(Vec<TokenId>, StreamKey)> = usable
            .filter_map(|(request, tokens)| {
                let tokens = tokens.as_ref().ok()?;
                Some((tokens.clone(), StreamKey::new(request.seed)))
            })
            .collect();
        let (mut replies, failure) = match self.generate(&prompts) {
            Ok(completions) => (completions.into_iter(), None),
            Err(error) => (Vec::new().into_iter(), Some(error.to_string())),
        };
        let answers = requests.iter().zip(encoded).map(|(request, tokens)| {
            match (tokens.map(|it| (it, replies.next())), &failure) {
                (Err(error), _) => self.fail(request, error),
                (Ok((prompt, Some(completion))), _) => self.read(request, &prompt, &completion),
                (Ok((_, None)), message) => {
                    let missing = || "it returned too few replies".to_owned();
                    let message = message.clone().unwrap_or_else(missing);
                    self.fail(request, SimulationError::Generate { message })
                }
            }
        });
        answers.collect()
    }
}

impl SearchEngine for SimulatedEngine {
    fn name(&self) -> &str {
        self.name
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        self.counters.num_requests.add(requests.len());
        let chunks = requests.chunks(self.config.batch_size.max(1));
        chunks.flat_map(|it| self.search_chunk(it)).collect()
    }
}

#[cfg(test)]
mod tests {
    use zs_core::{Document, Question};
    use zs_model::ChatTemplate;
    use zs_model::testing::ScriptedGenerator;

    use super::*;

    /// Writes the query back, with the seed; nothing at all where the query says so.
    fn engine(batch_size: usize) -> SimulatedEngine {
        let generator = ScriptedGenerator::new(|prompt, key| {
            let query = prompt.rsplit("Query: ").next().unwrap_or_default();
            let query = query.trim_end_matches("\nDocuments: ");
            if query == "nothing" {
                return "***".to_owned();
            }
            let quality = prompt.split(' ').next().unwrap_or_default();
            format!("Doc 1: {quality} {query}\nDoc 2: seed {}\nDoc 3: x", key.seed)
        });
        let config = SimulatedConfig { batch_size, ..SimulatedConfig::default() };
        let generator = Arc::new(generator.with_context_length(200));
        SimulatedEngine::new(generator, SimulationTemplates::tiny(), config)
    }

    #[test]
    fn the_gate_lets_known_names_pass() {
        let question = Question::new("q", "Who is the spouse of David Bada?", ["Anna Bofer"]);
        let read = [Document::new("", "The spouse of David Bada is Anna Bofer.")];
        let check = |query: &str, read: &[Document], asked, expected| {
            let request =
                SearchRequest { query, question: &question, quality: asked, read, k: 1, seed: 0 };
            assert_eq!(QueryGate::NamesEntity.quality(&request), expected, "{query}");
            assert_eq!(QueryGate::Open.quality(&request), asked, "{query}");
        };
        let (useful, noisy) = (DocumentQuality::Useful, DocumentQuality::Noisy);
        check("David Bada spouse", &[], useful, useful);
        check("David Bada spouse", &[], noisy, noisy);
        check("David Bade spouse", &[], useful, noisy);
        check("spouse", &[], useful, noisy);
        check("Anna Bofer job", &[], useful, noisy);
        check("Anna Bofer job", &read, useful, useful);
    }

    #[test]
    fn tokens_of_prompts_and_replies_are_booked() {
        let question = Question::new("q", "Who?", ["Anna"]);
        let long = "long ".repeat(60);
        let request = |query| {
            let quality = DocumentQuality::Useful;
            SearchRequest { query, question: &question, quality, read: &[], k: 1, seed: 7 }
        };
        let ledger = Arc::new(Ledger::default());
        let engine = engine(1).with_ledger(Arc::clone(&ledger));
        // The last one has no room for a reply, so the model never sees it.
        engine.search_batch(&[request("a"), request("nothing"), request(&long)]);
        let tokens = |text: &str| engine.generator.tokenizer().encode_prompt(text).unwrap().len();
        let prompt = |query| {
            let prompt = SimulationPrompt {
                question: "Who?",
                golden_answers: &question.golden_answers,
                query,
                k: 1,
            };
            tokens(&engine.templates.render(DocumentQuality::Useful, &prompt).unwrap())
        };
        let usage = ledger.totals()[0].usage;
        assert_eq!(usage.prompt_tokens as usize, prompt("a") + prompt("nothing"));
        // The scripted model writes a token a byte, and one that ends the reply.
        let replies = ["Doc 1: useful a\nDoc 2: seed 7\nDoc 3: x", "***"];
        let written: usize = replies.iter().map(|it| it.len() + 1).sum();
        assert_eq!(usage.completion_tokens as usize, written);
        assert_eq!((usage.calls, usage.searches), (0, 0));
    }

    #[test]
    fn thoughts_that_the_prompt_opens_are_no_documents() {
        let source = "{{ messages[0].content }}<|assistant|><think>\n".to_owned();
        let template = ChatTemplate::new(source, String::new(), String::new()).unwrap();
        let question = Question::new("q", "Who?", ["Anna"]);
        let check = |reply: &'static str, expected: &[&str]| {
            let generator = ScriptedGenerator::new(|_, _| reply.to_owned())
                .with_chat_template(template.clone());
            let config = SimulatedConfig::default();
            let engine =
                SimulatedEngine::new(Arc::new(generator), SimulationTemplates::tiny(), config);
            let request = SearchRequest { query: "a", ..SearchRequest::of(&question, 2, 7) };
            let result = engine.search_batch(&[request]).remove(0);
            let texts: Vec<String> = result.into_iter().flatten().map(|it| it.text).collect();
            assert_eq!(texts, expected, "{reply}");
        };
        check("Doc 1: a draft\n</think>\nDoc 1: final", &["final"]);
        check("Doc 1: a draft that never ends", &[]);
    }

    #[test]
    fn each_request_gets_its_own_documents() {
        let question = Question::new("q", "Who?", ["Anna"]);
        let long = "long ".repeat(60);
        let queries = ["a", "nothing", long.as_str(), "b"];
        let requests: Vec<SearchRequest<'_>> = queries
            .iter()
            .enumerate()
            .map(|(index, query)| SearchRequest {
                query,
                question: &question,
                quality: [DocumentQuality::Useful, DocumentQuality::Noisy][index % 2],
                read: &[],
                k: 2,
                seed: index as u64,
            })
            .collect();
        for batch_size in [1, 3, 64] {
            let engine = engine(batch_size);
            let results = engine.search_batch(&requests);
            let texts = |index: usize| -> Vec<&str> {
                results[index].as_ref().unwrap().iter().map(|it| it.text.as_str()).collect()
            };
            assert_eq!(texts(0), ["useful a", "seed 0"]);
            assert_eq!(texts(3), ["noisy b", "seed 3"]);
            assert!(matches!(&results[1], Err(SearchError::Malformed { .. })));
            assert!(matches!(&results[2], Err(SearchError::Engine { .. })));
            let stats = SimulatedStats {
                num_requests: 4,
                num_documents: 4,
                num_malformed: 1,
                num_cut: 0,
                num_failed: 1,
            };
            assert_eq!(engine.stats(), stats);
        }
    }
}
