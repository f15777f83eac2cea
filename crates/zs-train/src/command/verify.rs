//! `zs verify`: does a checkpoint compute what its reference computed?

use anyhow::{Context, Result, bail};

use crate::cli::VerifyArgs;
use crate::session::Session;

/// Prints each comparison; fails when one is out of tolerance. With `--write`, is the reference.
pub(crate) fn verify(args: &VerifyArgs, session: &Session) -> Result<()> {
    let devices = session.devices()?;
    let device = devices.first();
    if let Some(path) = &args.write {
        return Ok(zs_model::write_golden(&args.model, path, device)?);
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
    Ok(())
}
