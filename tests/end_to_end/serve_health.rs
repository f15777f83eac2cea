//! A server whose model or device fails: it says so, and answers nothing as if nothing had happened.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use zs_core::Document;
use zs_model::DeviceHealth;
use zs_model::testing::ScriptedGenerator;
use zs_search::FixedEngine;
use zs_serve::{BatchConfig, ServeConfig, ServedModel, Server, Services};

use crate::serve::{Gated, Reply, config, connect, post, read, request, send};

/// A server with an engine and a model that panics where its prompt says so. Requests within three seconds
/// share a batch.
fn start(health: &DeviceHealth) -> Server {
    let model = ScriptedGenerator::new(|text, _| {
        assert!(!text.contains("boom"), "the sampler\nhas had enough");
        "fine".to_owned()
    });
    let generate_batch = BatchConfig { max_size: 4, max_wait: Duration::from_secs(3) };
    let services = Services {
        engine: Some(Arc::new(FixedEngine::new(vec![Document::new("T", "x")]))),
        model: Some(ServedModel { name: "m".to_owned(), generator: Arc::new(model) }),
        health: health.clone(),
        admin: None,
    };
    Server::start(ServeConfig { generate_batch, ..config() }, services).unwrap()
}

/// Sends a request and leaves its response unread.
fn begin(server: &Server, path: &str, body: &Value) -> TcpStream {
    let mut socket = connect(server.address());
    socket.write_all(request("POST", path, "", &body.to_string()).as_bytes()).unwrap();
    socket
}

/// Expects one line that names the cause.
#[track_caller]
fn check_failed(reply: &Reply, cause: &str) {
    reply.assert_error(503, cause);
    let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(message.lines().count(), 1, "{message}");
    assert_eq!(reply.json()["error"]["type"], "server_error");
}

#[track_caller]
fn check_health(server: &Server, cause: &str) {
    let reply = send(server, "GET", "/health", "", "");
    assert_eq!(reply.status, 503, "{reply:?}");
    let body = reply.json();
    assert_eq!(body["status"], "failed");
    assert!(body["cause"].as_str().unwrap().contains(cause), "{body}");
}

#[test]
fn a_panic_while_sampling_fails_every_request_and_health() {
    const CAUSE: &str = "sampling panicked: the sampler has had enough";
    let server = start(&DeviceHealth::default());
    assert_eq!(send(&server, "GET", "/health", "", "").json(), json!({ "status": "ok" }));
    let prompt =
        |text: &str, stream: bool| json!({ "prompt": text, "max_tokens": 4, "stream": stream });
    // These share a batch, which is full with the last.
    let outstanding: Vec<TcpStream> = ["a", "b", "boom"]
        .into_iter()
        .map(|it| begin(&server, "/v1/completions", &prompt(it, false)))
        .collect();
    let streamed = begin(&server, "/v1/completions", &prompt("c", true));
    for socket in outstanding {
        check_failed(&read(socket), CAUSE);
    }
    // Its status line was sent before, if the stream had begun; its last event is the error.
    let reply = read(streamed);
    assert!(reply.body.contains(CAUSE), "{reply:?}");
    assert!(!reply.body.contains("[DONE]"), "{reply:?}");

    check_health(&server, CAUSE);
    check_failed(&post(&server, "/v1/completions", &prompt("a", false)), CAUSE);
    let chat = json!({ "messages": [{ "role": "user", "content": "a" }] });
    check_failed(&post(&server, "/v1/chat/completions", &chat), CAUSE);
    // The process as a whole is not to be trusted, and still tells what happened in it.
    check_failed(&post(&server, "/retrieve", &json!({ "query": "a" })), CAUSE);
    let metrics = send(&server, "GET", "/metrics", "", "").body;
    assert!(metrics.contains(r#"requests_total{route="/health",status="503"} 1"#), "{metrics}");
    server.stop().unwrap();
}

#[test]
fn a_failed_device_fails_what_is_in_progress_and_what_comes() {
    let health = DeviceHealth::default();
    let engine = Arc::new(Gated::default());
    let services = Services {
        engine: Some(Arc::clone(&engine) as _),
        health: health.clone(),
        ..Services::default()
    };
    let server = Server::start(config(), services).unwrap();
    let query = json!({ "query": "q" });
    let in_progress = begin(&server, "/retrieve", &query);
    while !send(&server, "GET", "/metrics", "", "").body.contains("zs_serve_in_flight 1") {}
    health
        .report("thread DSU-0-0 panicked at tune/local.rs:\nShould run when selected by autotune.");
    engine.open();
    let cause = "panicked at tune/local.rs: Should run when selected by autotune.; ";
    check_failed(&read(in_progress), cause);
    check_failed(&post(&server, "/retrieve", &query), cause);
    check_health(&server, cause);
}
