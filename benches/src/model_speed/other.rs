//! The same work by transformers and PyTorch.

use std::path::Path;

use serde_json::{Value, json};
use zs_model::ComputeDtype;

use super::Arguments;
use crate::WorkSize;

/// The same work with transformers and PyTorch: for each piece of it the better of f32 and bf16.
pub(super) fn run_other(python: &Path, arguments: &Arguments) -> Result<Value, String> {
    let in_f32 = run_other_in(python, arguments, ComputeDtype::F32)?;
    let in_bf16 = run_other_in(python, arguments, ComputeDtype::Bf16)?;
    let runs_of = |it: &Value| it["runs"].as_array().cloned().unwrap_or_default();
    let better = runs_of(&in_f32).into_iter().zip(runs_of(&in_bf16)).map(|(f32, bf16)| {
        let rate = |it: &Value| it["tokens_per_s"].as_f64().unwrap_or(0.0);
        let (mut best, dtype) =
            if rate(&bf16) > rate(&f32) { (bf16, "bf16") } else { (f32, "f32") };
        best["dtype"] = json!(dtype);
        best
    });
    Ok(json!({ "runs": better.collect::<Vec<_>>() }))
}

fn run_other_in(
    python: &Path,
    arguments: &Arguments,
    dtype: ComputeDtype,
) -> Result<Value, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/compare/transformers_bench.py");
    let numbers = std::env::temp_dir().join(format!("zs-bench-{}.json", std::process::id()));
    println!("{} with PyTorch in {dtype:?}", arguments.model);
    let status = std::process::Command::new(python)
        .args([script, &arguments.model, "--tries", &arguments.tries.to_string(), "--json"])
        .arg(&numbers)
        .args((arguments.work == WorkSize::Step).then_some("--step"))
        .args((dtype == ComputeDtype::Bf16).then_some("--bf16"))
        .args(arguments.lora.map(|it| format!("--lora={it}")))
        .args(["--device", &arguments.device.names()[0].to_string()])
        .status()
        .map_err(|it| format!("{}: {it}", python.display()))?;
    if !status.success() {
        return Err(format!("{script} failed ({status}); it needs torch and transformers"));
    }
    let value = read_json(&numbers);
    // A file in the system's temporary folder; the system clears it where this fails.
    let _ = std::fs::remove_file(&numbers);
    value
}

pub(super) fn read_json(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|it| format!("{}: {it}", path.display()))?;
    serde_json::from_str(&text).map_err(|it| format!("{}: {it}", path.display()))
}
