//! The example of `docs/extending.md`: `zs` with components that it does not have. Built as a program
//! of this crate, so that tests need not build burn twice.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use zs_trainer::{Metrics, read_rollouts};

use crate::common::{assert_same_files, zs};

const RUN: &str = include_str!("../../examples/custom_algorithm/run.toml");

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_custom-zs-under-test"));
    command.current_dir(dir).arg("--quiet").args(arguments);
    command
}

fn custom(dir: &Path, arguments: &[&str]) -> Output {
    command(dir, arguments).output().unwrap()
}

#[track_caller]
fn custom_ok(dir: &Path, arguments: &[&str]) -> String {
    let output = custom(dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Writes the example's run file, writing to `out`, with some text replaced.
fn run_file(dir: &Path, out: &str, replaced: &[(&str, &str)]) -> String {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/zs-tiny");
    let mut text = RUN
        .replace("../../assets/zs-tiny", &model.display().to_string())
        .replace("target/runs/custom", out);
    for (from, to) in replaced {
        assert!(text.contains(from), "the run file has no `{from}`");
        text = text.replace(from, to);
    }
    let name = format!("{out}.toml");
    fs::write(dir.join(&name), text).unwrap();
    name
}

fn metrics(run: &Path) -> Vec<Metrics> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

/// Largest difference between the weights that a run began with and those that it ended with.
fn movement(run: &Path) -> f32 {
    let values = |path: &Path| -> Vec<f32> {
        let bytes = fs::read(path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let mut names: Vec<&str> = tensors.names();
        names.sort_unstable();
        let bytes = names.iter().flat_map(|it| tensors.tensor(it).unwrap().data().to_vec());
        let bytes: Vec<u8> = bytes.collect();
        bytes.chunks(4).map(|it| f32::from_le_bytes(it.try_into().unwrap())).collect()
    };
    let before = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/zs-tiny/model.safetensors");
    let (before, after) =
        (values(&before), values(&run.join("checkpoints/final/model.safetensors")));
    assert_eq!(before.len(), after.len());
    before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn it_learns_with_components_of_its_own() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let file = run_file(dir, "run", &[]);
    custom_ok(dir, &["doctor", &file]);
    custom_ok(dir, &["train", &file]);
    let run = dir.join("run");
    let metrics = metrics(&run);
    let at = |step: usize, key: &str| metrics[step].get(key);
    assert!((1..=6).any(|it| at(it, "reward/frugal").unwrap() > 0.0), "{metrics:?}");
    // The curriculum: nothing before the middle.
    assert_eq!(at(2, "curriculum/noise_probability"), Some(0.0));
    assert_eq!(at(6, "curriculum/noise_probability"), Some(0.2));
    // The algorithm: it has a loss, its advantages are 0 and 1, and they are not all 0.
    assert!((1..=6).all(|it| at(it, "actor/imitation_loss").is_some_and(f64::is_finite)));
    let groups = read_rollouts(&run, 1).unwrap();
    let advantages: Vec<f32> = groups.flat_map(|it| it.unwrap().advantages).flatten().collect();
    assert!(advantages.contains(&1.0), "{advantages:?}");
    assert!(advantages.iter().all(|it| [0.0, 1.0].contains(it)), "{advantages:?}");
    // What was learned is in the weights.
    assert!(movement(&run) > 1e-4, "the weights have hardly moved: {}", movement(&run));

    // The engine: it is opened and asked.
    let note = "engine = { kind = \"note\", text = \"Nothing is known.\" }";
    let world = "engine = { kind = \"bm25\", world = { seed = 1, split = \"train\" } }";
    let report = custom_ok(dir, &["doctor", &run_file(dir, "noted", &[(world, note)])]);
    assert!(report.contains("note answers with 1 document"), "{report}");

    custom_ok(dir, &["replay", "run", "--step", "4"]);
    custom_ok(dir, &["inspect", "run"]);
    let plan = custom_ok(dir, &["train", "run.toml", "--dry-run"]);
    assert!(plan.contains("best_of_group"), "{plan}");
}

fn start(dir: &Path, arguments: &[&str]) -> Child {
    command(dir, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_killed_run_resumes_to_the_same_bytes() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    custom_ok(dir, &["train", &run_file(dir, "whole", &[])]);
    let file = run_file(dir, "killed", &[]);
    let mut child = start(dir, &["train", &file]);
    // Killed after its second checkpoint, in the middle of whatever follows.
    let second = dir.join("killed/checkpoints/step-000002");
    let begun = Instant::now();
    while !second.exists() && begun.elapsed() < Duration::from_secs(300) {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!dir.join("killed/summary.json").exists(), "the run had ended before it was killed");
    custom_ok(dir, &["train", "--resume", "killed"]);
    assert_same_files(&dir.join("whole"), &dir.join("killed"));
}

/// `zs` itself does not know the components, and says what it knows.
#[test]
fn mistakes_are_named_with_their_line() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    #[track_caller]
    fn check(output: &Output, expected: &str) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(said.contains(expected), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let file = run_file(dir, "plain", &[]);
    check(
        &zs(dir, &["train", &file]),
        "plain.toml: line 9: training.reward: unknown reward `frugal`",
    );
    let cases = [
        (
            "margin = 0.01",
            "margins = 0.01",
            "unknown setting `margins` of algorithm `best_of_group` (did you mean `margin`?)",
        ),
        (
            "\"best_of_group\"",
            "\"best_of_grup\"",
            "unknown algorithm `best_of_grup` (did you mean `best_of_group`?)",
        ),
        (
            "probability = 0.2",
            "probability = \"x\"",
            "curriculum `second_half`: invalid type: string \"x\"",
        ),
        (
            "kind = \"frugal\"",
            "kind = \"frugal\", x = 1",
            "unknown setting `x` of reward `frugal`, which has no settings",
        ),
    ];
    for (index, (from, to, expected)) in cases.into_iter().enumerate() {
        let file = run_file(dir, &format!("bad{index}"), &[(from, to)]);
        check(&custom(dir, &["train", &file]), expected);
        assert!(!dir.join(format!("bad{index}")).exists(), "nothing is written");
    }
}

/// Every line that the page shows of it is in it, in that order, but for indentation.
#[test]
fn the_page_shows_it() {
    let source = include_str!("../../examples/custom_algorithm/src/main.rs");
    assert!(source.lines().count() <= 100, "{} lines", source.lines().count());
    let (before, others) = source.split_once("/// Noisy documents").unwrap();
    let (_, main) = others.split_once("fn main").unwrap();
    let short = before.lines().count() + main.lines().count();
    assert!(short <= 60, "{short} lines of algorithm, reward and main");
    let page = include_str!("../../docs/extending.md");
    let blocks: Vec<&str> = page
        .split("```rust\n")
        .skip(1)
        .filter_map(|it| it.split("```").next())
        .filter(|it| !it.contains("Trainer::builder") && !it.contains("and_group"))
        .collect();
    assert_eq!(blocks.len(), 4);
    for block in blocks {
        let mut rest = source.lines();
        for line in block.lines().map(str::trim) {
            let is_there = rest.any(|it| it.trim() == line);
            assert!(is_there, "docs/extending.md shows what the example has not: {line}");
        }
    }
}
