//! Replies of servers, vocabularies and settings.

use burn::tensor::Device;
use serde_json::{Value, json};
use zs_core::registry::Spec;
use zs_model::testing::{byte_tokenizer, tiny_config};
use zs_model::{ModelConfig, Tokenizer};

use super::*;

/// Three letters as tokens of bytes.
const PROMPT: [u32; 3] = [97, 98, 99];

fn read(api: TeacherApi, reply: &Value) -> Result<(Vec<f32>, u64), String> {
    reply::read(&reply.to_string(), api, &PROMPT, &byte_tokenizer())
}

fn vllm(entries: Value) -> Value {
    json!({ "choices": [{ "text": "x", "prompt_logprobs": entries }], "usage": { "prompt_tokens": 3 } })
}

fn echo(tokens: Value, numbers: Value) -> Value {
    json!({ "choices": [{ "logprobs": { "tokens": tokens, "token_logprobs": numbers } }] })
}

fn sglang(entries: Value) -> Value {
    json!({ "meta_info": { "input_token_logprobs": entries, "prompt_tokens": 3 } })
}

#[test]
fn each_form_gives_one_number_a_token() {
    // The most likely token stands beside the one of the prompt.
    let b = json!({ "98": { "logprob": -0.5, "rank": 2, "decoded_token": "b" }, "7": { "logprob": -0.1 } });
    let c = json!({ "99": { "logprob": -2.25, "rank": 1 } });
    for (api, reply) in [
        (TeacherApi::PromptLogprobs, vllm(json!([null, b, c]))),
        (TeacherApi::Echo, echo(json!(["a", "b", "c"]), json!([null, -0.5, -2.25]))),
        (TeacherApi::Echo, echo(json!(["a", "b", "c", "d"]), json!([null, -0.5, -2.25, -9.0]))),
        (
            TeacherApi::Echo,
            echo(json!(["token_id:97", "token_id:98", "token_id:99"]), json!([-1, -0.5, -2.25])),
        ),
        (
            TeacherApi::Generate,
            sglang(json!([[null, 97, "a"], [-0.5, 98, null], [-2.25, 99, "c"]])),
        ),
    ] {
        assert_eq!(read(api, &reply).unwrap(), (vec![0.0, -0.5, -2.25], 3), "{reply}");
    }
}

#[test]
fn unusable_replies_name_their_problem() {
    use TeacherApi::{Echo, Generate, PromptLogprobs};
    let check = |api: TeacherApi, reply: Value, expected: &str| {
        let problem = read(api, &reply).unwrap_err();
        assert!(problem.contains(expected) && !problem.contains('\n'), "{problem}");
    };
    let entry = |token: &str, log_prob: Value| json!({ token: { "logprob": log_prob } });
    let b = || entry("98", json!(-0.5));
    check(
        PromptLogprobs,
        json!({ "choices": [] }),
        "no list `/choices/0/prompt_logprobs`; set `api`",
    );
    check(PromptLogprobs, vllm(json!(null)), "no list `/choices/0/prompt_logprobs`");
    check(PromptLogprobs, vllm(json!([null, b()])), "2 log-probabilities for a prompt of 3 tokens");
    let four = json!([null, b(), entry("99", json!(-1.0)), b()]);
    check(PromptLogprobs, vllm(four), "4 log-probabilities for a prompt of 3 tokens");
    check(PromptLogprobs, vllm(json!([null, b(), null])), "token 2 of the prompt is null");
    let null = json!([null, b(), entry("99", Value::Null)]);
    check(PromptLogprobs, vllm(null), "token 2 of the prompt is null");
    let other = json!([null, b(), entry("55", json!(-1.0))]);
    check(PromptLogprobs, vllm(other), "nothing about token 2 of the prompt, which is 99");
    let text = json!([null, { "98": { "logprob": -0.5, "decoded_token": "q" } }, entry("99", json!(-1.0))]);
    let other = "another tokenizer than the policy: token 98 is \"q\" there and \"b\" here";
    check(PromptLogprobs, vllm(text), other);
    check(Echo, echo(json!(["a", "q", "c"]), json!([null, -0.5, -1.0])), other);
    check(
        Echo,
        echo(json!(["a", "b"]), json!([null, -0.5, -1.0])),
        "2 tokens and 3 log-probabilities",
    );
    check(
        Echo,
        echo(json!(["a", "b"]), json!([null, -0.5])),
        "2 log-probabilities for a prompt of 3",
    );
    check(Echo, json!({ "choices": [{ "logprobs": null }] }), "does not echo log-probabilities");
    let ids = json!(["token_id:97", "token_id:5", "token_id:99"]);
    check(
        Echo,
        echo(ids, json!([null, -0.5, -1.0])),
        "token 1 of the prompt is 98, and 5 in the reply",
    );
    check(
        Generate,
        sglang(json!([[null, 97], [-0.5, 98], [1e99, 99]])),
        "token 2 of the prompt is 1e+99",
    );
    check(
        Generate,
        sglang(json!([[null, 97], [-0.5, 3], [-1.0, 99]])),
        "is 98, and 3 in the reply",
    );
    check(Generate, vllm(json!([])), "no list `/meta_info/input_token_logprobs`");
    let problem = reply::read("<html>", Generate, &PROMPT, &byte_tokenizer()).unwrap_err();
    assert!(problem.starts_with("it is not JSON"), "{problem}");
}

#[test]
fn marks_of_tokenizers_are_no_difference() {
    // A space that starts a word, a byte of a longer character, and a line break, as servers write them.
    let prompt = [32, 195, 10];
    for tokens in [
        ["\u{2581}", "\u{fffd}", "\n"],
        ["\u{120}", "bytes:\\xc3", "\u{10a}"],
        [" ", "<0xC3>", "<0x0A>"],
        ["", "\u{c3}", "\n"],
    ] {
        let reply = echo(json!(tokens), json!([null, -1.0, -1.0])).to_string();
        let read = reply::read(&reply, TeacherApi::Echo, &prompt, &byte_tokenizer());
        assert_eq!(read.map(|it| it.0), Ok(vec![0.0, -1.0, -1.0]), "{tokens:?}");
    }
}

fn model(tokenizer: Tokenizer, vocab_size: usize) -> LanguageModel {
    let config = ModelConfig { vocab_size, ..tiny_config() };
    LanguageModel::initialize(config, tokenizer, 1, &Device::flex())
}

#[test]
fn a_local_teacher_has_the_policys_vocabulary() {
    let policy = model(byte_tokenizer(), 257);
    let check = |teacher: LanguageModel| Teacher::Model(Box::new(teacher)).check(&policy);
    check(model(byte_tokenizer(), 257)).unwrap();
    // Padding of a larger model of the family.
    check(model(byte_tokenizer(), 320)).unwrap();
    let world = zs_simulator::pretraining::world_tokenizer();
    let size = world.vocab_size();
    let error = check(model(world, size)).unwrap_err();
    assert!(matches!(error, TeacherError::OtherTokenizer { token: 0, .. }), "{error}");
    assert!(!error.to_string().contains('\n'), "{error}");
    let changed = byte_tokenizer().to_json().unwrap().replace("<eos>", "<end>");
    let changed = Tokenizer::from_bytes(changed.as_bytes(), "changed").unwrap();
    let error = check(model(changed, 257)).unwrap_err().to_string();
    assert!(error.contains("token 256 is \"<end>\" there and \"<eos>\" here"), "{error}");
    let padded = model(byte_tokenizer(), 320);
    let error = Teacher::Model(Box::new(policy.clone())).check(&padded).unwrap_err().to_string();
    assert!(error.contains("the teacher has 257 logits and the policy 320"), "{error}");
}

#[test]
fn settings_are_checked() {
    let check = |spec: Value, expected: &str| {
        let spec: Spec = serde_json::from_value(spec).unwrap();
        let error = teachers().resolve(&spec).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(
        json!({ "kind": "locl", "model": "m" }),
        "unknown teacher `locl` (did you mean `local`?)",
    );
    check(json!({ "kind": "local", "modle": "m" }), "missing field `model`");
    check(json!({ "kind": "server", "endpoints": [] }), "must have at least one address");
    let server = |key: &str, value: Value| json!({ "kind": "server", "endpoints": ["http://a"], key: value });
    check(server("api", json!("chat")), "unknown variant `chat`");
    check(
        server("http", json!({ "max_attempts": 0 })),
        "`http.max_attempts` of teacher `server` must",
    );
    check(server("http", json!({ "max_attempt": 1 })), "unknown setting `http.max_attempt`");
    let spec: Spec = serde_json::from_value(json!({ "kind": "local", "model": "m" })).unwrap();
    assert_eq!(teachers().inputs(&spec).unwrap(), [Path::new("m")]);
}
