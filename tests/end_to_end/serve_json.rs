//! JSON of other programs, as the server reads it: nulls, unknown keys, and bodies of any kind.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use zs_core::Document;
use zs_model::testing::ScriptedGenerator;
use zs_search::FixedEngine;
use zs_serve::{ServedModel, Server, Services};

use crate::serve::{config, post, send};

fn server() -> Server {
    let parrot = ScriptedGenerator::new(|_, _| "ok".to_owned()).with_context_length(200);
    let services = Services {
        engine: Some(Arc::new(FixedEngine::new(vec![Document::new("T", "x")]))),
        model: Some(ServedModel { name: "m".to_owned(), generator: Arc::new(parrot) }),
        ..Services::default()
    };
    Server::start(config(), services).unwrap()
}

fn messages() -> Value {
    json!([{ "role": "user", "content": "x" }])
}

/// A null is a key left out, wherever it is.
#[test]
fn nulls_are_keys_left_out() {
    let server = server();
    let same = |path: &str, with: Value, without: Value| {
        let (mut with, mut without) = (post(&server, path, &with), post(&server, path, &without));
        assert_eq!(with.status, 200, "{path}: {with:?}");
        for reply in [&mut with, &mut without] {
            let mut json = reply.json();
            if json.is_object() {
                (json["id"], json["created"]) = (Value::Null, Value::Null);
            }
            reply.body = json.to_string();
        }
        assert_eq!(with.body, without.body, "{path}");
    };
    let keys = [
        "model",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "stop",
        "n",
        "seed",
        "stream",
        "stream_options",
        "logprobs",
        "tools",
        "tool_choice",
        "user",
        "logit_bias",
        "response_format",
        "presence_penalty",
        "top_logprobs",
        "no_such_key",
    ];
    for (path, key, value) in [
        ("/v1/chat/completions", "messages", messages()),
        ("/v1/completions", "prompt", json!("x")),
    ] {
        let without = json!({ key: value });
        let mut with = without.clone();
        keys.iter().for_each(|it| with[*it] = Value::Null);
        same(path, with, without);
    }
    let streamed =
        json!({ "prompt": "x", "stream": true, "stream_options": { "include_usage": null } });
    assert!(post(&server, "/v1/completions", &streamed).body.contains("[DONE]"));
    let nulls = json!({
        "queries": [{ "query": "x", "question": null, "golden_answers": null, "quality": null, "seed": null }],
        "topk": null, "return_scores": null, "query": null, "top_k": null, "no_such_key": null,
    });
    same("/retrieve", nulls, json!({ "queries": ["x"] }));
    let nulls = json!({ "query": "x", "top_k": null, "queries": null });
    same("/retrieve", nulls, json!({ "query": "x" }));
    // What must be there must not be null.
    for (path, body, message) in [
        ("/v1/chat/completions", json!({ "messages": null }), "`messages` is missing"),
        ("/v1/completions", json!({ "prompt": null }), "`prompt` is missing"),
        ("/retrieve", json!({ "queries": null }), "either `queries`"),
        ("/retrieve", json!({ "queries": [null] }), "query 0"),
        (
            "/retrieve",
            json!({ "queries": ["a", { "query": null }] }),
            "query 1: `query` is missing",
        ),
    ] {
        post(&server, path, &body).assert_error(400, message);
    }
}

/// Keys that would change the response are refused by name, and those that would not are not read.
#[test]
fn unknown_keys_are_refused_by_name() {
    let server = server();
    let routes = [
        ("/v1/chat/completions", "messages", messages()),
        ("/v1/completions", "prompt", json!("x")),
    ];
    for (path, required, value) in routes {
        for key in [
            "include_stop_str_in_output",
            "stop_token_ids",
            "min_tokens",
            "ignore_eos",
            "skip_special_tokens",
            "add_special_tokens",
            "chat_template_kwargs",
            "guided_json",
            "guided_regex",
            "structured_outputs",
            "tool_choice",
            "tools",
            "bad_words",
            "typical_p",
            "return_token_ids",
            "prompt_logprobs",
            "reasoning_effort",
            "length_penalty",
            "no_such_key",
        ] {
            for odd in [json!(true), json!(3), json!("x"), json!(["x"]), json!({ "a": 1 })] {
                let body = json!({ required: value, key: odd });
                let reply = post(&server, path, &body);
                reply.assert_error(400, &format!("`{key}`"));
                assert_eq!(reply.json()["error"]["param"], key);
            }
        }
        for key in ["user", "metadata", "store", "service_tier"] {
            let body = json!({ required: value, key: { "any": ["thing"] } });
            assert_eq!(post(&server, path, &body).status, 200, "{path} {key}");
        }
    }
    post(&server, "/retrieve", &json!({ "queries": ["x"], "rerank": true }))
        .assert_error(400, "`rerank`");
    // The other form's name for the number of documents is understood.
    let reply = post(&server, "/retrieve", &json!({ "queries": ["x"], "top_k": 1 })).json();
    assert_eq!(reply["result"][0].as_array().unwrap().len(), 1);
}

#[test]
fn many_unknown_keys_are_refused_or_skipped() {
    let server = server();
    let many = |value: &str| {
        let keys: Vec<String> = (0..600_000).map(|it| format!("\"{it:x}\":{value}")).collect();
        format!("{{\"prompt\":\"x\",\"max_tokens\":1,{}}}", keys.join(","))
    };
    let reply = send(&server, "POST", "/v1/completions", "", &many("0"));
    reply.assert_error(400, "the key `0` is unknown");
    assert_eq!(send(&server, "POST", "/v1/completions", "", &many("null")).status, 200);
}

/// Bodies of requests: mostly known keys with values of any kind.
fn body() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..9_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        "x|user|text|noisy|m".prop_map(Value::from),
    ];
    const KEY: &str = "prompt|messages|queries|query|topk|top_k|return_scores|max_tokens|n|stop|\
        temperature|top_p|seed|stream|stream_options|include_usage|logprobs|role|content|type|text|\
        question|golden_answers|quality|model|user|[a-z]{1,3}";
    let value = leaf.prop_recursive(4, 24, 4, |it| {
        prop_oneof![
            prop::collection::vec(it.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((KEY, it), 0..6)
                .prop_map(|it| Value::Object(it.into_iter().collect())),
        ]
    });
    let object = prop::collection::vec((KEY, value.clone()), 0..5)
        .prop_map(|it| Value::Object(it.into_iter().collect()));
    let likely =
        (object.clone(), value.clone(), 0..3_usize).prop_map(|(mut object, value, which)| {
            let key = ["prompt", "messages", "queries"][which];
            object[key] = value;
            object
        });
    let json = prop_oneof![1 => value, 3 => object, 4 => likely].prop_map(|it| it.to_string());
    // A part of the bodies is cut or has a byte replaced.
    (json, any::<prop::sample::Index>(), any::<char>(), 0..8_u8).prop_map(|(json, at, odd, how)| {
        let mut characters: Vec<char> = json.chars().collect();
        let at = at.index(characters.len());
        match how {
            0 => characters.truncate(at),
            1 => characters[at] = odd,
            _ => {}
        }
        characters.into_iter().collect()
    })
}

/// Sends bodies of any kind to a route, over one connection after the other, and checks that each is
/// answered in the form of the protocol.
fn fuzz(cases: u32) {
    let server = server();
    let paths = ["/v1/completions", "/v1/chat/completions", "/retrieve"];
    let mut runner =
        TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let result = runner.run(&(body(), 0..paths.len()), |(body, path)| {
        let reply = send(&server, "POST", paths[path], "", &body);
        match reply.status {
            200 => prop_assert!(!reply.body.is_empty()),
            400 => prop_assert!(reply.json()["error"]["message"].is_string(), "{:?}", reply),
            _ => prop_assert!(reply.status == 404, "{}: {:?}", body, reply),
        }
        Ok(())
    });
    result.unwrap();
    assert_eq!(send(&server, "GET", "/health", "", "").status, 200);
}

/// `ZS_FUZZ_CASES` sets the number of bodies.
#[test]
fn bodies_of_any_kind_are_answered() {
    let cases = std::env::var("ZS_FUZZ_CASES").ok().and_then(|it| it.parse().ok());
    fuzz(cases.unwrap_or(1000));
}
