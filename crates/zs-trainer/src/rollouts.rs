//! The episodes that a run has learned from: one compressed file a step, `rollouts/step-000001.jsonl.zst`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zs_data::{FileError, MAX_LINE_BYTES, digest, open_regular, write_atomic};
use zs_rl::{TrajectoryGroup, read_records, write_records};

use crate::files::{RunDir, numbers_in};
use crate::run_dir_error::RunDirError;

const DIR: &str = "rollouts";
const PREFIX: &str = "step-";
const SUFFIX: &str = ".jsonl.zst";
/// End of the name of a file that is being written.
const PARTIAL: &str = ".jsonl.zst.partial";
/// Zstandard's own default: records shrink to about a tenth, at hundreds of megabytes a second.
const LEVEL: i32 = 3;

/// A question of a step and its episodes: a row of a step's file, wrapped by
/// [`zs_rl::write_records`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedGroup {
    /// The step, from 1.
    pub step: usize,
    /// Its noise probability.
    pub noise_probability: f64,
    /// True for a group that was replaced, since all of its episodes have the same reward: nothing
    /// was learned from it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dropped: bool,
    /// The question and its episodes.
    pub group: TrajectoryGroup,
    /// The advantage of each token, one row an episode; empty where nothing was learned from it.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "zs_core::null_as_nan"
    )]
    pub advantages: Vec<Vec<f32>>,
    /// The log-probability of each token under a teacher on servers, one row an episode; empty without
    /// one.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "zs_core::null_as_nan"
    )]
    pub teacher_log_probs: Vec<Vec<f32>>,
}

/// The files of one run.
#[derive(Clone, Debug)]
pub(crate) struct Rollouts {
    dir: PathBuf,
}

impl Rollouts {
    pub(crate) fn of(run: &RunDir) -> Self {
        Self { dir: run.join(DIR) }
    }

    /// Writes the file of a step, whole or not at all; returns its SHA-256.
    pub(crate) fn write(
        &self,
        step: usize,
        groups: &[RecordedGroup],
    ) -> Result<String, RunDirError> {
        let path = place(&self.dir, step);
        let cannot_write = FileError::io(&path, "write");
        let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL).map_err(&cannot_write)?;
        write_records(&mut encoder, groups)
            .map_err(|source| RunDirError::Record { path: path.clone(), source })?;
        let bytes = encoder.finish().map_err(&cannot_write)?;
        write_atomic(&path, &bytes)?;
        Ok(digest::of_bytes(&bytes))
    }

    /// Removes the files of all steps after `step`, which a resumed run plays again, and what a killed
    /// process has left of one.
    pub(crate) fn rewind(&self, step: usize) -> Result<(), FileError> {
        let later = steps_in(&self.dir)?.into_iter().filter(|it| *it > step);
        let unfinished = numbers_in(&self.dir, PREFIX, PARTIAL)?.into_iter();
        let later = later.map(|it| place(&self.dir, it));
        for path in later.chain(unfinished.map(|it| partial(&self.dir, it))) {
            fs::remove_file(&path).map_err(FileError::io(&path, "be removed"))?;
        }
        Ok(())
    }

    /// The first recorded step whose file is empty, as a power cut may leave it.
    pub(crate) fn first_empty(&self) -> Result<Option<usize>, FileError> {
        let is_empty =
            |step: &usize| fs::metadata(place(&self.dir, *step)).is_ok_and(|it| it.len() == 0);
        Ok(steps_in(&self.dir)?.into_iter().find(is_empty))
    }
}

/// The recorded steps of a run directory, in order.
///
/// # Errors
///
/// Fails when the directory cannot be listed.
pub fn recorded_steps(run: &Path) -> Result<Vec<usize>, FileError> {
    steps_in(&run.join(DIR))
}

/// The recorded groups of one step, one at a time.
///
/// # Errors
///
/// Fails when the step was not recorded; each item fails on its own, naming file and row.
pub fn read_rollouts(
    run: &Path,
    step: usize,
) -> Result<impl Iterator<Item = Result<RecordedGroup, RunDirError>> + use<>, RunDirError> {
    let path = rollouts_file(run, step);
    if !path.exists() {
        let recorded = recorded_steps(run)?;
        let recorded = match (recorded.first(), recorded.last()) {
            (Some(first), Some(last)) => format!("steps between {first} and {last} were"),
            _ => "none was".to_owned(),
        };
        return Err(RunDirError::NotRecorded { path, step, recorded });
    }
    let decoder = open_regular(&path).and_then(zstd::Decoder::new);
    let decoder = decoder.map_err(FileError::io(&path, "be read"))?;
    let reader: Box<dyn BufRead> = Box::new(BufReader::new(decoder));
    let named = move |source| RunDirError::Record { path: path.clone(), source };
    Ok(read_records(reader, MAX_LINE_BYTES).map(move |row| row.map_err(&named)))
}

/// File with the recorded groups of a step.
pub(crate) fn rollouts_file(run: &Path, step: usize) -> PathBuf {
    place(&run.join(DIR), step)
}

fn place(dir: &Path, step: usize) -> PathBuf {
    dir.join(format!("{PREFIX}{step:06}{SUFFIX}"))
}

fn partial(dir: &Path, step: usize) -> PathBuf {
    dir.join(format!("{PREFIX}{step:06}{PARTIAL}"))
}

fn steps_in(dir: &Path) -> Result<Vec<usize>, FileError> {
    numbers_in(dir, PREFIX, SUFFIX)
}

#[cfg(test)]
mod tests {
    use zs_core::Question;
    use zs_model::{Completion, StopReason};
    use zs_rl::{F1, RewardFunction, Trajectory, Turn};

    use super::*;

    fn row(step: usize) -> RecordedGroup {
        let trajectories = vec![Trajectory::new("q", vec![1, 2])];
        let question = Question::new("q", "?", ["a"]);
        let reward = RewardFunction::single(F1::default());
        RecordedGroup {
            step,
            noise_probability: 0.25,
            dropped: step == 2,
            group: TrajectoryGroup::score(question, trajectories, &reward),
            advantages: vec![vec![0.1, -3e-8]],
            teacher_log_probs: vec![vec![-0.3, -1.5]],
        }
    }

    #[test]
    fn steps_read_back_and_are_rewound() {
        let scratch = tempfile::tempdir().unwrap();
        let run = RunDir::create(&scratch.path().join("run")).unwrap();
        let rollouts = Rollouts::of(&run);
        assert_eq!(recorded_steps(run.path()).unwrap(), [0_usize; 0]);
        for step in 1..=3 {
            rollouts.write(step, &[row(step), row(step)]).unwrap();
        }
        let read: Vec<RecordedGroup> =
            read_rollouts(run.path(), 2).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(read, [row(2), row(2)]);
        assert_eq!(rollouts.first_empty().unwrap(), None);
        fs::write(place(&rollouts.dir, 3), "").unwrap();
        assert_eq!(rollouts.first_empty().unwrap(), Some(3));
        fs::write(place(&rollouts.dir, 1).with_extension("zst.partial"), "half").unwrap();
        rollouts.rewind(1).unwrap();
        assert_eq!(fs::read_dir(&rollouts.dir).unwrap().count(), 1);
        assert_eq!(recorded_steps(run.path()).unwrap(), [1]);
        let message = read_rollouts(run.path(), 2).err().unwrap().to_string();
        assert!(message.contains("step 2 was not recorded"), "{message}");
    }

    /// Such episodes are recorded for whoever looks for the cause.
    #[test]
    fn numbers_that_are_not_finite_read_back_as_nan() {
        let scratch = tempfile::tempdir().unwrap();
        let run = RunDir::create(&scratch.path().join("run")).unwrap();
        let mut written = row(1);
        let rewarded = &mut written.group.trajectories[0];
        let nan = vec![f32::NAN, 0.5];
        let completion = Completion {
            tokens: vec![1, 2],
            log_probs: nan.clone(),
            sampling_log_probs: Some(nan.clone()),
            stop_reason: StopReason::Stop,
        };
        rewarded.trajectory.turns = vec![Turn {
            completion: completion.clone(),
            text: "x".to_owned(),
            action: zs_core::Action::Invalid,
            observation: vec![3],
            observation_text: "y".to_owned(),
            search: None,
        }];
        rewarded.reward.total = f32::INFINITY;
        rewarded.reward.components[0].score = f32::NAN;
        rewarded.reward.turns.clone_from(&nan);
        written.advantages = vec![nan.clone()];
        Rollouts::of(&run).write(1, &[written]).unwrap();
        let read = read_rollouts(run.path(), 1).unwrap().next().unwrap().unwrap();
        let rewarded = &read.group.trajectories[0];
        let turn = &rewarded.trajectory.turns[0].completion;
        let lists = [&turn.log_probs, turn.sampling_log_probs.as_ref().unwrap()];
        for list in lists.into_iter().chain([&rewarded.reward.turns, &read.advantages[0]]) {
            assert!(list[0].is_nan() && list[1] == 0.5, "{list:?}");
        }
        assert!(rewarded.reward.total.is_nan() && rewarded.reward.components[0].score.is_nan());
    }

    #[test]
    fn a_file_cut_short_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let run = RunDir::create(&scratch.path().join("run")).unwrap();
        Rollouts::of(&run).write(1, &[row(1), row(1)]).unwrap();
        let path = place(&run.join(DIR), 1);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let read: Result<Vec<RecordedGroup>, _> = read_rollouts(run.path(), 1).unwrap().collect();
        let message = zs_core::with_causes(&read.unwrap_err());
        assert!(message.contains("step-000001.jsonl.zst"), "{message}");
    }
}
