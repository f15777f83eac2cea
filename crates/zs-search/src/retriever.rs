//! Retrieval servers of other projects, as a client: Search-R1's and ZeroSearch's `/retrieve`.

use std::borrow::Cow;
use std::sync::Arc;

use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use zs_core::registry::check;
use zs_core::{Document, EngineScope, SearchEngine, SearchError, SearchRequest, SearchResult};

use crate::Ledger;
use crate::http::{HttpClient, HttpConfig, HttpError, HttpRequest, in_halves};

const NAME: &str = "retriever";

/// Protocol of a retrieval server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetrieverProtocol {
    /// `{"queries": [..], "topk", "return_scores"}`, a whole batch in one request, answered by
    /// `{"result": [[{"document", "score"}, ..], ..]}`.
    #[default]
    SearchR1,
    /// `{"query", "top_k"}`, answered by `[{"text"}, ..]`.
    Zerosearch,
}

/// Settings of retrieval servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct RetrieverConfig {
    /// The servers' addresses without `/retrieve`, all over the same corpus.
    pub endpoints: Vec<String>,
    /// Protocol of the servers.
    #[serde(default)]
    pub protocol: RetrieverProtocol,
    /// Queries in one request at most, where a request takes several.
    #[serde(default = "default_batch_size")]
    #[garde(custom(check::at_least_one))]
    pub batch_size: usize,
    /// Deadlines, retries and limits.
    #[serde(default)]
    #[garde(dive)]
    pub http: HttpConfig,
}

fn default_batch_size() -> usize {
    512
}

impl RetrieverConfig {
    /// Servers at some addresses that speak a protocol.
    #[must_use]
    pub fn new(endpoints: Vec<String>, protocol: RetrieverProtocol) -> Self {
        let (batch_size, http) = (default_batch_size(), HttpConfig::default());
        Self { endpoints, protocol, batch_size, http }
    }
}

/// Search by a retrieval server.
///
/// Blank queries find nothing and are not sent. Where a server refuses a whole batch because of what
/// is in it, the batch is halved until the query at fault is alone, so that it fails alone.
///
/// # References
///
/// - [Search-R1](https://github.com/PeterGriffinJin/Search-R1), `retrieval_server.py` 318-358
/// - [ZeroSearch](https://github.com/Alibaba-NLP/ZeroSearch), `generation.py` 602-615
#[derive(Debug)]
pub struct RetrieverEngine {
    client: HttpClient,
    config: RetrieverConfig,
}

impl RetrieverEngine {
    /// An engine over the servers of a configuration; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Fails when an address cannot be used.
    pub fn new(config: RetrieverConfig, ledger: Arc<Ledger>) -> Result<Self, HttpError> {
        let client = HttpClient::new(NAME, &config.endpoints, None, config.http.clone(), ledger)?;
        Ok(Self { client, config })
    }

    /// All requests in one, which ask for as many documents as the greediest of them.
    fn search_r1(&self, requests: &[&SearchRequest<'_>]) -> Vec<SearchResult> {
        let send = |requests: &[&SearchRequest<'_>]| {
            let queries: Vec<&str> = requests.iter().map(|it| it.query).collect();
            let k = requests.iter().map(|it| it.k).max().unwrap_or(0);
            let body = json!({ "queries": queries, "topk": k, "return_scores": true });
            self.client.send(&post(&body, requests[0].seed), |text| read_batch(text, queries.len()))
        };
        let cut = |(found, request): (Result<Found, Arc<HttpError>>, &&SearchRequest<'_>)| {
            let found = found.map_err(|error| error.for_search(NAME, request.query))?;
            let mut documents = found.map_err(|problem| SearchError::Engine {
                engine: NAME.to_owned(),
                query: request.query.to_owned(),
                source: problem.into(),
            })?;
            documents.truncate(request.k);
            Ok(documents)
        };
        in_halves(requests, &send).into_iter().zip(requests).map(cut).collect()
    }

    fn zerosearch(&self, request: &SearchRequest<'_>) -> SearchResult {
        let sent = post(&json!({ "query": request.query, "top_k": request.k }), request.seed);
        let mut documents = self
            .client
            .send(&sent, read_list)
            .map_err(|error| error.for_search(NAME, request.query))?;
        documents.truncate(request.k);
        Ok(documents)
    }
}

impl SearchEngine for RetrieverEngine {
    fn name(&self) -> &str {
        NAME
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let asks = |it: &&SearchRequest<'_>| it.k > 0 && !it.query.trim().is_empty();
        let asking: Vec<&SearchRequest<'_>> = requests.iter().filter(asks).collect();
        let mut results = match self.config.protocol {
            RetrieverProtocol::Zerosearch => {
                self.client.for_each(&asking, |it| self.zerosearch(it))
            }
            RetrieverProtocol::SearchR1 => {
                let chunks: Vec<_> = asking.chunks(self.config.batch_size.max(1)).collect();
                self.client
                    .for_each(&chunks, |it| self.search_r1(it))
                    .into_iter()
                    .flatten()
                    .collect()
            }
        }
        .into_iter();
        let answer = |it: &SearchRequest<'_>| match asks(&it) {
            true => results.next().unwrap_or_else(|| Ok(Vec::new())),
            false => Ok(Vec::new()),
        };
        requests.iter().map(answer).collect()
    }

    fn is_deterministic(&self) -> bool {
        false
    }

    fn scope(&self) -> EngineScope {
        EngineScope::Query
    }
}

fn post(body: &Value, seed: u64) -> HttpRequest {
    HttpRequest { path: "/retrieve", body: Some(body.to_string()), seed, ..HttpRequest::default() }
}

/// Documents of one query, or the problem with its part of the reply.
type Found = Result<Vec<Document>, String>;

/// Reads the reply to a batch. What is wrong with the documents of one query fails that query alone.
fn read_batch(text: &str, num_queries: usize) -> Result<Vec<Found>, String> {
    #[derive(Deserialize)]
    struct RetrieverResponse {
        /// Read one by one: a number out of range or half of a character spoils its own query alone.
        result: Vec<Box<RawValue>>,
        /// Failures by query, as `zs serve` adds them.
        errors: Option<Vec<Value>>,
    }
    let reply: RetrieverResponse = serde_json::from_str(text)
        .map_err(|error| format!("not {{\"result\": [[..], ..]}}: {error}"))?;
    if reply.result.len() != num_queries {
        return Err(format!("{} results for {num_queries} queries", reply.result.len()));
    }
    let errors = reply.errors.unwrap_or_default();
    let documents = |(index, found): (usize, &RawValue)| {
        if let Some(Value::String(error)) = errors.get(index) {
            return Err(format!("the server failed: {error}"));
        }
        match serde_json::from_str(found.get()) {
            Ok(Value::Array(rows)) => rows.iter().map(document).collect(),
            Ok(other) => Err(format!("its documents are no list: {}", shown(&other))),
            Err(error) => Err(format!("its documents cannot be read: {error}")),
        }
    };
    Ok(reply.result.iter().map(AsRef::as_ref).enumerate().map(documents).collect())
}

fn read_list(text: &str) -> Result<Vec<Document>, String> {
    let rows: Vec<Value> =
        serde_json::from_str(text).map_err(|error| format!("not [{{\"text\"}}, ..]: {error}"))?;
    rows.iter().map(document).collect()
}

/// Start of a value of a reply, for an error.
pub(crate) fn shown(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

/// A document as any of the known servers writes it: bare or under `document` with a score, as an
/// object with `contents`, or with `title` and `text`, or as text alone. A null is a key left out.
fn document(row: &Value) -> Result<Document, String> {
    let score = row.get("score").and_then(number).map(|it| it as f32);
    let body = row.get("document").filter(|it| !it.is_null()).unwrap_or(row);
    let text_of = |key: &str| body.get(key).and_then(text);
    let id = match body.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => String::new(),
    };
    let contents = body.as_str().map(Cow::Borrowed).or_else(|| text_of("contents"));
    let title = text_of("title").unwrap_or_default();
    let own = text_of("text");
    let (title, text) = match (&own, &contents) {
        (Some(text), _) => (&*title, &**text),
        (None, Some(contents)) => Document::split_contents(contents),
        (None, None) => {
            return Err(format!("a document has neither `contents` nor `text`: {}", shown(row)));
        }
    };
    served(id, title, text, score)
}

/// A document with text: its title where a server has none.
pub(crate) fn served(
    id: String,
    title: &str,
    text: &str,
    score: Option<f32>,
) -> Result<Document, String> {
    let text = if text.trim().is_empty() { title } else { text };
    if text.trim().is_empty() {
        return Err("a document is empty".to_owned());
    }
    Ok(Document { id, title: title.to_owned(), text: text.to_owned(), score })
}

/// A text; the digits of a number, where a server wrote one.
pub(crate) fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

/// A number, written as one or as text.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|it| it.is_finite())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zs_core::{DocumentQuality, Question};

    use super::*;
    use crate::conformance::{check_engine, check_failure_is_contained};
    use crate::http::testing::{CannedResponse, Received, TestServer, config};

    /// Both protocols, as their reference servers answer; refuses what holds `refuse`.
    fn retrieve(_: usize, received: &Received) -> CannedResponse {
        assert_eq!(received.target, "/retrieve");
        let body: Value = serde_json::from_str(&received.body).unwrap();
        if received.body.contains("refuse") {
            return CannedResponse::status(422, "bad query");
        }
        let k = body["topk"].as_u64().or(body["top_k"].as_u64()).unwrap();
        let rows = |query: &Value| -> Vec<Value> {
            (0..k)
                .map(|rank| {
                    let contents = format!("\"Title {rank}\"\nabout {}", query.as_str().unwrap());
                    json!({ "document": { "id": rank, "contents": contents }, "score": 9 - rank as i64 })
                })
                .collect()
        };
        let reply = match body["queries"].as_array() {
            Some(queries) => json!({ "result": queries.iter().map(rows).collect::<Vec<_>>() }),
            None => json!(
                rows(&body["query"])
                    .iter()
                    .map(|it| json!({ "text": it["document"]["contents"] }))
                    .collect::<Vec<_>>()
            ),
        };
        CannedResponse::ok(&reply.to_string())
    }

    fn engine(server: &TestServer, protocol: RetrieverProtocol) -> RetrieverEngine {
        let config = RetrieverConfig {
            http: config(),
            batch_size: 5,
            ..RetrieverConfig::new(vec![server.url()], protocol)
        };
        RetrieverEngine::new(config, Arc::default()).unwrap()
    }

    #[test]
    fn keep_the_contract() {
        for protocol in [RetrieverProtocol::SearchR1, RetrieverProtocol::Zerosearch] {
            let server = TestServer::start(retrieve);
            let engine = engine(&server, protocol);
            check_engine(&engine);
            check_failure_is_contained(&engine, "please refuse this");
        }
    }

    #[test]
    fn a_batch_is_one_request() {
        let server = TestServer::start(retrieve);
        let engine = engine(&server, RetrieverProtocol::SearchR1);
        let question = Question::new("q", "?", ["a"]);
        let quality = DocumentQuality::Useful;
        let requests = [("a", 2), ("", 2), ("b", 1)].map(|(query, k)| SearchRequest {
            query,
            question: &question,
            quality,
            read: &[],
            k,
            seed: 0,
        });
        let results: Vec<Vec<Document>> =
            engine.search_batch(&requests).into_iter().map(Result::unwrap).collect();
        assert_eq!(server.num_requests(), 1);
        assert_eq!(results.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0, 1]);
        let expected = Document {
            id: "0".into(),
            title: "Title 0".into(),
            text: "about b".into(),
            score: Some(9.0),
        };
        assert_eq!(results[2], [expected]);
    }

    #[test]
    fn every_spelling_of_a_document_is_read() {
        let check = |row: Value, expected: (&str, &str)| {
            let read = document(&row).unwrap();
            assert_eq!((read.title.as_str(), read.text.as_str()), expected, "{row}");
        };
        check(json!({ "document": { "contents": "\"T\"\nx\ny" }, "score": 1.0 }), ("T", "x\ny"));
        check(json!({ "document": "(Title: T) x" }), ("", "(Title: T) x"));
        check(json!({ "text": "x" }), ("", "x"));
        check(json!({ "title": "T", "text": "x" }), ("T", "x"));
        check(json!({ "contents": "only" }), ("", "only"));
        check(json!({ "document": null, "contents": "x", "id": null, "title": null }), ("", "x"));
        check(json!({ "title": "T", "text": null, "contents": "x" }), ("", "x"));
        let scored =
            |score: Value| document(&json!({ "text": "x", "score": score })).unwrap().score;
        assert_eq!(scored(json!(3)), Some(3.0));
        assert_eq!(scored(json!("0.5")), Some(0.5));
        assert_eq!(
            (scored(json!(null)), scored(json!("nan")), scored(json!([]))),
            (None, None, None)
        );
        check(json!({ "title": 1984, "text": 5 }), ("1984", "5"));
        assert!(document(&json!({ "score": 1 })).is_err());
        assert!(document(&json!({ "text": " " })).is_err());
        assert!(read_batch("{\"result\": [[]]}", 2).unwrap_err().contains("1 results for 2"));
    }

    #[test]
    fn a_document_that_cannot_be_read_fails_its_own_query() {
        let check = |bad: Value| {
            let good = json!([{ "document": { "contents": "x" }, "score": 1.0 }]);
            let errors = json!([null, null, "no luck", null]);
            let reply = json!({ "result": [good, bad, [], good], "errors": errors }).to_string();
            let server = TestServer::start(move |_, _| CannedResponse::ok(&reply));
            let engine = engine(&server, RetrieverProtocol::SearchR1);
            let question = Question::new("q", "?", ["a"]);
            let request = SearchRequest { query: "a", ..SearchRequest::of(&question, 3, 0) };
            let found = engine.search_batch(&[request; 4]);
            let counts: Vec<Option<usize>> =
                found.iter().map(|it| it.as_ref().ok().map(Vec::len)).collect();
            assert_eq!(counts, [Some(1), None, None, Some(1)], "{bad}");
            assert!(matches!(&found[1], Err(SearchError::Engine { .. })), "{found:?}");
            assert_eq!(server.num_requests(), 1);
        };
        check(json!([null]));
        check(json!([{ "document": null, "score": 0.5 }]));
        check(json!([{ "document": { "contents": null }, "score": 1 }]));
        check(json!([{ "document": { "contents": "x" } }, { "id": 3 }]));
        check(json!({ "error": "index out of range" }));
        check(json!("none"));
        check(Value::Null);
    }

    #[test]
    fn values_that_json_has_and_rust_has_not_fail_their_own_query() {
        for odd in ["1e999", r#""\ud800""#] {
            let reply = format!(r#"{{"result": [["x"], [{{"text": "x", "score": {odd}}}]]}}"#);
            let found = read_batch(&reply, 2).unwrap();
            assert_eq!(found[0].as_ref().map(Vec::len), Ok(1));
            assert!(found[1].as_ref().unwrap_err().contains("cannot be read"), "{odd}: {found:?}");
        }
    }

    proptest! {
        /// Any JSON in the place of a document is a document or the failure of its query.
        #[test]
        fn odd_documents_fail_no_other_query(text in "[\\[\\]{}\":,a-z0-9.-]{0,40}", odd in odd()) {
            let _ = read_batch(&text, 1);
            let _ = read_list(&text);
            let reply = json!({ "result": [[{ "text": "x" }], odd] }).to_string();
            let found = read_batch(&reply, 2).unwrap();
            prop_assert_eq!(found[0].as_ref().map(Vec::len), Ok(1));
            prop_assert_eq!(found.len(), 2);
        }
    }

    fn odd() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,5}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 3, |it| {
            let key = "document|contents|text|title|id|score|x";
            prop_oneof![
                proptest::collection::vec(it.clone(), 0..3).prop_map(Value::from),
                proptest::collection::vec((key, it), 0..4)
                    .prop_map(|it| Value::Object(it.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn a_server_that_is_gone_makes_every_search_unreachable() {
        let url = TestServer::start(retrieve).url();
        let config = RetrieverConfig {
            http: config(),
            ..RetrieverConfig::new(vec![url], RetrieverProtocol::SearchR1)
        };
        let engine = RetrieverEngine::new(config, Arc::default()).unwrap();
        let question = Question::new("q", "?", ["a"]);
        let quality = DocumentQuality::Useful;
        let request =
            SearchRequest { query: "a", question: &question, quality, read: &[], k: 1, seed: 0 };
        let first = engine.search_batch(&[request; 2]).remove(0);
        assert!(matches!(first, Err(SearchError::Unreachable { .. })), "{first:?}");
    }
}
