//! Replay: a recorded step computed again, and compared.

use std::fmt;
use std::path::Path;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use zs_rl::{RewardFunction, RewardScore, Trajectory, TrajectoryGroup};

use super::Trainer;
use super::learner::Learner;
use super::log::{metrics_of_episodes, read_metrics};
use crate::TrainError;
use crate::checkpoint::Checkpoints;
use crate::metrics::Metrics;
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
            let rows = recorded_groups(run, learner.numbers.step + 1)?;
            comparison = repeat(&mut learner, &mut reward, &metrics, rows)?;
            if comparison.num_different > 0 {
                break;
            }
            progress.advance(1, "");
        }
        progress.finish(&format!("step {}", comparison.step));
        Ok(comparison)
    }

    /// Learner after the newest complete checkpoint before a step.
    pub(super) fn learner_before(
        &self,
        run: &Path,
        step: usize,
    ) -> Result<Learner<'_>, TrainError> {
        match Checkpoints::in_dir(run).newest_before(step, &self.context)? {
            None => Ok(Learner::new(self)?),
            Some((_, dir)) => Ok(Learner::load(self, &dir)?),
        }
    }
}

/// All recorded groups of a step.
pub(super) fn recorded_groups(run: &Path, step: usize) -> Result<Vec<RecordedGroup>, RunDirError> {
    read_rollouts(run, step)?.collect()
}

/// Repeats the learner's next step on its recorded groups, and compares all numbers but the weights.
pub(super) fn repeat(
    learner: &mut Learner<'_>,
    reward: &mut RewardFunction,
    metrics: &[Metrics],
    rows: Vec<RecordedGroup>,
) -> Result<Comparison, TrainError> {
    let step = learner.numbers.step + 1;
    reward.set_step(step);
    let mut comparison = Comparison { step, ..Comparison::default() };
    let of_episodes: Vec<&TrajectoryGroup> = rows.iter().map(|it| &it.group).collect();
    let of_episodes = metrics_of_episodes(&of_episodes);
    let rows: Vec<RecordedGroup> = rows.into_iter().filter(|it| !it.dropped).collect();
    let (mut recorded, mut scored): (Vec<RewardScore>, Vec<RewardScore>) = Default::default();
    for RecordedGroup { group, .. } in &rows {
        let episodes: Vec<Trajectory> =
            group.trajectories.iter().map(|it| it.trajectory.clone()).collect();
        recorded.extend(group.trajectories.iter().map(|it| it.reward.clone()));
        scored.extend(reward.score_group(&group.question, &episodes));
    }
    comparison.add_all("rewards", &recorded, &scored, numbers_of);
    let advantages: Vec<Vec<f32>> =
        rows.iter().flat_map(|it| it.advantages.iter().cloned()).collect();
    let teacher_log_probs: Vec<Vec<f32>> =
        rows.iter().flat_map(|it| it.teacher_log_probs.iter().cloned()).collect();
    let teacher_log_probs = Some(teacher_log_probs).filter(|it| !it.is_empty());
    let groups: Vec<TrajectoryGroup> = rows.into_iter().map(|it| it.group).collect();
    let learned = learner.learn(&groups, teacher_log_probs.as_deref())?;
    let bits = |rows: &[Vec<f32>]| rows.iter().flatten().map(|it| it.to_bits()).collect::<Vec<_>>();
    let number = |it: &u32| vec![f64::from(f32::from_bits(*it))];
    comparison.add_all("advantages", &bits(&advantages), &bits(&learned.advantages), number);
    for (key, value) in of_episodes {
        comparison.add(&key, metrics[step].get(&key), Some(value));
    }
    for (key, value) in &learned.values {
        comparison.add(key, metrics[step].get(key), Some(*value));
    }
    Ok(comparison)
}

/// The numbers of a reward, in order.
fn numbers_of(reward: &RewardScore) -> Vec<f64> {
    let RewardScore { total, components, turns } = reward;
    let scores = components.iter().map(|it| it.score);
    [*total].into_iter().chain(scores).chain(turns.iter().copied()).map(f64::from).collect()
}

/// Comparison of a step's recorded numbers with those computed again.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// The last step that was compared.
    pub step: usize,
    /// Numbers that differ in a single bit.
    pub num_different: usize,
    /// The first of them.
    pub first: Option<Difference>,
    /// Largest difference of two numbers, relative to the larger of both and 1; infinite where one of
    /// them is missing.
    pub bound: f64,
    /// Numbers that differ so.
    pub largest: Option<Difference>,
    rows: Vec<[String; 4]>,
}

/// A recorded number, or digest, and the same computed again.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Name of the number, e.g. a metric.
    pub what: String,
    /// Recorded one.
    pub recorded: String,
    /// One that was computed again.
    pub now: String,
    /// Absolute difference of two numbers.
    pub by: Option<f64>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, recorded, now, by } = self;
        write!(f, "{what} was recorded as {recorded} and is {now}")?;
        by.map_or(Ok(()), |it| write!(f, ", which differs by {it:e}"))
    }
}

impl Comparison {
    /// Compares single numbers, by their bits.
    fn add(&mut self, what: &str, recorded: Option<f64>, now: Option<f64>) {
        let is_same = recorded.map(f64::to_bits) == now.map(f64::to_bits);
        let text = |it: Option<f64>| it.map_or("–".to_owned(), |it| it.to_string());
        if !is_same {
            self.differs(what, recorded, now);
        }
        self.push(what, text(recorded), text(now), usize::from(!is_same));
    }

    /// Compares lists; shows how many they hold. `numbers` are those of an item.
    fn add_all<T: PartialEq + fmt::Debug>(
        &mut self,
        what: &str,
        recorded: &[T],
        now: &[T],
        numbers: impl Fn(&T) -> Vec<f64>,
    ) {
        let mut num_different = recorded.len().abs_diff(now.len());
        for index in 0..recorded.len().max(now.len()) {
            let (recorded, now) = (recorded.get(index), now.get(index));
            if recorded == now {
                continue;
            }
            num_different += usize::from(recorded.is_some() && now.is_some());
            let [a, b] = [recorded, now].map(|it| it.map_or(Vec::new(), &numbers));
            for at in 0..a.len().max(b.len()) {
                let (a, b) = (a.get(at).copied(), b.get(at).copied());
                if a.map(f64::to_bits) != b.map(f64::to_bits) {
                    self.differs(&format!("entry {index} of the {what}"), a, b);
                }
            }
            // Something besides numbers, as a name.
            self.first.get_or_insert_with(|| {
                let text = |it: Option<&T>| it.map_or("none".to_owned(), |it| format!("{it:?}"));
                let what = format!("entry {index} of the {what}");
                Difference { what, recorded: text(recorded), now: text(now), by: None }
            });
        }
        let text = |list: &[T]| match num_different {
            0 => format!("{} values", list.len()),
            count => format!("{} values, {count} differ", list.len()),
        };
        self.push(what, text(recorded), text(now), num_different);
    }

    /// Compares digests, or their absence.
    pub(super) fn add_digest(&mut self, what: &str, recorded: Option<&str>, now: Option<&str>) {
        let text = |it: Option<&str>| it.map_or("none", |it| it.get(..12).unwrap_or(it)).to_owned();
        let (recorded_text, now_text) = (text(recorded), text(now));
        if recorded != now {
            let what = format!("the digest of the {what}");
            let (recorded, now) = (recorded_text.clone(), now_text.clone());
            self.first.get_or_insert(Difference { what, recorded, now, by: None });
        }
        self.push(what, recorded_text, now_text, usize::from(recorded != now));
    }

    /// Notes numbers that differ.
    fn differs(&mut self, what: &str, recorded: Option<f64>, now: Option<f64>) {
        let by = recorded.zip(now).map(|(recorded, now)| (now - recorded).abs());
        let scale = recorded.zip(now).map_or(1.0, |(a, b)| a.abs().max(b.abs()).max(1.0));
        // One of them is missing or not finite.
        let relative = by.map(|it| it / scale).filter(|it| it.is_finite());
        let relative = relative.unwrap_or(f64::INFINITY);
        if self.first.is_some() && relative <= self.bound {
            return;
        }
        let text = |it: Option<f64>| it.map_or("none".to_owned(), |it| it.to_string());
        let (recorded, now) = (text(recorded), text(now));
        let difference = Difference { what: what.to_owned(), recorded, now, by };
        if relative > self.bound {
            self.bound = relative;
            self.largest = Some(difference.clone());
        }
        self.first.get_or_insert(difference);
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
