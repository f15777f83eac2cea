//! `zs reproduce --preset claims` and `--preset paper`, from the outside and with next to no training.

use std::fs;
use std::path::Path;
use std::process::Command;

use zs_reproduce::claims::{ClaimsPreset, Request, Verdict, preset, quick, run};
use zs_reproduce::config::ClaimMetric;
use zs_trainer::{Components, RunContext};

use super::common::{tiny_model, zs, zs_ok};

/// The preset on a tiny random model and few questions.
fn small(dir: &Path) -> ClaimsPreset {
    tiny_model(1).save(&dir.join("base")).unwrap();
    let mut preset = preset(zs_world::WorldPreset::Easy, &Components::built_in()).unwrap();
    let base = &mut preset.base;
    base.out = dir.join("claims");
    base.base = dir.join("base");
    base.worlds.train_per_hop = 4;
    base.worlds.validation_per_hop = 2;
    base.worlds.test_per_hop = 3;
    base.data.worlds = 1;
    base.data.examples = 20;
    base.data.validation_examples = 4;
    base.tuning.steps = 2;
    base.tuning.tokens_per_step = 200;
    base.simulator.max_new_tokens = 12;
    base.audit.per_kind = 3;
    base.training.schedule.steps = 2;
    base.training.schedule.eval_every = 1;
    base.training.schedule.questions_per_step = 2;
    base.training.schedule.group_size = 2;
    base.training.rollout.max_new_tokens = 12;
    preset
}

fn request(only: &[&str], jobs: usize) -> Request {
    let only = only.iter().map(|it| (*it).to_owned()).collect();
    Request { num_seeds: 2, only, jobs, report_only: false }
}

#[test]
fn claims_are_run_once_and_reported() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let preset = small(dir);
    let out = &preset.base.out;
    let context = RunContext::default();
    let request = request(&["simulator_or_real", "mispaired", "algorithms"], 2);
    let (report, failures) = run(&preset, &request, &context).unwrap();
    assert_eq!(failures, Vec::<String>::new());
    assert!(report.is_complete());
    // Two simulators; simulated, real, mispaired, paper_form, reinforce, base, ppo: each twice.
    assert_eq!(report.num_done, 2 + 7 * 2);
    let arm = &report.arms["simulated"];
    assert_eq!((arm.seeds.as_slice(), arm.curve.len()), (&[1, 2][..], 3));
    assert!(arm.values.contains_key(&ClaimMetric::SimToReal));
    assert!(arm.values.contains_key(&ClaimMetric::DiscardedShare));
    assert!(arm.curve[1].mean.simulated_exact_match.is_some());
    assert!(report.arms["base"].curve.is_empty());
    let first = &report.claims[0].comparisons[0];
    assert_eq!(first.seeds, [1, 2]);
    assert!(first.difference.unwrap().interval.is_some());
    for name in ["report.json", "report.md", "report.html"] {
        assert!(out.join(name).exists(), "{name}");
    }

    // An interrupted piece of work is done again, a finished one is not.
    let interrupted = out.join("arms/real/seed-2");
    fs::remove_file(interrupted.join("result.json")).unwrap();
    let kept = out.join("arms/real/seed-1/training/metrics.jsonl");
    fs::write(&kept, "not looked at again").unwrap();
    let (again, _) = run(&preset, &request, &context).unwrap();
    assert_eq!(again.num_done, report.num_done);
    for (name, arm) in &report.arms {
        assert_eq!(again.arms[name].values, arm.values, "{name}: the same seed, the same numbers");
    }
    assert_eq!(fs::read_to_string(&kept).unwrap(), "not looked at again");

    // A report of what is there needs no base model.
    fs::remove_dir_all(dir.join("base")).unwrap();
    let only_report = Request { report_only: true, only: Vec::new(), ..request };
    let (partial, _) = run(&preset, &only_report, &context).unwrap();
    assert!(!partial.is_complete() && partial.num_done == report.num_done);
    let masking = partial.claims.iter().find(|it| it.id == "masking").unwrap();
    assert_eq!((masking.verdict, masking.comparisons[0].difference), (Verdict::NotRun, None));
}

#[test]
fn failing_work_is_named_and_leaves_the_rest_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let preset = small(dir);
    // A file where simulators belong: tuning fails, and with it whatever needs the simulator.
    fs::create_dir(&preset.base.out).unwrap();
    for name in [".zs-reproduce", "simulators"] {
        fs::write(preset.base.out.join(name), "").unwrap();
    }
    let request = Request { num_seeds: 1, ..request(&["simulator_or_real"], 1) };
    let (report, failures) = run(&preset, &request, &RunContext::default()).unwrap();
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(failures[0].contains("simulator of 2 steps, seed 1"), "{failures:?}");
    assert!(failures[1].contains("what it needs failed"), "{failures:?}");
    assert_eq!(report.arms.keys().collect::<Vec<_>>(), ["real"]);
}

#[test]
fn plans_are_printed_and_nothing_is_done() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let plan = zs_ok(dir, &["reproduce", "--preset", "claims", "--dry-run", "--seeds", "2"]);
    assert!(plan.contains("curriculum") && plan.contains("for seeds [1, 2], 0 of them done"));
    assert!(!dir.join("target").exists());

    tiny_model(1).save(&dir.join("model")).unwrap();
    fs::create_dir_all(dir.join("data/zerosearch")).unwrap();
    fs::write(dir.join("data/zerosearch/train.parquet"), "").unwrap();
    let paper = ["reproduce", "--preset", "paper", "--model", "model", "--simulator", "model"];
    let plan = zs_ok(dir, &[&paper[..], &["--data", "data", "--dry-run"]].concat());
    assert!(plan.contains("reinforce") && plan.contains("google") && plan.contains("GiB"));
    assert!(plan.contains("estimates, not measurements"), "{plan}");
    assert!(!dir.join("target").exists());
}

#[track_caller]
fn check_refused(arguments: &[&str], expected: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let output = zs(scratch.path(), &[&["reproduce"], arguments].concat());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains(expected), "{message}");
    assert_eq!(message.trim().lines().count(), 1, "{message}");
}

#[test]
fn arguments_that_do_not_go_together_are_refused() {
    check_refused(&["--seeds", "3"], "`--seeds` goes with `--preset claims`");
    check_refused(&["--smoke"], "`--smoke` goes with `--preset real`");
    check_refused(
        &["--preset", "real", "--world", "hard"],
        "`--world` goes with `--preset quick` or `--preset claims`",
    );
    check_refused(
        &["--preset", "real", "--simulator", "s"],
        "`--simulator` goes with `--preset paper`",
    );
    check_refused(&["--preset", "paper", "--jobs", "2"], "`--jobs` goes with `--preset quick`");
    check_refused(
        &["--preset", "claims", "--data", "d"],
        "`--data` goes with `--preset paper` or `--preset real`",
    );
    check_refused(&["--preset", "claims", "--only", "moon"], "`--only moon`");
    check_refused(&["--preset", "claims", "--seeds", "0"], "`--seeds` must be at least 1");
    check_refused(&["--preset", "paper"], "needs `--model DIR`");
    let paper = ["--preset", "paper", "--model", "m", "--simulator", "s", "--data", "d"];
    check_refused(&paper, "zs data fetch zerosearch");
}

/// Needs Python with playwright, and Chromium.
#[test]
fn pages_read_on_phone_and_desktop() {
    let scratch = tempfile::tempdir().unwrap();
    let preset = small(scratch.path());
    let mut base = preset.base.clone();
    base.out = scratch.path().join("quick");
    let quick = quick(base, &Components::built_in()).unwrap();
    let single = Request { num_seeds: 1, ..request(&[], 1) };
    run(&preset, &request(&["curriculum"], 2), &RunContext::default()).unwrap();
    run(&quick, &single, &RunContext::default()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("pages/check_pages.py");
    let python = std::env::var("ZS_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let pages = [&preset, &quick].map(|it| it.base.out.join("report.html"));
    match Command::new(&python).arg(script).args(pages).output() {
        Err(error) => eprintln!("skipped: cannot run `{python}`: {error}"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            eprintln!("{said}");
            assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
