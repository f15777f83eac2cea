//! State of the dashboard.

use std::time::Instant;

use zs_rl::TrajectoryGroup;
use zs_trainer::{Metrics, StepTimes};

/// The parts that add up to a step, with their names.
pub(super) fn parts(times: &StepTimes) -> [(&'static str, f64); 6] {
    let known = times.prefill + times.decode + times.search;
    [
        ("prefill", times.prefill),
        ("decode", times.decode),
        ("search", times.search),
        ("rest of rollout", (times.rollout - known).max(0.0)),
        ("update", times.update),
        ("validation", times.validation),
    ]
}

/// Author of a part of the latest episode.
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
    /// Question.
    pub(crate) question: String,
    /// Golden answers, joined.
    pub(crate) golden_answers: String,
    /// Reward.
    pub(crate) reward: f32,
    /// Texts with their authors, in order.
    pub(crate) parts: Vec<(Author, String)>,
}

impl Sample {
    /// Takes the first episode of a group.
    pub(super) fn of(group: &TrajectoryGroup) -> Self {
        let Some(rewarded) = group.trajectories.first() else { return Self::default() };
        let mut parts = Vec::new();
        for (index, turn) in rewarded.trajectory.turns.iter().enumerate() {
            parts.push((Author::Policy, rewarded.trajectory.turn_text(index).into_owned()));
            parts.push((Author::Observation, turn.observation_text.clone()));
        }
        Self {
            question: group.question.text.clone(),
            golden_answers: group.question.golden_answers.join(", "),
            reward: rewarded.reward.total,
            parts,
        }
    }
}

/// State of the screen.
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

    /// Remaining seconds if steps keep their speed.
    pub(super) fn seconds_left(&self, now: Instant) -> Option<f64> {
        let elapsed = now.duration_since(self.start).as_secs_f64();
        let left = self.total.saturating_sub(self.step) as f64;
        (self.num_done > 0).then(|| elapsed / self.num_done as f64 * left)
    }
}
