//! Replay: a recorded step computed again, and compared.

use std::fmt::Debug;
use std::path::Path;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use zs_rl::{RewardScore, Trajectory, TrajectoryGroup};

use super::Trainer;
use super::learner::Learner;
use super::log::read_metrics;
use crate::TrainError;
use crate::checkpoint::Checkpoints;
use crate::rollouts::{RecordedGroup, read_rollouts};
use crate::run_dir_error::RunDirError;

impl Trainer {
    /// Computes rewards, advantages, losses and gradient norms of a recorded step again, from its
    /// record and the checkpoint before it.
    ///
    /// If the checkpoint of the step before is gone, the updates since an earlier one (or since the
    /// policy that the run began with) are repeated first, and each is compared as well. Nothing is
    /// sampled and no engine is used.
    ///
    /// # Errors
    ///
    /// Fails when a record is missing or malformed. Numbers that differ are no error: see
    /// [`Comparison::num_different`].
    pub fn replay(&self, run: &Path, step: usize) -> Result<Comparison, TrainError> {
        let metrics = read_metrics(run).map_err(RunDirError::from)?;
        let num_steps = metrics.len().saturating_sub(1);
        if !(1..=num_steps).contains(&step) {
            return Err(TrainError::NoSuchStep { path: run.to_owned(), num_steps, step });
        }
        let mut reward = self.reward.clone();
        let mut learner = self.learner_before(run, step)?;
        let progress = self.context.progress("replaying", step - learner.numbers.step);
        let mut comparison = Comparison::default();
        while learner.numbers.step < step {
            let step = learner.numbers.step + 1;
            reward.set_step(step);
            comparison = Comparison { step, ..Comparison::default() };
            let rows = read_rollouts(run, step)?.collect::<Result<Vec<RecordedGroup>, _>>()?;
            let rows: Vec<RecordedGroup> = rows.into_iter().filter(|it| !it.dropped).collect();
            let (mut recorded, mut scored): (Vec<RewardScore>, Vec<RewardScore>) =
                Default::default();
            for RecordedGroup { group, .. } in &rows {
                let episodes: Vec<Trajectory> =
                    group.trajectories.iter().map(|it| it.trajectory.clone()).collect();
                recorded.extend(group.trajectories.iter().map(|it| it.reward.clone()));
                scored.extend(reward.score_group(&group.question, &episodes));
            }
            comparison.add_all("rewards", &recorded, &scored);
            let advantages: Vec<Vec<f32>> =
                rows.iter().flat_map(|it| it.advantages.iter().cloned()).collect();
            let groups: Vec<TrajectoryGroup> = rows.into_iter().map(|it| it.group).collect();
            let learned = learner.learn(&groups)?;
            let bits = |rows: &[Vec<f32>]| {
                rows.iter().flatten().map(|it| it.to_bits()).collect::<Vec<_>>()
            };
            comparison.add_all("advantages", &bits(&advantages), &bits(&learned.advantages));
            for (key, value) in &learned.values {
                comparison.add(key, metrics[step].get(key), Some(*value));
            }
            if comparison.num_different > 0 {
                break;
            }
            progress.advance(1, "");
        }
        progress.finish(&format!("step {}", comparison.step));
        Ok(comparison)
    }

    /// Learner after the newest complete checkpoint before a step.
    fn learner_before(&self, run: &Path, step: usize) -> Result<Learner<'_>, TrainError> {
        match Checkpoints::in_dir(run).newest_before(step, &self.context)? {
            None => Ok(Learner::new(self)?),
            Some((_, dir)) => Ok(Learner::load(self, &dir)?),
        }
    }
}

/// Comparison of a step's recorded numbers with those computed again.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// The last step that was compared.
    pub step: usize,
    /// Numbers that differ in a single bit.
    pub num_different: usize,
    rows: Vec<[String; 4]>,
}

impl Comparison {
    /// Compares single numbers, by their bits.
    fn add(&mut self, what: &str, recorded: Option<f64>, now: Option<f64>) {
        let is_same = recorded.map(f64::to_bits) == now.map(f64::to_bits);
        let text = |it: Option<f64>| it.map_or("–".to_owned(), |it| it.to_string());
        self.push(what, text(recorded), text(now), usize::from(!is_same));
    }

    /// Compares lists; shows how many they hold, and the first that differs.
    fn add_all<T: PartialEq + Debug>(&mut self, what: &str, recorded: &[T], now: &[T]) {
        let pairs = recorded.iter().zip(now);
        let mut num_different = pairs.filter(|(recorded, now)| recorded != now).count();
        num_different += recorded.len().abs_diff(now.len());
        let text = |list: &[T]| match num_different {
            0 => format!("{} values", list.len()),
            count => format!("{} values, {count} differ", list.len()),
        };
        self.push(what, text(recorded), text(now), num_different);
    }

    fn push(&mut self, what: &str, recorded: String, now: String, num_different: usize) {
        let verdict = if num_different == 0 { "same" } else { "DIFFERS" };
        self.rows.push([what.to_owned(), recorded, now, verdict.to_owned()]);
        self.num_different += num_different;
    }

    /// Renders the comparison as a table.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(UTF8_BORDERS_ONLY);
        table.set_header(["what", "recorded", "computed again", ""]);
        table.add_rows(&self.rows);
        table
    }
}
