//! Runs that are held against their records: equal, tampered with, killed, on other machines.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use zs_data::digest;

use crate::common::{
    assert_same_files, copy, python_with, run_of_six_steps, searcher, take_back, tiny_model, zs,
    zs_ok,
};

const ALL: [&str; 5] = ["audit", "run", "--replay", "--steps", "100"];

/// A run of six steps with every checkpoint, in `run`.
fn run_in(dir: &Path, extra: &str) {
    searcher(dir);
    let text = run_of_six_steps("run", "searcher/checkpoints/final", extra);
    fs::write(dir.join("run.toml"), text).unwrap();
    zs_ok(dir, &["train", "run.toml"]);
}

/// Audits `run` and expects one line of refusal.
#[track_caller]
fn refused(dir: &Path, arguments: &[&str]) -> String {
    let output = zs(dir, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.lines().count() == 1, "{arguments:?}: {said}");
    said
}

/// Changes the line of a step in a JSON Lines file.
fn edit(path: &Path, step: usize, change: impl Fn(&str) -> String) {
    let text = fs::read_to_string(path).unwrap();
    let is_it = |it: &str| serde_json::from_str::<Value>(it).unwrap()["step"] == step;
    let lines = text.lines().map(|it| match is_it(it) {
        true => change(it) + "\n",
        false => format!("{it}\n"),
    });
    fs::write(path, lines.collect::<String>()).unwrap();
}

fn value_of(path: &Path, step: usize, key: &str) -> String {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|it| serde_json::from_str::<Value>(it).unwrap());
    let value = lines.filter(|it| it["step"] == step).map(|it| it[key].clone()).next().unwrap();
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Chains the lines of a record anew, as somebody who forges one would.
fn chain_anew(path: &Path) {
    let (mut chained, mut previous) = (String::new(), String::new());
    for line in fs::read_to_string(path).unwrap().lines() {
        let (text, _) = line.strip_suffix("\"}").unwrap().rsplit_once(",\"hash\":\"").unwrap();
        previous = digest::of_bytes(format!("{previous}{text}").as_bytes());
        chained += &format!("{text},\"hash\":\"{previous}\"}}\n");
    }
    fs::write(path, chained).unwrap();
}

/// Every kind of state that a step depends on.
#[test]
fn untouched_runs_are_equal() {
    for extra in [
        "[training.algorithm]\nkind = \"ppo\"\n[training.update]\nmini_batches = 2\n",
        "[training.algorithm]\nkind = \"dapo\"\ndynamic_sampling = { max_refills = 2 }\n[training.lora]\nr = 2\nalpha = 4.0\ntarget_modules = [\"q_proj\"]\n",
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        run_in(dir, extra);
        let said = zs_ok(dir, &ALL);
        assert!(said.contains("equal: 6 of 6 steps were computed again"), "{said}");
        let said = zs_ok(dir, &["audit", "run", "--steps", "2", "--seed", "5"]);
        assert!(said.contains("equal: 2 of 6 steps were computed again (6 could be"), "{said}");
        let said = zs_ok(dir, &["audit", "run", "--steps", "0"]);
        assert!(said.contains("no step was computed again"), "{said}");

        // Fewer checkpoints: steps are reached over others.
        for step in [1, 2, 3, 5, 6] {
            fs::remove_dir_all(dir.join(format!("run/checkpoints/step-00000{step}"))).unwrap();
        }
        let said = zs_ok(dir, &["audit", "run"]);
        assert!(said.contains("equal: 2 of 6 steps were computed again (2 could be"), "{said}");
        let said = zs_ok(dir, &ALL);
        assert!(said.contains("step 3, from the beginning of the run: equal"), "{said}");
        assert!(said.contains("step 6, from the checkpoint of step 4: equal"), "{said}");

        // The same seed writes the same bytes.
        let record = fs::read(dir.join("run/audit.jsonl")).unwrap();
        fs::remove_dir_all(dir.join("run")).unwrap();
        zs_ok(dir, &["train", "run.toml"]);
        assert!(record == fs::read(dir.join("run/audit.jsonl")).unwrap());
    }
}

/// Each is found by the record alone, and named with its step.
#[test]
fn what_was_tampered_with_is_named() {
    type Tamper = fn(&Path);
    fn flip(path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    /// With a manifest that agrees.
    fn replace_weights(checkpoint: &Path) {
        let path = checkpoint.join("policy/model.safetensors");
        let before = digest::of_file(&path).unwrap();
        // In the last value.
        let mut bytes = fs::read(&path).unwrap();
        *bytes.iter_mut().nth_back(1).unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        let manifest = checkpoint.join("manifest.json");
        let text = fs::read_to_string(&manifest).unwrap();
        let after = digest::of_file(&path).unwrap();
        fs::write(manifest, text.replace(&before, &after)).unwrap();
    }
    fn cut(path: &Path, lines: usize) {
        let text = fs::read_to_string(path).unwrap();
        let num_kept = text.lines().count() - lines;
        fs::write(path, text.split_inclusive('\n').take(num_kept).collect::<String>()).unwrap();
    }
    let tampers: [(&str, Tamper, &str); 17] = [
        (
            "a digit of the record",
            |run| {
                edit(&run.join("audit.jsonl"), 3, |it| {
                    let (first, _) = it.split_once("\"rewards\":\"").unwrap();
                    let at = first.len() + "\"rewards\":\"".len();
                    let digit = if &it[at..=at] == "0" { "1" } else { "0" };
                    format!("{}{digit}{}", &it[..at], &it[at + 1..])
                });
            },
            "step 3: run/audit.jsonl, line 5: its hash does not follow",
        ),
        (
            "a line of the record",
            |run| edit(&run.join("audit.jsonl"), 3, |_| "{}".to_owned()),
            "step 3: run/audit.jsonl, line 5: not a line of a record",
        ),
        (
            "a line of the record that is gone",
            |run| {
                let path = run.join("audit.jsonl");
                let text = fs::read_to_string(&path).unwrap();
                let kept = text.split_inclusive('\n').filter(|it| !it.contains("\"step\":3,"));
                fs::write(&path, kept.collect::<String>()).unwrap();
            },
            "step 4: run/audit.jsonl, line 5: its hash does not follow",
        ),
        (
            "a line that is gone from a chain made anew",
            |run| {
                let path = run.join("audit.jsonl");
                let text = fs::read_to_string(&path).unwrap();
                let kept = text.split_inclusive('\n').filter(|it| !it.contains("\"step\":3,"));
                fs::write(&path, kept.collect::<String>()).unwrap();
                chain_anew(&path);
            },
            "step 4: run/audit.jsonl, line 5: not the line of the next step",
        ),
        (
            "the end of the record",
            |run| cut(&run.join("audit.jsonl"), 3),
            "step 4: run/audit.jsonl, line 6: the record ends here although the run is finished",
        ),
        (
            "a torn record",
            |run| {
                let path = run.join("audit.jsonl");
                let bytes = fs::read(&path).unwrap();
                fs::write(path, &bytes[..bytes.len() - 300]).unwrap();
            },
            "step 6: run/audit.jsonl, line 8: was cut short",
        ),
        (
            "an episode",
            |run| flip(&run.join("rollouts/step-000002.jsonl.zst")),
            "step 2: run/rollouts/step-000002.jsonl.zst: its bytes are not the recorded ones",
        ),
        (
            "the episodes of a step",
            |run| fs::remove_file(run.join("rollouts/step-000005.jsonl.zst")).unwrap(),
            "step 5: run/rollouts/step-000005.jsonl.zst: is missing",
        ),
        (
            "a metric",
            |run| {
                edit(&run.join("metrics.jsonl"), 4, |it| {
                    it.replace("\"reward/mean\":", "\"reward/mean\":1")
                });
            },
            "step 4: run/metrics.jsonl: the line of this step is not the recorded one",
        ),
        (
            "the metrics of the last step",
            |run| cut(&run.join("metrics.jsonl"), 1),
            "step 6: run/metrics.jsonl: the line of this step is missing",
        ),
        (
            "the run file",
            |run| {
                let path = run.join("config.toml");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(path, text.replace("learning_rate = 0.001", "learning_rate = 0.01"))
                    .unwrap();
            },
            "step 0: run/config.toml: not the run file that the step was computed with",
        ),
        (
            "the list of inputs",
            |run| {
                let path = run.join("environment.json");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(path, text.replace("tokenizer.json", "tokenizers.json")).unwrap();
            },
            "step 0: run/environment.json: not the list of the files",
        ),
        (
            "an input",
            |run| {
                let dir = run.parent().unwrap().join("searcher/checkpoints/final");
                tiny_model(2).save(&dir).unwrap();
            },
            "step 0: searcher/checkpoints/final/model.safetensors: not the file that the step was",
        ),
        (
            "a weight",
            |run| flip(&run.join("checkpoints/step-000003/policy/model.safetensors")),
            "step 3: run/checkpoints/step-000003/policy/model.safetensors: its bytes have changed",
        ),
        (
            "a weight and the manifest",
            |run| replace_weights(&run.join("checkpoints/step-000004")),
            "step 4: run/checkpoints/step-000004/policy: its weights are not those",
        ),
        (
            "a weight of the model",
            |run| flip(&run.join("checkpoints/final/model.safetensors")),
            "step 6: run/checkpoints/final: its bytes are not the recorded ones",
        ),
        (
            "the best model",
            |run| {
                let best = run.join("checkpoints/best");
                fs::remove_dir_all(&best).unwrap();
                tiny_model(1).save(&best).unwrap();
            },
            ": run/checkpoints/best: its bytes are not the recorded ones",
        ),
    ];
    let scratch = tempfile::tempdir().unwrap();
    let (dir, whole) = (&scratch.path().join("dir"), scratch.path().join("whole"));
    fs::create_dir(dir).unwrap();
    run_in(dir, "");
    copy(dir, &whole);
    for (name, tamper, expected) in tampers {
        tamper(&dir.join("run"));
        let said = refused(dir, &["audit", "run"]);
        assert!(said.contains(expected), "{name}: {said}");
        fs::remove_dir_all(dir).unwrap();
        copy(&whole, dir);
        zs_ok(dir, &["audit", "run", "--steps", "0"]);
    }
}

/// A record that was forged as a whole is found by computing its steps again.
#[test]
fn forged_steps_are_computed_otherwise() {
    type Forge = fn(&Path);
    let forges: [(&str, Forge, &str); 5] = [
        (
            "a metric that is computed in the update",
            |run| {
                let (metrics, record) = (run.join("metrics.jsonl"), run.join("audit.jsonl"));
                let norm = value_of(&metrics, 3, "actor/grad_norm");
                edit(&metrics, 3, |it| it.replace(&norm, "0.125"));
                let text = fs::read_to_string(&metrics).unwrap();
                let now = digest::of_bytes(text.lines().nth(3).unwrap().as_bytes());
                let before = value_of(&record, 3, "metrics");
                edit(&record, 3, |it| it.replace(&before, &now));
            },
            "step 3: actor/grad_norm was recorded as 0.125 and is 0.",
        ),
        (
            "a metric of the episodes",
            |run| {
                let (metrics, record) = (run.join("metrics.jsonl"), run.join("audit.jsonl"));
                let mean = value_of(&metrics, 2, "reward/mean");
                let forged = "\"reward/mean\":0.875";
                edit(&metrics, 2, |it| it.replace(&format!("\"reward/mean\":{mean}"), forged));
                let text = fs::read_to_string(&metrics).unwrap();
                let now = digest::of_bytes(text.lines().nth(2).unwrap().as_bytes());
                let before = value_of(&record, 2, "metrics");
                edit(&record, 2, |it| it.replace(&before, &now));
            },
            "step 2: reward/mean was recorded as 0.875",
        ),
        (
            "a reward",
            |run| {
                let (file, record) =
                    (run.join("rollouts/step-000004.jsonl.zst"), run.join("audit.jsonl"));
                let text = zstd::decode_all(&fs::read(&file).unwrap()[..]).unwrap();
                let text = String::from_utf8(text).unwrap();
                let at = text.find("\"total\":").unwrap() + "\"total\":".len();
                let end = at + text[at..].find([',', '}']).unwrap();
                let forged = format!("{}0.75{}", &text[..at], &text[end..]);
                fs::write(&file, zstd::encode_all(forged.as_bytes(), 3).unwrap()).unwrap();
                let before = value_of(&record, 4, "episodes");
                let now = digest::of_file(&file).unwrap();
                edit(&record, 4, |it| it.replace(&before, &now));
            },
            "step 4: run/rollouts/step-000004.jsonl.zst: its rewards are not the recorded ones",
        ),
        (
            "a reward and its digest",
            |run| {
                let (file, record) =
                    (run.join("rollouts/step-000004.jsonl.zst"), run.join("audit.jsonl"));
                let text = zstd::decode_all(&fs::read(&file).unwrap()[..]).unwrap();
                let text = String::from_utf8(text).unwrap();
                let totals = text.split("\"total\":").skip(1);
                let mut rewards: Vec<f32> =
                    totals.map(|it| it[..it.find([',', '}']).unwrap()].parse().unwrap()).collect();
                rewards[0] = 0.75;
                let (start, rest) = text.split_once("\"total\":").unwrap();
                let rest = &rest[rest.find([',', '}']).unwrap()..];
                let forged = format!("{start}\"total\":0.75{rest}");
                fs::write(&file, zstd::encode_all(forged.as_bytes(), 3).unwrap()).unwrap();
                let bytes: Vec<u8> = rewards.iter().flat_map(|it| it.to_le_bytes()).collect();
                for (key, now) in [
                    ("episodes", digest::of_file(&file).unwrap()),
                    ("rewards", digest::of_bytes(&bytes)),
                ] {
                    let before = value_of(&record, 4, key);
                    edit(&record, 4, |it| it.replace(&before, &now));
                }
            },
            "step 4: entry 0 of the rewards was recorded as 0.75 and is 0",
        ),
        (
            "gradients",
            |run| {
                let record = run.join("audit.jsonl");
                let before = value_of(&record, 5, "gradients");
                edit(&record, 5, |it| it.replace(&before, &"ab".repeat(32)));
            },
            "step 5: the digest of the gradients was recorded as abababababab and is",
        ),
    ];
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    run_in(dir, "");
    copy(&dir.join("run"), &dir.join("whole"));
    for (name, forge, expected) in forges {
        forge(&dir.join("run"));
        let said = refused(dir, &["audit", "run", "--steps", "0"]);
        assert!(said.contains("its hash does not follow"), "{name}: {said}");
        chain_anew(&dir.join("run/audit.jsonl"));
        zs_ok(dir, &["audit", "run", "--steps", "0"]);
        let said = refused(dir, &ALL);
        assert!(said.contains(expected), "{name}: {said}");
        fs::remove_dir_all(dir.join("run")).unwrap();
        copy(&dir.join("whole"), &dir.join("run"));
    }
}

/// Weights that another run file would have led to are found, and how far they are off.
#[test]
fn weights_of_another_run_are_measured() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    run_in(dir, "");
    // The record of one run is put on the settings of another.
    let slow = fs::read_to_string(dir.join("run/config.toml")).unwrap();
    let record = dir.join("run/audit.jsonl");
    let before = digest::of_bytes(slow.as_bytes());
    let fast = slow.replace("max_grad_norm = 1.0", "max_grad_norm = 0.001");
    assert_ne!(fast, slow);
    fs::write(dir.join("run/config.toml"), &fast).unwrap();
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace(&before, &digest::of_bytes(fast.as_bytes()))).unwrap();
    chain_anew(&record);
    let said = refused(dir, &ALL);
    assert!(said.contains("weights differ by at most") && said.contains(": step "), "{said}");
    assert!(said.contains("the digest of the weights was recorded as"), "{said}");
}

#[test]
fn runs_without_a_record_are_told_apart() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    run_in(dir, "");
    fs::remove_file(dir.join("run/audit.jsonl")).unwrap();
    let said = refused(dir, &["audit", "run"]);
    assert!(said.contains("run: has no audit.jsonl") && said.contains("zs replay run"), "{said}");
    // Such a run that is resumed has a record from there on.
    take_back(&dir.join("run"), 4);
    zs_ok(dir, &["train", "--resume", "run"]);
    let said = zs_ok(dir, &ALL);
    assert!(said.contains("record: 2 steps") && said.contains("equal: 2 of 2 steps"), "{said}");
}

/// Without episodes there is nothing to compute from.
#[test]
fn a_run_of_which_nothing_can_be_computed_does_not_pass() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    let text =
        run_of_six_steps("run", "model", "").replace("eval_every", "record_every = 0\neval_every");
    fs::write(dir.join("run.toml"), text).unwrap();
    zs_ok(dir, &["train", "run.toml"]);
    zs_ok(dir, &["audit", "run", "--steps", "0"]);
    let said = refused(dir, &["audit", "run"]);
    assert!(said.contains("no step can be recomputed"), "{said}");
}

/// Settings that change on the way, by the way that is provided.
#[test]
fn changed_settings_are_part_of_the_record() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    run_in(dir, "");
    take_back(&dir.join("run"), 4);
    let slower = ["--set", "training.optimizer.learning_rate=1e-4"];
    zs_ok(dir, &[&["train", "--resume", "run"], &slower[..]].concat());
    let said = zs_ok(dir, &ALL);
    assert!(said.contains("equal: 2 of 6 steps were computed again (2 could be"), "{said}");
}

/// A process that is killed at some moment, and one that resumes it: the chain goes on.
#[test]
#[cfg(unix)]
fn a_killed_run_keeps_its_chain() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    let text = |out: &str| {
        let text = run_of_six_steps(out, "model", "").replace("steps = 6", "steps = 16");
        text.replace("every = 1\n", "every = 3\n")
    };
    for out in ["whole", "killed"] {
        fs::write(dir.join(format!("{out}.toml")), text(out)).unwrap();
    }
    zs_ok(dir, &["train", "whole.toml"]);
    let run = dir.join("killed");
    let mut arguments = vec!["train", "killed.toml"];
    for num_steps in [4, 8, 11] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zs-under-test"));
        command.current_dir(dir).arg("--quiet").args(&arguments);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        let lines =
            || fs::read_to_string(run.join("audit.jsonl")).map_or(0, |it| it.lines().count());
        while lines() < num_steps + 2 {
            assert!(Instant::now() < deadline, "the run does not get on");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // As it is, and with what a kill inside a write leaves.
        zs_ok(dir, &["audit", "killed", "--steps", "1"]);
        let torn = [&fs::read(run.join("audit.jsonl")).unwrap()[..], b"{\"kind\":\"step\",\"st"];
        fs::write(run.join("audit.jsonl"), torn.concat()).unwrap();
        zs_ok(dir, &["audit", "killed", "--steps", "1"]);
        arguments = vec!["train", "--resume", "killed"];
    }
    zs_ok(dir, &arguments);
    assert_same_files(&dir.join("whole"), &run);
    let said = zs_ok(dir, &["audit", "killed", "--replay", "--steps", "100"]);
    assert!(said.contains("equal: 16 of 16 steps"), "{said}");
    // Steps that are done again leave nothing behind.
    take_back(&run, 9);
    zs_ok(dir, &["train", "--resume", "killed", "--resume-from", "step-000006"]);
    zs_ok(dir, &["audit", "killed"]);
}

/// Two devices sum in another order than one: numbers have a bound there.
#[test]
fn another_kind_of_machine_has_a_bound() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    run_in(dir, "[training.update]\nmicro_batch_tokens = 150\n");
    let record = dir.join("run/audit.jsonl");
    let with_two = ["--devices", "cpu,cpu"];
    let said = zs_ok(dir, &[&with_two, &ALL[..]].concat());
    assert!(said.contains("another kind of machine: the device was"), "{said}");
    assert!(said.contains("step 2, from the checkpoint of step 1: numbers within"), "{said}");
    assert!(said.contains("of the step's change"), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("within ") && last.contains("6 of 6 steps were"), "{said}");

    // Where nothing is rounded otherwise, nothing differs.
    let text = fs::read_to_string(&record).unwrap();
    let threads = threads_in(&text);
    fs::write(&record, text.replacen(&threads, "\"threads\":4096", 1)).unwrap();
    chain_anew(&record);
    let said = zs_ok(dir, &ALL);
    assert!(said.contains("another kind of machine: threads was 4096, is"), "{said}");
    assert!(said.contains("equal: 6 of 6 steps were computed again"), "{said}");

    // A number that is off is no matter of rounding.
    let metrics = dir.join("run/metrics.jsonl");
    let norm = value_of(&metrics, 3, "actor/grad_norm");
    let forged = (norm.parse::<f64>().unwrap() * 1.2 + 0.1).to_string();
    edit(&metrics, 3, |it| it.replace(&norm, &forged));
    let line = fs::read_to_string(&metrics).unwrap().lines().nth(3).unwrap().to_owned();
    let before = value_of(&record, 3, "metrics");
    edit(&record, 3, |it| it.replace(&before, &digest::of_bytes(line.as_bytes())));
    chain_anew(&record);
    let said = refused(dir, &[&with_two, &ALL[..]].concat());
    assert!(said.contains("step 3: actor/grad_norm was recorded as"), "{said}");
    assert!(said.contains("beyond what another kind of machine explains"), "{said}");
    zs_ok(dir, &[&ALL[..], &["--tolerance", "10"]].concat());
}

/// The part of the first line of a record with the number of threads.
fn threads_in(record: &str) -> String {
    let machine: Value = serde_json::from_str(record.lines().next().unwrap()).unwrap();
    format!("\"threads\":{}", machine["threads"])
}

/// The snippet in `docs/audit.md` follows the chain, and finds a line that was changed.
#[test]
fn the_documented_check_works_without_zs() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/audit.md");
    let page = fs::read_to_string(page).unwrap();
    let snippets: Vec<&str> = page.split("```python\n").skip(1).collect();
    let snippets: Vec<&str> = snippets.iter().map(|it| it.split("```").next().unwrap()).collect();
    let Some(python) = python_with("hashlib") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    run_in(dir, "");
    let check = |snippet: &str| {
        let output =
            Command::new(&python).current_dir(dir).args(["-c", snippet, "run"]).output().unwrap();
        (output.status.success(), format!("{output:?}"))
    };
    let (passes, said) = check(snippets[0]);
    assert!(passes && said.contains("6 steps"), "{said}");
    if python_with("numpy").is_some() {
        let (passes, said) = check(snippets[1]);
        assert!(passes && said.contains("weights of step 6"), "{said}");
    }
    edit(&dir.join("run/metrics.jsonl"), 2, |it| it.replace("0.", "1."));
    let (passes, said) = check(snippets[0]);
    assert!(!passes && said.contains("step 2"), "{said}");
}

/// The models of a finished run are those that its last and its best step have made.
#[test]
fn a_model_that_no_step_has_made_is_found() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    run_in(dir, "");
    let (record, model) = (dir.join("run/audit.jsonl"), dir.join("run/checkpoints/final"));
    let list = || {
        let mut names: Vec<String> = fs::read_dir(&model)
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let line = |it: &String| format!("{}  {it}\n", digest::of_file(&model.join(it)).unwrap());
        digest::of_bytes(names.iter().map(line).collect::<String>().as_bytes())
    };
    let before = list();
    fs::remove_dir_all(&model).unwrap();
    tiny_model(2).save(&model).unwrap();
    let text = fs::read_to_string(&record).unwrap();
    assert!(text.contains(&before), "{text}");
    fs::write(&record, text.replace(&before, &list())).unwrap();
    chain_anew(&record);
    let said = refused(dir, &["audit", "run"]);
    let expected = "step 6: run/checkpoints/final: its weights are not those that the step has";
    assert!(said.contains(expected), "{said}");
}
