//! The simulation LLM on servers: SGLang, vLLM, llama.cpp, transformers or a hosted one, through the
//! chat completions or the plain completions that all of them speak.

use std::sync::Arc;

use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::json;
use zs_core::registry::check;
use zs_core::{SearchEngine, SearchError, SearchRequest, SearchResult};
use zs_search::Ledger;
use zs_search::http::{ApiKey, HttpClient, HttpConfig, HttpError, HttpRequest};

use crate::chat_reply::{Reply, read_reply};
use crate::simulated::Counters;
use crate::{
    QueryGate, SimulatedStats, SimulationError, SimulationPrompt, SimulationTemplates,
    parse_documents,
};

const NAME: &str = "remote";

/// Settings of servers and of their sampling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct RemoteConfig {
    /// The servers' addresses up to and with `/v1`, all with the same model.
    pub endpoints: Vec<String>,
    /// Endpoint of the API that requests go to.
    #[serde(default)]
    pub api: RemoteApi,
    /// The model's name there; none is sent where it is empty, which means the only model of most
    /// servers.
    #[serde(default)]
    pub model: String,
    /// The environment variable that holds the servers' key, where they want one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_variable: Option<String>,
    /// The system message of a chat; none is sent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(custom(is_sent(self.api)))]
    pub system: Option<String>,
    /// Softmax temperature; 0.8 in `ZeroSearch`.
    #[serde(default = "default_temperature")]
    #[garde(custom(check::non_negative))]
    pub temperature: f32,
    /// Nucleus mass.
    #[serde(default = "default_top_p")]
    #[garde(custom(check::positive_fraction))]
    pub top_p: f32,
    /// Tokens of a reply at most; 600 in `ZeroSearch`.
    #[serde(default = "default_max_tokens")]
    #[garde(custom(check::at_least_one))]
    pub max_tokens: usize,
    /// Gate on the queries that get useful documents.
    #[serde(default)]
    pub gate: QueryGate,
    /// Deadlines, retries and limits.
    #[serde(default)]
    #[garde(dive)]
    pub http: HttpConfig,
}

/// Endpoint of the OpenAI-compatible API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemoteApi {
    /// `/chat/completions`: the prompt is the user's message, in the words of the model's chat
    /// template.
    #[default]
    Chat,
    /// `/completions`: the prompt as it is, for models that were tuned on bare prompts. A server may
    /// have no chat template for those, and then cannot chat.
    Completions,
}

fn default_temperature() -> f32 {
    0.8
}

fn default_top_p() -> f32 {
    1.0
}

fn default_max_tokens() -> usize {
    600
}

impl RemoteConfig {
    /// The servers at some addresses, with `ZeroSearch`'s sampling.
    #[must_use]
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            api: RemoteApi::default(),
            model: String::new(),
            key_variable: None,
            system: None,
            temperature: default_temperature(),
            top_p: default_top_p(),
            max_tokens: default_max_tokens(),
            gate: QueryGate::default(),
            http: HttpConfig::default(),
        }
    }
}

/// Rejects a system message that no request would send.
fn is_sent(api: RemoteApi) -> impl FnOnce(&Option<String>, &()) -> garde::Result {
    move |system, (): &()| match (api, system) {
        (RemoteApi::Completions, Some(_)) => {
            Err(garde::Error::new("be left out where `api` is `completions`"))
        }
        _ => Ok(()),
    }
}

/// Simulation engine that samples on servers.
///
/// Like [`SimulatedEngine`](crate::SimulatedEngine) with remote sampling. Requests of a batch are
/// sent concurrently, up to the configured limit; each carries its own question, and its seed is
/// sent to the server, which may ignore it.
///
/// ```
/// use zs_simulator::{RemoteConfig, RemoteEngine, SimulationTemplates};
///
/// let servers = vec!["http://10.0.0.1:6001/v1".to_owned(), "http://10.0.0.2:6001/v1".to_owned()];
/// let templates = SimulationTemplates::zerosearch_sft();
/// let engine = RemoteEngine::new(RemoteConfig::new(servers), templates, Default::default())?;
/// assert_eq!(engine.stats().num_requests, 0);
/// # Ok::<(), zs_search::http::HttpError>(())
/// ```
///
/// # References
///
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588), section 3.3. The reference client picks a
///   server at random, keeps ten requests in flight, and repeats failed ones for ever.
#[derive(Debug)]
pub struct RemoteEngine {
    model: RemoteModel,
    templates: SimulationTemplates,
    counters: Counters,
}

/// Model on servers that replies to prompts.
#[derive(Debug)]
pub(crate) struct RemoteModel {
    client: HttpClient,
    config: RemoteConfig,
}

impl RemoteEngine {
    /// An engine over the servers of a configuration; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Fails when an address cannot be used, or the named environment variable holds no key.
    pub fn new(
        config: RemoteConfig,
        templates: SimulationTemplates,
        ledger: Arc<Ledger>,
    ) -> Result<Self, HttpError> {
        let model = RemoteModel::new(NAME, config, ledger)?;
        Ok(Self { model, templates, counters: Counters::default() })
    }

    /// Counts of the engine's searches so far.
    #[must_use]
    pub fn stats(&self) -> SimulatedStats {
        self.counters.stats()
    }

    fn answer(&self, request: &SearchRequest<'_>) -> SearchResult {
        let prompt = SimulationPrompt {
            question: &request.question.text,
            golden_answers: &request.question.golden_answers,
            query: request.query,
            k: request.k,
        };
        let prompt = self.templates.render(self.model.config.gate.quality(request), &prompt);
        let prompt = prompt.map_err(|error| {
            self.counters.num_failed.add(1);
            let source = Box::new(SimulationError::Template(error));
            SearchError::Engine { engine: NAME.to_owned(), query: request.query.to_owned(), source }
        })?;
        let written = self.model.reply(&prompt, request.seed).map_err(|error| {
            self.counters.num_failed.add(1);
            error.for_search(NAME, request.query)
        })?;
        if written.is_cut {
            self.counters.num_cut.add(1);
        }
        let documents = parse_documents(&written.text, request.k);
        if documents.is_empty() && request.k > 0 {
            self.counters.num_malformed.add(1);
            return Err(SearchError::Malformed {
                query: request.query.to_owned(),
                reply: written.text.chars().take(80).collect(),
            });
        }
        self.counters.num_documents.add(documents.len());
        Ok(documents)
    }
}

impl RemoteModel {
    /// A model over the servers of a configuration; `name` is what its calls are booked under.
    ///
    /// # Errors
    ///
    /// Fails when an address cannot be used, or the named environment variable holds no key.
    pub(crate) fn new(
        name: &'static str,
        config: RemoteConfig,
        ledger: Arc<Ledger>,
    ) -> Result<Self, HttpError> {
        let key = ApiKey::bearer(config.key_variable.as_deref())?;
        let client = HttpClient::new(name, &config.endpoints, key, config.http.clone(), ledger)?;
        Ok(Self { client, config })
    }

    /// The client, which asks as many at once as the configuration allows.
    pub(crate) fn client(&self) -> &HttpClient {
        &self.client
    }

    /// The reply to a prompt.
    ///
    /// # Errors
    ///
    /// Fails when no server gives a usable one.
    pub(crate) fn reply(&self, prompt: &str, seed: u64) -> Result<Reply, HttpError> {
        let sent = HttpRequest {
            path: match self.config.api {
                RemoteApi::Chat => "/chat/completions",
                RemoteApi::Completions => "/completions",
            },
            body: Some(self.body(prompt, seed)),
            seed,
            ..HttpRequest::default()
        };
        self.client.send(&sent, |text| self.read(text))
    }

    fn body(&self, prompt: &str, seed: u64) -> String {
        let mut body = json!({
            "temperature": self.config.temperature,
            "top_p": self.config.top_p,
            "max_tokens": self.config.max_tokens,
            // Some servers take 32 bits with a sign.
            "seed": seed & 0x7fff_ffff,
            "stream": false,
        });
        // An empty name is refused by servers that hold one model and know its name.
        if !self.config.model.is_empty() {
            body["model"] = self.config.model.as_str().into();
        }
        match self.config.api {
            RemoteApi::Completions => body["prompt"] = prompt.into(),
            RemoteApi::Chat => {
                let system = self.config.system.iter();
                let system = system.map(|it| json!({ "role": "system", "content": it }));
                let user = json!({ "role": "user", "content": prompt });
                body["messages"] = system.chain([user]).collect();
            }
        }
        body.to_string()
    }

    fn read(&self, text: &str) -> Result<Reply, String> {
        let reply = read_reply(text, self.config.api == RemoteApi::Chat)?;
        self.client.ledger().record(self.client.name(), |usage| {
            usage.prompt_tokens += reply.prompt_tokens;
            usage.completion_tokens += reply.completion_tokens;
        });
        Ok(reply)
    }
}

impl SearchEngine for RemoteEngine {
    fn name(&self) -> &str {
        NAME
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        self.counters.num_requests.add(requests.len());
        self.model.client.for_each(requests, |it| self.answer(it))
    }

    fn is_deterministic(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use zs_core::{DocumentQuality, Question};

    use super::*;
    use zs_search::conformance::{check_engine, check_own_question};
    use zs_search::http::testing::{CannedResponse, Received, TestServer, config};

    /// Says the golden answer in the prompt, the quality asked for, and the seed.
    fn simulate(number: usize, received: &Received) -> CannedResponse {
        let body: serde_json::Value = serde_json::from_str(&received.body).unwrap();
        let prompt = body["messages"][0]["content"].as_str().unwrap();
        if prompt.contains("fail me") {
            return CannedResponse::status(400, "{\"error\": {\"message\": \"bad\"}}");
        }
        if number % 5 == 4 {
            return CannedResponse::status(503, "busy");
        }
        let quality = prompt.split(' ').next().unwrap();
        let answer = prompt.split("Answer: ").nth(1).unwrap().split(" Query: ").next().unwrap();
        let text = format!("Doc 1: {quality} {answer}\nDoc 2: seed {}\nDoc 3: x", body["seed"]);
        let reply = json!({
            "choices": [{ "message": { "content": text }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 10, "completion_tokens": 4 },
        });
        CannedResponse::ok(&reply.to_string())
    }

    fn engine(servers: &[&TestServer]) -> (RemoteEngine, Arc<Ledger>) {
        let ledger = Arc::new(Ledger::default());
        let endpoints = servers.iter().map(|it| format!("{}/v1", it.url())).collect();
        let config = RemoteConfig { http: config(), ..RemoteConfig::new(endpoints) };
        let templates = SimulationTemplates::tiny();
        (RemoteEngine::new(config, templates, Arc::clone(&ledger)).unwrap(), ledger)
    }

    #[test]
    fn keeps_the_contract() {
        let server = TestServer::start(simulate);
        let (engine, _) = engine(&[&server]);
        check_engine(&engine);
        check_own_question(&engine);
    }

    #[test]
    fn each_request_gets_its_own_reply_from_some_server() {
        let servers = [TestServer::start(simulate), TestServer::start(simulate)];
        let (engine, ledger) = engine(&[&servers[0], &servers[1]]);
        let questions: Vec<Question> =
            (0..12).map(|it| Question::new("q", "Who?", [format!("answer {it}")])).collect();
        let queries: Vec<String> = (0..12)
            .map(|it| if it == 7 { "fail me".to_owned() } else { format!("query {it}") })
            .collect();
        let requests: Vec<SearchRequest<'_>> = questions
            .iter()
            .zip(&queries)
            .enumerate()
            .map(|(index, (question, query))| SearchRequest {
                query,
                question,
                quality: [DocumentQuality::Useful, DocumentQuality::Noisy][index % 2],
                read: &[],
                k: 2,
                seed: index as u64,
            })
            .collect();
        for (index, result) in engine.search_batch(&requests).into_iter().enumerate() {
            if index == 7 {
                let error = result.unwrap_err();
                assert!(matches!(error, SearchError::Engine { .. }), "{error:?}");
                continue;
            }
            let texts: Vec<String> = result.unwrap().into_iter().map(|it| it.text).collect();
            let quality = ["useful", "noisy"][index % 2];
            assert_eq!(texts, [format!("{quality} answer {index}"), format!("seed {index}")]);
        }
        let usage = ledger.totals()[0].usage;
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), (110, 44));
        assert!(usage.retries > 0 && usage.calls == 12 + usage.retries);
        assert!(servers.iter().all(|it| it.num_requests() > 0));
        let stats = engine.stats();
        assert_eq!((stats.num_requests, stats.num_documents, stats.num_failed), (12, 22, 1));
    }

    #[test]
    fn useless_replies_are_told_apart() {
        let check = |body: &str, expected: fn(&SearchError) -> bool| {
            let body = body.to_owned();
            let server = TestServer::start(move |_, _| CannedResponse::ok(&body));
            let (engine, _) = engine(&[&server]);
            let question = Question::new("q", "Who?", ["a"]);
            let request = SearchRequest { query: "q", ..SearchRequest::of(&question, 2, 1) };
            let error = engine.search(request).unwrap_err();
            assert!(expected(&error), "{error:?}");
        };
        let malformed = |it: &SearchError| matches!(it, SearchError::Malformed { .. });
        check("{\"choices\": [{\"message\": {\"content\": \"***\"}}]}", malformed);
        check("{\"choices\": [{\"message\": {\"content\": null}}]}", malformed);
        check("{\"choices\": []}", |it| matches!(it, SearchError::Engine { .. }));
        check("{\"choices\": [{\"text\": \"a\"}]}", |it| matches!(it, SearchError::Engine { .. }));
        check("<html>", |it| matches!(it, SearchError::Engine { .. }));
    }

    #[test]
    fn counts_of_tokens_are_read_in_every_form() {
        let check = |usage: &str, expected: (u64, u64)| {
            let body = format!(
                "{{\"choices\": [{{\"message\": {{\"content\": \"Doc 1: x\"}}, \
                 \"finish_reason\": null}}], \"usage\": {usage}}}"
            );
            let server = TestServer::start(move |_, _| CannedResponse::ok(&body));
            let (engine, ledger) = engine(&[&server]);
            let question = Question::new("q", "Who?", ["a"]);
            let request = SearchRequest { query: "q", ..SearchRequest::of(&question, 2, 1) };
            assert_eq!(engine.search(request).unwrap().len(), 1, "{usage}");
            let usage = ledger.totals()[0].usage;
            assert_eq!((usage.prompt_tokens, usage.completion_tokens), expected);
        };
        check("null", (0, 0));
        check("{}", (0, 0));
        check(r#""none""#, (0, 0));
        check("[7]", (0, 0));
        check(r#"{"prompt_tokens": 12.0, "completion_tokens": 3}"#, (12, 3));
        check(r#"{"prompt_tokens": null, "completion_tokens": -1}"#, (0, 0));
        check(r#"{"prompt_tokens": "many", "completion_tokens": 1e300}"#, (0, 0));
    }

    /// What `transformers serve` 5.24 replied, with the shipped model, to a chat and to a prompt.
    const CHAT_REPLY: &str = r#"{"id":"a4a97612-1ea6-4cdd-a7de-939ffb49a76d","choices":[{"finish_reason":"stop","index":0,"message":{"content":"Doc 1: The capital of Bada is Foda. Doc 2: The currency of Bada is the Fuda. Doc 3: The president of Bada is Maria Bada.","role":"assistant"}}],"created":1795556325,"model":"zs-tiny","object":"chat.completion","usage":{"completion_tokens":33,"prompt_tokens":26,"total_tokens":59}}"#;
    const TEXT_REPLY: &str = r#"{"id":"e381d965-0436-4ada-b9a4-6238851502dc","choices":[{"finish_reason":"length","index":0,"text":"Doc 1: The capital of Bada is Foda. Doc 2: The currency of Bada is the Fuda"}],"created":1795556428,"model":"zs-tiny","object":"text_completion","usage":{"completion_tokens":20,"prompt_tokens":26,"total_tokens":46}}"#;

    /// As `transformers serve` does, whose one model has the name of its directory.
    fn transformers(_: usize, received: &Received) -> CannedResponse {
        let body: serde_json::Value = serde_json::from_str(&received.body).unwrap();
        if let Some(name) = body.get("model").filter(|it| *it != "zs-tiny") {
            let detail = format!("Server is pinned to 'zs-tiny'; requested {name}.");
            return CannedResponse::status(400, &json!({ "detail": detail }).to_string());
        }
        match received.target.as_str() {
            "/v1/chat/completions" => CannedResponse::ok(CHAT_REPLY),
            "/v1/completions" => CannedResponse::ok(TEXT_REPLY),
            _ => CannedResponse::status(404, "{\"detail\":\"Not Found\"}"),
        }
    }

    #[test]
    fn a_server_of_one_model_need_not_be_told_its_name() {
        let check = |api, model: &str, expected: Result<(usize, u64), &str>| {
            let server = TestServer::start(transformers);
            let (engine, ledger) = engine(&[&server]);
            let config =
                RemoteConfig { api, model: model.to_owned(), ..engine.model.config.clone() };
            let engine =
                RemoteEngine::new(config, engine.templates.clone(), Arc::clone(&ledger)).unwrap();
            let question = Question::new("q", "What is the capital of Bada?", ["Foda"]);
            let quality = DocumentQuality::Useful;
            let query = "capital of Bada";
            let request =
                SearchRequest { query, question: &question, quality, read: &[], k: 5, seed: 1 };
            match (engine.search(request), expected) {
                (Ok(documents), Ok((num_documents, num_cut))) => {
                    assert_eq!(documents[0].text, "The capital of Bada is Foda.");
                    assert_eq!(documents.len(), num_documents);
                    assert_eq!(engine.stats().num_cut, num_cut);
                    assert_eq!(ledger.totals()[0].usage.prompt_tokens, 26);
                }
                (Err(error), Err(expected)) => {
                    let source = std::error::Error::source(&error).unwrap().to_string();
                    assert!(source.contains(expected), "{source}");
                }
                (result, expected) => panic!("{result:?} is not {expected:?}"),
            }
        };
        check(RemoteApi::Chat, "", Ok((3, 0)));
        check(RemoteApi::Chat, "zs-tiny", Ok((3, 0)));
        check(RemoteApi::Completions, "", Ok((2, 1)));
        check(RemoteApi::Completions, "other", Err("requested \\\"other\\\""));
    }
}
