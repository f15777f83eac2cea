//! `zs replay`: computes a recorded step again, and says whether the same comes out.

use std::fmt::Debug;
use std::path::Path;

use anyhow::{Context, Result, bail};
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use zs_rl::{RewardScore, Trajectory, TrajectoryGroup};
use zs_simulator::FixedEngine;

use super::learner::Learner;
use super::log::read_metrics;
use super::rl::Training;
use super::rollouts::{RecordedGroup, read_rollouts};
use super::train::{Loaded, config_of};
use crate::checkpoint::Checkpoints;
use crate::cli::ReplayArgs;
use crate::console::{self, Console};

/// `zs replay RUN --step N`: rewards, advantages, losses and gradient norms of a step, from its record
/// and the checkpoint before it.
///
/// Where no checkpoint is left of the step just before, the steps from an earlier one on (at the
/// earliest, from the policy that the run began with) are learned from again on the way, each
/// compared as well. Nothing is sampled and no engine is asked.
///
/// # Errors
///
/// Fails when anything differs in a single bit, or a record is missing.
pub fn command(args: &ReplayArgs, console: &Console) -> Result<()> {
    let run = args.run.as_path();
    let metrics = read_metrics(run)?;
    let num_steps = metrics.len().saturating_sub(1);
    if !(1..=num_steps).contains(&args.step) {
        bail!("{}: has steps 1 to {num_steps}, not {}", run.display(), args.step);
    }
    let loaded = Loaded::new(config_of(run)?)?;
    let engine = FixedEngine::new(Vec::new());
    let training = loaded.training(&[], &engine);
    let algorithm = zs_rl::algorithm::builtin().build(&training.config.algorithm, &())?;
    let mut reward =
        zs_rl::reward::builtin().build(&training.config.reward, &training.aids.resources)?;

    let mut learner = begin(&training, run, args.step, console)?;
    let progress = console.progress("replaying", args.step - learner.state.step);
    let mut comparison = Comparison::default();
    while learner.state.step < args.step {
        let step = learner.state.step + 1;
        reward.set_step(step);
        comparison = Comparison::default();
        let rows = read_rollouts(run, step)?.collect::<Result<Vec<RecordedGroup>>>()?;
        let rows: Vec<RecordedGroup> = rows.into_iter().filter(|it| !it.dropped).collect();
        let (mut recorded, mut scored): (Vec<RewardScore>, Vec<RewardScore>) = Default::default();
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
        let learned = learner.learn(algorithm.as_ref(), &groups)?;
        let flat =
            |rows: &[Vec<f32>]| rows.iter().flatten().map(|it| it.to_bits()).collect::<Vec<_>>();
        comparison.add_all("advantages", &flat(&advantages), &flat(&learned.advantages));
        for (key, value) in &learned.values {
            comparison.add(key, metrics[step].get(key), Some(*value));
        }
        if comparison.num_different > 0 {
            break;
        }
        progress.advance(1, "");
    }
    let step = learner.state.step;
    progress.finish(&format!("step {step}"));
    console::print(&format!("{}\n", comparison.table()));
    if comparison.num_different > 0 {
        bail!("{}: {} numbers of step {step} differ", run.display(), comparison.num_different);
    }
    console::print(&format!("step {step} is the same to the bit\n"));
    Ok(())
}

/// The learner after the newest whole checkpoint before a step.
fn begin<'a>(
    training: &'a Training<'a>,
    run: &Path,
    step: usize,
    console: &Console,
) -> Result<Learner<'a>> {
    let algorithm = zs_rl::algorithm::builtin().build(&training.config.algorithm, &())?;
    match Checkpoints::in_dir(run).newest_before(step, console)? {
        None => Learner::new(training, algorithm.as_ref()),
        Some((_, dir)) => Learner::load(training, algorithm.as_ref(), &dir)
            .with_context(|| format!("{}: cannot go on from", dir.display())),
    }
}

/// What was recorded beside what came out now.
#[derive(Default)]
struct Comparison {
    rows: Vec<[String; 4]>,
    num_different: usize,
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

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(UTF8_BORDERS_ONLY);
        table.set_header(["what", "recorded", "computed again", ""]);
        table.add_rows(&self.rows);
        table
    }
}
