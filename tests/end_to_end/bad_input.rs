//! Bad input: one line that names file, row and field, a non-zero exit, and nothing overwritten.

use std::fs;
use std::path::Path;

use crate::common::{tiny_model, train_toml, zs};

const QUESTIONS: &str =
    "{\"id\": \"q1\", \"question\": \"who?\", \"golden_answers\": [\"Anna\"]}\n";
const CORPUS: &str = "{\"title\": \"Anna\", \"text\": \"Anna is here.\"}\n";

/// A directory with a valid model, questions, corpus and run file.
fn workplace() -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    fs::write(dir.join("questions.jsonl"), QUESTIONS).unwrap();
    fs::write(dir.join("corpus.jsonl"), CORPUS).unwrap();
    fs::write(dir.join("run.toml"), train_toml("out")).unwrap();
    scratch
}

/// The command fails with one line that holds all of `expected`, and makes no run directory.
#[track_caller]
fn check(dir: &Path, arguments: &[&str], expected: &[&str]) {
    let output = zs(dir, arguments);
    assert!(!output.status.success(), "zs {arguments:?} must fail");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "one line: {stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    for part in expected {
        assert!(stderr.contains(part), "`{part}` is not in: {stderr}");
    }
    assert!(!dir.join("out").exists(), "nothing must be written");
}

const EVAL: [&str; 9] = [
    "eval",
    "--model",
    "model",
    "--corpus",
    "corpus.jsonl",
    "--questions",
    "questions.jsonl",
    "--out",
    "out",
];

#[test]
fn the_workplace_itself_is_fine() {
    let scratch = workplace();
    let output = zs(scratch.path(), &EVAL);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn missing_model_files_are_named() {
    let scratch = workplace();
    let dir = scratch.path();
    fs::remove_file(dir.join("model/model.safetensors")).unwrap();
    check(dir, &EVAL, &["model", "model.safetensors"]);
    check(dir, &["train", "run.toml"], &["model", "model.safetensors"]);
    fs::remove_file(dir.join("model/config.json")).unwrap();
    check(dir, &EVAL, &["model", "config.json"]);
    fs::remove_dir_all(dir.join("model")).unwrap();
    check(dir, &EVAL, &["model: no such model directory"]);
}

#[test]
fn a_tokenizer_larger_than_the_embedding_is_refused() {
    let scratch = workplace();
    let dir = scratch.path();
    let path = dir.join("model/config.json");
    let config = fs::read_to_string(&path).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["vocab_size"] = 100.into();
    fs::write(&path, config.to_string()).unwrap();
    check(dir, &EVAL, &["tokenizer.json", "100"]);
}

#[test]
fn malformed_question_rows_are_named() {
    let scratch = workplace();
    let dir = scratch.path();
    let write = |rows: &str| fs::write(dir.join("questions.jsonl"), rows).unwrap();
    write(&format!("{QUESTIONS}{{\"id\": \"q2\", \"question\": \"who?\"}}\n"));
    check(dir, &EVAL, &["questions.jsonl", "row 2", "golden_answers"]);
    write(&format!("{QUESTIONS}{{\"id\": \"q2\", \"question"));
    check(dir, &EVAL, &["questions.jsonl", "row 2"]);
    write("");
    check(dir, &EVAL, &["questions.jsonl", "holds no question"]);
    fs::write(dir.join("questions.jsonl"), b"{\"id\": \"\xff\"}\n").unwrap();
    check(dir, &EVAL, &["questions.jsonl", "row 1", "UTF-8"]);
    fs::remove_file(dir.join("questions.jsonl")).unwrap();
    check(dir, &EVAL, &["questions.jsonl"]);
}

#[test]
fn bad_corpora_are_named() {
    let scratch = workplace();
    let dir = scratch.path();
    fs::write(dir.join("corpus.jsonl"), "\n").unwrap();
    check(dir, &EVAL, &["corpus.jsonl", "no document"]);
    check(dir, &["search", "--corpus", "corpus.jsonl", "--query", "a"], &["corpus.jsonl"]);
    fs::write(dir.join("corpus.jsonl"), format!("{CORPUS}{{\"title\": \"x\"}}\n")).unwrap();
    check(dir, &EVAL, &["corpus.jsonl", "row 2", "text"]);
    fs::write(dir.join("corpus.jsonl"), b"{\"text\": \"\xff\"}\n").unwrap();
    check(dir, &EVAL, &["corpus.jsonl", "row 1", "UTF-8"]);
    check(dir, &["search", "--index", "model", "--query", "a"], &["model", "not an index"]);
}

#[test]
fn run_files_are_checked_before_anything_is_written() {
    let scratch = workplace();
    let dir = scratch.path();
    let write = |text: &str| fs::write(dir.join("run.toml"), text).unwrap();
    let train = ["train", "run.toml"];
    let good = train_toml("out");
    write(&good.replace("steps = 3", "steps = 3\nstpes = 4"));
    check(dir, &train, &["run.toml", "line 14", "unknown field `stpes`"]);
    write(&good.replace("start = 0.0", "start = 0.0\nbegin = 1"));
    check(dir, &train, &["run.toml", "line ", "unknown setting `begin` of curriculum"]);
    write(&good.replace("steps = 3", "steps = 0"));
    check(dir, &train, &["run.toml", "training.schedule.steps", "at least 1"]);
    write(&good.replace("end = 0.5", "end = 1.5"));
    check(dir, &train, &["run.toml", "training.curriculum", "`end`", "1.5"]);
    write(&good.replace("{{ question }}", "nothing"));
    check(dir, &train, &["run.toml", "prompt_template"]);
    write(&good.replace("seed = 3", "seed = ="));
    check(dir, &train, &["run.toml", "line 2"]);
    fs::write(dir.join("run.toml"), b"seed = 1 # \xff\n").unwrap();
    check(dir, &train, &["run.toml", "UTF-8"]);
    fs::remove_file(dir.join("run.toml")).unwrap();
    check(dir, &train, &["run.toml"]);
}

#[test]
fn earlier_runs_are_never_overwritten() {
    let scratch = workplace();
    let dir = scratch.path();
    fs::create_dir(dir.join("taken")).unwrap();
    fs::write(dir.join("taken/metrics.jsonl"), "{}\n").unwrap();
    fs::write(dir.join("run.toml"), train_toml("taken")).unwrap();
    check(dir, &["train", "run.toml"], &["taken", "interrupted run", "nothing was overwritten"]);
    fs::write(dir.join("taken/summary.json"), "{}\n").unwrap();
    check(dir, &["train", "run.toml"], &["taken", "finished run", "nothing was overwritten"]);
    check(
        dir,
        &["data", "world", "--out", "taken"],
        &["taken", "finished run", "nothing was overwritten"],
    );
    check(
        dir,
        &["reproduce", "--base", "model", "--out", "taken"],
        &["taken", "not a report of `zs reproduce`", "nothing was overwritten"],
    );
    assert_eq!(fs::read_to_string(dir.join("taken/metrics.jsonl")).unwrap(), "{}\n");
    assert_eq!(fs::read_dir(dir.join("taken")).unwrap().count(), 2);
}

#[test]
fn a_missing_base_model_says_so() {
    let scratch = workplace();
    check(
        scratch.path(),
        &["reproduce", "--base", "nowhere", "--out", "out"],
        &["nowhere: no such model directory"],
    );
}

#[test]
fn tuning_rows_are_checked() {
    let scratch = workplace();
    let dir = scratch.path();
    let run = r#"
seed = 1
out = "out"
base = "model"
data = { kind = "file", train = "rows.jsonl" }
tuning = { steps = 1, tokens_per_step = 30, micro_batch_tokens = 100, eval_every = 10 }
"#;
    fs::write(dir.join("sft.toml"), run).unwrap();
    let row = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    let check_rows = |rows: &[u8], expected: &[&str]| {
        fs::write(dir.join("rows.jsonl"), rows).unwrap();
        check(dir, &["sft", "sft.toml"], expected);
    };
    check_rows(b"", &["rows.jsonl", "holds no prompt with completion"]);
    check_rows(format!("{row}{{\"prompt\": \"a\"}}\n").as_bytes(), &["row 2", "completion"]);
    check_rows(b"{\"prompt\": \"\xff\"}\n", &["rows.jsonl", "row 1"]);
    let long = "a ".repeat(400);
    let long = format!("{{\"prompt\": \"{long}\", \"completion\": \"b\"}}\n");
    check_rows(long.as_bytes(), &["row 1", "context of 256"]);
}

/// A model whose weights are finite and whose activations are not.
#[test]
fn an_evaluation_of_nan_is_no_score_of_zero() {
    let scratch = workplace();
    let dir = scratch.path();
    let path = dir.join("model/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let norm = metadata.info("model.norm.weight").unwrap().data_offsets;
    let values = &mut bytes[8 + header..][norm.0..norm.1];
    values.chunks_exact_mut(4).for_each(|it| it.copy_from_slice(&f32::MAX.to_le_bytes()));
    fs::write(&path, &bytes).unwrap();
    let output = zs(dir, &EVAL);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("sequence 0: the logits of token"), "{said}");
    fs::remove_dir_all(dir.join("out")).unwrap();

    bytes[8 + header + norm.0..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let expected = "model.safetensors: tensor model.norm.weight holds NaN at position 0";
    check(dir, &EVAL, &[expected]);
    check(dir, &["train", "run.toml"], &[expected]);
}

/// Documents and errors cannot control a terminal, and results do not vanish.
#[test]
#[cfg(target_os = "linux")]
fn output_is_harmless_and_not_lost() {
    let scratch = workplace();
    let dir = scratch.path();
    check(
        dir,
        &["data", "check", "\u{1b}]0;title\u{7}\u{202e}.jsonl"],
        &["\\u{1b}]0;title\\u{7}\\u{202e}"],
    );
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_zs-under-test"))
        .current_dir(dir)
        .args(["data", "check", "questions.jsonl"])
        .stdout(full)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("standard output") && said.contains("No space left"), "{said}");
}

#[test]
#[cfg(target_os = "linux")]
fn paths_need_not_be_text() {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt;

    let scratch = workplace();
    let dir = scratch.path();
    let odd = |name: &str| {
        let renamed = OsStr::from_bytes(&[name.as_bytes(), b"-\xff"].concat()).to_owned();
        fs::rename(dir.join(name), dir.join(&renamed)).unwrap();
        renamed
    };
    let model = odd("model");
    // The ending tells the format.
    let plain = odd("questions.jsonl");
    let mut questions = plain.clone();
    questions.push(".jsonl");
    fs::rename(dir.join(plain), dir.join(&questions)).unwrap();
    let out = OsStr::from_bytes(b"out-\xff").to_owned();
    let word = |it: &str| OsString::from(it);
    let check = |arguments: &[OsString]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_zs-under-test"));
        let output = command.current_dir(dir).arg("--quiet").args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    };
    check(&[word("data"), word("check"), word("--json"), questions.clone(), questions.clone()]);
    check(&[
        word("eval"),
        word("--model"),
        model,
        word("--corpus"),
        word("corpus.jsonl"),
        word("--questions"),
        questions,
        word("--out"),
        out.clone(),
        word("--json"),
    ]);
    assert!(dir.join(out).join("summary.json").exists());
}
