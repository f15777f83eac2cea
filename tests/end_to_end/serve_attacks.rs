//! Attacks on the server: requests that are cheap to send and dear to answer, clients that leave, stall or
//! read nothing, and web pages of strangers. Each is followed by a small request of somebody else.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use serde_json::{Value, json};
use zs_core::{Document, StreamKey};
use zs_model::testing::ScriptedGenerator;
use zs_model::{
    Completion, GenerateError, Generator, IsCancelled, LanguageModel, SamplingParams, Session,
    StopReason, TokenId, Tokenizer,
};
use zs_search::FixedEngine;
use zs_serve::{BatchConfig, ServeConfig, ServedModel, Server, Services};
use zs_simulator::{SimulatedConfig, SimulatedEngine, SimulationTemplates};

use crate::serve::{config, connect, post, read, request, searching, send};

/// Longest time for a small request beside an attack. On a quiet machine it takes milliseconds.
const SOON: Duration = Duration::from_secs(2);

/// A model that takes a millisecond a step, however many rows, and writes `x` until the token limit. Counts
/// its steps.
#[derive(Debug)]
struct Slow {
    inner: ScriptedGenerator,
    steps: AtomicUsize,
}

impl Slow {
    fn new() -> Self {
        let inner = ScriptedGenerator::new(|_, _| String::new()).with_context_length(100_000);
        Self { inner, steps: AtomicUsize::new(0) }
    }
}

impl Generator for Slow {
    fn tokenizer(&self) -> &Tokenizer {
        self.inner.tokenizer()
    }

    fn context_length(&self) -> usize {
        self.inner.context_length()
    }

    fn session(&self, num_sequences: usize) -> Box<dyn Session + '_> {
        self.inner.session(num_sequences)
    }

    fn generate_streaming(
        &self,
        prompts: &[(Vec<TokenId>, StreamKey)],
        params: &SamplingParams,
        on_token: &mut dyn FnMut(usize, TokenId),
        is_cancelled: IsCancelled<'_>,
    ) -> Result<Vec<Completion>, GenerateError> {
        let mut tokens = vec![Vec::new(); prompts.len()];
        for _ in 0..params.max_new_tokens {
            let active: Vec<usize> = (0..prompts.len()).filter(|it| !is_cancelled(*it)).collect();
            if active.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
            self.steps.fetch_add(1, Ordering::Relaxed);
            for row in active {
                tokens[row].push(TokenId::from(b'x'));
                on_token(row, TokenId::from(b'x'));
            }
        }
        let completion = |tokens: Vec<TokenId>| Completion {
            log_probs: vec![-0.5; tokens.len()],
            tokens,
            sampling_log_probs: None,
            stop_reason: StopReason::Length,
        };
        Ok(tokens.into_iter().map(completion).collect())
    }
}

fn sampling(generator: Arc<dyn Generator>, config: ServeConfig) -> Server {
    let model = ServedModel { name: "m".to_owned(), generator };
    Server::start(config, Services { model: Some(model), ..Services::default() }).unwrap()
}

/// Sends a request and leaves its response unread.
fn start(server: &Server, path: &str, body: &Value) -> TcpStream {
    let mut socket = connect(server.address());
    socket.write_all(request("POST", path, "", &body.to_string()).as_bytes()).unwrap();
    socket
}

/// Checks that a request for one token is answered soon.
#[track_caller]
fn check_short_request(server: &Server) {
    let start = Instant::now();
    let reply = post(server, "/v1/completions", &json!({ "prompt": "a", "max_tokens": 1 }));
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[track_caller]
fn check_health(server: &Server) {
    let start = Instant::now();
    assert_eq!(send(server, "GET", "/health", "", "").status, 200);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

/// Waits until the metrics say so.
#[track_caller]
fn wait_for(server: &Server, line: &str) {
    let start = Instant::now();
    while !send(server, "GET", "/metrics", "", "").body.lines().any(|it| it == line) {
        assert!(start.elapsed() < Duration::from_secs(20), "never `{line}`");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn requests_are_admitted_by_sequences_and_tokens() {
    let limits = ServeConfig { max_concurrent_sequences: 300, ..config() };
    let server = sampling(Arc::new(Slow::new()), limits);
    let refuse = |body: Value, message: &str| {
        post(&server, "/v1/completions", &body).assert_error(400, message);
    };
    let prompts = vec!["a"; 256];
    refuse(json!({ "prompt": prompts, "n": 16, "max_tokens": 256 }), "4096 sequences; at most 256");
    refuse(json!({ "prompt": vec!["a"; 257], "max_tokens": 1 }), "more than 256 prompts");
    refuse(json!({ "prompt": "a", "max_tokens": 1_000_000_000 }), "between 1 and 8192");
    refuse(json!({ "prompt": prompts, "max_tokens": 1024 }), "at most 262144 are served");
    // What is within the limits of one request counts with those of others.
    let waiting =
        start(&server, "/v1/completions", &json!({ "prompt": prompts, "max_tokens": 900 }));
    wait_for(&server, "zs_serve_in_flight 1");
    let start = Instant::now();
    loop {
        let body = json!({ "prompt": vec!["a"; 100], "max_tokens": 1 });
        let reply = post(&server, "/v1/completions", &body);
        if reply.status == 429 {
            reply.assert_error(429, "300 sequences are already in progress");
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    check_short_request(&server);
    drop(waiting);
}

#[test]
fn long_jobs_delay_no_short_request() {
    let server = sampling(Arc::new(Slow::new()), config());
    let long = json!({ "prompt": vec!["a"; 100], "max_tokens": 2000 });
    let medium = json!({ "prompt": vec!["a"; 20], "max_tokens": 500 });
    let jobs: Vec<TcpStream> = [&long, &medium, &long, &medium, &long]
        .into_iter()
        .map(|it| start(&server, "/v1/completions", it))
        .collect();
    wait_for(&server, "zs_serve_in_flight 5");
    for _ in 0..5 {
        check_short_request(&server);
    }
    drop(jobs);
}

/// A job of four batches lets the others in between, and is answered in the order of its prompts.
#[test]
fn large_jobs_are_cut_and_put_together() {
    let parrot = ScriptedGenerator::new(|text, key| format!("{text}{}", key.sample));
    let batch = BatchConfig { max_size: 2, max_wait: Duration::ZERO };
    let server = sampling(Arc::new(parrot), ServeConfig { generate_batch: batch, ..config() });
    let prompts: Vec<String> = (0..7).map(|it| format!("p{it}-")).collect();
    let body = json!({ "prompt": prompts, "n": 2, "max_tokens": 100 });
    let reply = post(&server, "/v1/completions", &body).json();
    let texts: Vec<&str> = reply["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["text"].as_str().unwrap())
        .collect();
    let expected: Vec<String> = (0..14).map(|it| format!("p{}-{}", it / 2, it % 2)).collect();
    assert_eq!(texts, expected);
    assert_eq!(reply["usage"]["completion_tokens"], 14 * 5);
    let metrics = send(&server, "GET", "/metrics", "", "").body;
    assert!(metrics.contains(r#"batch_size_count{worker="sample"} 7"#), "{metrics}");

    let mut streamed = body;
    streamed["stream"] = json!(true);
    let reply = post(&server, "/v1/completions", &streamed).body;
    let mut texts = vec![String::new(); 14];
    for chunk in reply.lines().filter_map(|it| it.strip_prefix("data: {")) {
        let chunk: Value = serde_json::from_str(&format!("{{{chunk}")).unwrap();
        let choice = &chunk["choices"][0];
        texts[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap();
    }
    assert_eq!(texts, expected);
}

#[test]
fn a_client_that_leaves_frees_its_rows() {
    let model = Arc::new(Slow::new());
    let server = sampling(Arc::clone(&model) as _, config());
    for is_streamed in [false, true] {
        // Three batches of eight seconds each.
        let body = json!({ "prompt": vec!["a"; 24], "max_tokens": 8000, "stream": is_streamed });
        let job = start(&server, "/v1/completions", &body);
        let before = model.steps.load(Ordering::Relaxed);
        while model.steps.load(Ordering::Relaxed) < before + 5 {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(job);
        wait_for(&server, "zs_serve_in_flight 0");
        let steps = model.steps.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(100));
        let later = model.steps.load(Ordering::Relaxed);
        assert!(later <= steps + 2, "{steps} {later}");
    }
}

#[test]
fn a_request_ends_at_its_deadline() {
    let request_timeout = Duration::from_millis(300);
    let server = sampling(Arc::new(Slow::new()), ServeConfig { request_timeout, ..config() });
    let body = json!({ "prompt": "a", "max_tokens": 8000 });
    post(&server, "/v1/completions", &body).assert_error(504, "not answered within");
    let body = json!({ "prompt": "a", "max_tokens": 8000, "stream": true });
    let reply = post(&server, "/v1/completions", &body);
    assert!(reply.status == 200 && !reply.body.contains("[DONE]"), "{}", reply.body.len());
    wait_for(&server, "zs_serve_in_flight 0");
}

/// The network is real, so that cores are busy too.
#[test]
fn a_real_model_serves_short_requests_beside_long_ones() {
    let mut shape = zs_model::testing::tiny_config();
    (shape.max_position_embeddings, shape.eos_token_ids) = (4096, Vec::new());
    let tokenizer = zs_model::testing::byte_tokenizer();
    let model = LanguageModel::initialize(shape, tokenizer, 1, &Device::flex());
    let server = sampling(Arc::new(model), config());
    let body = json!({ "prompt": vec!["a"; 64], "max_tokens": 3000 });
    let jobs: Vec<TcpStream> = (0..3).map(|_| start(&server, "/v1/completions", &body)).collect();
    wait_for(&server, "zs_serve_in_flight 3");
    for _ in 0..3 {
        check_short_request(&server);
    }
    // A long request waits for none of those whose clients have left.
    drop(jobs);
    wait_for(&server, "zs_serve_in_flight 0");
    let body = json!({ "prompt": "a", "max_tokens": 600 });
    assert_eq!(post(&server, "/v1/completions", &body).status, 200);
}

fn zs_tiny() -> LanguageModel {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/zs-tiny");
    LanguageModel::load(&dir, &Device::flex()).unwrap()
}

#[test]
fn texts_that_take_a_tokenizer_minutes_are_refused() {
    let server = sampling(Arc::new(zs_tiny()), config());
    for length in [1000, 4000, 12_000, 1_000_000] {
        let text = "a".repeat(length);
        let sent = Instant::now();
        post(&server, "/v1/completions", &json!({ "prompt": text, "max_tokens": 1 }))
            .assert_error(400, if length > 10_000 { "bytes" } else { "longer than 256" });
        let messages = json!([{ "role": "user", "content": text }]);
        post(&server, "/v1/chat/completions", &json!({ "messages": messages, "max_tokens": 1 }))
            .assert_error(400, "text");
        assert!(sent.elapsed() < SOON, "{length}: {:?}", sent.elapsed());
    }
    let words = ["aaaaaaaaaa"; 40].join(" ");
    let body = json!({ "prompt": words, "max_tokens": 1 });
    assert_eq!(post(&server, "/v1/completions", &body).status, 200);
}

#[test]
fn queries_that_take_a_tokenizer_minutes_fail_alone() {
    let templates = SimulationTemplates::tiny();
    let config_of = SimulatedConfig { max_new_tokens: 8, ..SimulatedConfig::default() };
    let engine = SimulatedEngine::new(Arc::new(zs_tiny()), templates, config_of);
    let server = searching(Arc::new(engine), config());
    let long = "a".repeat(16_000);
    let queries = ["a", "b", long.as_str(), &long[..3000], "c"];
    let sent = Instant::now();
    let reply = post(&server, "/retrieve", &json!({ "queries": queries, "topk": 1 }));
    assert!(sent.elapsed() < 5 * SOON, "{:?}", sent.elapsed());
    let errors: Vec<bool> = reply.json()["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            it.as_str().is_some_and(|it| it.contains("the text has") || it.contains("a word"))
        })
        .collect();
    assert_eq!(errors, [false, false, true, true, false], "{reply:?}");
}

/// Large texts are read and encoded beside the threads that answer.
#[test]
fn large_bodies_delay_no_other_client() {
    let server = sampling(Arc::new(Slow::new()), config());
    let text = "word ".repeat(1_500_000);
    let body = request("POST", "/v1/completions", "", &json!({ "prompt": text }).to_string());
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let (mut socket, body) = (connect(server.address()), body.clone());
            std::thread::spawn(move || {
                let _ = socket.write_all(body.as_bytes());
                read(socket)
            })
        })
        .collect();
    for _ in 0..10 {
        check_health(&server);
        check_short_request(&server);
    }
    for client in clients {
        client.join().unwrap().assert_error(400, "bytes");
    }
}

#[test]
fn clients_that_read_nothing_are_let_go() {
    // Every client is owed more than its socket holds.
    let inner = ScriptedGenerator::new(|_, _| "x".repeat(150_000)).with_context_length(1 << 20);
    let limits = ServeConfig {
        max_concurrent: 4,
        max_tokens: 200_000,
        send_timeout: Duration::from_secs(1),
        ..config()
    };
    let server = sampling(Arc::new(inner), limits);
    let body = json!({ "prompt": "a", "max_tokens": 150_000, "stream": true });
    let stalled: Vec<TcpStream> =
        (0..4).map(|_| start(&server, "/v1/completions", &body)).collect();
    wait_for(&server, "zs_serve_in_flight 4");
    post(&server, "/v1/completions", &body).assert_error(429, "4 requests");
    wait_for(&server, "zs_serve_in_flight 0");
    let short = json!({ "prompt": "a", "max_tokens": 1 });
    assert_eq!(post(&server, "/v1/completions", &short).status, 200);
    drop(stalled);
}

#[test]
fn half_sent_bodies_share_a_budget() {
    let limits = ServeConfig {
        max_total_body_bytes: 1 << 20,
        receive_timeout: Duration::from_secs(1),
        ..config()
    };
    let server = searching(Arc::new(FixedEngine::new(vec![Document::new("", "x")])), limits);
    let whole = request("POST", "/retrieve", "", &" ".repeat(2_000_000));
    let mut half: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut socket = connect(server.address());
            socket.write_all(&whole.as_bytes()[..900_000]).unwrap();
            socket
        })
        .collect();
    let small = json!({ "query": "a" });
    assert_eq!(post(&server, "/retrieve", &small).status, 200);
    // One fits at most, and is told at its deadline; the others are refused at once.
    let statuses: Vec<u16> = half.drain(..).map(|it| read(it).status).collect();
    assert!(statuses.iter().filter(|it| **it == 429).count() >= 3, "{statuses:?}");
    assert!(statuses.iter().all(|it| matches!(it, 408 | 429)), "{statuses:?}");
    // The memory is free again.
    let large = json!({ "query": "a", "metadata": "x".repeat(900_000) });
    assert_eq!(post(&server, "/retrieve", &large).status, 200);
}

#[test]
fn half_sent_heads_delay_nobody() {
    let limits = ServeConfig { max_connections: 50, ..config() };
    let server = searching(Arc::new(FixedEngine::new(vec![Document::new("", "x")])), limits);
    let mut stalled: Vec<TcpStream> = (0..120)
        .map(|_| {
            let mut socket = connect(server.address());
            socket.write_all(b"GET /health HTTP/1.1\r\nHo").unwrap();
            socket
        })
        .collect();
    for _ in 0..5 {
        check_health(&server);
    }
    // The oldest made room; the newest may go on.
    let mut newest = stalled.pop().unwrap();
    newest.write_all(b"st: zs\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(read(newest).status, 200);
    let mut closed = Vec::new();
    let _ = stalled[0].read_to_end(&mut closed);
    assert!(closed.is_empty());
}

#[test]
fn pages_of_strangers_get_nothing() {
    let trusting = ServeConfig { allowed_hosts: vec!["zs.example".to_owned()], ..config() };
    let server = searching(Arc::new(FixedEngine::new(vec![Document::new("", "x")])), trusting);
    let ask = |host: &str, headers: &str| {
        let body = r#"{"query": "a"}"#;
        let mut socket = connect(server.address());
        let length = body.len();
        let text = format!(
            "POST /retrieve HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}Content-Length: \
             {length}\r\n\r\n{body}"
        );
        socket.write_all(text.as_bytes()).unwrap();
        read(socket)
    };
    let json = "Content-Type: application/json\r\n";
    for host in ["localhost:8000", "127.0.0.1", "[::1]:8000", "zs.example"] {
        assert_eq!(ask(host, json).status, 200, "{host}");
    }
    ask("evil.example:8000", json).assert_error(403, "`evil.example:8000`");
    ask("localhost", "Content-Type: text/plain\r\n").assert_error(415, "application/json");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    ask("localhost", form).assert_error(415, "application/json");
    for origin in ["http://evil.example", "null", "http://6.6.6.6"] {
        let headers = format!("{json}Origin: {origin}\r\n");
        ask("localhost", &headers).assert_error(403, origin);
    }
    let own = format!("{json}Origin: http://localhost:3000\r\n");
    assert_eq!(ask("localhost", &own).status, 200);
    // A preflight is not answered, so no page of another site may send JSON.
    let preflight = send(&server, "OPTIONS", "/retrieve", "Origin: http://localhost:3000\r\n", "");
    assert_eq!(preflight.status, 405);
    assert!(!preflight.headers.contains_key("access-control-allow-origin"));
}
