//! Runs that are stopped in every way and resumed: the results are bit-exact, as without the
//! interruption.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rand::RngExt;
use zs_core::{Domain, StreamKey};
use zs_rl::BranchOrigin;
use zs_trainer::RecordedGroup;
use zs_trainer::files::RunDir;

use crate::common::{
    assert_same_files, copy, recorded_groups, run_of_six_steps, searcher, take_back, tiny_model,
    zs, zs_ok,
};

/// Every kind of state in a checkpoint, each in a run that is rolled back and resumed.
#[test]
fn resumed_runs_equal_uninterrupted_ones() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    searcher(dir);
    fs::write(dir.join("texts.jsonl"), "{\"prompt\":\"Question: a\\n\",\"completion\":\"b\"}\n{\"prompt\":\"Question: c\\n\",\"completion\":\"d e\"}\n").unwrap();
    for (name, extra) in [
        ("plain", ""),
        ("critic", "[training.algorithm]\nkind = \"ppo\"\n"),
        (
            "adapters",
            "[training.lora]\nr = 2\nalpha = 4.0\ntarget_modules = [\"q_proj\"]\n[training.update]\nadaptive_kl = { target = 0.1, horizon = 100.0 }\n",
        ),
        (
            "refills",
            "[training.algorithm]\nkind = \"dapo\"\ndynamic_sampling = { max_refills = 2 }\n",
        ),
        (
            "branches",
            "[training.algorithm]\nkind = \"branched\"\nbranching = { share = 0.5, continuations = 2, depth = 1 }\n[training.reward]\nkind = \"sum\"\nterms = [{ weight = 1.0, reward = { kind = \"format\" } }, { weight = 0.5, reward = { kind = \"search_value\" } }]\n",
        ),
        (
            "feedback",
            "[training.algorithm]\nkind = \"reinforce\"\nbaseline = { ema = { decay = 0.9 } }\n[training.update]\nptx_coef = 0.1\n[training.ptx]\npath = \"texts.jsonl\"\ntokens_per_step = 3\n",
        ),
    ] {
        let file = |out: &str, extra: &str| {
            let text = run_of_six_steps(out, "searcher/checkpoints/final", extra);
            let reference = "eval_every = 2\nreference_every = 2";
            match name {
                "adapters" | "plain" => text.replace("eval_every = 2", reference),
                "refills" => text.replace("[training.rollout]", "[training.rollout]\nlanes = 2"),
                _ => text,
            }
        };
        let whole = dir.join(name);
        fs::write(dir.join("run.toml"), file(name, extra)).unwrap();
        zs_ok(dir, &["train", "run.toml"]);
        if name == "branches" {
            check_branches(dir, &whole);
        }
        for step in [0, 3, 5] {
            let resumed = dir.join(format!("{name}-{step}"));
            copy(&whole, &resumed);
            take_back(&resumed, step);
            zs_ok(dir, &["train", "--resume", &format!("{name}-{step}")]);
            assert_same_files(&whole, &resumed);
        }
    }
}

/// Continuations are recorded after the episodes, learn from their own turns, are counted, and are
/// replayed.
fn check_branches(dir: &Path, run: &Path) {
    fs::write(dir.join("prompt.txt"), "Question: {{ question }}\n").unwrap();
    let groups = recorded_groups(run);
    let mut num_sampled = 0;
    for RecordedGroup { group, advantages, .. } in &groups {
        let [first, second, continuations @ ..] = group.trajectories.as_slice() else {
            panic!("two episodes")
        };
        assert!(first.trajectory.branch.is_none() && second.trajectory.branch.is_none());
        let can_branch = first.trajectory.turns.len() > 1;
        assert_eq!(continuations.len(), if can_branch { 2 } else { 0 });
        for (it, advantages) in continuations.iter().zip(&advantages[2..]) {
            let it = &it.trajectory;
            assert_eq!(it.branch, Some(BranchOrigin { parent: 0, turn: 1 }));
            assert_eq!(it.turns[0], first.trajectory.turns[0]);
            let shared = it.num_tokens_before(1);
            assert_eq!(it.tokens()[..shared], first.trajectory.tokens()[..shared]);
            assert!(advantages[..shared].iter().all(|it| *it == 0.0));
            num_sampled += it.num_policy_tokens();
        }
    }
    assert!(num_sampled > 0, "an episode of several turns");
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let rows = metrics.lines().skip(1).map(|it| {
        let row: serde_json::Value = serde_json::from_str(it).unwrap();
        row["branch/tokens_sampled"].as_f64().unwrap() as usize
    });
    assert_eq!(rows.sum::<usize>(), num_sampled);
    zs_ok(dir, &["replay", "branches", "--step", "4"]);

    // Every search that did not fail has an end without its documents.
    let mut num_ends = 0;
    for it in groups.iter().flat_map(|it| &it.group.trajectories).map(|it| &it.trajectory) {
        let own = it.turns.iter().enumerate().skip(it.num_shared_turns());
        let turns = own.filter(|(_, it)| it.search.is_some()).map(|it| it.0);
        assert!(it.counterfactuals.iter().map(|it| it.turn).eq(turns));
        num_ends += it.counterfactuals.len();
    }
    assert!(num_ends > 0);
    zs_ok(dir, &["inspect", "branches"]);
    fs::remove_file(run.join("inspect.html")).unwrap();
    let table = zs_ok(
        dir,
        &[
            "eval",
            "--model",
            "searcher/checkpoints/final",
            "--corpus",
            "lesson/corpus.jsonl",
            "--questions",
            "lesson/questions.jsonl",
            "--prompt",
            "prompt.txt",
            "--limit",
            "4",
            "--replace-documents",
            "none",
        ],
    );
    assert!(table.contains("searches that mattered"), "{table}");
}

/// Budget and ledger resume where they were.
#[test]
fn what_was_spent_stays_spent() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    searcher(dir);
    let world = "{ kind = \"bm25\", world = { seed = 1, split = \"train\" } }";
    let budgeted =
        format!("{{ kind = \"budgeted\", budget = {{ max_searches = 17 }}, engine = {world} }}");
    let text = run_of_six_steps("a", "searcher/checkpoints/final", "");
    let text = text.replacen(&format!("engine = {world}"), &format!("engine = {budgeted}"), 1);
    fs::write(dir.join("run.toml"), text).unwrap();
    zs_ok(dir, &["train", "run.toml"]);
    let summary = |run: &str| fs::read_to_string(dir.join(run).join("summary.json")).unwrap();
    assert!(summary("a").contains("budget of 17 searches is spent"), "{}", summary("a"));
    copy(&dir.join("a"), &dir.join("b"));
    // Without the journal, the checkpoint tells what was spent until then.
    copy(&dir.join("a"), &dir.join("c"));
    fs::remove_file(dir.join("c/spent.jsonl")).unwrap();
    for run in ["b", "c"] {
        take_back(&dir.join(run), 1);
        zs_ok(dir, &["train", "--resume", run]);
        assert!(summary(run).contains("budget of 17 searches is spent"), "{}", summary(run));
    }
    assert_same_files(&dir.join("a"), &dir.join("c"));
    let num_steps = |run: &str| {
        fs::read_to_string(dir.join(run).join("metrics.jsonl")).unwrap().lines().count()
    };
    assert!(num_steps("b") < num_steps("a"), "what was spent after the checkpoint stays spent");
}

#[test]
fn damaged_checkpoints_are_passed_over() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("truncated", |dir| {
            let path = dir.join("policy/model.safetensors");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("flipped", |dir| {
            let path = dir.join("optimizer.bpk");
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("missing", |dir| fs::remove_file(dir.join("state.json")).unwrap()),
        ("half written", |dir| {
            let partial = dir.with_file_name("step-000007.partial");
            fs::rename(dir, partial).unwrap();
        }),
    ];
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    fs::write(dir.join("run.toml"), run_of_six_steps("whole", "model", "")).unwrap();
    zs_ok(dir, &["train", "run.toml"]);
    for (name, damage) in damages {
        let run = dir.join(name);
        copy(&dir.join("whole"), &run);
        take_back(&run, 4);
        damage(&run.join("checkpoints/step-000004"));
        let output = loud(dir, &["train", "--resume", name]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        assert!(said.contains("resumes after step 3"), "{name}: {said}");
        let is_told = name == "half written" || said.contains("skipping a damaged checkpoint");
        assert!(is_told, "{name}: {said}");
        assert_same_files(&dir.join("whole"), &run);
    }

    let run = dir.join("all");
    copy(&dir.join("whole"), &run);
    take_back(&run, 0);
    fs::remove_file(run.join("checkpoints/step-000000/state.json")).unwrap();
    let refused = String::from_utf8(zs(dir, &["train", "--resume", "all"]).stderr).unwrap();
    assert!(refused.contains("no complete checkpoint"), "{refused}");
}

/// [`zs`] that talks.
fn loud(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zs-under-test"));
    command.current_dir(dir).args(arguments).output().unwrap()
}

fn spawn(dir: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zs-under-test"));
    command.current_dir(dir).arg("--quiet").args(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Twenty processes are killed at random moments, in a run that writes a checkpoint each step.
#[test]
fn a_run_that_is_killed_again_and_again_comes_out_the_same() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    let text = |out: &str| run_of_six_steps(out, "model", "").replace("steps = 6", "steps = 24");
    fs::write(dir.join("whole.toml"), text("whole")).unwrap();
    fs::write(dir.join("killed.toml"), text("killed")).unwrap();
    let start = Instant::now();
    zs_ok(dir, &["train", "whole.toml"]);
    let whole_run = start.elapsed();

    let mut rng = StreamKey::new(7).rng(Domain::Sampling);
    let mut num_killed = 0;
    while num_killed < 20 {
        let begun = dir.join("killed/config.toml").exists();
        if !begun {
            let _ = fs::remove_dir_all(dir.join("killed"));
        }
        let arguments: &[&str] =
            if begun { &["train", "--resume", "killed"] } else { &["train", "killed.toml"] };
        let mut child = spawn(dir, arguments);
        // Mostly while it trains; some while it loads.
        let share: f64 = rng.random_range(0.02..0.35);
        std::thread::sleep(whole_run.mul_f64(share));
        child.kill().unwrap();
        child.wait().unwrap();
        num_killed += 1;
    }
    zs_ok(dir, &["train", "--resume", "killed"]);
    let run = dir.join("killed");
    for entry in fs::read_dir(run.join("rollouts")).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.extension().is_some_and(|it| it == "zst"), "{}", path.display());
    }
    assert_same_files(&dir.join("whole"), &run);
}

/// The first signal ends a run after its step, with a checkpoint and without an error.
#[test]
fn a_signal_ends_a_run_that_can_be_gone_on_with() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    let text = |out: &str| {
        let text = run_of_six_steps(out, "model", "").replace("steps = 6", "steps = 40");
        text.replace("every = 1\nkeep_last = 100", "every = 0\nkeep_last = 100")
    };
    fs::write(dir.join("whole.toml"), text("whole")).unwrap();
    fs::write(dir.join("stopped.toml"), text("stopped")).unwrap();
    zs_ok(dir, &["train", "whole.toml"]);

    let child = spawn(dir, &["train", "stopped.toml"]);
    let metrics = dir.join("stopped/metrics.jsonl");
    let deadline = Instant::now() + Duration::from_secs(120);
    while fs::read_to_string(&metrics).map_or(0, |it| it.lines().count()) < 3 {
        assert!(Instant::now() < deadline, "the run does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!dir.join("stopped/summary.json").exists(), "the run is not finished");

    zs_ok(dir, &["train", "--resume", "stopped"]);
    let checkpoints = fs::read_dir(dir.join("stopped/checkpoints")).unwrap();
    let mut extra: Vec<_> = checkpoints
        .map(|it| it.unwrap().path())
        .filter(|it| it.file_name().unwrap().to_str().unwrap().starts_with("step-0000"))
        .filter(|it| !it.ends_with("step-000000"))
        .collect();
    assert_eq!(extra.len(), 1, "one checkpoint, where the signal came: {extra:?}");
    fs::remove_dir_all(extra.pop().unwrap()).unwrap();
    assert_same_files(&dir.join("whole"), &dir.join("stopped"));
}

#[test]
fn a_run_belongs_to_one_process() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let held = RunDir::create(&dir.join("run")).unwrap();
    let refused = zs(dir, &["train", "--resume", "run"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("another process"), "{said}");
    drop(held);
    let said = String::from_utf8(zs(dir, &["train", "--resume", "run"]).stderr).unwrap();
    assert!(said.contains("config.toml"), "{said}");
}

#[test]
fn inputs_that_changed_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    fs::write(dir.join("run.toml"), run_of_six_steps("run", "model", "")).unwrap();
    zs_ok(dir, &["train", "run.toml"]);
    take_back(&dir.join("run"), 2);
    tiny_model(2).save(&dir.join("model")).unwrap();
    let refused = String::from_utf8(zs(dir, &["train", "--resume", "run"]).stderr).unwrap();
    assert!(refused.contains("model/model.safetensors: has changed"), "{refused}");
}

/// On a file system of its own that is too small, and is then made larger.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_loses_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    fs::create_dir(dir.join("disk")).unwrap();
    fs::write(dir.join("run.toml"), run_of_six_steps("disk/run", "model", "")).unwrap();
    fs::write(dir.join("whole.toml"), run_of_six_steps("whole", "model", "")).unwrap();
    zs_ok(dir, &["train", "whole.toml"]);
    let script = r#"
mount -t tmpfs -o size=1m tmpfs disk || exit 42
"$0" --quiet train run.toml 2>said && exit 1
mount -o remount,size=100m disk
"$0" --quiet train --resume disk/run || exit 2
cp -r disk/run kept
"#;
    let output = Command::new("unshare")
        .current_dir(dir)
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(env!("CARGO_BIN_EXE_zs-under-test"))
        .output();
    let is_allowed = output.as_ref().is_ok_and(|it| {
        let refused = String::from_utf8_lossy(&it.stderr).contains("unshare:");
        it.status.code() != Some(42) && !refused
    });
    if !is_allowed {
        // Containers may forbid file systems of one's own.
        return;
    }
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = fs::read_to_string(dir.join("said")).unwrap();
    assert!(said.starts_with("error: ") && said.contains("No space left"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let _ = fs::remove_dir_all(dir.join("kept/.lock"));
    assert_same_files(&dir.join("whole"), &dir.join("kept"));
}
