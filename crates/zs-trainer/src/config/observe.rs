//! Alarms of a run, and the logs that it writes besides its own files.

use serde::{Deserialize, Serialize};
use zs_core::registry::Spec;

use super::{Check, RunFileError, ensure, resolved};
use crate::alarm::AlarmsConfig;
use crate::components::Components;

impl Check for AlarmsConfig {
    fn check(&self, _: &Components) -> Result<(), RunFileError> {
        ensure(self.window > 0, "alarms.window", "at least 1", self.window)?;
        for (key, value) in
            [("entropy_collapse", self.entropy_collapse), ("search_collapse", self.search_collapse)]
        {
            let in_range = value.is_finite() && value >= 0.0;
            ensure(in_range, &format!("alarms.{key}"), "0 or more", value)?;
        }
        for (key, value) in
            [("reward_hacking", self.reward_hacking), ("log_prob_mismatch", self.log_prob_mismatch)]
        {
            let in_range = value.is_finite() && value > 0.0;
            ensure(in_range, &format!("alarms.{key}"), "above 0", value)?;
        }
        let spike = self.kl_spike;
        ensure(spike.is_finite() && spike > 1.0, "alarms.kl_spike", "above 1", spike)?;
        for (key, value) in [
            ("zero_variance_groups", self.zero_variance_groups),
            ("search_cap", self.search_cap),
            ("document_copy", self.document_copy),
            ("malformed_replies", self.malformed_replies),
        ] {
            let in_range = value > 0.0 && value <= 1.0;
            ensure(in_range, &format!("alarms.{key}"), "above 0 and at most 1", value)?;
        }
        Ok(())
    }
}

/// Logs besides `metrics.jsonl`.
///
/// ```toml
/// [logging]
/// tensorboard = true   # as `trackers = [{ kind = "tensorboard" }]`
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoggingConfig {
    /// Event files for `TensorBoard`, in `tensorboard/`.
    pub tensorboard: bool,
    /// Trackers by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trackers: Vec<Spec>,
}

impl LoggingConfig {
    /// Every tracker, that of `tensorboard` included.
    pub(crate) fn trackers(&self) -> Vec<Spec> {
        let mut trackers = self.trackers.clone();
        if self.tensorboard && trackers.iter().all(|it| it.kind != TENSORBOARD) {
            trackers.insert(0, Spec::named(TENSORBOARD));
        }
        trackers
    }
}

/// Name of the tracker that the key `tensorboard` stands for.
const TENSORBOARD: &str = "tensorboard";

impl Check for LoggingConfig {
    fn resolve(&mut self, components: &Components) -> Result<(), RunFileError> {
        for (index, tracker) in self.trackers.iter_mut().enumerate() {
            let table = format!("logging.trackers.{index}");
            *tracker = resolved(&components.trackers, tracker, &table)?;
        }
        Ok(())
    }

    fn check(&self, components: &Components) -> Result<(), RunFileError> {
        for tracker in self.trackers() {
            resolved(&components.trackers, &tracker, "logging")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_have_ranges() {
        AlarmsConfig::default().check(&Components::built_in()).unwrap();
        let check = |text: &str, expected: &str| {
            let config: AlarmsConfig = toml::from_str(text).unwrap();
            assert_eq!(config.check(&Components::built_in()).unwrap_err().to_string(), expected);
        };
        check("window = 0", "`alarms.window` must be at least 1, is 0");
        check("kl_spike = 1.0", "`alarms.kl_spike` must be above 1, is 1");
        check("search_cap = 1.5", "`alarms.search_cap` must be above 0 and at most 1, is 1.5");
        check("entropy_collapse = -1.0", "`alarms.entropy_collapse` must be 0 or more, is -1");
        check("reward_hacking = 0.0", "`alarms.reward_hacking` must be above 0, is 0");
        let error = toml::from_str::<AlarmsConfig>("off = [\"fire\"]").unwrap_err();
        assert!(error.message().contains("entropy_collapse"), "{error}");
    }
}
