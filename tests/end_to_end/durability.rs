//! Runs that are killed, lose files, or go wrong: nothing paid is forgotten, nothing good is thrown away.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use zs_search::http::testing::{CannedResponse, TestServer};

use crate::common::{
    assert_same_files, contents, copy, run_of_six_steps, searcher, take_back, tiny_model,
    train_toml, zs, zs_ok,
};

const WORLD: &str = "{ kind = \"bm25\", world = { seed = 1, split = \"train\" } }";

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs `zs` and expects one line of refusal.
#[track_caller]
fn refused(dir: &Path, arguments: &[&str]) -> String {
    let output = zs(dir, arguments);
    let said = said(&output);
    assert!(!output.status.success() && said.lines().count() == 1, "{arguments:?}: {said}");
    said
}

fn spawn(dir: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zs-under-test"));
    command.current_dir(dir).arg("--quiet").args(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn json_lines(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

/// A server that counts searches, and kills whoever asks at some of them.
#[test]
#[cfg(unix)]
fn a_budget_holds_however_often_the_process_dies() {
    const BUDGET: u64 = 100;
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    searcher(dir);
    let client: Arc<Mutex<Option<u32>>> = Arc::default();
    let killed_at = [1, 4, 5, 17, 29, 30, 47, 63, 80, 91];
    let asking = Arc::clone(&client);
    let server = TestServer::start(move |number, _| {
        if killed_at.contains(&number)
            && let Some(pid) = asking.lock().unwrap().take()
        {
            assert!(
                Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success()
            );
            return CannedResponse::HalfClose;
        }
        CannedResponse::ok(r#"[{"text": "\"Oak\"\nA tree."}]"#)
    });
    let budget = format!("budget = {{ max_searches = {BUDGET} }}");
    let retriever = format!(
        "{{ kind = \"retriever\", protocol = \"zerosearch\", endpoints = [\"{}\"] }}",
        server.url()
    );
    let engine = format!("{{ kind = \"budgeted\", {budget}, engine = {retriever} }}");
    let text = |out: &str| {
        train_toml(out)
            .replace("policy = \"model\"", "policy = \"searcher/checkpoints/final\"")
            .replace("steps = 3", "steps = 60")
            .replacen(&format!("engine = {WORLD}"), &format!("engine = {engine}"), 1)
            + "\n[training.checkpoints]\nevery = 5\n[prices.retriever]\nper_1000_calls = 10.0\n"
    };
    fs::write(dir.join("run.toml"), text("run")).unwrap();
    let (mut num_killed, mut arguments) = (0, vec!["train", "run.toml"]);
    loop {
        let child = spawn(dir, &arguments);
        *client.lock().unwrap() = Some(child.id());
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            break;
        }
        assert_eq!(output.status.code(), None, "{}", said(&output));
        num_killed += 1;
        arguments = vec!["train", "--resume", "run"];
    }
    assert!(num_killed >= 5, "{num_killed}");
    let run = dir.join("run");
    let searched = server.num_requests() as u64;
    // A batch that was begun counts whole, whatever of it was sent.
    assert!((BUDGET / 2..=BUDGET).contains(&searched), "{searched}");
    let summary = fs::read_to_string(run.join("summary.json")).unwrap();
    assert!(summary.contains("budget of 100 searches is spent"), "{summary}");
    let begun: u64 =
        json_lines(&run.join("spent.jsonl")).iter().filter_map(|it| it["searches"].as_u64()).sum();
    assert_eq!(begun, BUDGET);
    // What was paid for twice is listed.
    let costs: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(run.join("costs.json")).unwrap()).unwrap();
    let cost = costs.as_array().unwrap().iter().find(|it| it["engine"] == "retriever").unwrap();
    assert!(cost["repeated"]["calls"].as_u64() > Some(0), "{costs}");
    assert!(cost["repeated_dollars"].as_f64() > Some(0.0), "{costs}");
    let table = zs_ok(dir, &["cost", "run"]);
    assert!(table.contains("repeated"), "{table}");
}

/// Losses by a power cut, from files that no resumed run reads and from those that one needs.
#[test]
fn lost_tails_are_mended_or_repeated() {
    type Loss = fn(&Path);
    fn cut(path: &Path, rows: usize) {
        let text = fs::read_to_string(path).unwrap();
        let kept: String = text.split_inclusive('\n').take(rows).collect();
        fs::write(path, kept).unwrap();
    }
    let losses: [(&str, Loss, &str); 9] = [
        ("short timings", |run| cut(&run.join("timings.jsonl"), 1), "resumes after step 4"),
        ("no timings", |run| fs::remove_file(run.join("timings.jsonl")).unwrap(), "after step 4"),
        ("empty timings", |run| fs::write(run.join("timings.jsonl"), "").unwrap(), "after step 4"),
        ("no alarms", |run| fs::remove_file(run.join("alarms.jsonl")).unwrap(), "after step 4"),
        (
            "short metrics",
            |run| cut(&run.join("metrics.jsonl"), 3),
            "metrics or costs of step 3 are lost: it is repeated",
        ),
        ("short costs", |run| cut(&run.join("costs.jsonl"), 4), "after step 3"),
        (
            "empty episodes",
            |run| fs::write(run.join("rollouts/step-000002.jsonl.zst"), "").unwrap(),
            "episodes of step 2 are lost: it is repeated",
        ),
        (
            "NULs",
            |run| {
                let mut text = fs::read(run.join("timings.jsonl")).unwrap();
                text.truncate(20);
                text.extend([0; 4096]);
                text.push(b'\n');
                fs::write(run.join("timings.jsonl"), text).unwrap();
            },
            "after step 4",
        ),
        (
            "half written",
            |run| {
                fs::write(run.join("rollouts/step-000003.jsonl.zst.partial"), "half").unwrap();
                fs::create_dir_all(run.join("checkpoints/step-000009.partial/policy")).unwrap();
            },
            "after step 4",
        ),
    ];
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    fs::write(dir.join("run.toml"), run_of_six_steps("whole", "model", "")).unwrap();
    zs_ok(dir, &["train", "run.toml"]);
    let num_timings = json_lines(&dir.join("whole/timings.jsonl")).len();
    for (name, loss, expected) in losses {
        let run = dir.join(name);
        copy(&dir.join("whole"), &run);
        take_back(&run, 4);
        loss(&run);
        let mut command = Command::new(env!("CARGO_BIN_EXE_zs-under-test"));
        let output = command.current_dir(dir).args(["train", "--resume", name]).output().unwrap();
        let said = said(&output);
        assert!(output.status.success() && said.contains(expected), "{name}: {said}");
        assert_same_files(&dir.join("whole"), &run);
        let timings = json_lines(&run.join("timings.jsonl"));
        let steps: Vec<u64> = timings.iter().filter_map(|it| it["step"].as_u64()).collect();
        assert_eq!(steps, (0..num_timings as u64).collect::<Vec<_>>(), "{name}");
    }

    // Nothing older is left to repeat from.
    copy(&dir.join("whole"), &dir.join("none"));
    take_back(&dir.join("none"), 4);
    fs::write(dir.join("none/metrics.jsonl"), "").unwrap();
    let said = refused(dir, &["train", "--resume", "none"]);
    assert!(said.contains("no checkpoint is older"), "{said}");
}

/// The advice that a run leaves leads back to weights that were good.
#[test]
fn a_run_that_went_wrong_keeps_its_last_good_checkpoint() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    searcher(dir);
    let text = run_of_six_steps("run", "searcher/checkpoints/final", "");
    let text = text.replace("every = 1\nkeep_last = 100", "every = 2");
    fs::write(dir.join("run.toml"), text).unwrap();
    zs_ok(dir, &["train", "run.toml"]);
    take_back(&dir.join("run"), 6);
    copy(&dir.join("run"), &dir.join("good"));
    let longer = ["--set", "training.schedule.steps=30"];
    zs_ok(dir, &[&["train", "--resume", "good"], &longer[..]].concat());
    // Each attempt to go on with broken weights ends after a step or two.
    let fast = ["--set", "training.optimizer.learning_rate=1e30"];
    let mut said = refused(dir, &[&["train", "--resume", "run"], &longer[..], &fast[..]].concat());
    for _ in 0..3 {
        assert!(said.contains("--resume-from step-000006"), "{said}");
        said = refused(dir, &["train", "--resume", "run"]);
    }
    assert!(dir.join("run/checkpoints/step-000006/state.json").exists());
    let slow = ["--set", "training.optimizer.learning_rate=1e-3"];
    let from = ["train", "--resume", "run", "--resume-from", "step-000006"];
    zs_ok(dir, &[&from[..], &slow[..]].concat());
    let learned = |run: &str| {
        let mut files = contents(&dir.join(run));
        files.retain(|name, _| name.starts_with("checkpoints/final/") || name == "metrics.jsonl");
        files
    };
    assert!(learned("run") == learned("good") && learned("run").len() > 3);
    fs::remove_file(dir.join("run/summary.json")).unwrap();
    let said = refused(dir, &["train", "--resume", "run", "--resume-from", "step-000003"]);
    assert!(said.contains("step-000003: does not exist; there are step-0000"), "{said}");
}

/// A run file is changed with `--set`, and by no other means.
#[test]
fn a_changed_run_file_is_noticed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    fs::write(dir.join("run.toml"), run_of_six_steps("run", "model", "")).unwrap();
    zs_ok(dir, &["train", "run.toml"]);
    take_back(&dir.join("run"), 4);
    let config = dir.join("run/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    for (from, to) in
        [("seed = 3\n", "seed = 4\n"), ("learning_rate = 0.001", "learning_rate = 0.01")]
    {
        assert!(text.contains(from), "{text}");
        fs::write(&config, text.replacen(from, to, 1)).unwrap();
        let said = refused(dir, &["train", "--resume", "run"]);
        assert!(
            said.contains("config.toml: has changed") && said.contains("--set KEY=VALUE"),
            "{said}"
        );
    }
    fs::write(&config, &text).unwrap();
    // The change is kept by later processes.
    copy(&dir.join("run"), &dir.join("longer"));
    zs_ok(dir, &["train", "--resume", "longer", "--set", "training.schedule.steps=8"]);
    assert_eq!(json_lines(&dir.join("longer/metrics.jsonl")).len(), 9);
    take_back(&dir.join("longer"), 4);
    zs_ok(dir, &["train", "--resume", "longer"]);
    assert_eq!(json_lines(&dir.join("longer/metrics.jsonl")).len(), 9);
    let changes = json_lines(&dir.join("longer/config_changes.jsonl"));
    assert_eq!(changes[0]["set"][0], "training.schedule.steps=8");

    // Nothing is loaded that the run has not written.
    let planted = dir.join("run/checkpoints/step-000004/reference");
    copy(&dir.join("run/checkpoints/step-000004/policy"), &planted);
    let output = Command::new(env!("CARGO_BIN_EXE_zs-under-test"))
        .current_dir(dir)
        .args(["train", "--resume", "run"])
        .output()
        .unwrap();
    let said = said(&output);
    assert!(said.contains("its manifest does not list this file"), "{said}");
    assert!(said.contains("resumes after step 3"), "{said}");
}

/// A terminal that goes away ends a run as a request to stop does.
#[test]
#[cfg(unix)]
fn a_hangup_ends_a_run_with_a_checkpoint() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    let text = run_of_six_steps("run", "model", "").replace("steps = 6", "steps = 400");
    fs::write(dir.join("run.toml"), text.replace("every = 1\n", "every = 0\n")).unwrap();
    let child = spawn(dir, &["train", "run.toml"]);
    let metrics = dir.join("run/metrics.jsonl");
    let deadline = Instant::now() + Duration::from_secs(120);
    while fs::read_to_string(&metrics).map_or(0, |it| it.lines().count()) < 3 {
        assert!(Instant::now() < deadline, "the run does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(!dir.join("run/summary.json").exists(), "the run is not finished");
    let saved = fs::read_dir(dir.join("run/checkpoints")).unwrap().count();
    assert_eq!(saved, 2, "one of step 0, and one where the signal came");
}

/// A run directory of strangers: no pipe or device in it is waited for, and no link of a file that is
/// about to be written is followed.
#[test]
#[cfg(unix)]
fn pipes_and_links_in_a_run_directory_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    searcher(dir);
    fs::write(dir.join("run.toml"), run_of_six_steps("run", "searcher/checkpoints/final", ""))
        .unwrap();
    zs_ok(dir, &["train", "run.toml"]);
    take_back(&dir.join("run"), 4);
    let checkpoint = "checkpoints/step-000004";
    let is_later = |it: &String| it.starts_with("checkpoints/") && !it.starts_with(checkpoint);
    let listed = contents(&dir.join("run")).into_keys().filter(|it| !is_later(it));
    let unlisted = ["config.toml", ".lock", "timings.jsonl", "costs.json"].map(str::to_owned);
    let commands: [&[&str]; 5] = [
        &["train", "--resume", "run"],
        &["audit", "run"],
        &["inspect", "run"],
        &["replay", "run", "--step", "4"],
        &["cost", "run"],
    ];
    let (mut names, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for name in listed.chain(unlisted) {
        names.insert(name.clone());
        for arguments in commands {
            let run = dir.join("hostile/run");
            fs::create_dir(dir.join("hostile")).unwrap();
            copy(&dir.join("run"), &run);
            let path = run.join(&name);
            let _ = fs::remove_file(&path);
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            let arguments: Vec<String> =
                arguments.iter().map(|it| it.replace("run", "hostile/run")).collect();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let mut child = spawn(dir, &arguments);
            let start = Instant::now();
            while child.try_wait().unwrap().is_none() {
                if start.elapsed() > Duration::from_secs(60) {
                    child.kill().unwrap();
                    panic!("{arguments:?} waits for {name}");
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            let said = said(&child.wait_with_output().unwrap());
            assert!(!said.contains("panicked"), "{arguments:?} with {name}: {said}");
            if said.contains("not a regular file") {
                refused.insert(name.clone());
            }
            fs::remove_dir_all(dir.join("hostile")).unwrap();
        }
    }
    assert_eq!(refused, names);
    // Written through, these would change a file of somebody who resumes the run.
    fs::write(dir.join("mine"), "mine").unwrap();
    for name in [".lock", "config.toml.partial", "timings.jsonl.partial", "metrics.jsonl.partial"] {
        let run = dir.join("hostile");
        copy(&dir.join("run"), &run);
        let _ = fs::remove_file(run.join(name));
        std::os::unix::fs::symlink(dir.join("mine"), run.join(name)).unwrap();
        let output = zs(dir, &["train", "--resume", "hostile"]);
        assert_eq!(output.status.success(), name != ".lock", "{name}: {}", self::said(&output));
        assert_eq!(fs::read_to_string(dir.join("mine")).unwrap(), "mine", "{name}");
        fs::remove_dir_all(run).unwrap();
    }
}
