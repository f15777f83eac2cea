//! Requests to `zs serve`, and replies of servers that `zs` asks, as they lie in odd files.

use std::io::Write;
use std::sync::Arc;

use serde_json::{Value, json};
use zs_core::{Document, Question, SearchEngine, SearchRequest, SearchResult, with_causes};
use zs_model::testing::ScriptedGenerator;
use zs_search::http::HttpConfig;
use zs_search::http::testing::{self, CannedResponse, TestServer};
use zs_search::{
    FixedEngine, RetrieverConfig, RetrieverEngine, RetrieverProtocol, WebConfig, WebEngine,
    WebProvider,
};
use zs_serve::{ServedModel, Server, Services};
use zs_simulator::{RemoteConfig, RemoteEngine, SimulationTemplates};

use crate::serve::{config, connect, read};

/// Texts that a server answers to a body: of completions, or of the documents of each query.
pub(super) fn answers(route: &str, body: &[u8]) -> Result<Vec<Value>, String> {
    let echo = ScriptedGenerator::new(|text, _| text.to_owned()).with_context_length(200);
    let documents = ["x", "y", "z"].map(|it| Document::new("", it));
    let services = Services {
        engine: Some(Arc::new(FixedEngine::new(documents.to_vec()))),
        model: Some(ServedModel { name: "m".to_owned(), generator: Arc::new(echo) }),
        ..Services::default()
    };
    let server = Server::start(config(), services).unwrap();
    let mut socket = connect(server.address());
    let head = format!(
        "POST {route} HTTP/1.1\r\nHost: zs\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let reply = read(socket);
    let json = reply.json();
    if reply.status == 400 {
        return Err(json["error"]["message"].as_str().unwrap().to_owned());
    }
    assert_eq!(reply.status, 200, "{reply:?}");
    let texts = |documents: &Value| -> Value {
        let text = |it: &Value| it.get("text").unwrap_or(&it["contents"]).clone();
        documents.as_array().unwrap().iter().map(text).collect()
    };
    Ok(match (json.get("choices"), json.get("result")) {
        (Some(choices), _) => {
            let text = |it: &Value| it.get("text").unwrap_or(&it["message"]["content"]).clone();
            choices.as_array().unwrap().iter().map(text).collect()
        }
        (_, Some(result)) => result.as_array().unwrap().iter().map(texts).collect(),
        _ => vec![texts(&json)],
    })
}

/// Titles and texts that two queries find at a retrieval server that replies with these bytes, or
/// "failed" where one of them fails alone.
pub(super) fn retriever_reply(body: &[u8]) -> Result<Vec<Value>, String> {
    search(body, &["a", "b"], |url, http| {
        let config = RetrieverConfig {
            http,
            ..RetrieverConfig::new(vec![url], RetrieverProtocol::SearchR1)
        };
        Box::new(RetrieverEngine::new(config, Arc::default()).unwrap())
    })
}

/// Documents of a completion server that replies with these bytes.
pub(super) fn completion_reply(body: &[u8]) -> Result<Vec<Value>, String> {
    search(body, &["a"], |url, http| {
        let config = RemoteConfig { http, ..RemoteConfig::new(vec![url]) };
        let templates = SimulationTemplates::tiny();
        Box::new(RemoteEngine::new(config, templates, Arc::default()).unwrap())
    })
}

/// Results of a web provider that replies with these bytes.
pub(super) fn web_reply(body: &[u8]) -> Result<Vec<Value>, String> {
    search(body, &["a"], |url, http| {
        let config = WebConfig { url: Some(url), http, ..WebConfig::new(WebProvider::Searxng) };
        Box::new(WebEngine::new(&config, Arc::default()).unwrap())
    })
}

fn search(
    body: &[u8],
    queries: &[&str],
    engine: impl FnOnce(String, HttpConfig) -> Box<dyn SearchEngine>,
) -> Result<Vec<Value>, String> {
    let body = body.to_vec();
    let server = TestServer::start(move |_, _| CannedResponse::ok(&body));
    let engine = engine(server.url(), HttpConfig { max_attempts: 1, ..testing::config() });
    let question = Question::new("q", "?", ["a"]);
    let request = |query| SearchRequest { query, ..SearchRequest::of(&question, 3, 0) };
    let requests: Vec<SearchRequest<'_>> = queries.iter().map(|it| request(it)).collect();
    let mut results = engine.search_batch(&requests);
    if results.iter().all(Result::is_err) {
        return Err(with_causes(&results.remove(0).unwrap_err()));
    }
    let row = |it: SearchResult| match it {
        Ok(documents) => documents.iter().map(|it| json!([it.title, it.text])).collect(),
        Err(_) => "failed".into(),
    };
    Ok(results.into_iter().map(row).collect())
}
