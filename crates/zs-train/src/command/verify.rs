//! `zs verify`: comparison of a checkpoint with recorded reference outputs.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::session::Session;

/// Arguments of `zs verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The checkpoint (Hugging Face layout).
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Reference outputs: `golden.safetensors`, or `golden.json` with greedy tokens.
    #[arg(long, value_name = "FILE", required_unless_present = "write")]
    pub golden: Option<PathBuf>,
    /// Write the outputs of this device as reference outputs for another one.
    #[arg(long, value_name = "FILE", conflicts_with = "golden")]
    pub write: Option<PathBuf>,
    /// Maximum relative difference that passes.
    #[arg(long, default_value_t = 1e-4)]
    pub tolerance: f64,
    /// Write the comparisons to this file too.
    #[arg(long, value_name = "FILE", conflicts_with = "write")]
    pub json: Option<PathBuf>,
}

/// Prints each comparison; fails when one is out of tolerance. With `--write`, writes the reference.
pub(crate) fn verify(args: &VerifyArgs, session: &Session) -> Result<()> {
    let devices = session.devices()?;
    let device = devices.first();
    if let Some(path) = &args.write {
        zs_model::write_golden(&args.model, path, device)?;
        session.console.note(&format!("wrote {}", path.display()));
        return Ok(());
    }
    let golden = args.golden.as_ref().context("--golden names the reference outputs")?;
    let report = zs_model::verify(&args.model, golden, args.tolerance, device)?;
    if let Some(path) = &args.json {
        zs_observe::write_json(path, &report)?;
    }
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["check", "absolute", "relative", ""]);
    for check in &report.checks {
        let verdict = match (check.passed, check.detail.is_empty()) {
            (true, _) => "ok".to_owned(),
            (false, true) => "FAILED".to_owned(),
            (false, false) => format!("FAILED: {}", check.detail),
        };
        table.add_row([
            check.name.clone(),
            format!("{:.2e}", check.max_abs_error),
            format!("{:.2e}", check.max_rel_error),
            verdict,
        ]);
    }
    session.print(&format!("{table}\n"));
    let failed = report.checks.iter().filter(|it| !it.passed).count();
    if failed > 0 {
        bail!(
            "{}: {failed} of {} checks failed at tolerance {:e}",
            args.model.display(),
            report.checks.len(),
            args.tolerance
        );
    }
    let count = report.checks.len();
    session.print(&format!("all {count} checks pass at tolerance {:e}\n", args.tolerance));
    Ok(())
}
