//! The server over real sockets: what it answers, what it refuses, and that it loses nothing.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use zs_core::{Document, SearchEngine, SearchRequest, SearchResult};
use zs_model::testing::ScriptedGenerator;
use zs_search::{FaultyEngine, FixedEngine};
use zs_serve::{BatchConfig, ServeConfig, ServedModel, Server, Services};

/// Finds a page that repeats the request, and remembers the sizes of its batches.
#[derive(Debug, Default)]
struct Echo {
    batches: Mutex<Vec<usize>>,
}

impl SearchEngine for Echo {
    fn name(&self) -> &str {
        "echo"
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        self.batches.lock().unwrap().push(requests.len());
        let page = |it: &SearchRequest<'_>| {
            let answers = it.question.golden_answers.join("/");
            let text = format!("{} {} {answers} {}", it.query, it.quality.word(), it.seed);
            Ok(vec![Document::new(it.question.text.as_str(), text); it.k])
        };
        requests.iter().map(page).collect()
    }
}

/// Answers once its gate is opened.
#[derive(Debug, Default)]
pub(crate) struct Gated {
    is_open: Mutex<bool>,
    changed: Condvar,
}

impl Gated {
    pub(crate) fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

impl SearchEngine for Gated {
    fn name(&self) -> &str {
        "gated"
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let closed = self.is_open.lock().unwrap();
        drop(self.changed.wait_while(closed, |open| !*open).unwrap());
        requests.iter().map(|it| Ok(vec![Document::new("", it.query)])).collect()
    }
}

pub(crate) fn config() -> ServeConfig {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    ServeConfig { address, seed: 7, ..ServeConfig::default() }
}

pub(crate) fn searching(engine: Arc<dyn SearchEngine>, config: ServeConfig) -> Server {
    Server::start(config, Services { engine: Some(engine), ..Services::default() }).unwrap()
}

/// A server with a model that repeats the last line of its prompt.
fn sampling(config: ServeConfig) -> Server {
    let parrot = ScriptedGenerator::new(|text, key| {
        let last = text.lines().last().unwrap_or_default();
        format!("{last}! {} é", key.sample)
    });
    let model = ServedModel {
        name: "parrot".to_owned(),
        generator: Arc::new(parrot.with_context_length(200)),
    };
    Server::start(config, Services { model: Some(model), ..Services::default() }).unwrap()
}

/// A reply: status, headers by lower-case name, body.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16, message: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let said = self.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(said.contains(message), "`{said}` does not say `{message}`");
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket
}

pub(crate) fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: zs\r\nConnection: close\r\n{headers}Content-Length: \
         {length}\r\n\r\n{body}"
    )
}

/// Reads a reply up to the end of the connection.
pub(crate) fn read(mut socket: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    // A server that refuses a body resets the connection once it has said so.
    match socket.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}"),
    }
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no reply: {text}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<String, String> = lines
        .map(|it| it.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let is_chunked = headers.get("transfer-encoding").is_some_and(|it| it == "chunked");
    let body = if is_chunked { unchunk(body) } else { body.to_owned() };
    Reply { status, headers, body }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    whole
}

pub(crate) fn send(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> Reply {
    let mut socket = connect(server.address());
    socket.write_all(request(method, path, headers, body).as_bytes()).unwrap();
    read(socket)
}

pub(crate) fn post(server: &Server, path: &str, body: &Value) -> Reply {
    send(server, "POST", path, "", &body.to_string())
}

#[test]
fn both_forms_of_retrieval_are_answered() {
    let server = searching(Arc::new(Echo::default()), config());
    let body = json!({ "queries": ["a", "b"], "topk": 2, "return_scores": true });
    let reply = post(&server, "/retrieve", &body);
    assert_eq!(reply.status, 200);
    let reply = reply.json();
    assert_eq!(reply["result"].as_array().unwrap().len(), 2);
    assert_eq!(reply["result"][1].as_array().unwrap().len(), 2);
    let document = &reply["result"][1][0];
    assert!(document["document"]["contents"].as_str().unwrap().starts_with("\"b\"\nb useful "));
    assert_eq!(document["score"], 0.0);

    let again = post(&server, "/retrieve", &body).json();
    assert_eq!(reply, again, "the same query finds the same documents");

    let reply = post(&server, "/retrieve", &json!({ "query": "a", "top_k": 1 })).json();
    assert!(reply[0]["text"].as_str().unwrap().starts_with("\"a\"\na useful "), "{reply}");
    assert_eq!(reply.as_array().unwrap().len(), 1);

    // Without k, the default; with all that a simulation LLM is told.
    let full = json!({
        "query": "q", "question": "Who?", "golden_answers": ["A", "B"], "quality": "noisy", "seed": 5,
    });
    let reply = post(&server, "/retrieve", &json!({ "queries": [full] })).json();
    assert_eq!(reply["result"][0].as_array().unwrap().len(), 3);
    assert_eq!(reply["result"][0][0]["contents"], "\"Who?\"\nq noisy A/B 5");
    assert_eq!(post(&server, "/retrieve", &json!({ "queries": [] })).json()["result"], json!([]));
}

#[test]
fn bad_requests_are_refused_with_a_reason() {
    let limits = ServeConfig { max_queries: 2, max_query_bytes: 10, max_k: 5, ..config() };
    let server = searching(Arc::new(Echo::default()), limits);
    for (body, message) in [
        (json!({}), "either `queries`"),
        (json!({ "queries": ["a"], "query": "a" }), "either `queries`"),
        (json!({ "queries": "a" }), "not the JSON"),
        (json!({ "queries": [{ "query": "a", "qality": "noisy" }] }), "not the JSON"),
        (json!({ "queries": ["a"], "topk": 0 }), "`topk` must be between 1 and 5"),
        (json!({ "query": "a", "top_k": 6 }), "`top_k` must be between 1 and 5"),
        (json!({ "queries": ["a", "b", "c"] }), "at most 2"),
        (json!({ "queries": ["a", "bbbbbbbbbbb"] }), "query 1 has 11 bytes"),
    ] {
        post(&server, "/retrieve", &body).assert_error(400, message);
    }
    send(&server, "POST", "/retrieve", "", "{oops").assert_error(400, "not the JSON");
    send(&server, "GET", "/retrieve", "", "").assert_error(405, "method");
    send(&server, "GET", "/nowhere", "", "").assert_error(404, "/nowhere");
    let reply = post(&server, "/v1/completions", &json!({ "prompt": "a" }));
    reply.assert_error(404, "no model");
}

#[test]
fn failures_of_the_engine_are_told_apart_from_no_documents() {
    let documents = vec![Document::new("", "found")];
    let engine = FaultyEngine::new(FixedEngine::new(documents), |it| it.query == "bad");
    let server = searching(Arc::new(engine), config());
    let reply = post(&server, "/retrieve", &json!({ "queries": ["good", "bad"] }));
    assert_eq!(reply.status, 200);
    let reply = reply.json();
    assert_eq!(reply["result"][0][0]["contents"], "found");
    assert_eq!(reply["result"][1], json!([]));
    assert!(reply["errors"][0].is_null() && reply["errors"][1].is_string(), "{reply}");
    let reply = post(&server, "/retrieve", &json!({ "query": "bad" }));
    assert_eq!(reply.status, 502);
    let metrics = send(&server, "GET", "/metrics", "", "").body;
    assert!(metrics.contains("zs_serve_queries_total 3"), "{metrics}");
    assert!(metrics.contains("zs_serve_failed_queries_total 2"), "{metrics}");
    assert!(metrics.contains(r#"requests_total{route="/retrieve",status="502"} 1"#), "{metrics}");
}

#[test]
fn a_token_opens_all_but_health() {
    let secret = ServeConfig { token: Some("s3cret".to_owned()), ..config() };
    let server = searching(Arc::new(Echo::default()), secret);
    let query = json!({ "query": "a" }).to_string();
    for headers in ["", "Authorization: Bearer s3cre\r\n", "Authorization: s3cret\r\n"] {
        let reply = send(&server, "POST", "/retrieve", headers, &query);
        reply.assert_error(401, "Bearer");
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
        assert_eq!(send(&server, "GET", "/metrics", headers, "").status, 401);
        assert_eq!(send(&server, "GET", "/v1/models", headers, "").status, 401);
        assert_eq!(send(&server, "GET", "/health", headers, "").status, 200);
    }
    let right = "Authorization: Bearer s3cret\r\n";
    assert_eq!(send(&server, "POST", "/retrieve", right, &query).status, 200);
}

#[test]
fn five_hundred_requests_at_once_are_all_answered_with_their_own() {
    let engine = Arc::new(Echo::default());
    let server = searching(Arc::clone(&engine) as _, config());
    // All are sent before any is read.
    let sockets: Vec<TcpStream> = (0..500)
        .map(|it| {
            let mut socket = connect(server.address());
            let body = json!({ "query": format!("query {it}"), "top_k": 1 }).to_string();
            socket.write_all(request("POST", "/retrieve", "", &body).as_bytes()).unwrap();
            socket
        })
        .collect();
    for (index, socket) in sockets.into_iter().enumerate() {
        let reply = read(socket);
        assert_eq!(reply.status, 200);
        let text = reply.json()[0]["text"].as_str().unwrap().to_owned();
        assert!(text.starts_with(&format!("\"query {index}\"\nquery {index} ")), "{index}: {text}");
    }
    assert_eq!(engine.batches.lock().unwrap().iter().sum::<usize>(), 500);
}

#[test]
fn a_full_server_says_so_and_finishes_what_it_accepted() {
    let engine = Arc::new(Gated::default());
    // Clients that connect and send nothing hold up the end for `receive_timeout` at most.
    let receive_timeout = Duration::from_millis(200);
    let limits = ServeConfig { max_concurrent: 2, receive_timeout, ..config() };
    let server = searching(Arc::clone(&engine) as _, limits);
    let waiting: Vec<TcpStream> = (0..2)
        .map(|it| {
            let mut socket = connect(server.address());
            let body = json!({ "query": it.to_string() }).to_string();
            socket.write_all(request("POST", "/retrieve", "", &body).as_bytes()).unwrap();
            socket
        })
        .collect();
    // Requests beyond the two places are refused as soon as both are taken.
    let refused = loop {
        let metrics = send(&server, "GET", "/metrics", "", "").body;
        if metrics.contains("zs_serve_in_flight 2") {
            break post(&server, "/retrieve", &json!({ "query": "late" }));
        }
    };
    refused.assert_error(429, "2 requests");
    assert_eq!(refused.headers["retry-after"], "1");

    // Told to stop while both are in work, the server answers them before it ends.
    let address = server.address();
    let stopping = std::thread::spawn(move || server.stop());
    while TcpStream::connect(address).is_ok() {}
    engine.open();
    for (index, socket) in waiting.into_iter().enumerate() {
        assert_eq!(read(socket).json()[0]["text"], index.to_string());
    }
    stopping.join().unwrap().unwrap();
}

#[test]
fn oversized_bodies_are_refused() {
    let server =
        searching(Arc::new(Echo::default()), ServeConfig { max_body_bytes: 1000, ..config() });
    let large = json!({ "query": "x".repeat(2000) });
    post(&server, "/retrieve", &large).assert_error(413, "larger than 1000 bytes");
    // The same in chunks, whose total no header announces.
    let mut socket = connect(server.address());
    let head = "POST /retrieve HTTP/1.1\r\nHost: zs\r\nConnection: close\r\nTransfer-Encoding: \
                chunked\r\n\r\n";
    let chunk = format!("7d0\r\n{}\r\n0\r\n\r\n", "x".repeat(2000));
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(chunk.as_bytes()).unwrap();
    read(socket).assert_error(413, "larger than 1000 bytes");
}

#[test]
fn stalled_and_half_closed_clients_are_handled() {
    let timeout = Duration::from_millis(200);
    let server =
        searching(Arc::new(Echo::default()), ServeConfig { receive_timeout: timeout, ..config() });
    // One that stalls in its head is cut off; one that stalls in its body is told.
    let mut in_head = connect(server.address());
    in_head.write_all(b"POST /retrieve HTTP/1.1\r\nHo").unwrap();
    let mut in_body = connect(server.address());
    let whole = request("POST", "/retrieve", "", r#"{"query": "a"}"#);
    in_body.write_all(&whole.as_bytes()[..whole.len() - 3]).unwrap();
    read(in_body).assert_error(408, "did not arrive");
    let mut left = String::new();
    let closed = in_head.read_to_string(&mut left);
    assert!(closed.is_err() || left.is_empty() || left.contains(" 408 "), "{left}");

    // One that sends slowly but steadily is served.
    let server = searching(Arc::new(Echo::default()), config());
    let mut slow = connect(server.address());
    for byte in whole.as_bytes() {
        slow.write_all(&[*byte]).unwrap();
    }
    assert_eq!(read(slow).status, 200);

    // One that closes its side after the request still gets the answer.
    let mut half = connect(server.address());
    half.write_all(whole.as_bytes()).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read(half).status, 200);

    // One that goes away in the middle of a request harms nobody else.
    let mut gone = connect(server.address());
    gone.write_all(&whole.as_bytes()[..whole.len() - 3]).unwrap();
    drop(gone);
    assert_eq!(send(&server, "GET", "/health", "", "").status, 200);
    server.stop().unwrap();
}

#[test]
fn text_is_completed_in_the_form_of_the_protocol() {
    let server = sampling(config());
    let reply = post(
        &server,
        "/v1/chat/completions",
        &json!({
            "model": "",
            "messages": [{ "role": "system", "content": "" }, { "role": "user", "content": "Hi" }],
            "n": 2,
            "stop": " é",
            "logprobs": true,
        }),
    );
    assert_eq!(reply.status, 200, "{reply:?}");
    let reply = reply.json();
    assert_eq!(reply["object"], "chat.completion");
    assert_eq!(reply["model"], "parrot");
    let message = json!({ "role": "assistant", "content": "Hi! 1", "refusal": null });
    assert_eq!(reply["choices"][1]["message"], message);
    assert_eq!(reply["choices"][1]["finish_reason"], "stop");
    assert_eq!(reply["choices"][0]["logprobs"]["content"][0]["token"], "H");
    assert_eq!(reply["choices"][0]["logprobs"]["content"][0]["logprob"], -0.5);
    // "Hi! 0 é" has 8 bytes, each a token.
    let usage = json!({ "prompt_tokens": 2, "completion_tokens": 16, "total_tokens": 18 });
    assert_eq!(reply["usage"], usage);

    let body = json!({ "prompt": ["ab", [99, 100]], "max_tokens": 3, "temperature": 0 });
    let mixed = post(&server, "/v1/completions", &body);
    mixed.assert_error(400, "not the JSON");
    let body = json!({ "prompt": [[97, 98], [99, 100]], "max_tokens": 3, "temperature": 0 });
    let reply = post(&server, "/v1/completions", &body).json();
    assert_eq!(reply["choices"][0]["text"], "ab!");
    assert_eq!(reply["choices"][1]["text"], "cd!");
    assert_eq!(reply["choices"][1]["finish_reason"], "length");
    let models = send(&server, "GET", "/v1/models", "", "").json();
    assert_eq!(models["data"][0]["id"], "parrot");
}

#[test]
fn streamed_text_equals_text_in_one_piece() {
    let server = sampling(config());
    let base =
        json!({ "messages": [{ "role": "user", "content": "été" }], "n": 2, "stop": ["! 1"] });
    let mut streamed = base.clone();
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({ "include_usage": true });
    let whole = post(&server, "/v1/chat/completions", &base).json();
    let reply = post(&server, "/v1/chat/completions", &streamed);
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    let events: Vec<&str> = reply.body.lines().filter_map(|it| it.strip_prefix("data: ")).collect();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|it| serde_json::from_str(it).unwrap()).collect();
    for index in 0..2 {
        let mine = |it: &&Value| it["choices"][0]["index"] == index;
        let texts = chunks.iter().filter(mine);
        let text: String =
            texts.filter_map(|it| it["choices"][0]["delta"]["content"].as_str()).collect();
        let choice = &whole["choices"][index];
        assert_eq!(choice["message"]["content"], text.as_str());
        let end = chunks.iter().rfind(mine).unwrap();
        assert_eq!(end["choices"][0]["finish_reason"], choice["finish_reason"]);
    }
    assert_eq!(whole["choices"][1]["message"]["content"], "été");
    assert_eq!(chunks.last().unwrap()["usage"], whole["usage"]);

    // The text route opens no sequence and sends whole choices.
    let body = json!({ "prompt": "ab", "max_tokens": 3, "stream": true });
    let reply = post(&server, "/v1/completions", &body).body;
    let events: Vec<&str> = reply.lines().filter_map(|it| it.strip_prefix("data: ")).collect();
    let (done, chunks) = events.split_last().unwrap();
    let chunks = chunks.iter().map(|it| serde_json::from_str::<Value>(it).unwrap());
    let choices: Vec<Value> = chunks.map(|it| it["choices"][0].clone()).collect();
    let choice = |text: &str, reason: Option<&str>| json!({ "index": 0, "text": text, "logprobs": null, "finish_reason": reason });
    let expected =
        [choice("a", None), choice("b", None), choice("!", None), choice("", Some("length"))];
    assert_eq!((*done, choices), ("[DONE]", expected.to_vec()));
}

#[test]
fn bad_completions_are_refused_with_a_reason() {
    let server = sampling(config());
    let messages = json!([{ "role": "user", "content": "a" }]);
    for (key, value, status, message) in [
        ("temperature", json!(-1), 400, "`temperature`"),
        ("top_p", json!(0), 400, "`top_p`"),
        ("n", json!(17), 400, "`n` must be between 1 and 16"),
        ("max_tokens", json!(0), 400, "`max_tokens`"),
        ("stop", json!([""]), 400, "stops"),
        ("tools", json!([{ "type": "function" }]), 400, "`tools` is not supported"),
        ("presence_penalty", json!(0.5), 400, "`presence_penalty` is not supported"),
        ("model", json!("gpt-4"), 404, "no model `gpt-4`"),
        ("messages", json!([]), 400, "`messages` is empty"),
        ("messages", json!([{ "role": "user", "content": "a".repeat(200) }]), 400, "200 tokens"),
    ] {
        let mut body = json!({ "messages": messages });
        body[key] = value;
        post(&server, "/v1/chat/completions", &body).assert_error(status, message);
    }
    // What changes nothing may be sent.
    let harmless =
        json!({ "messages": messages, "presence_penalty": 0, "tools": null, "user": "me" });
    assert_eq!(post(&server, "/v1/chat/completions", &harmless).status, 200);
}

#[test]
fn completions_of_many_clients_share_batches() {
    let wait = BatchConfig { max_size: 8, max_wait: Duration::from_secs(60) };
    let server = sampling(ServeConfig { generate_batch: wait, ..config() });
    let sockets: Vec<TcpStream> = (0..8)
        .map(|it| {
            let mut socket = connect(server.address());
            let body = json!({ "prompt": format!("p{it}"), "max_tokens": 3 }).to_string();
            socket.write_all(request("POST", "/v1/completions", "", &body).as_bytes()).unwrap();
            socket
        })
        .collect();
    for (index, socket) in sockets.into_iter().enumerate() {
        assert_eq!(read(socket).json()["choices"][0]["text"], format!("p{index}!"));
    }
    let metrics = send(&server, "GET", "/metrics", "", "").body;
    assert!(metrics.contains(r#"batch_size_count{worker="sample"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"batch_size_sum{worker="sample"} 8.0"#), "{metrics}");
}

#[cfg(unix)]
#[test]
fn the_command_serves_until_it_is_told_to_stop() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let scratch = tempfile::tempdir().unwrap();
    let corpus = scratch.path().join("corpus.jsonl");
    std::fs::write(&corpus, "{\"title\": \"Bamboo\", \"text\": \"A tall grass.\"}\n").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_zs-under-test"))
        .args(["serve", "--port", "0", "--token-env", "ZS_TEST_TOKEN", "--corpus"])
        .arg(&corpus)
        .env("ZS_TEST_TOKEN", "s3cret")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap().parse().unwrap();
    let mut socket = connect(address);
    let body = json!({ "queries": ["grass"], "topk": 1 }).to_string();
    let token = "Authorization: Bearer s3cret\r\n";
    socket.write_all(request("POST", "/retrieve", token, &body).as_bytes()).unwrap();
    assert_eq!(read(socket).json()["result"][0][0]["contents"], "\"Bamboo\"\nA tall grass.");
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.contains("every accepted request"), "{stderr}");
    assert!(!stderr.contains("s3cret"), "{stderr}");
}
