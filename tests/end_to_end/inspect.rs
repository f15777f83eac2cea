//! `zs inspect`: the page of a run, and that page in a browser where there is one.
#![expect(clippy::print_stderr, reason = "a test that is skipped says why")]

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{tiny_model, train_toml, zs, zs_ok};

/// A run of a few steps over few questions, so that each is asked more than once; all its rewards are
/// equal, which an alarm notices.
fn run(dir: &Path) {
    tiny_model(1).save(&dir.join("model")).unwrap();
    let toml =
        train_toml("a").replace("per_hop = 5", "per_hop = 1").replace("steps = 3", "steps = 4");
    let observe = "\n[alarms]\nwindow = 2\n[logging]\ntensorboard = true\n";
    fs::write(dir.join("a.toml"), toml + observe).unwrap();
    zs_ok(dir, &["--trace", "trace.json", "train", "a.toml"]);
}

#[test]
fn a_run_is_watched_and_drawn() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    run(dir);

    let alarms = fs::read_to_string(dir.join("a/alarms.jsonl")).unwrap();
    let alarms: Vec<serde_json::Value> =
        alarms.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let constant = alarms.iter().filter(|it| it["alarm"] == "zero_variance_groups");
    let steps: Vec<u64> = constant.map(|it| it["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [2, 3, 4], "a random model earns nothing, and a window is two steps");

    let events: Vec<_> = fs::read_dir(dir.join("a/tensorboard")).unwrap().collect();
    assert_eq!(events.len(), 1);
    let bytes = fs::read(events[0].as_ref().unwrap().path()).unwrap();
    let has = |text: &[u8]| bytes.windows(text.len()).any(|it| it == text);
    assert!(has(b"brain.Event:2") && has(b"reward/mean") && has(b"validation/exact_match"));

    let trace = fs::read_to_string(dir.join("trace.json")).unwrap();
    let trace: serde_json::Value = serde_json::from_str(&trace).unwrap();
    let names: Vec<&str> =
        trace.as_array().unwrap().iter().filter_map(|it| it["name"].as_str()).collect();
    for name in [
        "step",
        "rollout",
        "generate",
        "prefill",
        "decode",
        "reward",
        "update",
        "validation",
        "checkpoint",
    ] {
        assert!(names.contains(&name), "{name}");
    }

    assert!(zs_ok(dir, &["inspect", "a"]).ends_with("inspect.html\n"));
    let page = fs::read_to_string(dir.join("a/inspect.html")).unwrap();
    assert!(page.contains("zero_variance_groups") && page.contains("<svg"));
    zs_ok(dir, &["inspect", "a", "--episodes", "8", "--out", "small.html"]);
    let small = fs::read_to_string(dir.join("small.html")).unwrap();
    assert!(small.contains("8 of 16 recorded episodes"), "whole groups of the sixteen episodes");

    let refused = zs(dir, &["inspect", "model"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && message.contains("not a run directory"), "{message}");

    in_browser(&dir.join("a/inspect.html"));
}

/// Clicks through the page where Python has playwright and there is a Chromium.
fn in_browser(page: &Path) {
    let python = std::env::var("ZS_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let succeeds = |command: &mut Command| command.output().is_ok_and(|it| it.status.success());
    let has_playwright = succeeds(Command::new(&python).args(["-c", "import playwright.sync_api"]));
    let has_browser = succeeds(Command::new("chromium").arg("--version"));
    if !has_playwright || !has_browser {
        eprintln!("skipped: needs `{python}` with playwright, and `chromium`");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/inspect_page.py");
    let output = Command::new(&python).arg(script).arg(page).output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("ok, with two steps compared"), "{stdout}");
}
