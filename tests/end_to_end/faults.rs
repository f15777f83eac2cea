//! Fault injection: engines that fail, rewards that are not finite, rows that are not questions.

use std::fs;
use std::path::Path;

use crate::common::{
    assert_same_files, contents, recorded_groups, searcher, train_toml, zs, zs_ok,
};

const WORLD: &str = "{ kind = \"bm25\", world = { seed = 1, split = \"train\" } }";

/// A run over an engine with faults; validation goes without.
fn run_file(out: &str, faults: &str, extra: &str) -> String {
    let faulty = format!("{{ kind = \"faulty\", faults = {{ {faults} }}, engine = {WORLD} }}");
    let text = train_toml(out)
        .replace("policy = \"model\"", "policy = \"searcher/checkpoints/final\"")
        .replacen(&format!("engine = {WORLD}"), &format!("engine = {faulty}"), 1);
    format!("{text}\n{extra}")
}

fn train(dir: &Path, out: &str, faults: &str, extra: &str) -> (bool, String) {
    fs::write(dir.join("run.toml"), run_file(out, faults, extra)).unwrap();
    let output = zs(dir, &["train", "run.toml"]);
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

fn metrics(run: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

/// Searches that failed among those that were learned from.
fn num_failed(run: &Path) -> usize {
    let groups = recorded_groups(run);
    let episodes = groups.iter().flat_map(|it| &it.group.trajectories);
    let searches = episodes.flat_map(|it| it.trajectory.searches());
    searches.filter(|it| it.error.is_some()).count()
}

#[test]
fn failing_engines_are_borne_or_not_as_the_run_says() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    searcher(dir);

    let (ok, said) = train(
        dir,
        "observed",
        "error_rate = 0.3, garbage_rate = 0.2",
        "[training.faults]\nmax_failure_rate = 1.0\n",
    );
    assert!(ok, "{said}");
    assert!(num_failed(&dir.join("observed")) > 0, "the policy sees that searches failed");
    let rates: Vec<f64> = metrics(&dir.join("observed"))[1..]
        .iter()
        .map(|it| it["search/error_frac"].as_f64().unwrap())
        .collect();
    assert!(rates.iter().any(|it| *it > 0.0), "{rates:?}");

    let resample = "[training.faults]\nfailed_search = \"resample\"\nmax_resamples = 20\nmax_failure_rate = 1.0\n";
    let (ok, said) = train(dir, "resampled", "error_rate = 0.3", resample);
    assert!(ok, "{said}");
    let run = dir.join("resampled");
    assert_eq!(num_failed(&run), 0, "nothing is learned from a failure");
    assert!(recorded_groups(&run).iter().all(|it| it.group.trajectories.len() == 2));
    let played_again = |it: &serde_json::Value| it["rollout/num_resampled"].as_f64();
    assert!(metrics(&run).iter().any(|it| played_again(it) > Some(0.0)), "and that is counted");

    let once = resample.replace("= 20", "= 1");
    let (ok, said) = train(dir, "left out", "error_rate = 0.45", &once);
    assert!(ok, "{said}");
    let left_out: f64 = metrics(&dir.join("left out"))
        .iter()
        .filter_map(|it| it["rollout/num_failed_episodes"].as_f64())
        .sum();
    let groups = recorded_groups(&dir.join("left out"));
    let kept: usize = groups.iter().map(|it| it.group.trajectories.len()).sum();
    assert!(left_out > 0.0, "one more chance is not enough for all");
    assert_eq!(kept as f64 + left_out, 3.0 * 2.0 * 2.0, "every episode is learned from or counted");
}

#[test]
fn a_run_whose_engine_is_down_stops_with_a_checkpoint() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    searcher(dir);
    let (ok, said) = train(dir, "run", "error_rate = 0.9", "");
    assert!(!ok);
    assert!(said.contains("searches failed") && said.contains("max_failure_rate"), "{said}");
    assert!(said.contains("zs train --resume run") && said.contains("injected"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(dir.join("run/checkpoints/step-000000/state.json").exists());
    assert_eq!(metrics(&dir.join("run")).len(), 1, "nothing was learned");

    // The engine is up again; the run goes on as if nothing had been.
    zs_ok(dir, &["train", "--resume", "run", "--set", "engine.faults.error_rate=0.0"]);
    train(dir, "calm", "error_rate = 0.0", "");
    // All but the ledger, which holds the failures too.
    let learned = |run: &str| {
        let mut files = contents(&dir.join(run));
        files.retain(|name, _| {
            let parts = ["metrics.jsonl", "rollouts/", "checkpoints/final/", "checkpoints/best/"];
            parts.iter().any(|it| name.starts_with(it))
        });
        files
    };
    assert!(learned("calm") == learned("run"), "the run was disturbed");
    assert!(learned("run").len() > 6);
}

/// Delays of engines do not change the results.
#[test]
fn delays_change_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    searcher(dir);
    let (ok, said) = train(dir, "quick", "delay_rate = 0.0", "");
    assert!(ok, "{said}");
    for (out, seed) in [("slow", 1), ("slower", 2)] {
        let (ok, said) =
            train(dir, out, &format!("seed = {seed}, delay_rate = 0.5, delay_s = 0.03"), "");
        assert!(ok, "{said}");
        assert_same_files(&dir.join("quick"), &dir.join(out));
    }
}

#[test]
fn steps_that_are_not_finite_are_skipped_and_then_end_the_run() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    searcher(dir);
    // Two turns cost twice what f32 can hold.
    let term = "{ weight = 3e38, reward = { kind = \"turn_penalty\", free_turns = 0 } }";
    let reward = format!("[training.reward]\nkind = \"sum\"\nterms = [{term}]\n");
    let limit = "[training.faults]\nmax_skipped_steps = 2\n";
    let (ok, said) = train(dir, "run", "error_rate = 0.0", &format!("{reward}{limit}"));
    assert!(!ok && said.contains("2 steps in a row were skipped"), "{said}");
    // The weights of the only checkpoint are those that were skipped.
    assert!(said.contains("`zs train --resume run` resumes"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let rows = metrics(&dir.join("run"));
    let skipped: Vec<_> = rows.iter().map(|it| it["actor/num_skipped_steps"].as_f64()).collect();
    assert_eq!(skipped, [None, Some(1.0), Some(1.0)]);
    let weights = |path: &str| fs::read(dir.join(path)).unwrap();
    assert!(
        weights("run/checkpoints/step-000002/policy/model.safetensors")
            == weights("searcher/checkpoints/final/model.safetensors"),
        "nothing was learned"
    );
    assert!(dir.join("run/rollouts/step-000002.jsonl.zst").exists(), "the batch is recorded");
}

#[test]
fn bad_rows_are_refused_or_left_out_and_counted() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    searcher(dir);
    let good = fs::read_to_string(dir.join("lesson/questions.jsonl")).unwrap();
    let mut rows: Vec<&str> = good.lines().collect();
    rows.insert(2, "{\"id\": \"x\", \"question\": ");
    fs::write(dir.join("questions.jsonl"), rows.join("\n")).unwrap();
    let text = run_file("run", "error_rate = 0.0", "").replacen(
        "{ kind = \"world\", world = { seed = 1, split = \"train\" }, per_hop = 5 }",
        "{ kind = \"file\", path = \"questions.jsonl\" }",
        1,
    );
    fs::write(dir.join("run.toml"), text).unwrap();
    let said = String::from_utf8(zs(dir, &["train", "run.toml"]).stderr).unwrap();
    assert!(said.contains("questions.jsonl, row 3"), "{said}");
    assert!(!dir.join("run").exists(), "nothing is begun");
    zs_ok(dir, &["train", "run.toml", "--skip-bad-rows"]);
}

/// Replayed steps are bit-exact, and a modified record is detected.
#[test]
fn steps_are_replayed_to_the_bit() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    searcher(dir);
    let ppo = "[training.algorithm]\nkind = \"ppo\"\n[training.checkpoints]\nevery = 2\n";
    let (ok, said) = train(dir, "run", "error_rate = 0.1", ppo);
    assert!(ok, "{said}");
    for step in ["1", "2", "3"] {
        let table = zs_ok(dir, &["replay", "run", "--step", step]);
        assert!(table.contains(&format!("step {step} is bit-exact")), "{table}");
        assert!(table.contains("actor/grad_norm") && table.contains("critic/loss"), "{table}");
    }
    let refused = String::from_utf8(zs(dir, &["replay", "run", "--step", "4"]).stderr).unwrap();
    assert!(refused.contains("steps 1 to 3"), "{refused}");

    let path = dir.join("run/metrics.jsonl");
    let rows = fs::read_to_string(&path).unwrap();
    let norm = metrics(&dir.join("run"))[3]["actor/grad_norm"].to_string();
    let touched = f64::from_bits(norm.parse::<f64>().unwrap().to_bits() ^ 1).to_string();
    fs::write(&path, rows.replace(&norm, &touched)).unwrap();
    let output = zs(dir, &["replay", "run", "--step", "3"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success() && table.contains("DIFFERS"), "{table}");
}
