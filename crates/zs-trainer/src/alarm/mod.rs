//! Alarms: frequent failures of reinforcement learning, reported as soon as the metrics show them.
//!
//! Each is a pure function of the metrics so far and of its threshold in `[alarms]`
//! ([`AlarmsConfig`]); `docs/observing.md` has the remedies.

mod rule;
mod thresholds;
mod watch;

use serde::{Deserialize, Serialize};

pub use thresholds::AlarmsConfig;
pub use watch::ALARMS;
pub(crate) use watch::{Watch, raised};

use crate::Metrics;

/// Failure mode of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alarm {
    /// The policy has become (nearly) deterministic, so that episodes of a group no longer differ.
    EntropyCollapse,
    /// The reward rises while answers or format get worse.
    RewardHacking,
    /// Zero-variance groups: episodes of a group all have the same reward.
    #[serde(alias = "constant_groups")]
    ZeroVarianceGroups,
    /// The policy has jumped away from its reference.
    KlSpike,
    /// Sampling and training disagree about probabilities.
    LogProbMismatch,
    /// The policy does not search (any more).
    SearchCollapse,
    /// The policy searches as often as it may.
    SearchCap,
    /// The policy writes documents instead of its own words.
    DocumentCopy,
    /// The simulation LLM writes replies without documents.
    MalformedReplies,
}

impl Alarm {
    /// All alarms.
    pub const ALL: [Self; 9] = [
        Self::EntropyCollapse,
        Self::RewardHacking,
        Self::ZeroVarianceGroups,
        Self::KlSpike,
        Self::LogProbMismatch,
        Self::SearchCollapse,
        Self::SearchCap,
        Self::DocumentCopy,
        Self::MalformedReplies,
    ];

    /// Name in run files and records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EntropyCollapse => "entropy_collapse",
            Self::RewardHacking => "reward_hacking",
            Self::ZeroVarianceGroups => "zero_variance_groups",
            Self::KlSpike => "kl_spike",
            Self::LogProbMismatch => "log_prob_mismatch",
            Self::SearchCollapse => "search_collapse",
            Self::SearchCap => "search_cap",
            Self::DocumentCopy => "document_copy",
            Self::MalformedReplies => "malformed_replies",
        }
    }
}

/// An alarm that is on at the last step of some metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Alarm.
    pub alarm: Alarm,
    /// Measured value.
    pub value: f64,
    /// Threshold that it was compared with.
    pub threshold: f64,
    /// Measurement as a sentence.
    pub message: String,
}

/// A line of `alarms.jsonl`: one a step for every alarm that is on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlarmRecord {
    /// The step.
    pub step: usize,
    /// Alarm that is on.
    pub alarm: Alarm,
    /// Measured value.
    pub value: f64,
    /// Threshold that it was compared with.
    pub threshold: f64,
    /// The step since which it has been on without a break; it was raised there.
    pub since: usize,
    /// The measurement as a sentence.
    pub message: String,
}

impl AlarmRecord {
    /// Returns true if the alarm was off at the step before.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.step == self.since
    }
}

/// The alarms that are on at the last step of `history`.
///
/// `max_searches` is the number of searches that an episode may carry out. An alarm whose metrics are not
/// logged, or not for long enough, is off.
///
/// ```
/// use zs_trainer::alarm::{Alarm, readings};
/// use zs_trainer::config::AlarmsConfig;
/// use zs_trainer::Metrics;
///
/// let step = |step| {
///     let mut metrics = Metrics::of_step(step);
///     metrics.set("actor/entropy", 0.001);
///     metrics
/// };
/// let history: Vec<Metrics> = (1..=5).map(step).collect();
/// let config = AlarmsConfig::default();
/// assert!(readings(&history[..4], &config, 4).is_empty());
/// assert_eq!(readings(&history, &config, 4)[0].alarm, Alarm::EntropyCollapse);
/// ```
#[must_use]
pub fn readings(history: &[Metrics], config: &AlarmsConfig, max_searches: u32) -> Vec<Reading> {
    let is_on = |alarm: &Alarm| !config.off.contains(alarm);
    let alarms = Alarm::ALL.into_iter().filter(is_on);
    alarms.filter_map(|it| rule::reading(it, history, config, max_searches)).collect()
}
