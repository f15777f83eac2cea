//! `zs sft`: the tuned model, and bit-exact resume of an interrupted run.

use std::fs;
use std::path::Path;

use crate::common::{assert_same_files, tiny_model, zs, zs_ok};

#[test]
fn tuning_learns_rows_from_a_file() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(2).save(&dir.join("model")).unwrap();
    let rows = r#"{"prompt": "Where was Anna born?", "completion": "<answer> Bada </answer>"}"#;
    fs::write(dir.join("rows.jsonl"), format!("{rows}\n\n{rows}\n")).unwrap();
    let run = r#"
seed = 1
out = "tuned"
base = "model"
data = { kind = "file", train = "rows.jsonl", validation = "rows.jsonl" }
tuning = { steps = 30, tokens_per_step = 30, micro_batch_tokens = 100, eval_every = 10, optimizer = { learning_rate = 1e-2 } }
"#;
    fs::write(dir.join("sft.toml"), run).unwrap();
    zs_ok(dir, &["sft", "sft.toml"]);
    let metrics = fs::read_to_string(dir.join("tuned/metrics.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert!(last["tuning/loss"].as_f64().unwrap() < 0.5, "{last}");
    assert!(last["validation/loss"].as_f64().unwrap() < 0.5, "{last}");
    let asked = ["ask", "--model", "tuned/checkpoints/final", "--corpus", "corpus.jsonl", "who?"];
    fs::write(dir.join("corpus.jsonl"), "{\"title\": \"Anna\", \"text\": \"Anna is here.\"}\n")
        .unwrap();
    let text = zs_ok(dir, &asked);
    assert!(text.contains("answer"), "{text}");
    let found = zs_ok(dir, &["search", "--corpus", "corpus.jsonl", "--query", "anna", "--json"]);
    assert!(found.contains("Anna is here."), "{found}");
}

/// Twelve rows of different lengths and a validation loss that soon rises.
fn write_rows(dir: &Path) {
    let row = |who: &str, what: &str| {
        format!("{{\"prompt\": \"Where was {who} born?\", \"completion\": \"{what}\"}}\n")
    };
    let names = ["Anna", "Bo", "Carl Bada", "Dora"];
    let train = (0..12).map(|it| row(names[it % 4], &"in Bada ".repeat(it % 3 + 1)));
    fs::write(dir.join("train.jsonl"), train.collect::<String>()).unwrap();
    fs::write(dir.join("validation.jsonl"), row("Anna", "nowhere at all, ever")).unwrap();
}

/// Takes everything away that a run writes after its last checkpoint.
fn interrupt(run: &Path) {
    fs::remove_file(run.join("summary.json")).unwrap();
    for kept in ["final", "best"] {
        let _ = fs::remove_dir_all(run.join("checkpoints").join(kept));
    }
}

#[track_caller]
fn check_resume(settings: &str, num_steps: usize) {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(2).save(&dir.join("model")).unwrap();
    write_rows(dir);
    for out in ["a", "b"] {
        let run = format!(
            r#"
seed = 1
out = "{out}"
base = "model"
data = {{ kind = "file", train = "train.jsonl", validation = "validation.jsonl" }}

[tuning]
steps = 9
tokens_per_step = 30
micro_batch_tokens = 60
eval_every = 2
checkpoint_every = 2
{settings}
"#
        );
        fs::write(dir.join(format!("{out}.toml")), run).unwrap();
        zs_ok(dir, &["sft", &format!("{out}.toml")]);
    }
    let (a, b) = (dir.join("a"), dir.join("b"));
    assert_same_files(&a, &b);
    let metrics = fs::read_to_string(a.join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), num_steps, "{metrics}");

    let finished = zs(dir, &["sft", "b.toml", "--resume"]);
    assert!(String::from_utf8_lossy(&finished.stderr).contains("finished"));

    // From the newest checkpoint, with that one damaged from the one before, and without any from the beginning.
    let newest = b.join(format!("checkpoints/step-{:06}", num_steps / 2 * 2));
    for is_damaged in [false, true] {
        interrupt(&b);
        if is_damaged {
            let state = newest.join("optimizer.bpk");
            let mut bytes = fs::read(&state).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(&state, bytes).unwrap();
        }
        zs_ok(dir, &["sft", "b.toml", "--resume"]);
        assert_same_files(&a, &b);
    }
    interrupt(&b);
    fs::remove_dir_all(b.join("checkpoints")).unwrap();
    zs_ok(dir, &["sft", "b.toml", "--resume"]);
    assert_same_files(&a, &b);
}

#[test]
fn full_tuning_resumes() {
    check_resume("optimizer = { kind = \"muon\", learning_rate = 1e-2, warmup_steps = 2 }", 9);
}

#[test]
fn tuning_of_adapters_resumes_with_them_unmerged() {
    check_resume("lora = { r = 2, alpha = 4.0 }\noptimizer = { learning_rate = 1e-2 }", 9);
}

#[test]
fn tuning_that_watches_its_loss_resumes() {
    // The first evaluation is the best, and the third without progress is the last.
    let early_stop = "early_stop = { patience = 3, min_delta = 10.0 }";
    check_resume(&format!("{early_stop}\noptimizer = {{ learning_rate = 1e-2 }}"), 8);
    check_resume(
        &format!(
            "{early_stop}\nlora = {{ r = 2, alpha = 4.0 }}\noptimizer = {{ learning_rate = 1e-2 }}"
        ),
        8,
    );
}
