//! `--device`: what a command computes on.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::{contents, tiny_model, train_toml, zs, zs_ok};

/// Trains with PPO, which has a policy, a value model and a reference, and returns the metrics.
fn train(dir: &Path, out: &str, devices: &str) -> Vec<Value> {
    fs::write(dir.join("run.toml"), train_toml(out)).unwrap();
    let set =
        ["--set", "training.algorithm.kind=ppo", "--set", "training.update.micro_batch_tokens=150"];
    zs_ok(dir, &[&["--devices", devices, "train", "run.toml"], &set[..]].concat());
    let text = fs::read_to_string(dir.join(out).join("metrics.jsonl")).unwrap();
    text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

#[test]
fn a_run_on_two_devices_is_that_on_one_up_to_rounding() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    let one = train(dir, "one", "cpu");
    let two = train(dir, "two", "cpu,cpu");
    assert_eq!(one.len(), two.len());
    for (one, two) in one.iter().zip(&two) {
        let (one, two) = (one.as_object().unwrap(), two.as_object().unwrap());
        assert!(one.keys().eq(two.keys()), "{:?} {:?}", one.keys(), two.keys());
        for (key, value) in one {
            let (a, b) = (value.as_f64(), two[key].as_f64());
            let Some((a, b)) = a.zip(b) else { continue };
            // How far sampling and training disagree is itself rounding.
            assert!((a - b).abs() <= 1e-3 * a.abs().max(1.0), "{key}: {a} {b}");
        }
    }
    train(dir, "again", "cpu,cpu");
    let of = |out: &str| fs::read(dir.join(out).join("metrics.jsonl")).unwrap();
    assert_eq!(of("again"), of("two"), "the same devices give the same bytes");
    let (first, second) = (dir.join("again/checkpoints"), dir.join("two/checkpoints"));
    assert!(contents(&first) == contents(&second), "the same devices give the same bytes");
    let environment = fs::read_to_string(dir.join("two/environment.json")).unwrap();
    let environment: Value = serde_json::from_str(&environment).unwrap();
    assert_eq!(environment["device"].as_str().unwrap().split(", ").count(), 2);
}

/// A run whose simulation LLM has a device of its own, where that is the policy's all the same.
#[test]
fn a_simulator_may_have_a_device_of_its_own() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    let engine = "engine={ kind = \"simulated\", model = \"model\" }";
    let metrics = |out: &str, device: &[&str]| {
        fs::write(dir.join("run.toml"), train_toml(out)).unwrap();
        let lanes = ["--set", engine, "--set", "training.rollout.lanes=2"];
        zs_ok(dir, &[device, &["train", "run.toml"], &lanes[..]].concat());
        fs::read(dir.join(out).join("metrics.jsonl")).unwrap()
    };
    let shared = metrics("shared", &[]);
    assert_eq!(metrics("own", &["--simulator-device", "cpu"]), shared);
    if cfg!(not(feature = "cuda")) {
        let refused = [
            "--simulator-device",
            "cuda:1",
            "train",
            "run.toml",
            "--force",
            "--set",
            engine,
            "--set",
            "out=refused",
        ];
        let output = zs(dir, &refused);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert!(said.contains("--simulator-device") && said.contains("cuda:1"), "{said}");
    }
}

#[track_caller]
fn check_refused(arguments: &[&str], expected: &[&str]) {
    let scratch = tempfile::tempdir().unwrap();
    tiny_model(1).save(&scratch.path().join("model")).unwrap();
    let output = zs(scratch.path(), arguments);
    assert!(!output.status.success(), "zs {arguments:?} must fail");
    let stderr = String::from_utf8(output.stderr).unwrap();
    for part in expected {
        assert!(stderr.contains(part), "`{part}` is not in: {stderr}");
    }
}

#[test]
fn a_device_that_cannot_be_used_says_what_to_do() {
    let warm_up = ["warm-up", "--model", "model", "--device"];
    check_refused(&[&warm_up[..], &["gpu"]].concat(), &["`gpu` is not a device", "cuda:1"]);
    if cfg!(not(feature = "cuda")) {
        let refused = [&warm_up[..], &["cuda:1"]].concat();
        check_refused(&refused, &["error: --device cuda:1", "--features cuda"]);
        check_refused(&[&warm_up[..], &["0,1"]].concat(), &["cuda:0", "built without"]);
    }
}

#[test]
fn a_build_for_cpus_says_so_and_is_healthy() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let table = zs_ok(dir, &["--device", "cpu", "doctor", "--json", "doctor.json"]);
    let text = fs::read_to_string(dir.join("doctor.json")).unwrap();
    let found: Vec<Value> = serde_json::from_str(&text).unwrap();
    let state_of = |what: &str| found.iter().find(|it| it["what"] == what).map(|it| &it["state"]);
    assert_eq!(state_of("device").unwrap(), "ok");
    assert_eq!(state_of("canary of cpu").unwrap(), "ok");
    if cfg!(not(feature = "cuda")) {
        assert!(table.contains("built for CPUs only"), "{table}");
        assert_eq!(state_of("CUDA").unwrap(), "absent");
    }
}

#[test]
fn warming_up_computes_every_shape_twice() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    let arguments =
        ["--rows", "3", "--tokens", "100", "--update-rows", "2", "--json", "times.json"];
    let table = zs_ok(dir, &[&["warm-up", "--model", "model"], &arguments[..]].concat());
    assert!(table.contains("first pass") && table.contains("together"), "{table}");
    let text = fs::read_to_string(dir.join("times.json")).unwrap();
    let times: Value = serde_json::from_str(&text).unwrap();
    let shapes: Vec<(&str, u64, u64)> = times["work"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let number = |key: &str| it[key].as_u64().unwrap();
            (it["kind"].as_str().unwrap(), number("rows"), number("tokens"))
        })
        .collect();
    let of_rows = |rows| [("sample", rows, 64), ("sample", rows, 99)];
    let samples = [1, 2, 4].map(of_rows).concat();
    assert_eq!(shapes[..6], samples);
    assert_eq!(shapes[6..], [("update", 2, 100)]);
    let total: f64 =
        times["work"].as_array().unwrap().iter().map(|it| it["first_s"].as_f64().unwrap()).sum();
    assert!((times["first_s"].as_f64().unwrap() - total).abs() < 1e-9);
}

#[test]
fn a_device_is_compared_with_what_another_one_wrote() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    let verify = ["verify", "--model", "model"];
    zs_ok(dir, &[&verify[..], &["--write", "golden.safetensors", "--device", "cpu"]].concat());
    let golden = ["--golden", "golden.safetensors", "--json", "report.json"];
    zs_ok(dir, &[&verify[..], &golden[..]].concat());
    let report = fs::read_to_string(dir.join("report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(report["checks"].as_array().unwrap().iter().all(|it| it["passed"] == true));
    tiny_model(2).save(&dir.join("model")).unwrap();
    assert!(!zs(dir, &[&verify[..], &golden[..]].concat()).status.success());
}
