//! Tokens in and out of a server, scores of prompts, and the endpoints that replace its weights.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};
use zs_core::StreamKey;
use zs_model::testing::ScriptedGenerator;
use zs_model::{Generator, SamplingParams};
use zs_serve::{Admin, ServeConfig, ServedModel, Server, Services};

use crate::common::tiny_model;
use crate::serve::{Reply, config, connect, read, request};

fn post(address: SocketAddr, path: &str, headers: &str, body: &Value) -> Reply {
    let mut socket = connect(address);
    std::io::Write::write_all(
        &mut socket,
        request("POST", path, headers, &body.to_string()).as_bytes(),
    )
    .unwrap();
    read(socket)
}

/// A server of a model, with or without an admin who may load directories below another.
fn serving(generator: Arc<dyn Generator>, weights_dir: Option<&Path>) -> Server {
    let load = |dir: &Path| {
        // What a directory is to hold is in its only file.
        let text = fs::read_to_string(dir.join("kind"))?;
        let model: Arc<dyn Generator> = match text.as_str() {
            "other tokenizer" => Arc::new(ScriptedGenerator::new(|text, _| text.to_owned())),
            seed => Arc::new(tiny_model(seed.parse()?)),
        };
        Ok(model)
    };
    let admin = weights_dir.map(|it| Admin {
        token: "admin".to_owned(),
        weights_dir: it.to_owned(),
        load: Box::new(load),
    });
    let model = Some(ServedModel { name: "m".to_owned(), generator });
    let config = ServeConfig { token: Some("user".to_owned()), ..config() };
    Server::start(config, Services { model, admin, ..Services::default() }).unwrap()
}

const USER: &str = "Authorization: Bearer user\r\n";
const ADMIN: &str = "Authorization: Bearer admin\r\n";

fn generate(server: &Server, body: &Value) -> Reply {
    post(server.address(), "/inference/v1/generate", USER, body)
}

#[test]
fn completions_of_tokens_are_those_of_the_model() {
    let model = tiny_model(1);
    let server = serving(Arc::new(model.clone()), None);
    let key = StreamKey { seed: u64::MAX, step: 3, group: 2, sample: 1, turn: 4 };
    let params = SamplingParams {
        temperature: 0.8,
        top_p: 0.9,
        top_k: 20,
        min_p: 0.01,
        repetition_penalty: 1.1,
        max_new_tokens: 12,
        stop: vec!["e".to_owned()],
    };
    let expected = model.generate(&[(vec![5, 6, 7], key)], &params).unwrap().remove(0);
    let body = json!({
        "model": "m",
        "token_ids": [5, 6, 7],
        "sampling_params": {
            "temperature": params.temperature, "top_p": params.top_p, "top_k": params.top_k,
            "min_p": params.min_p, "repetition_penalty": params.repetition_penalty,
            "max_tokens": 12, "stop": ["e"], "logprobs": 0, "include_stop_str_in_output": true,
            "key": { "seed": u64::MAX, "step": 3, "group": 2, "sample": 1, "turn": 4 },
        },
        "cache_salt": "x",
    });
    let reply = generate(&server, &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    let choice = &reply.json()["choices"][0];
    assert_eq!(choice["token_ids"], json!(expected.tokens));
    let scores = choice["logprobs"]["content"].as_array().unwrap();
    let numbers = |key: &str| -> Vec<f32> {
        scores.iter().map(|it| it[key].as_f64().unwrap() as f32).collect()
    };
    assert_eq!(numbers("logprob"), expected.log_probs);
    assert_eq!(Some(numbers("sampling_logprob")), expected.sampling_log_probs);
    let end = expected.tokens.len();
    let version = json!([{ "version": "0", "start": 0, "end": end }]);
    assert_eq!(choice["weight_versions"], version);
    for (change, status, message) in [
        (json!({ "token_ids": [] }), 400, "the prompt is empty"),
        (json!({ "token_ids": vec![1; 300] }), 400, "the context of this model holds 256"),
        (json!({ "token_ids": [1_000_000] }), 400, "outside of the model's vocabulary"),
        (json!({ "token_ids": [1], "model": "x" }), 404, "there is no model `x`"),
        (json!({ "token_ids": [1], "sampling_params": { "top_p": 2.0 } }), 400, "top_p = 2"),
        (json!({ "token_ids": [1], "sampling_params": { "n": 2 } }), 400, "`n` is not supported"),
        (json!({ "token_ids": [1], "sampling_params": { "max_tokens": 0 } }), 400, "between 1 and"),
        (json!({ "token_ids": [1], "sampling_params": { "key": { "a": 1 } } }), 400, "`key.a`"),
        (json!({ "token_ids": [1], "features": {} }), 400, "the key `features` is unknown"),
        (json!({}), 400, "missing field `token_ids`"),
    ] {
        generate(&server, &change).assert_error(status, message);
    }
}

#[test]
fn prompts_are_scored() {
    let model = tiny_model(1);
    let server = serving(Arc::new(model.clone()), None);
    let prompt = vec![5, 6, 7, 300];
    let expected = model.log_probs(std::slice::from_ref(&prompt)).unwrap().remove(0);
    let body = json!({ "prompt": prompt, "max_tokens": 1, "prompt_logprobs": 1 });
    let reply = post(server.address(), "/v1/completions", USER, &body).json();
    let scores = reply["choices"][0]["prompt_logprobs"].as_array().unwrap();
    assert!(scores[0].is_null() && scores.len() == 4);
    for (at, token) in prompt.iter().enumerate().skip(1) {
        let entry = &scores[at][token.to_string()];
        assert_eq!(entry["logprob"].as_f64().unwrap() as f32, expected[at]);
        assert_eq!(entry["decoded_token"], model.tokenizer().decode_with_special(&[*token]));
    }
    let plain = json!({ "prompt": [5, 6], "max_tokens": 1 });
    let plain = post(server.address(), "/v1/completions", USER, &plain).json();
    assert!(plain["choices"][0].get("prompt_logprobs").is_none());
    let streamed = json!({ "prompt": [5, 6], "prompt_logprobs": 0, "stream": true });
    post(server.address(), "/v1/completions", USER, &streamed).assert_error(400, "`stream`");
    let many = json!({ "prompt": [5, 6], "prompt_logprobs": 5 });
    post(server.address(), "/v1/completions", USER, &many).assert_error(400, "at most 1");
    // A generator that cannot score says so.
    let parrot = serving(Arc::new(ScriptedGenerator::new(|text, _| text.to_owned())), None);
    let body = json!({ "prompt": [65, 66], "prompt_logprobs": 0 });
    post(parrot.address(), "/v1/completions", USER, &body).assert_error(502, "does not score");
}

/// Directories of weights: two models, one with another tokenizer, and one that is none.
fn weights() -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("weights");
    for (name, kind) in [("one", "1"), ("two", "2"), ("other", "other tokenizer"), ("bad", "x")] {
        fs::create_dir_all(root.join(name)).unwrap();
        fs::write(root.join(name).join("kind"), kind).unwrap();
    }
    fs::create_dir(scratch.path().join("outside")).unwrap();
    (scratch, root)
}

#[test]
fn weights_are_replaced_while_the_server_is_paused() {
    let (scratch, root) = weights();
    let server = serving(Arc::new(tiny_model(1)), Some(&root));
    let address = server.address();
    let admin = |path: &str, body: &Value| post(address, path, ADMIN, body);
    let reload = |dir: &Path| {
        let arguments = json!({ "weights_path": dir });
        admin("/collective_rpc", &json!({ "method": "reload_weights", "kwargs": arguments }))
    };
    let body = json!({
        "token_ids": [5, 6, 7], "sampling_params": { "max_tokens": 4, "temperature": 0.0 },
    });
    let expected = |seed: u64| {
        let params =
            SamplingParams { temperature: 0.0, max_new_tokens: 4, ..SamplingParams::default() };
        let done = tiny_model(seed).generate(&[(vec![5, 6, 7], StreamKey::new(0))], &params);
        let done = done.unwrap().remove(0);
        (json!(done.tokens), done.log_probs)
    };
    let sampled = || {
        let reply = generate(&server, &body).json();
        let choice = &reply["choices"][0];
        let scores = choice["logprobs"]["content"].as_array().unwrap().clone();
        let log_probs: Vec<f32> =
            scores.iter().map(|it| it["logprob"].as_f64().unwrap() as f32).collect();
        let version = choice["weight_versions"][0]["version"].as_str().unwrap().to_owned();
        ((choice["token_ids"].clone(), log_probs), version)
    };
    assert_eq!(sampled(), (expected(1), "0".to_owned()));

    reload(&root.join("two")).assert_error(400, "POST /pause before its weights are replaced");
    admin("/update_weight_version", &json!({ "new_version": "1" })).assert_error(400, "/pause");
    admin("/pause?mode=keep", &json!({})).assert_error(400, "use `mode=wait`");
    for _ in 0..2 {
        assert_eq!(admin("/pause?mode=wait", &json!({})).status, 200);
    }
    generate(&server, &body).assert_error(503, "paused while its weights are replaced");
    let chat = json!({ "prompt": "x", "max_tokens": 1 });
    post(address, "/v1/completions", USER, &chat).assert_error(503, "paused");

    for (dir, status, message) in [
        (root.join("other"), 400, "another tokenizer than the served one"),
        (root.join("bad"), 400, "invalid digit"),
        (root.join("none"), 403, "no directory below the server's --weights-dir"),
        (scratch.path().join("outside"), 403, "no directory below"),
        (root.join("../outside"), 403, "no directory below"),
        (PathBuf::from("/etc"), 403, "no directory below"),
    ] {
        reload(&dir).assert_error(status, message);
    }
    let other = json!({ "method": "shell", "kwargs": { "weights_path": root } });
    admin("/collective_rpc", &other).assert_error(400, "only `reload_weights`");
    admin("/collective_rpc", &json!({ "method": "reload_weights" })).assert_error(400, "missing");
    assert_eq!(reload(&root.join("two")).status, 200);
    assert_eq!(admin("/update_weight_version", &json!({ "new_version": "step-7" })).status, 200);
    assert_eq!(admin("/resume", &json!({})).status, 200);
    assert_eq!(sampled(), (expected(2), "step-7".to_owned()));
}

#[test]
fn only_the_admin_replaces_weights() {
    let (_scratch, root) = weights();
    let with = serving(Arc::new(tiny_model(1)), Some(&root));
    let without = serving(Arc::new(tiny_model(1)), None);
    let evil = format!("{ADMIN}Origin: http://evil.example\r\n");
    let text = format!("{ADMIN}Content-Type: text/plain\r\n");
    for path in ["/pause", "/resume", "/collective_rpc", "/update_weight_version"] {
        post(with.address(), path, "", &json!({})).assert_error(401, "Bearer TOKEN");
        post(with.address(), path, USER, &json!({})).assert_error(401, "Bearer TOKEN");
        post(with.address(), path, &evil, &json!({})).assert_error(403, "evil.example");
        post(with.address(), path, &text, &json!({})).assert_error(415, "text/plain");
        post(without.address(), path, ADMIN, &json!({})).assert_error(404, "no route");
    }
    // The admin's token is not the users'.
    let body = json!({ "token_ids": [5] });
    post(with.address(), "/inference/v1/generate", ADMIN, &body).assert_error(401, "Bearer TOKEN");
}

/// Progress of [`Slow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Closed,
    Waiting,
    Open,
}

/// Samples once its gate is opened.
#[derive(Debug)]
struct Slow(ScriptedGenerator, Arc<(Mutex<Gate>, Condvar)>);

impl Generator for Slow {
    fn tokenizer(&self) -> &zs_model::Tokenizer {
        self.0.tokenizer()
    }

    fn context_length(&self) -> usize {
        self.0.context_length()
    }

    fn session(&self, num_sequences: usize) -> Box<dyn zs_model::Session + '_> {
        let (gate, changed) = &*self.1;
        *gate.lock().unwrap() = Gate::Waiting;
        changed.notify_all();
        drop(changed.wait_while(gate.lock().unwrap(), |it| *it != Gate::Open).unwrap());
        self.0.session(num_sequences)
    }
}

#[test]
fn a_pause_waits_for_what_is_sampled() {
    let (_scratch, root) = weights();
    let gate = Arc::new((Mutex::new(Gate::Closed), Condvar::new()));
    let parrot = ScriptedGenerator::new(|text, _| text.to_owned());
    let server = serving(Arc::new(Slow(parrot, Arc::clone(&gate))), Some(&root));
    let address = server.address();
    let sampling = std::thread::spawn(move || {
        post(address, "/inference/v1/generate", USER, &json!({ "token_ids": [65] }))
    });
    let (state, changed) = &*gate;
    drop(changed.wait_while(state.lock().unwrap(), |it| *it != Gate::Waiting).unwrap());
    let pausing = std::thread::spawn({
        let gate = Arc::clone(&gate);
        move || {
            let reply = post(address, "/pause", ADMIN, &json!({}));
            (reply, *gate.0.lock().unwrap())
        }
    });
    // Time for a pause that does not wait.
    std::thread::sleep(std::time::Duration::from_millis(100));
    *state.lock().unwrap() = Gate::Open;
    changed.notify_all();
    assert_eq!(sampling.join().unwrap().status, 200);
    let (reply, gate) = pausing.join().unwrap();
    assert_eq!((reply.status, gate), (200, Gate::Open));
}
