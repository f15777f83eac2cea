//! The files of a run, held against its record.

use std::path::{Path, PathBuf};

use zs_data::{FileError, digest, read_regular_text};
use zs_model::{LanguageModel, ValueNetwork, weights_digest};

use super::line::{StepLine, of_list};
use super::{AuditError, AuditRecord};
use crate::checkpoint::{Checkpoints, file_digest, name_in};
use crate::environment;
use crate::files::{CONFIG, ENVIRONMENT, SUMMARY, entries_below};
use crate::rollouts::rollouts_file;
use crate::run_dir_error::RunDirError;
use crate::weights::{CRITIC, POLICY, load_weights};

/// Digest of the files of a directory, by their paths inside it; what is no regular file has an empty
/// digest.
pub(super) fn of_dir(dir: &Path) -> Result<String, FileError> {
    let (_, files) = entries_below(dir)?;
    let listed: Vec<(String, String)> = files
        .into_iter()
        .map(|it| Ok((name_in(dir, &it), file_digest(&it)?.unwrap_or_default())))
        .collect::<Result<_, FileError>>()?;
    Ok(of_list(listed))
}

/// Digest of the run file of a run; `None` where its directory has none.
///
/// # Errors
///
/// Fails when it cannot be read.
pub(crate) fn run_file_of(run: &Path) -> Result<Option<String>, FileError> {
    file_digest(&run.join(CONFIG))
}

/// Holds the run file, the list of what the run has read, and the episodes and metrics of each step
/// against the record. `changed_to` is the digest of the run file that `--set` made last.
///
/// # Errors
///
/// Fails at the first file that is not the recorded one, with its step.
pub(crate) fn check_files(
    run: &Path,
    record: &AuditRecord,
    changed_to: Option<&String>,
) -> Result<(), AuditError> {
    let changed = |step, path, problem| Err(AuditError::Changed { step, path, problem });
    let path = run.join(CONFIG);
    let (found, last) = (run_file_of(run)?, record.steps().next_back());
    let is_expected = last.is_none_or(|it| it.run_file == found)
        || (found.is_some() && found.as_ref() == changed_to);
    if !is_expected {
        let step = record.first_like_last(|it| &it.run_file);
        return changed(step, path, "not the run file that the step was computed with");
    }
    let data = environment::data_of(run)?.map(of_list);
    // A process that changes settings may be killed before its first step.
    if last.is_some_and(|it| it.data != data && it.run_file == found) {
        let step = record.first_like_last(|it| &it.data);
        let path = run.join(ENVIRONMENT);
        return changed(step, path, "not the list of the files that the step was computed with");
    }
    let path = run.join("metrics.jsonl");
    let metrics = read_regular_text(&path).map_err(FileError::io(&path, "be read"))?;
    let whole: Vec<&str> =
        metrics.split_inclusive('\n').filter_map(|it| it.strip_suffix('\n')).collect();
    let is_finished = run.join(SUMMARY).exists();
    for line in record.steps() {
        let step = line.step;
        if let Some(expected) = &line.episodes {
            check_digest(step, &rollouts_file(run, step), expected)?;
        }
        match whole.get(step) {
            Some(text) if digest::of_bytes(text.as_bytes()) == line.metrics => {}
            Some(_) => return changed(step, path, "the line of this step is not the recorded one"),
            // The record comes first, and a killed process writes no further.
            None if !is_finished && last == Some(line) => {}
            None => return changed(step, path, "the line of this step is missing"),
        }
    }
    let recorded = last.map_or(0, |it| it.step.saturating_add(1));
    if is_finished && whole.len() > recorded {
        return changed(recorded, path, "the record has no line for this step");
    }
    Ok(())
}

/// Holds the files that the run has read against the list in its directory; returns those that are not
/// on this machine.
///
/// # Errors
///
/// Fails at the first that is another.
pub(crate) fn check_inputs(run: &Path, record: &AuditRecord) -> Result<Vec<PathBuf>, AuditError> {
    let mut missing = Vec::new();
    for (name, expected) in environment::data_of(run)?.unwrap_or_default() {
        let path = PathBuf::from(name);
        match file_digest(&path)? {
            None => missing.push(path),
            Some(found) if found == expected => {}
            Some(_) => {
                let step = record.first_like_last(|it| &it.data);
                let problem = "not the file that the step was computed with";
                return Err(AuditError::Changed { step, path, problem });
            }
        }
    }
    Ok(missing)
}

/// Holds the checkpoints, and the models of a finished run, against the record; `policy` is the policy
/// that the run began with, and `is_adapted` is true if adapters are trained. Returns the steps of the
/// checkpoints.
///
/// # Errors
///
/// Fails at the first that is damaged, or has other weights than were recorded.
pub(crate) fn check_outputs(
    run: &Path,
    record: &AuditRecord,
    policy: &LanguageModel,
    is_adapted: bool,
) -> Result<Vec<usize>, AuditError> {
    let checkpoints = Checkpoints::in_dir(run);
    let steps = checkpoints.steps()?;
    for &step in &steps {
        let damaged = |source| AuditError::Checkpoint { step, source };
        let dir = checkpoints.at(step).map_err(damaged)?;
        let Some(line) = record.step(step) else { continue };
        let path = dir.join(POLICY);
        let found = load_weights(&path, policy).map_err(damaged)?;
        check_weights(step, path, found.network(), Some(&line.weights))?;
        if line.value_weights.is_some() {
            let path = dir.join(CRITIC);
            let values = ValueNetwork::load(&path, policy.config(), &policy.device())
                .map_err(|it| damaged(RunDirError::from(it)))?;
            check_weights(step, path, &values, line.value_weights.as_ref())?;
        }
    }
    let Some((best_step, best, last)) = &record.finished else { return Ok(steps) };
    let last_step = record.steps().next_back().map_or(0, |it| it.step);
    for (name, step, expected) in [("final", last_step, last), ("best", *best_step, best)] {
        let path = run.join("checkpoints").join(name);
        if !path.is_dir() {
            return Err(AuditError::Changed { step, path, problem: MISSING });
        }
        if of_dir(&path)? != *expected {
            return Err(AuditError::Changed { step, path, problem: CHANGED });
        }
        // Adapters are merged there, so that the weights are not those that are trained.
        let line = record.step(step).filter(|_| !is_adapted);
        if let Some(StepLine { weights, .. }) = line {
            let found = LanguageModel::load(&path, &policy.device())
                .map_err(|it| AuditError::Checkpoint { step, source: it.into() })?;
            check_weights(step, path, found.network(), Some(weights))?;
        }
    }
    Ok(steps)
}

const MISSING: &str = "is missing";
const CHANGED: &str = "its bytes are not the recorded ones";

fn check_digest(step: usize, path: &Path, expected: &str) -> Result<(), AuditError> {
    let problem = match file_digest(path)? {
        Some(found) if found == expected => return Ok(()),
        Some(_) => CHANGED,
        None => MISSING,
    };
    Err(AuditError::Changed { step, path: path.to_owned(), problem })
}

fn check_weights(
    step: usize,
    path: PathBuf,
    module: &impl burn::module::Module,
    expected: Option<&String>,
) -> Result<(), AuditError> {
    if Some(&digest::hexadecimal(&weights_digest(module))) == expected {
        return Ok(());
    }
    let problem = "its weights are not those that the step has ended with";
    Err(AuditError::Changed { step, path, problem })
}
