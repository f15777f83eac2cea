//! What the dashboard shows.

use std::time::Instant;

use crate::run::Metrics;

/// Seconds of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct StepTimes {
    /// All of playing the episodes.
    pub(crate) rollout: f64,
    /// Of that, feeding prompts and observations.
    pub(crate) prefill: f64,
    /// Of that, sampling.
    pub(crate) decode: f64,
    /// Of that, waiting for the engine.
    pub(crate) search: f64,
    /// Learning.
    pub(crate) update: f64,
    /// Validation, where there was one.
    pub(crate) validation: f64,
}

impl StepTimes {
    /// The parts that add up to the step, with their names.
    pub(super) fn parts(&self) -> [(&'static str, f64); 6] {
        let known = self.prefill + self.decode + self.search;
        [
            ("prefill", self.prefill),
            ("decode", self.decode),
            ("search", self.search),
            ("rest of rollout", (self.rollout - known).max(0.0)),
            ("update", self.update),
            ("validation", self.validation),
        ]
    }
}

/// Who wrote a part of the latest episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// The policy model.
    Policy,
    /// The environment.
    Observation,
}

/// The latest episode.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    /// What was asked.
    pub(crate) question: String,
    /// What would have been right.
    pub(crate) golden_answers: String,
    /// What was earned.
    pub(crate) reward: f32,
    /// Who wrote what.
    pub(crate) parts: Vec<(Author, String)>,
}

/// Everything on the screen.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) title: String,
    pub(super) total: usize,
    pub(super) start: Instant,
    /// The last step that is done, and how many were done since the start.
    pub(super) step: usize,
    pub(super) num_done: usize,
    pub(super) phase: &'static str,
    pub(super) metrics: Metrics,
    /// The last exact match on the validation questions.
    pub(super) validation: Option<f64>,
    pub(super) rewards: Vec<(f64, f64)>,
    pub(super) answers: Vec<(f64, f64)>,
    pub(super) times: StepTimes,
    pub(super) sample: Option<Sample>,
    pub(super) notes: Vec<String>,
}

impl State {
    pub(super) fn new(title: &str, total: usize) -> Self {
        Self {
            title: title.to_owned(),
            total,
            start: Instant::now(),
            step: 0,
            num_done: 0,
            phase: "…",
            metrics: Metrics::default(),
            validation: None,
            rewards: Vec::new(),
            answers: Vec::new(),
            times: StepTimes::default(),
            sample: None,
            notes: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, metrics: &Metrics, times: StepTimes) {
        self.validation = metrics.get("validation/exact_match").or(self.validation);
        let step = metrics.step().unwrap_or(0);
        if step == 0 {
            return;
        }
        self.step = step;
        self.num_done += 1;
        self.times = times;
        self.metrics = metrics.clone();
        let point = |key| metrics.get(key).map(|it| (step as f64, it));
        self.rewards.extend(point("reward/mean"));
        self.answers.extend(point("curriculum/success_rate"));
    }

    /// Seconds that are left if steps go on as they did.
    pub(super) fn seconds_left(&self, now: Instant) -> Option<f64> {
        let elapsed = now.duration_since(self.start).as_secs_f64();
        let left = self.total.saturating_sub(self.step) as f64;
        (self.num_done > 0).then(|| elapsed / self.num_done as f64 * left)
    }
}
