//! Servers that are not zs, played by their documentation: what they are sent, in which order, and what
//! comes of their replies.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use zs_core::StreamKey;
use zs_model::{Generator, LanguageModel, SamplingParams, TokenId};
use zs_search::http::testing::{CannedResponse, Received, TestServer};
use zs_trainer::QuietConsole;
use zs_trainer::config::{RolloutServers, ServerKind};
use zs_trainer::servers::PolicyServers;

use crate::common::tiny_model;

/// Requests so far: paths with bodies.
type Requests = Arc<Mutex<Vec<(String, Value)>>>;

fn numbers(value: &Value) -> Vec<TokenId> {
    value.as_array().unwrap().iter().map(|it| it.as_u64().unwrap() as TokenId).collect()
}

/// Tokens that a server samples after any prompt, with their log-probabilities.
const SAMPLED: [(TokenId, f32); 3] = [(5, -0.5), (6, -1.25), (7, -0.75)];

/// Answers as vLLM 0.32 does; `model` gives the scores of prompts.
fn vllm(model: &LanguageModel, received: &Received, version: &str) -> Value {
    let body: Value = serde_json::from_str(&received.body).unwrap();
    match received.target.as_str() {
        "/v1/completions" => {
            let tokens = numbers(&body["prompt"]);
            let scores = model.log_probs(std::slice::from_ref(&tokens)).unwrap().remove(0);
            let entry = |(at, (token, score)): (usize, (&TokenId, f32))| match at {
                0 => Value::Null,
                _ => json!({ token.to_string(): { "logprob": score, "rank": 1 } }),
            };
            let scores: Vec<Value> = tokens.iter().zip(scores).enumerate().map(entry).collect();
            json!({ "choices": [{ "index": 0, "text": "x", "prompt_logprobs": scores }] })
        }
        "/inference/v1/generate" => {
            let content: Vec<Value> =
                SAMPLED.iter().map(|it| json!({ "token_id": it.0, "logprob": it.1 })).collect();
            json!({ "request_id": "x", "choices": [{
                "index": 0, "token_ids": SAMPLED.map(|it| it.0), "finish_reason": "length",
                "stop_reason": null, "logprobs": { "content": content },
                "weight_versions": [{ "version": version, "start": 0, "end": 3 }],
            }] })
        }
        _ => json!({}),
    }
}

/// Answers as SGLang 0.5 is documented to.
fn sglang(model: &LanguageModel, received: &Received, version: &str) -> Value {
    let body: Value = serde_json::from_str(&received.body).unwrap();
    if received.target != "/generate" {
        return json!({ "success": true, "message": "ok" });
    }
    if body["sampling_params"]["max_new_tokens"] == 0 {
        let tokens = numbers(&body["input_ids"]);
        let scores = model.log_probs(std::slice::from_ref(&tokens)).unwrap().remove(0);
        let entry = |(at, (token, score)): (usize, (&TokenId, f32))| match at {
            0 => json!([null, token, null]),
            _ => json!([score, token, null]),
        };
        let scores: Vec<Value> = tokens.iter().zip(scores).enumerate().map(entry).collect();
        return json!({ "text": "", "meta_info": { "input_token_logprobs": scores } });
    }
    json!({ "text": "x", "output_ids": SAMPLED.map(|it| it.0), "meta_info": {
        "finish_reason": { "type": "length", "length": 3 }, "weight_version": version,
        "output_token_logprobs": SAMPLED.map(|it| json!([it.1, it.0, null])),
    } })
}

/// Publishes weights and samples one completion; returns all requests.
#[track_caller]
fn check(
    kind: ServerKind,
    answer: fn(&LanguageModel, &Received, &str) -> Value,
    admin: &[&str],
) -> Vec<(String, Value)> {
    let (scratch, model) = (tempfile::tempdir().unwrap(), tiny_model(1));
    let requests = Requests::default();
    let (seen, served) = (Arc::clone(&requests), model.clone());
    let server = TestServer::start(move |_, received| {
        let body = serde_json::from_str(&received.body).unwrap_or_default();
        seen.lock().unwrap().push((received.target.clone(), body));
        CannedResponse::ok(&answer(&served, received, "step-4").to_string())
    });
    let settings = RolloutServers {
        kind,
        urls: vec![server.url()],
        admin_urls: Vec::new(),
        model: "policy".to_owned(),
        key_variable: None,
        admin_key_variable: None,
        weights_dir: scratch.path().to_owned(),
        server_weights_dir: Some("/there".into()),
        concurrency: 4,
        connect_timeout_s: 5.0,
        request_timeout_s: 60.0,
        max_attempts: 1,
        max_probe_k3: None,
    };
    let servers = PolicyServers::new(settings, &model, Arc::new(QuietConsole)).unwrap();
    servers.publish(&model, 4).unwrap();
    let paths: Vec<String> = requests.lock().unwrap().iter().map(|it| it.0.clone()).collect();
    assert_eq!(paths[..admin.len()], *admin);
    assert_eq!(paths.len(), admin.len() + 4, "the probe scores four sequences");
    assert!(scratch.path().join("step-4/model.safetensors").exists());
    let params = SamplingParams { max_new_tokens: 3, ..SamplingParams::default() };
    let done = servers.generate(&[(vec![9, 8], StreamKey::new(3))], &params).unwrap().remove(0);
    assert_eq!(done.tokens, SAMPLED.map(|it| it.0));
    assert_eq!(done.log_probs, SAMPLED.map(|it| it.1));
    // Four tokens were asked for, and the server ended after three.
    let params = SamplingParams { max_new_tokens: 4, ..params };
    let error = servers.generate(&[(vec![9, 8], StreamKey::new(3))], &params).unwrap_err();
    assert!(error.to_string().contains("it ends after 3 tokens"), "{error}");
    requests.lock().unwrap().clone()
}

#[test]
fn vllm_is_sent_what_it_documents() {
    let paths = ["/pause?mode=wait", "/collective_rpc", "/update_weight_version", "/resume"];
    let requests = check(ServerKind::Vllm, vllm, &paths);
    let reload =
        json!({ "method": "reload_weights", "kwargs": { "weights_path": "/there/step-4" } });
    assert_eq!(requests[1].1, reload);
    assert_eq!(requests[2].1, json!({ "new_version": "step-4" }));
    let (path, sampled) = &requests[8];
    assert_eq!(path, "/inference/v1/generate");
    assert_eq!((&sampled["model"], &sampled["token_ids"]), (&json!("policy"), &json!([9, 8])));
    assert_eq!(sampled["cache_salt"], "step-4");
    assert_eq!(sampled["sampling_params"]["max_tokens"], 3);
}

#[test]
fn sglang_is_sent_what_it_documents() {
    let paths = ["/pause_generation", "/update_weights_from_disk", "/continue_generation"];
    let requests = check(ServerKind::Sglang, sglang, &paths);
    let update = json!({
        "model_path": "/there/step-4", "weight_version": "step-4", "flush_cache": true,
    });
    assert_eq!(requests[1].1, update);
    let (path, sampled) = &requests[7];
    assert_eq!((path.as_str(), &sampled["input_ids"]), ("/generate", &json!([9, 8])));
    assert_eq!(sampled["sampling_params"]["max_new_tokens"], 3);
    assert_eq!(sampled["return_logprob"], true);
}
