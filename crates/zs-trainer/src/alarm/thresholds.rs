//! Thresholds of alarms, as a run file sets them.

use serde::{Deserialize, Serialize};

use super::Alarm;

/// Thresholds of alarms, each under the name of its alarm.
///
/// ```
/// use zs_trainer::config::AlarmsConfig;
///
/// let config: AlarmsConfig = toml::from_str("search_cap = 0.8\noff = [\"kl_spike\"]").unwrap();
/// assert_eq!(config.search_cap, 0.8);
/// assert!(toml::from_str::<AlarmsConfig>("search_caps = 0.8").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmsConfig {
    /// Alarms that are switched off.
    pub off: Vec<Alarm>,
    /// Steps that are averaged, so that one odd step raises nothing.
    pub window: usize,
    /// On at this `actor/entropy` and below, in nats a token.
    pub entropy_collapse: f64,
    /// On when `reward/mean` has risen by this and the share of right answers, or of valid turns, has
    /// fallen by as much, each against the window before.
    pub reward_hacking: f64,
    /// On at this fraction of zero-variance groups, whose episodes all have the same reward.
    #[serde(alias = "constant_groups")]
    pub zero_variance_groups: f64,
    /// On when the divergence of a step is this many times the median of the window before.
    pub kl_spike: f64,
    /// On at this `rollout/log_prob_k3`.
    pub log_prob_mismatch: f64,
    /// On at this number of searches an episode and below.
    pub search_collapse: f64,
    /// On at this share of the searches that an episode may carry out.
    pub search_cap: f64,
    /// On at this `rollout/document_copy_frac`.
    pub document_copy: f64,
    /// On at this `search/malformed_frac`.
    pub malformed_replies: f64,
}

impl Default for AlarmsConfig {
    fn default() -> Self {
        Self {
            off: Vec::new(),
            window: 5,
            entropy_collapse: 0.01,
            reward_hacking: 0.1,
            zero_variance_groups: 0.9,
            kl_spike: 5.0,
            log_prob_mismatch: 0.01,
            search_collapse: 0.05,
            search_cap: 0.95,
            document_copy: 0.5,
            malformed_replies: 0.1,
        }
    }
}
