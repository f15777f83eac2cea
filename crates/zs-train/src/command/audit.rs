//! `zs audit`: a run held against its record.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use zs_trainer::{Audit, AuditOptions, StepAudit, train as training};

use crate::session::Session;

/// Arguments of `zs audit`.
#[derive(Debug, Args)]
pub struct RunAuditArgs {
    /// The run directory of `zs train`, finished or not.
    pub run: PathBuf,
    /// Number of steps to sample and recompute; 0 checks only the record and the files.
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    pub steps: usize,
    /// Sample among all steps: repeat the updates since the nearest earlier checkpoint if necessary.
    #[arg(long)]
    pub replay: bool,
    /// Seed of the sample; by default the hash of the record's last line.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Maximum difference that passes on another kind of machine, relative to the larger of both numbers
    /// and 1.
    #[arg(long, default_value_t = 1e-2)]
    pub tolerance: f64,
}

/// Prints what holds; fails at the first thing that does not.
pub(crate) fn audit(args: &RunAuditArgs, session: &Session) -> Result<()> {
    let RunAuditArgs { run, steps, replay, seed, tolerance } = args;
    let options = AuditOptions { steps: *steps, replay: *replay, seed: *seed };
    let audit = training::audit(run, &options, &session.context()?)?;
    session.print(&held(&audit));
    let mut changes: &[String] = &[];
    for step in &audit.steps {
        if step.machine_changes != changes {
            changes = &step.machine_changes;
            session.print(&format!("another kind of machine: {}\n", changes.join("; ")));
        }
        session.print(&format!("{}: {}\n", name_of(step), verdict(step)));
        if !step.passes(*tolerance) {
            session.print(&format!("{}\n", step.comparison.table()));
            bail!("{}", failure(run, step, *tolerance));
        }
    }
    session.print(&result(&audit));
    Ok(())
}

/// Lines about the record and the files.
fn held(audit: &Audit) -> String {
    let Audit { num_steps, bytes_per_step, head, checkpoints, missing, .. } = audit;
    let checkpoints: Vec<String> = checkpoints.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "record: {num_steps} steps, {bytes_per_step} bytes a step; its chain holds and ends in {head}\n\
         files: run file, inputs, episodes, metrics and weights are the recorded ones (checkpoints of \
         steps {})\n",
        checkpoints.join(", ")
    );
    if let Some(first) = missing.first() {
        let count = missing.len();
        text += &format!(
            "{count} files that the run has read are not here and unchecked; the first: {}\n",
            first.display()
        );
    }
    text
}

fn name_of(step: &StepAudit) -> String {
    let StepAudit { step, from, .. } = step;
    match from {
        0 => format!("step {step}, from the beginning of the run"),
        _ => format!("step {step}, from the checkpoint of step {from}"),
    }
}

fn verdict(step: &StepAudit) -> String {
    let StepAudit { comparison, weights, machine_changes, .. } = step;
    match (step.is_equal(), machine_changes.is_empty()) {
        (true, _) => return "equal".to_owned(),
        (false, true) => return "different".to_owned(),
        (false, false) => {}
    }
    let weights = match weights {
        None => "no checkpoint of this step to compare weights with".to_owned(),
        Some(it) => format!(
            "weights within {:.1e}, {:.1e} of the step's change",
            it.max_abs, it.relative_to_update
        ),
    };
    format!("numbers within {:.1e}; {weights}", comparison.bound)
}

/// Line about a step that does not pass.
fn failure(run: &Path, audit: &StepAudit, tolerance: f64) -> String {
    let StepAudit { step, comparison, weights, machine_changes, .. } = audit;
    let mut text = format!("{}: step {step}", run.display());
    let found = match machine_changes.is_empty() {
        true => &comparison.first,
        false => &comparison.largest,
    };
    if let Some(found) = found {
        text += &format!(": {found}");
    }
    if let Some(weights) = weights
        && let Some(first) = &weights.first
    {
        text += &format!(
            "; {} weights differ by at most {:e}, the first: value {} of {} was {} and is {}",
            weights.num_different,
            weights.max_abs,
            first.index,
            first.tensor,
            first.recorded,
            first.now
        );
    }
    if !machine_changes.is_empty() {
        text +=
            &format!("; beyond what another kind of machine explains (tolerance {tolerance:e})");
    }
    text
}

/// Last line of an audit that passes.
fn result(audit: &Audit) -> String {
    let Audit { num_steps, num_candidates, steps, .. } = audit;
    if steps.is_empty() {
        return "no step was computed again\n".to_owned();
    }
    let verdict = match steps.iter().all(StepAudit::is_equal) {
        true => "equal".to_owned(),
        false => {
            let bound = steps.iter().map(|it| it.comparison.bound).fold(0.0, f64::max);
            format!("within {bound:.1e}")
        }
    };
    format!(
        "{verdict}: {} of {num_steps} steps were computed again ({num_candidates} could be sampled)\n",
        steps.len()
    )
}
