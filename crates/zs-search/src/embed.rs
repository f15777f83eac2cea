//! Vectors of texts, from a server of embeddings.

use std::sync::Arc;

use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::json;
use zs_core::registry::check;
use zs_core::{EmbedResult, Embedder, TextRole};

use crate::Ledger;
use crate::http::{ApiKey, HttpClient, HttpConfig, HttpError, HttpRequest, in_halves};

const NAME: &str = "embedding_server";

/// Settings of servers of embeddings. Keys are not part of it: they come from the
/// environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct EmbeddingServerConfig {
    /// The servers' addresses without `/embeddings`, e.g. `http://localhost:8080/v1`.
    pub endpoints: Vec<String>,
    /// Model.
    pub model: String,
    /// Text before every query, e.g. `query: ` for E5.
    #[serde(default)]
    pub query_prefix: String,
    /// Text before every passage, e.g. `passage: ` for E5; search servers hold vectors of their own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub passage_prefix: String,
    /// Texts in one request at most.
    #[serde(default = "default_batch_size")]
    #[garde(custom(check::at_least_one))]
    pub batch_size: usize,
    /// Environment variable that holds the key, e.g. `OPENAI_API_KEY`; without one, no key is sent.
    #[serde(default)]
    pub key_variable: Option<String>,
    /// Deadlines, retries and limits.
    #[serde(default)]
    #[garde(dive)]
    pub http: HttpConfig,
}

fn default_batch_size() -> usize {
    64
}

impl EmbeddingServerConfig {
    /// A model on a server, with default settings.
    #[must_use]
    pub fn new(endpoint: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            endpoints: vec![endpoint.into()],
            model: model.into(),
            query_prefix: String::new(),
            passage_prefix: String::new(),
            batch_size: default_batch_size(),
            key_variable: None,
            http: HttpConfig::default(),
        }
    }
}

/// Embeddings of a server with OpenAI's `/v1/embeddings`: `{"model", "input": [..]}`, answered by
/// `{"data": [{"index", "embedding"}, ..]}`.
///
/// # References
///
/// - [OpenAI](https://platform.openai.com/docs/api-reference/embeddings); served also by vLLM,
///   text-embeddings-inference, llama.cpp and Ollama
#[derive(Debug)]
pub struct EmbeddingServer {
    client: HttpClient,
    config: EmbeddingServerConfig,
}

impl EmbeddingServer {
    /// A client of the servers of a configuration; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Fails when an address cannot be used, and, naming the variable, when the environment has no key.
    pub fn new(config: EmbeddingServerConfig, ledger: Arc<Ledger>) -> Result<Self, HttpError> {
        let key = ApiKey::bearer(config.key_variable.as_deref())?;
        let client = HttpClient::new(NAME, &config.endpoints, key, config.http.clone(), ledger)?;
        Ok(Self { client, config })
    }

    fn send(&self, texts: &[&str], role: TextRole, seed: u64) -> Result<Vec<Vec<f32>>, HttpError> {
        let prefix = match role {
            TextRole::Query => &self.config.query_prefix,
            TextRole::Passage => &self.config.passage_prefix,
        };
        let input: Vec<String> = texts.iter().map(|it| format!("{prefix}{it}")).collect();
        let body =
            json!({ "model": self.config.model, "input": input, "encoding_format": "float" });
        let body = Some(body.to_string());
        let sent = HttpRequest { path: "/embeddings", body, seed, ..HttpRequest::default() };
        let (vectors, num_tokens) = self.client.send(&sent, |text| read(text, texts.len()))?;
        self.client.ledger().record(NAME, |usage| usage.prompt_tokens += num_tokens);
        Ok(vectors)
    }
}

impl Embedder for EmbeddingServer {
    fn embed(&self, texts: &[&str], role: TextRole, seed: u64) -> Vec<EmbedResult> {
        let chunks: Vec<_> = texts.chunks(self.config.batch_size.max(1)).collect();
        let send = |chunk: &&[&str]| in_halves(chunk, &|it: &[&str]| self.send(it, role, seed));
        let vectors = self.client.for_each(&chunks, send).into_iter().flatten();
        let failed = |(vector, text): (Result<_, Arc<HttpError>>, &&str)| {
            vector.map_err(|error| error.for_search(NAME, text))
        };
        vectors.zip(texts).map(failed).collect()
    }

    /// Name of the model; a server does not say which weights it has.
    fn identity(&self) -> String {
        format!("model {} of a server", self.config.model)
    }
}

/// Vectors in the order of the texts, and the tokens that the server counted.
fn read(text: &str, count: usize) -> Result<(Vec<Vec<f32>>, u64), String> {
    #[derive(Deserialize)]
    struct Reply {
        data: Vec<Row>,
        usage: Option<Counts>,
    }
    #[derive(Deserialize)]
    struct Row {
        index: usize,
        embedding: Vec<f32>,
    }
    #[derive(Deserialize)]
    struct Counts {
        prompt_tokens: Option<u64>,
    }
    let mut reply: Reply = serde_json::from_str(text).map_err(|error| {
        format!("not {{\"data\": [{{\"index\", \"embedding\"}}, ..]}}: {error}")
    })?;
    reply.data.sort_by_key(|it| it.index);
    if reply.data.iter().map(|it| it.index).ne(0..count) {
        return Err(format!("{} embeddings for {count} texts", reply.data.len()));
    }
    let vectors: Vec<Vec<f32>> = reply.data.into_iter().map(|it| it.embedding).collect();
    let length = vectors.first().map_or(0, Vec::len);
    if length == 0 || vectors.iter().any(|it| it.len() != length) {
        return Err("embeddings of no or of different lengths".to_owned());
    }
    Ok((vectors, reply.usage.and_then(|it| it.prompt_tokens).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::http::testing::{CannedResponse, Received, TestServer, config};

    fn embedder(server: &TestServer) -> EmbeddingServer {
        let config = EmbeddingServerConfig {
            query_prefix: "query: ".to_owned(),
            batch_size: 3,
            http: config(),
            ..EmbeddingServerConfig::new(format!("{}/v1", server.url()), "m")
        };
        EmbeddingServer::new(config, Arc::default()).unwrap()
    }

    /// As OpenAI answers, in any order; refuses a batch that holds `bad`.
    fn embeddings(_: usize, received: &Received) -> CannedResponse {
        assert_eq!(received.target, "/v1/embeddings");
        let body: Value = serde_json::from_str(&received.body).unwrap();
        assert_eq!(body["model"], "m");
        if received.body.contains("bad") {
            return CannedResponse::status(400, r#"{"error": {"message": "bad input"}}"#);
        }
        let inputs = body["input"].as_array().unwrap().iter().enumerate();
        let row = |(index, it): (usize, &Value)| {
            let length = it.as_str().unwrap().strip_prefix("query: ").unwrap().len();
            json!({ "object": "embedding", "index": index, "embedding": [length, 0.5] })
        };
        let rows: Vec<Value> = inputs.map(row).rev().collect();
        let usage = json!({ "prompt_tokens": 8, "total_tokens": 8 });
        CannedResponse::ok(&json!({ "object": "list", "data": rows, "usage": usage }).to_string())
    }

    #[test]
    fn texts_are_batched_and_fail_alone() {
        let server = TestServer::start(embeddings);
        let embedder = embedder(&server);
        let found = embedder.embed(&["a", "bb", "bad", "ccc", ""], TextRole::Query, 0);
        let found: Vec<Option<f32>> = found.into_iter().map(|it| it.ok().map(|it| it[0])).collect();
        assert_eq!(found, [Some(1.0), Some(2.0), None, Some(3.0), Some(0.0)]);
        // Two batches; the first one in halves: `a`, `bb` and `bad`, these each.
        assert_eq!(server.num_requests(), 6);
        assert_eq!(embedder.client.ledger().totals()[0].usage.prompt_tokens, 24);
    }

    #[test]
    fn unusable_replies_say_what_is_wrong() {
        let check = |reply: &str, expected: &str| {
            let error = read(reply, 2).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        let row =
            |index: usize, vector: &str| format!("{{\"index\": {index}, \"embedding\": {vector}}}");
        let data = |a: String, b: String| format!("{{\"data\": [{a}, {b}]}}");
        check("{}", "missing field `data`");
        check(&data(row(0, "[1.0]"), row(0, "[1.0]")), "2 embeddings for 2");
        check(&data(row(0, "[1.0]"), row(1, "[1.0, 2.0]")), "different lengths");
        check(&data(row(0, "[]"), row(1, "[]")), "no or of different lengths");
        check(&data(row(0, "[1e99]"), row(1, "[1.0]")), "number out of range");
    }
}
