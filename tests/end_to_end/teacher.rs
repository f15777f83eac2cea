//! Distillation of a teacher in whole runs: a student gets nearer to it without any reward; a teacher on
//! a server is the same teacher; what cannot be a teacher is refused.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::{Value, json};
use zs_model::testing::{byte_tokenizer, tiny_config};
use zs_model::{Generator, LanguageModel, PolicyModel, TokenId, TokenRow};
use zs_search::http::testing::{CannedResponse, Received, TestServer};

use crate::common::{
    assert_same_files, copy, recorded_groups, run_of_six_steps, take_back, tiny_model, zs, zs_ok,
};

fn shipped_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/zs-tiny")
}

/// Adds numbers of a fixed sequence to every weight.
struct Disturbance {
    scale: f64,
}

impl ModuleMapper for Disturbance {
    fn map_float<const D: usize>(&mut self, weights: Param<Tensor<D>>) -> Param<Tensor<D>> {
        weights.map(|it| {
            let (shape, device) = (it.shape(), it.device());
            let disturbance = |at| ((f64::from(at) * 2.4).sin() * self.scale) as f32;
            let numbers: Vec<f32> = (0..shape.num_elements() as u32).map(disturbance).collect();
            it + Tensor::from_data(TensorData::new(numbers, shape), &device)
        })
    }
}

/// The shipped model with disturbed weights: it knows the format, and errs.
fn save_student(dir: &Path) {
    let model = LanguageModel::load(&shipped_model(), &Device::flex()).unwrap();
    let network = model.network().clone().map(&mut Disturbance { scale: 0.03 });
    model.with_network(&network).save(dir).unwrap();
}

const NUM_STEPS: usize = 8;

/// A run in which a student learns from a teacher alone; each step asks all questions.
fn student_run(out: &str, kl_coef: f64, placement: &str) -> String {
    format!(
        r#"
seed = 5
out = "{out}"
policy = "student"
teacher = {{ kind = "local", model = '{}' }}
questions = {{ kind = "world", world = {{ seed = 1, split = "train" }}, per_hop = 16 }}
engine = {{ kind = "bm25", world = {{ seed = 1, split = "train" }} }}

[training.schedule]
steps = {NUM_STEPS}
questions_per_step = 32
group_size = 3
record_every = 0

[training.rollout]
max_searches = 3
num_documents = 3
max_new_tokens = 48
max_observation_tokens = 160
prompt_template = "Question: {{{{ question }}}}\n"

[training.algorithm]
kind = "grpo"
kl_coef = 0.0
entropy_coef = 0.0

[training.update.distillation]
reward_coef = 0.0
kl_coef = {kl_coef:?}
kl_placement = "{placement}"

[training.optimizer]
learning_rate = 3e-4
weight_decay = 0.0
warmup_steps = 1
"#,
        shipped_model().display()
    )
}

fn metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

#[test]
fn a_student_gets_nearer_to_its_teacher_without_any_reward() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    save_student(&dir.join("student"));
    let run = |out: &str, kl_coef, placement| {
        fs::write(dir.join("run.toml"), student_run(out, kl_coef, placement)).unwrap();
        zs_ok(dir, &["train", "run.toml"]);
        let of = |row: &Value| row["teacher/kl_k3"].as_f64().unwrap();
        let kl: Vec<f64> = metrics(&dir.join(out))[1..].iter().map(of).collect();
        let mean_of_two = |at: usize| (kl[at] + kl[at + 1]) / 2.0;
        (mean_of_two(0), mean_of_two(NUM_STEPS - 2))
    };
    for placement in ["advantage", "loss"] {
        let (first, last) = run(placement, 1.0, placement);
        assert!(last < 0.5 * first, "{placement}: {first} to {last}");
    }
    // Without weight, the divergence is measured and stays.
    let (first, last) = run("without", 0.0, "advantage");
    assert!(last > 0.6 * first, "{first} to {last}");
}

/// A run of six steps with a teacher and rewards.
fn taught_run(out: &str, teacher: &str, update: &str) -> String {
    let extra = format!("[teacher]\n{teacher}\n[training.update.distillation]\n{update}\n");
    run_of_six_steps(out, "model", &extra)
}

/// Log-probability of each token under a model; 0 for the first.
fn log_probs(model: &LanguageModel, tokens: &[TokenId]) -> Vec<f32> {
    let loss_mask = (0..tokens.len()).map(|it| it > 0).collect();
    let row = TokenRow { tokens: tokens.to_vec(), loss_mask };
    model.network().token_scores(&[row]).log_probs.into_data().iter::<f32>().collect()
}

/// A server that speaks one of the forms; `spoil` may change its replies.
fn teacher_server(
    model: LanguageModel,
    spoil: impl Fn(usize, &mut Value) + Send + Sync + 'static,
) -> TestServer {
    TestServer::start(move |index, received: &Received| {
        let body: Value = serde_json::from_str(&received.body).unwrap();
        let is_sglang = received.target == "/generate";
        let prompt = &body[if is_sglang { "input_ids" } else { "prompt" }];
        let prompt: Vec<TokenId> = serde_json::from_value(prompt.clone()).unwrap();
        let text = |it: TokenId| model.tokenizer().decode_with_special(&[it]);
        let numbers = log_probs(&model, &prompt);
        let number = |at: usize| if at == 0 { Value::Null } else { json!(numbers[at]) };
        let tokens = prompt.iter().copied().enumerate();
        let mut reply = if is_sglang {
            let entries: Vec<Value> =
                tokens.map(|(at, it)| json!([number(at), it, text(it)])).collect();
            json!({ "meta_info": { "input_token_logprobs": entries } })
        } else if body["echo"] == true {
            let texts: Vec<String> =
                prompt.iter().map(|it| text(*it)).chain(["x".into()]).collect();
            let numbers: Vec<Value> = (0..prompt.len()).map(number).chain([json!(-1.0)]).collect();
            json!({ "choices": [{ "logprobs": { "tokens": texts, "token_logprobs": numbers } }] })
        } else {
            assert!(body["prompt_logprobs"] == 1 && body["max_tokens"] == 1, "{body}");
            let entry = |(at, it): (usize, TokenId)| match at {
                0 => Value::Null,
                _ => {
                    json!({ it.to_string(): { "logprob": number(at), "decoded_token": text(it) } })
                }
            };
            json!({ "choices": [{ "prompt_logprobs": tokens.map(entry).collect::<Vec<_>>() }] })
        };
        spoil(index, &mut reply);
        match reply.is_null() {
            true => CannedResponse::status(503, "busy"),
            false => CannedResponse::ok(&reply.to_string()),
        }
    })
}

fn server_table(url: &str, api: &str) -> String {
    let base = if api == "generate" { url.to_owned() } else { format!("{url}/v1") };
    format!(
        "kind = \"server\"\nendpoints = [\"{base}\"]\napi = \"{api}\"\nmodel = \"large\"\n\
         http = {{ backoff_s = 0.001, max_backoff_s = 0.001, max_attempts = 4, breaker_failures = 100 }}"
    )
}

#[test]
fn a_teacher_on_a_server_is_the_same_teacher() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    tiny_model(2).save(&dir.join("large")).unwrap();
    let run = |out: &str, teacher: &str| {
        fs::write(dir.join("run.toml"), taught_run(out, teacher, "kl_coef = 0.5")).unwrap();
        zs_ok(dir, &["train", "run.toml"]);
        metrics(&dir.join(out))
    };
    let local = run("local", "kind = \"local\"\nmodel = \"large\"");
    assert!(recorded_groups(&dir.join("local")).iter().all(|it| it.teacher_log_probs.is_empty()));
    for api in ["prompt_logprobs", "echo", "generate"] {
        // One of five requests is refused at first.
        let busy = |number: usize, reply: &mut Value| {
            if number % 5 == 4 {
                *reply = Value::Null;
            }
        };
        let server = teacher_server(tiny_model(2), busy);
        let remote = run(api, &server_table(&server.url(), api));
        assert!(server.num_requests() > 6 * 4);
        drop(server);
        for (step, (local, remote)) in local.iter().zip(&remote).enumerate().skip(1) {
            for key in ["teacher/kl", "teacher/kl_k3", "actor/pg_loss"] {
                let [local, remote] = [local, remote].map(|it| it[key].as_f64().unwrap());
                assert!(
                    (local - remote).abs() < 1e-3,
                    "{api}, step {step}, {key}: {local} {remote}"
                );
            }
        }
        let groups = recorded_groups(&dir.join(api));
        assert!(groups.iter().all(|it| it.teacher_log_probs.len() == it.group.trajectories.len()));
        // From the record alone: the server is gone.
        zs_ok(dir, &["replay", api, "--step", "4"]);
        zs_ok(dir, &["audit", api, "--replay", "--steps", "100"]);
    }
    zs_ok(dir, &["audit", "local", "--replay", "--steps", "100"]);
}

#[test]
fn taught_runs_resume_to_the_same_bytes() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    tiny_model(2).save(&dir.join("large")).unwrap();
    let server = teacher_server(tiny_model(2), |_, _| {});
    let selective = "kl_placement = \"reward\"\nkl_coef = 0.001\nepisodes = \"wrong\"";
    for (name, teacher, update) in [
        ("local", "kind = \"local\"\nmodel = \"large\"".to_owned(), "kl_placement = \"loss\""),
        ("server", server_table(&server.url(), "prompt_logprobs"), selective),
    ] {
        fs::write(dir.join("run.toml"), taught_run(name, &teacher, update)).unwrap();
        zs_ok(dir, &["train", "run.toml"]);
        for step in [0, 3, 5] {
            let resumed = format!("{name}-{step}");
            copy(&dir.join(name), &dir.join(&resumed));
            take_back(&dir.join(&resumed), step);
            zs_ok(dir, &["train", "--resume", &resumed]);
            assert_same_files(&dir.join(name), &dir.join(&resumed));
        }
    }
}

#[test]
fn what_cannot_teach_is_refused_before_the_run() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    let bytes = LanguageModel::initialize(tiny_config(), byte_tokenizer(), 1, &Device::flex());
    bytes.save(&dir.join("bytes")).unwrap();
    let check = |text: &str, expected: &str| {
        fs::write(dir.join("run.toml"), text).unwrap();
        let output = zs(dir, &["train", "run.toml"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(expected), "{expected}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert!(!dir.join("run").exists());
        let doctor = zs(dir, &["doctor", "run.toml"]);
        assert!(!doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stdout));
    };
    let local = |model: &str| format!("kind = \"local\"\nmodel = \"{model}\"");
    check(&taught_run("run", &local("bytes"), ""), "another tokenizer than the policy: token 0 is");
    check(
        &taught_run("run", &local("nowhere"), ""),
        "nowhere/config.json: cannot read the model's configuration",
    );
    let lonely =
        run_of_six_steps("run", "model", "[training.update.distillation]\nkl_coef = 1.0\n");
    check(&lonely, "`training.update.distillation` needs a teacher; add the table `teacher`");
    let unused =
        run_of_six_steps("run", "model", "[teacher]\nkind = \"local\"\nmodel = \"model\"\n");
    check(&unused, "`teacher` is given, but `training.update.distillation` is not");
    let nobody =
        "kind = \"server\"\nendpoints = [\"http://127.0.0.1:9/v1\"]\nhttp = { max_attempts = 1 }";
    check(&taught_run("run", nobody, ""), "teacher: gave up after 1 attempts: http://127.0.0.1:9");

    type Spoil = fn(&mut Value);
    let spoiled: [(Spoil, &str); 4] = [
        (
            |it| drop(it["choices"][0]["prompt_logprobs"].as_array_mut().unwrap().pop()),
            "has 63 log-probabilities for a prompt of 64 tokens",
        ),
        (
            |it| it["choices"][0]["prompt_logprobs"][5] = Value::Null,
            "token 5 of the prompt is null",
        ),
        (
            |it| it["choices"][0]["prompt_logprobs"][5] = json!({ "1": { "logprob": -1.0 } }),
            "it has nothing about token 5 of the prompt",
        ),
        (
            |it| {
                let entry = it["choices"][0]["prompt_logprobs"][5].as_object_mut().unwrap();
                entry.values_mut().for_each(|it| it["decoded_token"] = "zebra".into());
            },
            "another tokenizer than the policy",
        ),
    ];
    for (spoil, expected) in spoiled {
        let server = teacher_server(tiny_model(2), move |_, reply| spoil(reply));
        let table = server_table(&server.url(), "prompt_logprobs");
        check(&taught_run("run", &table, ""), expected);
    }
    fs::write(dir.join("run.toml"), taught_run("run", &local("model"), "")).unwrap();
    let plan = zs_ok(dir, &["train", "run.toml", "--dry-run"]);
    assert!(
        plan.contains("  teacher\n") && plan.contains("[training.update.distillation]"),
        "{plan}"
    );
    let doctor = zs_ok(dir, &["doctor", "run.toml"]);
    assert!(doctor.contains("local, with the policy's tokens"), "{doctor}");
}
