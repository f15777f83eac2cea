//! Rerank servers, as a client.

use std::sync::Arc;

use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{RerankRequest, RerankResult, Reranker};
use crate::Ledger;
use crate::http::{ApiKey, HttpClient, HttpConfig, HttpError, HttpRequest};

const NAME: &str = "rerank_server";

/// Protocol of a rerank server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RerankProtocol {
    /// `{"model", "query", "documents", "top_n"}`, answered by
    /// `{"results": [{"index", "relevance_score"}, ..]}`: Jina, Cohere, vLLM, Infinity.
    #[default]
    #[serde(alias = "cohere")]
    Jina,
    /// `{"query", "texts", "truncate"}`, answered by `[{"index", "score"}, ..]`: Hugging Face's
    /// text-embeddings-inference.
    Tei,
}

/// Settings of rerank servers. Keys are not part of it: they come from the environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct RerankServerConfig {
    /// The servers' addresses without `/rerank`, e.g. `https://api.jina.ai/v1`.
    pub endpoints: Vec<String>,
    /// Protocol of the servers.
    #[serde(default)]
    pub protocol: RerankProtocol,
    /// Model, where a server has several.
    #[serde(default)]
    pub model: Option<String>,
    /// Environment variable that holds the key, e.g. `JINA_API_KEY`; without one, no key is sent.
    #[serde(default)]
    pub key_variable: Option<String>,
    /// Deadlines, retries and limits.
    #[serde(default)]
    #[garde(dive)]
    pub http: HttpConfig,
}

/// Reranking by a server: one request a query, with all of its documents, title above text.
///
/// # References
///
/// - [Jina](https://api.jina.ai/redoc), [Cohere](https://docs.cohere.com/reference/rerank),
///   [text-embeddings-inference](https://huggingface.github.io/text-embeddings-inference/)
#[derive(Debug)]
pub struct RerankServer {
    client: HttpClient,
    config: RerankServerConfig,
}

impl RerankServer {
    /// A client of the servers of a configuration; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Fails when an address cannot be used, and, naming the variable, when the environment has no key.
    pub fn new(config: RerankServerConfig, ledger: Arc<Ledger>) -> Result<Self, HttpError> {
        let key = ApiKey::bearer(config.key_variable.as_deref())?;
        let client = HttpClient::new(NAME, &config.endpoints, key, config.http.clone(), ledger)?;
        Ok(Self { client, config })
    }

    fn scores(&self, request: &RerankRequest<'_>) -> RerankResult {
        let text = |it: &zs_core::Document| match it.title.is_empty() {
            true => it.text.clone(),
            false => format!("{}\n{}", it.title, it.text),
        };
        let texts: Vec<String> = request.documents.iter().map(text).collect();
        let count = texts.len();
        let query = request.query;
        let mut body = match self.config.protocol {
            RerankProtocol::Jina => json!({ "query": query, "documents": texts, "top_n": count }),
            RerankProtocol::Tei => json!({ "query": query, "texts": texts, "truncate": true }),
        };
        if let Some(model) = &self.config.model {
            body["model"] = model.as_str().into();
        }
        let (body, seed) = (Some(body.to_string()), request.seed);
        let sent = HttpRequest { path: "/rerank", body, seed, ..HttpRequest::default() };
        let read = |text: &str| read_scores(text, self.config.protocol, count);
        self.client.send(&sent, read).map_err(|error| error.for_search(NAME, query))
    }
}

impl Reranker for RerankServer {
    fn rerank_batch(&self, requests: &[RerankRequest<'_>]) -> Vec<RerankResult> {
        self.client.for_each(requests, |it| self.scores(it))
    }

    fn is_deterministic(&self) -> bool {
        false
    }
}

/// Scores in the order of the documents: each must have exactly one.
fn read_scores(text: &str, protocol: RerankProtocol, count: usize) -> Result<Vec<f32>, String> {
    let reply: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let (rows, form, key) = match protocol {
        RerankProtocol::Jina => (reply.get("results"), "{\"results\": [..]}", "relevance_score"),
        RerankProtocol::Tei => (Some(&reply), "[..]", "score"),
    };
    let rows = rows.and_then(Value::as_array).ok_or_else(|| format!("not {form}"))?;
    let mut scores: Vec<Option<f32>> = vec![None; count];
    for row in rows {
        let index =
            row.get("index").and_then(Value::as_u64).and_then(|it| usize::try_from(it).ok());
        let score = row.get(key).and_then(Value::as_f64).map(|it| it as f32);
        let (Some(index), Some(score)) = (index, score.filter(|it| it.is_finite())) else {
            return Err(format!("a result has no `index` or no finite `{key}`: {row}"));
        };
        match scores.get_mut(index) {
            Some(place @ None) => *place = Some(score),
            Some(Some(_)) => return Err(format!("document {index} has two scores")),
            None => return Err(format!("a score for document {index} of {count}")),
        }
    }
    let missing = scores.iter().position(Option::is_none);
    scores
        .into_iter()
        .collect::<Option<_>>()
        .ok_or_else(|| format!("no score for document {} of {count}", missing.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use zs_core::Document;

    use super::*;
    use crate::http::testing::{CannedResponse, Received, TestServer, config};

    fn documents() -> Vec<Document> {
        vec![Document::new("Bamboo", "A grass."), Document::new("", "A tree.")]
    }

    /// Sends two documents to a server that must be sent `sent` and replies with `reply`.
    #[track_caller]
    fn check(protocol: RerankProtocol, sent: &str, reply: &str, expected: Result<&[f32], &str>) {
        let (sent, reply) = (sent.to_owned(), reply.to_owned());
        let server = TestServer::start(move |_, received: &Received| {
            match received.target == "/v1/rerank" && received.body.contains(&sent) {
                true => CannedResponse::ok(&reply),
                false => CannedResponse::status(400, &received.body),
            }
        });
        let config = RerankServerConfig {
            endpoints: vec![format!("{}/v1", server.url())],
            protocol,
            model: (protocol == RerankProtocol::Jina).then(|| "m".to_owned()),
            key_variable: None,
            http: config(),
        };
        let reranker = RerankServer::new(config, Arc::default()).unwrap();
        let documents = documents();
        let request = RerankRequest { query: "bamboo", documents: &documents, seed: 0 };
        let result = reranker.rerank_batch(&[request]).remove(0);
        match (result, expected) {
            (Ok(scores), Ok(expected)) => assert_eq!(scores, expected),
            (Err(error), Err(expected)) => {
                let message = zs_core::with_causes(&error);
                assert!(message.contains(expected), "{message}");
            }
            (result, _) => panic!("{result:?} is not {expected:?}"),
        }
    }

    /// Replies as in the documentation of the servers.
    #[test]
    fn requests_and_replies_are_as_documented() {
        let jina = RerankProtocol::Jina;
        let body = r#"{"query":"bamboo","documents":["Bamboo\nA grass.","A tree."],"top_n":2,"model":"m"}"#;
        check(
            jina,
            body,
            r#"{"model": "m", "usage": {"total_tokens": 815}, "results": [
                {"index": 1, "document": {"text": "A tree."}, "relevance_score": 0.125},
                {"index": 0, "document": {"text": "Bamboo"}, "relevance_score": 0.5}]}"#,
            Ok(&[0.5, 0.125]),
        );
        check(
            RerankProtocol::Tei,
            r#"{"query":"bamboo","texts":["Bamboo\nA grass.","A tree."],"truncate":true}"#,
            r#"[{"index": 1, "score": 0.75}, {"index": 0, "score": -2.5}]"#,
            Ok(&[-2.5, 0.75]),
        );
    }

    #[test]
    fn unusable_replies_say_what_is_wrong() {
        let jina =
            |reply: &str, expected: &str| check(RerankProtocol::Jina, "", reply, Err(expected));
        jina("<html>", "not JSON");
        jina(r#"{"data": []}"#, "not {\"results\"");
        jina(
            r#"{"results": [{"index": 0, "relevance_score": 1}]}"#,
            "no score for document 1 of 2",
        );
        jina(r#"{"results": [{"index": 2, "relevance_score": 1}]}"#, "for document 2 of 2");
        jina(r#"{"results": [{"index": 0, "relevance_score": null}]}"#, "`relevance_score`");
        let twice = r#"{"results": [{"index": 0, "relevance_score": 1}, {"index": 0, "relevance_score": 2}]}"#;
        jina(twice, "document 0 has two scores");
    }
}
