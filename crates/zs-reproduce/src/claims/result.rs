//! Results of finished work, kept so that it is done once.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zs_simulator::audit::AuditReport;

use crate::config::ClaimMetric;
use crate::error::Result;
use zs_data::{FileError, read_json};
use zs_eval::{EvaluationReport, QuestionRecord};
use zs_rl::{Trajectory, Turn};
use zs_trainer::Metrics;
use zs_trainer::alarm::AlarmRecord;
use zs_trainer::files::RunDir;

/// The file that a finished piece of work has and an interrupted one has not.
const RESULT: &str = "result.json";

/// One arm with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedResult {
    /// The arm.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// The commit it was run at, as in [`Environment::commit`](crate::Environment::commit).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The step after which the policy was kept, by the validation questions.
    pub best_step: usize,
    /// Seconds of training.
    pub train_seconds: f64,
    /// Seconds of answering the test questions.
    pub eval_seconds: f64,
    /// Its metrics.
    pub metrics: BTreeMap<ClaimMetric, f64>,
    /// The scores on the test questions, greedy, real engine.
    pub evaluation: EvaluationReport,
    /// The answers themselves, from which a difference with one seed gets its interval; not kept.
    #[serde(skip)]
    pub records: Vec<QuestionRecord>,
    /// Training, step by step; empty for an arm that is not trained.
    pub curve: Vec<CurvePoint>,
    /// Alarms, each at the step at which it was raised.
    pub alarms: Vec<AlarmRecord>,
    /// The first test questions as they were answered.
    pub episodes: Vec<EpisodeText>,
}

/// One point of a training run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurvePoint {
    /// The step, from 1; 0 is before the first.
    pub step: usize,
    /// Mean reward of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<f64>,
    /// Its noise probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_probability: Option<f64>,
    /// Share of the queries that named an entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names_entity: Option<f64>,
    /// Greedy exact match on the validation questions, real engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_exact_match: Option<f64>,
    /// The same with the simulation LLM, without noise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulated_exact_match: Option<f64>,
}

impl CurvePoint {
    pub(super) fn curve(metrics: &[Metrics]) -> Vec<Self> {
        let point = |(step, it): (usize, &Metrics)| Self {
            step,
            reward: it.get("reward/mean"),
            noise_probability: it.get("curriculum/noise_probability"),
            names_entity: it.get("search/names_entity_frac"),
            validation_exact_match: it.get("validation/exact_match"),
            simulated_exact_match: it.get("validation/training_engine_exact_match"),
        };
        metrics.iter().enumerate().map(point).collect()
    }
}

/// One greedy episode as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpisodeText {
    /// The question.
    pub question: String,
    /// Its golden answers.
    pub golden_answers: Vec<String>,
    /// Number of facts it joins.
    pub hops: Option<u8>,
    /// Exact match of the answer.
    pub exact_match: bool,
    /// The turns.
    pub turns: Vec<ExampleTurn>,
}

/// One turn of an episode, as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExampleTurn {
    /// The text of the policy.
    pub text: String,
    /// The text that it was shown.
    pub observation: String,
}

impl ExampleTurn {
    /// All turns of an episode.
    pub(super) fn all(trajectory: &Trajectory) -> Vec<Self> {
        let turn = |it: &Turn| Self {
            text: it.text.trim().to_owned(),
            observation: it.observation_text.trim().to_owned(),
        };
        trajectory.turns.iter().map(turn).collect()
    }
}

/// One tuned simulation LLM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulatorResult {
    /// Steps of tuning.
    pub steps: usize,
    /// The seed.
    pub seed: u64,
    /// Seconds of tuning.
    pub seconds: f64,
    /// Audit of its documents.
    pub audit: AuditReport,
}

/// A result and what it was computed from.
#[derive(Debug, Serialize, Deserialize)]
struct StoredResult<S, T> {
    settings: S,
    result: T,
}

/// A directory for one piece of work.
#[derive(Clone, Debug)]
pub(super) struct Slot<'a, S> {
    dir: PathBuf,
    /// All that the result depends on. Settings that came into being after a result was kept have
    /// their defaults in it.
    settings: &'a S,
}

impl<'a, S: Serialize + DeserializeOwned + PartialEq> Slot<'a, S> {
    /// The place of a piece of work with these settings.
    pub(super) fn new(dir: PathBuf, settings: &'a S) -> Self {
        Self { dir, settings }
    }

    /// The kept result; none where the work is not finished or was done with other settings.
    pub(super) fn finished<T: DeserializeOwned>(&self) -> Option<T> {
        let kept: StoredResult<S, T> = read_json(&self.dir.join(RESULT)).ok()?;
        (kept.settings == *self.settings).then_some(kept.result)
    }

    /// Does the work anew; what an interrupted try left is removed first. The result is kept last of
    /// all, where it is to be kept.
    pub(super) fn fill<T: Serialize>(
        &self,
        keeps: bool,
        work: impl FnOnce(&RunDir) -> Result<T>,
    ) -> Result<T> {
        if self.dir.exists() {
            fs::remove_dir_all(&self.dir).map_err(FileError::io(&self.dir, "remove"))?;
        }
        let run = RunDir::create(&self.dir)?;
        let result = work(&run)?;
        if keeps {
            run.write_json(RESULT, &StoredResult { settings: self.settings, result: &result })?;
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_work_is_kept_and_interrupted_work_is_not() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("arm/seed-1");
        let (a, b) = ("a".to_owned(), "b".to_owned());
        let slot = Slot::new(dir.clone(), &a);
        assert_eq!(slot.finished::<u32>(), None);
        let fails = |run: &RunDir| -> Result<u32> {
            run.write_text("metrics.jsonl", "half")?;
            Err(crate::ReproduceError::Panicked)
        };
        assert!(slot.fill(true, fails).is_err());
        assert_eq!(slot.finished::<u32>(), None, "interrupted");
        let succeeds = |run: &RunDir| -> Result<u32> {
            assert!(!run.join("metrics.jsonl").exists(), "done again from the start");
            Ok(7)
        };
        assert_eq!(slot.fill(false, succeeds).unwrap(), 7);
        assert_eq!(slot.finished::<u32>(), None, "not to be kept");
        assert_eq!(slot.fill(true, succeeds).unwrap(), 7);
        assert_eq!(slot.finished::<u32>(), Some(7));
        assert_eq!(Slot::new(dir, &b).finished::<u32>(), None, "other settings");
    }
}
