//! Metrics of a step: one line of numbers under sorted keys, without wall-clock times, so that the
//! same seed writes the same bytes. Times go to a file of their own.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;
use zs_data::{FileError, JsonLinesWriter};

use crate::files::RunDir;
use crate::times::{RolloutTimes, StepTimes};

/// The metrics of one step.
///
/// ```
/// use zs_trainer::Metrics;
///
/// let mut metrics = Metrics::of_step(3);
/// metrics.set("reward/mean", 0.5);
/// assert_eq!(metrics.get("reward/mean"), Some(0.5));
/// assert_eq!(serde_json::to_string(&metrics).unwrap(), r#"{"reward/mean":0.5,"step":3}"#);
/// ```
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Metrics(BTreeMap<String, Value>);

impl Metrics {
    /// The metrics of a step, from 1; 0 is before the first.
    #[must_use]
    pub fn of_step(step: usize) -> Self {
        Self([("step".to_owned(), step.into())].into())
    }

    /// Sets a number.
    pub fn set(&mut self, key: impl Into<String>, value: f64) {
        self.0.insert(key.into(), value.into());
    }

    /// Sets a word, e.g. a phase.
    pub fn set_word(&mut self, key: impl Into<String>, value: &str) {
        self.0.insert(key.into(), value.into());
    }

    /// Sets several numbers.
    pub fn extend<K: Into<String>>(&mut self, values: impl IntoIterator<Item = (K, f64)>) {
        for (key, value) in values {
            self.set(key, value);
        }
    }

    /// Step, if set.
    #[must_use]
    pub fn step(&self) -> Option<usize> {
        self.0.get("step")?.as_u64().map(|it| it as usize)
    }

    /// The numbers by their keys, in order.
    pub fn numbers(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_f64()?)))
    }

    /// A number.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<f64> {
        self.0.get(key)?.as_f64()
    }
}

const TIMINGS: &str = "timings.jsonl";

/// Seconds spent in the parts of each step, in `timings.jsonl`.
#[derive(Debug)]
pub struct Timings {
    file: JsonLinesWriter,
    step: BTreeMap<String, Value>,
    since: Instant,
}

impl Timings {
    /// Starts the file of a run.
    ///
    /// # Errors
    ///
    /// Fails when it cannot be created.
    pub fn create(run: &RunDir) -> Result<Self, FileError> {
        Ok(Self::over(run.json_lines(TIMINGS)?))
    }

    /// Continues the file of a run with so many steps from `first_step` on. Nothing is computed from
    /// times, so steps whose line was lost get one without any.
    pub(crate) fn resume(
        run: &RunDir,
        first_step: usize,
        num_steps: usize,
    ) -> Result<Self, FileError> {
        let missing = |index: usize| serde_json::json!({ "step": first_step + index });
        Ok(Self::over(JsonLinesWriter::resume_mended(&run.join(TIMINGS), num_steps, missing)?))
    }

    pub(crate) fn over(file: JsonLinesWriter) -> Self {
        Self { file, step: BTreeMap::new(), since: Instant::now() }
    }

    /// Records the time since the last call under `time/{part}`.
    pub fn lap(&mut self, part: &str) {
        let seconds = self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
        self.step.insert(format!("time/{part}"), seconds.into());
    }

    /// Records numbers that depend on the time, or on faults.
    pub(crate) fn extend(&mut self, numbers: impl IntoIterator<Item = (String, f64)>) {
        self.step.extend(numbers.into_iter().map(|(key, value)| (key, value.into())));
    }

    /// Records the parts of the rollout's time, where they are known.
    pub(crate) fn split_rollout(&mut self, times: Option<RolloutTimes>) {
        let Some(times) = times else { return };
        let RolloutTimes { prefill, decode, search, search_hidden } = times;
        for (part, seconds) in [("prefill", prefill), ("decode", decode), ("search", search)] {
            self.step.insert(format!("time/{part}"), seconds.into());
        }
        // Nothing is hidden where there is one lane.
        if search_hidden > 0.0 {
            self.step.insert("time/search_hidden".to_owned(), search_hidden.into());
        }
    }

    /// The seconds of the parts of this step so far; 0 for parts that were not booked.
    pub(crate) fn times(&self) -> StepTimes {
        let [rollout, prefill, decode, search, update, validation] =
            ["rollout", "prefill", "decode", "search", "update", "validation"].map(|part| {
                self.step.get(&format!("time/{part}")).and_then(Value::as_f64).unwrap_or(0.0)
            });
        StepTimes { rollout, prefill, decode, search, update, validation }
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    ///
    /// Fails when the system does.
    pub fn sync(&mut self) -> Result<(), FileError> {
        self.file.sync()
    }

    /// Writes the line of a step and begins the next.
    ///
    /// # Errors
    ///
    /// Fails when the line cannot be written.
    pub fn end_step(&mut self, step: usize) -> Result<(), FileError> {
        self.step.insert("step".to_owned(), step.into());
        self.file.push(&self.step)?;
        self.step.clear();
        Ok(())
    }
}
