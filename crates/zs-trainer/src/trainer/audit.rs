//! Audit: sampled steps of a run computed again, and held against its record.

use std::path::{Path, PathBuf};

use zs_data::digest::hexadecimal;
use zs_model::{WeightDifference, compare_weights};

use super::Trainer;
use super::learner::Learner;
use super::log::read_metrics;
use super::replay::{Comparison, recorded_groups, repeat};
use crate::TrainError;
use crate::audit::{AuditError, AuditRecord, check_outputs, rewards_digest, run_file_of};
use crate::checkpoint::Checkpoints;
use crate::environment::Machine;
use crate::metrics::Metrics;
use crate::order::EpochOrder;
use crate::rollouts::rollouts_file;
use crate::run_dir_error::RunDirError;
use crate::weights::{POLICY, load_weights};

/// Choice of the steps that an audit computes again.
///
/// ```
/// use zs_trainer::AuditOptions;
///
/// assert_eq!(AuditOptions::default().steps, 3);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AuditOptions {
    /// Number of steps that are sampled; with 0, record and files alone are checked.
    pub steps: usize,
    /// Samples among all steps: those that follow no kept checkpoint are reached by repeating the
    /// updates since the nearest one before.
    pub replay: bool,
    /// Seed of the sample; by default, the hash of the record's last line.
    pub seed: Option<u64>,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self { steps: 3, replay: false, seed: None }
    }
}

/// Result of an audit in which the record and the files hold.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Steps that the record has lines of, besides the first validation.
    pub num_steps: usize,
    /// Mean bytes of a step's line.
    pub bytes_per_step: usize,
    /// Hash of the last line, which stands for the whole record.
    pub head: String,
    /// Steps of the kept checkpoints.
    pub checkpoints: Vec<usize>,
    /// Files that the run has read and that are not on this machine.
    pub missing: Vec<PathBuf>,
    /// Steps that could be sampled.
    pub num_candidates: usize,
    /// Steps that were computed again, up to the first that differs.
    pub steps: Vec<StepAudit>,
}

/// A step that was computed again.
#[derive(Clone, Debug)]
pub struct StepAudit {
    /// Step.
    pub step: usize,
    /// Step of the checkpoint that it was reached from; 0 for the policy that the run began with.
    pub from: usize,
    /// All numbers, and on the same kind of machine the digests of gradients and weights.
    pub comparison: Comparison,
    /// Differences of the weights after the step; `None` where their digests differ and no checkpoint
    /// of the step is kept.
    pub weights: Option<WeightDifference>,
    /// Differences of this machine and build from those of the step; none on the same kind.
    pub machine_changes: Vec<String>,
}

impl StepAudit {
    /// Returns true if nothing differs in a bit.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        let weights_are = self.weights == Some(WeightDifference::default());
        self.comparison.num_different == 0 && (self.machine_changes.is_empty() || weights_are)
    }

    /// Returns true if everything is equal; on another kind of machine, if no number differs by more
    /// than `tolerance` (see [`Comparison::bound`]) and the weights by less than the step has changed
    /// them.
    #[must_use]
    pub fn passes(&self, tolerance: f64) -> bool {
        if self.machine_changes.is_empty() {
            return self.is_equal();
        }
        let weights = self.weights.as_ref().map_or(0.0, |it| it.relative_to_update);
        self.comparison.bound <= tolerance && weights < 1.0
    }
}

impl Trainer {
    /// Holds the outputs of a run against its record, and computes sampled steps again. `missing` are
    /// files that the run has read and that are not here.
    ///
    /// # Errors
    ///
    /// Fails where the outputs are not the recorded ones, and where no step can be computed again.
    /// Numbers that differ are no error.
    pub(crate) fn audit(
        &self,
        run: &Path,
        record: &AuditRecord,
        missing: Vec<PathBuf>,
        options: &AuditOptions,
    ) -> Result<Audit, AuditError> {
        let checkpoints = check_outputs(run, record, &self.policy, self.config.lora.is_some())?;
        // A killed process may have written the record of a step and not its metrics.
        let metrics = read_metrics(run).map_err(RunDirError::from)?;
        let mut candidates = candidates(record, run_file_of(run)?, &checkpoints, options.replay);
        candidates.retain(|it| it.step < metrics.len());
        if candidates.is_empty() && options.steps > 0 {
            let reason = if options.replay {
                "none has recorded episodes and the settings of config.toml"
            } else {
                "none that follows a kept checkpoint has recorded episodes and the settings of \
                 config.toml (`--replay` tries the others)"
            };
            return Err(AuditError::NothingToRecompute { run: run.to_owned(), reason });
        }
        let num_sampled = options.steps.min(candidates.len());
        let seed = options.seed.or_else(|| u64::from_str_radix(record.head.get(..16)?, 16).ok());
        let mut sampled = EpochOrder::new(seed.unwrap_or(0), candidates.len()).step(0, num_sampled);
        sampled.sort_unstable();
        let sampled: Vec<Candidate> = sampled.into_iter().map(|it| candidates[it]).collect();
        let work = Work { trainer: self, run, record, checkpoints, metrics };
        Ok(Audit {
            num_steps: record.steps().filter(|it| it.step > 0).count(),
            bytes_per_step: record.bytes_per_step(),
            head: record.head.clone(),
            missing,
            num_candidates: candidates.len(),
            steps: work.steps(&sampled)?,
            checkpoints: work.checkpoints,
        })
    }
}

/// A step that can be computed again.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    /// Step of the checkpoint before it.
    from: usize,
    step: usize,
}

/// The steps whose episodes are recorded, that were computed with the present run file, and that can be
/// reached from a checkpoint or the policy that the run began with: by one update, or with `replay` by
/// several.
fn candidates(
    record: &AuditRecord,
    run_file: Option<String>,
    checkpoints: &[usize],
    replay: bool,
) -> Vec<Candidate> {
    let mut found = Vec::new();
    // The last step that can be reached, and the checkpoint that it is reached from.
    let mut reached = Some(Candidate { from: 0, step: 0 });
    for line in record.steps().filter(|it| it.step > 0) {
        let (step, before) = (line.step, line.step - 1);
        if checkpoints.contains(&before) {
            reached = Some(Candidate { from: before, step: before });
        }
        let is_whole = line.episodes.is_some() && line.run_file == run_file;
        reached = reached
            .filter(|it| is_whole && it.step == before)
            .map(|it| Candidate { from: it.from, step });
        found.extend(reached.filter(|it| replay || it.from == before));
    }
    found
}

/// Inputs of steps that are computed again, and what they are compared with.
struct Work<'a> {
    trainer: &'a Trainer,
    run: &'a Path,
    record: &'a AuditRecord,
    checkpoints: Vec<usize>,
    metrics: Vec<Metrics>,
}

impl<'a> Work<'a> {
    /// Computes steps again, and those that lead to them from a checkpoint, up to the first that
    /// differs although the machine is of the same kind.
    fn steps(&self, sampled: &[Candidate]) -> Result<Vec<StepAudit>, AuditError> {
        let context = &self.trainer.context;
        let machine = Machine::of(&context.devices);
        let progress = context.progress("auditing", sampled.len());
        let mut audits = Vec::new();
        let mut last: Option<Learner<'_>> = None;
        for &Candidate { from, step } in sampled {
            // A checkpoint is nearer to what was recorded than what was computed again.
            let mut learner = match last.take().filter(|it| it.numbers.step > from) {
                Some(learner) => learner,
                None => self.learner_before(step)?,
            };
            while learner.numbers.step < step {
                let step = learner.numbers.step + 1;
                let before = self.record.machine(step);
                let machine_changes = before.map_or(Vec::new(), |it| machine.changes_from(it));
                let (comparison, weights) = self.step(&mut learner, machine_changes.is_empty())?;
                let is_last = machine_changes.is_empty() && comparison.num_different > 0;
                audits.push(StepAudit { step, from, comparison, weights, machine_changes });
                if is_last {
                    return Ok(audits);
                }
            }
            last = Some(learner);
            progress.advance(1, "");
        }
        progress.finish(&format!("{} steps", audits.len()));
        Ok(audits)
    }

    /// Learner after the checkpoint before a step, or of the beginning of the run.
    fn learner_before(&self, step: usize) -> Result<Learner<'a>, AuditError> {
        let from = self.checkpoints.iter().copied().filter(|it| *it < step).max();
        let mut learner = match from {
            None => Learner::new(self.trainer).map_err(TrainError::from)?,
            Some(from) => {
                let dir = Checkpoints::in_dir(self.run).place(from);
                Learner::load(self.trainer, &dir).map_err(TrainError::from)?
            }
        };
        let next = learner.numbers.step + 1;
        // The files of a checkpoint, and its weights where its step has a line, are digested once in an
        // audit: when the outputs of the run are checked.
        let is_checked = from.is_some_and(|it| self.record.step(it).is_some());
        let recorded = self.record.step(next).filter(|_| !is_checked);
        let expected = recorded.and_then(|it| it.weights_before.as_ref());
        if expected.is_some_and(|it| *it != hexadecimal(&learner.weights_digest())) {
            return Err(AuditError::Changed {
                step: next,
                path: self.run.to_owned(),
                problem: "the weights before this step are not those that it was computed with",
            });
        }
        learner.digest_gradients();
        Ok(learner)
    }

    /// Computes the learner's next step again. Digests are compared where they should be equal, and the
    /// weights themselves where their digests are not and the checkpoint of the step is kept.
    fn step(
        &self,
        learner: &mut Learner<'_>,
        with_digests: bool,
    ) -> Result<(Comparison, Option<WeightDifference>), AuditError> {
        let step = learner.numbers.step + 1;
        // Kept only where it can be compared with a checkpoint: it is a second copy of the weights.
        let before = self.checkpoints.contains(&step).then(|| learner.policy.clone());
        let rows = recorded_groups(self.run, step)?;
        let line = self.record.step(step);
        if line.is_some_and(|it| it.rewards.as_ref() != Some(&rewards_digest(&rows))) {
            return Err(AuditError::Changed {
                step,
                path: rollouts_file(self.run, step),
                problem: "its rewards are not the recorded ones",
            });
        }
        let mut reward = self.trainer.reward.clone();
        let mut comparison = repeat(learner, &mut reward, &self.metrics, rows)?;
        let Some(line) = line else { return Ok((comparison, None)) };
        let gradients = learner.take_gradients_digest().map(|it| hexadecimal(&it));
        let weights = hexadecimal(&learner.weights_digest());
        if with_digests {
            let values = learner.value_weights_digest().map(|it| hexadecimal(&it));
            comparison.add_digest("gradients", line.gradients.as_deref(), gradients.as_deref());
            comparison.add_digest("weights", Some(&line.weights), Some(&weights));
            let recorded = line.value_weights.as_deref();
            if recorded.is_some() || values.is_some() {
                comparison.add_digest("value weights", recorded, values.as_deref());
            }
        }
        if weights == line.weights {
            return Ok((comparison, Some(WeightDifference::default())));
        }
        let Some(before) = before else { return Ok((comparison, None)) };
        // Its files were held against their digests before the first step was computed.
        let dir = Checkpoints::in_dir(self.run).place(step);
        let recorded = load_weights(&dir.join(POLICY), &self.trainer.policy)?;
        let networks = [&before, &recorded, &learner.policy].map(|it| it.network());
        let difference = compare_weights(networks[0], networks[1], networks[2]);
        Ok((comparison, Some(difference)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::StepLine;

    /// Steps 1 to 6, of which 4 has no recorded episodes, and 6 another run file.
    fn record() -> AuditRecord {
        let line = |step: usize| StepLine {
            step,
            run_file: Some(if step == 6 { "b" } else { "a" }.to_owned()),
            episodes: (step != 4).then(|| "x".to_owned()),
            ..StepLine::default()
        };
        AuditRecord::of((0..=6).map(line))
    }

    #[track_caller]
    fn check(run_file: &str, checkpoints: &[usize], replay: bool, expected: &[(usize, usize)]) {
        let found = candidates(&record(), Some(run_file.to_owned()), checkpoints, replay);
        let found: Vec<(usize, usize)> = found.iter().map(|it| (it.from, it.step)).collect();
        assert_eq!(found, expected, "{run_file} {checkpoints:?} {replay}");
    }

    #[test]
    fn steps_are_reached_from_checkpoints() {
        check("a", &[], false, &[(0, 1)]);
        check("a", &[], true, &[(0, 1), (0, 2), (0, 3)]);
        check("a", &[1, 2, 3, 4], false, &[(0, 1), (1, 2), (2, 3), (4, 5)]);
        check("a", &[1, 4], true, &[(0, 1), (1, 2), (1, 3), (4, 5)]);
        check("b", &[4], true, &[]);
        check("b", &[5], true, &[(5, 6)]);
    }
}
