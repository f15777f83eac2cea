//! Exchanges of the documented form, with a server on the loopback: nothing here has met the real
//! program.

use zs_core::{EmbedResult, TextRole};

use super::super::testing::Two;
use super::*;
use crate::conformance::{check_engine, check_failure_is_contained};
use crate::http::testing::{CannedResponse, Received, TestServer, config};

const INFO: &str = r#"{"result": {"status": "green", "points_count": 2, "config": {"params": {
    "vectors": {"size": 2, "distance": "Cosine"}, "shard_number": 1}}}, "status": "ok", "time": 0.001}"#;

const NAMED: &str = r#"{"result": {"config": {"params": {"vectors": {
    "small": {"size": 2, "distance": "Dot"}, "large": {"size": 3, "distance": "Dot"}}}}}, "status": "ok"}"#;

const REPLY: &str = r#"{"usage": null, "time": 0.002, "status": "ok", "result": {"points": [
    {"id": 42, "version": 3, "score": 0.75, "payload": {"title": "Bamboo", "text": "A grass."}},
    {"id": "5c56c793-69f3-4fbf-87e6-c4bf54c28c26", "version": 3, "score": 0.5,
     "payload": {"title": "Oak", "text": "A tree."}}]}}"#;

fn server(
    info: &'static str,
    reply: impl Fn(&Received) -> CannedResponse + Send + Sync + 'static,
) -> TestServer {
    TestServer::start(move |_, received| match received.target.as_str() {
        "/collections/passages" => CannedResponse::ok(info),
        "/collections/passages/points/query" => reply(received),
        _ => {
            let error =
                r#"{"status": {"error": "Not found: Collection doesn't exist!"}, "time": 0.1}"#;
            CannedResponse::status(404, error)
        }
    })
}

fn settings(server: &TestServer) -> QdrantConfig {
    let embedder = EmbeddingServerConfig::new("http://localhost:1", "m");
    QdrantConfig { http: config(), ..QdrantConfig::new(server.url(), "passages", embedder) }
}

fn open(config: QdrantConfig) -> QdrantEngine {
    QdrantEngine::new(config, Arc::default()).unwrap().with_embedder(Arc::new(Two))
}

#[test]
fn requests_and_replies_are_as_documented() {
    let check = |name: Option<&str>, sent: &'static str| {
        let server = server(INFO, move |received| {
            let expected: Value = serde_json::from_str(sent).unwrap();
            match serde_json::from_str::<Value>(&received.body).unwrap() == expected {
                true => CannedResponse::ok(REPLY),
                false => CannedResponse::status(400, &received.body),
            }
        });
        let engine = open(QdrantConfig { vector: name.map(str::to_owned), ..settings(&server) });
        let question = Question::new("q", "bamboo", ["a"]);
        let found = engine.search(SearchRequest::of(&question, 2, 0)).unwrap();
        let rows = found.iter().map(|it| (it.title.as_str(), it.text.as_str(), it.score));
        let rows: Vec<_> = rows.collect();
        assert_eq!(rows, [("Bamboo", "A grass.", Some(0.75)), ("Oak", "A tree.", Some(0.5))]);
        assert_eq!(found[0].id, "42");
        assert!(found[1].id.starts_with("5c56"));
    };
    check(None, r#"{"query": [0.5, -1.0], "limit": 2, "with_payload": true}"#);
    check(
        Some("small"),
        r#"{"query": [0.5, -1.0], "limit": 2, "with_payload": true, "using": "small"}"#,
    );
}

#[test]
fn keeps_the_contract() {
    let reply = |received: &Received| {
        let body: Value = serde_json::from_str(&received.body).unwrap();
        let point = |id: u64| json!({ "id": id, "score": 0.5, "payload": { "text": format!("text {id}") } });
        let points: Vec<Value> = (0..body["limit"].as_u64().unwrap()).map(point).collect();
        CannedResponse::ok(&json!({ "result": { "points": points } }).to_string())
    };
    let server = server(INFO, reply);
    check_engine(&open(settings(&server)));

    /// Refuses one query.
    #[derive(Debug)]
    struct Refusing;

    impl Embedder for Refusing {
        fn embed(&self, texts: &[&str], _: TextRole, _: u64) -> Vec<EmbedResult> {
            let vector = |it: &&str| match *it {
                "refuse" => Err(zs_core::SearchError::Engine {
                    engine: "embedder".to_owned(),
                    query: (*it).to_owned(),
                    source: "too long".into(),
                }),
                _ => Ok(vec![0.5, 1.0]),
            };
            texts.iter().map(vector).collect()
        }

        fn identity(&self) -> String {
            "refusing".to_owned()
        }
    }

    let engine = QdrantEngine::new(settings(&server), Arc::default()).unwrap();
    check_failure_is_contained(&engine.with_embedder(Arc::new(Refusing)), "refuse");
}

#[test]
fn what_does_not_fit_is_one_line_at_opening() {
    let check = |info, reply: &'static str, change: &dyn Fn(&mut QdrantConfig), expected: &str| {
        let server = server(info, move |_| CannedResponse::ok(reply));
        let mut config = settings(&server);
        change(&mut config);
        let opened = QdrantEngine::new(config, Arc::default());
        let checked = opened.and_then(|it| it.with_embedder(Arc::new(Two)).check());
        let message = checked.err().map(|it| it.to_string()).unwrap_or_default();
        assert!(message.contains(expected) && !message.contains('\n'), "{expected}: {message}");
        assert_eq!(message.is_empty(), expected.is_empty(), "{message}");
    };
    check(INFO, REPLY, &|_| {}, "");
    check(NAMED, REPLY, &|it| it.vector = Some("small".to_owned()), "");
    check(
        NAMED,
        REPLY,
        &|_| {},
        "no field `(without a name)`; set `vector` to one of `small`, `large`",
    );
    let large = &|it: &mut QdrantConfig| it.vector = Some("large".to_owned());
    check(NAMED, REPLY, large, "vectors have 3 dimensions, those of the embedder 2");
    check(INFO, REPLY, &|it| it.collection = "none".to_owned(), "Collection doesn't exist");
    check(INFO, r#"{"result": {"points": []}}"#, &|_| {}, "contains no documents");
    let body = &|it: &mut QdrantConfig| it.text_field = "body".to_owned();
    check(INFO, REPLY, body, "has no text in `body`; set `text_field` to one of `title`, `text`");
    // Nobody makes vectors.
    let server = server(INFO, |_| CannedResponse::ok(REPLY));
    let mut config = settings(&server);
    config.embedder.http = crate::http::testing::config();
    let error = QdrantEngine::new(config, Arc::default()).unwrap().check().unwrap_err().to_string();
    assert!(error.contains("collection `passages`: a test search failed"), "{error}");
}
