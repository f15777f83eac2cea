//! Overhead of a training run besides training: records, metrics, checkpoints and resuming.
#![expect(clippy::print_stdout, reason = "a command-line tool speaks on the console")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use serde_json::{Value, json};
use zs_observe::write_json;
use zs_train::cli::{self, Cli};
use zs_trainer::Components;

/// Times what a training run does besides training, at the sizes of the shipped preset
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench run")]
struct Arguments {
    /// The policy (Hugging Face layout)
    #[arg(default_value = "assets/zs-tiny")]
    model: PathBuf,
    /// Training steps
    #[arg(long, default_value_t = 12)]
    steps: usize,
    /// Write the numbers to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let scratch = tempfile::tempdir().map_err(|it| it.to_string())?;
    let (out, file) = (scratch.path().join("run"), scratch.path().join("run.toml"));
    let text = run_file(&arguments.model, &out, arguments.steps);
    fs::write(&file, text).map_err(|it| format!("{}: {it}", file.display()))?;
    zs(&["train", &file.display().to_string()])?;

    let steps: Vec<Value> = rows(&out.join("timings.jsonl"))?;
    let seconds = |part: &str| -> Vec<f64> {
        steps.iter().skip(1).filter_map(|it| it[format!("time/{part}")].as_f64()).collect()
    };
    let sum = |part: &str| seconds(part).iter().sum::<f64>();
    let step = sum("rollout") + sum("update");
    let logging = sum("record") + sum("other");
    let stalls = seconds("checkpoint");
    let stall = stalls.iter().copied().fold(0.0, f64::max);
    let record_bytes = bytes_of(&out.join("rollouts"))? / arguments.steps as u64;
    let audit = out.join("audit.jsonl");
    let audit = fs::metadata(&audit).map_err(|it| format!("{}: {it}", audit.display()))?;
    let audit_bytes = audit.len() / arguments.steps as u64;

    let summary = out.join("summary.json");
    fs::remove_file(&summary).map_err(|it| format!("{}: {it}", summary.display()))?;
    let start = Instant::now();
    zs(&["train", "--resume", &out.display().to_string()])?;
    let resume = start.elapsed().as_secs_f64();

    println!("a step: {:.2} s of rollout and update", step / arguments.steps as f64);
    println!(
        "records and metrics: {:.2} % of it, {record_bytes} bytes a step",
        100.0 * logging / step
    );
    // Gradients are as large as weights, and are digested inside the update.
    let digests = sum("audit") / step;
    println!("digests of weights: {:.2} % of it, {audit_bytes} bytes a step", 100.0 * digests);
    println!("a checkpoint: {:.0} ms at most, of {}", 1e3 * stall, stalls.len());
    println!("going on: {resume:.2} s from the command to the state of the last step");
    let json = json!({
        "steps": arguments.steps,
        "step_seconds": step / arguments.steps as f64,
        "logging_share": logging / step,
        "record_bytes_per_step": record_bytes,
        "weight_digests_share": digests,
        "audit_bytes_per_step": audit_bytes,
        "checkpoint_seconds_max": stall,
        "resume_seconds": resume,
    });
    match &arguments.json {
        Some(path) => write_json(path, &json).map_err(|it| format!("{it:#}")),
        None => Ok(()),
    }
}

/// The shapes of the shipped preset, with the real engine.
fn run_file(model: &Path, out: &Path, steps: usize) -> String {
    format!(
        r#"
seed = 1
out = '{}'
policy = '{}'
questions = {{ kind = "world", world = {{ seed = 1, split = "train" }}, per_hop = 400 }}
engine = {{ kind = "bm25", world = {{ seed = 1, split = "train" }} }}

[training.schedule]
steps = {steps}
questions_per_step = 8
group_size = 8

[training.checkpoints]
every = 4

[training.rollout]
max_searches = 3
num_documents = 3
max_new_tokens = 64
max_observation_tokens = 160
document_titles = false
prompt_template = "Question: {{{{ question }}}}\n"

[training.optimizer]
learning_rate = 5e-4
"#,
        out.display(),
        model.display()
    )
}

fn zs(arguments: &[&str]) -> Result<(), String> {
    let command = ["zs", "--quiet"].iter().chain(arguments);
    let cli = Cli::try_parse_from(command).map_err(|it| it.to_string())?;
    cli::run(&cli, Arc::new(Components::built_in())).map_err(|it| format!("{it:#}"))
}

fn rows(path: &Path) -> Result<Vec<Value>, String> {
    let text = fs::read_to_string(path).map_err(|it| format!("{}: {it}", path.display()))?;
    text.lines().map(|it| serde_json::from_str(it).map_err(|it| it.to_string())).collect()
}

fn bytes_of(dir: &Path) -> Result<u64, String> {
    let failed = |it: std::io::Error| format!("{}: {it}", dir.display());
    let mut bytes = 0;
    for entry in fs::read_dir(dir).map_err(failed)? {
        bytes += entry.and_then(|it| it.metadata()).map_err(failed)?.len();
    }
    Ok(bytes)
}
