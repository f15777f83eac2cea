//! The rule of each alarm.

use super::{Alarm, AlarmsConfig, Reading};
use crate::Metrics;

/// Divergences below this are rounding, however many times larger than before.
const SMALLEST_KL: f64 = 1e-3;

/// Returns the reading of an alarm at the last step of `history`, if the alarm is on.
pub(super) fn reading(
    alarm: Alarm,
    history: &[Metrics],
    config: &AlarmsConfig,
    max_searches: u32,
) -> Option<Reading> {
    let rule = Rule { alarm, history, window: config.window };
    let cap = f64::from(max_searches);
    match alarm {
        Alarm::EntropyCollapse => {
            rule.at_most("actor/entropy", config.entropy_collapse, "nats a token")
        }
        Alarm::RewardHacking => rule.reward_hacking(config.reward_hacking),
        Alarm::ZeroVarianceGroups => rule.at_least(
            "reward/zero_variance_groups",
            config.zero_variance_groups,
            "of the groups",
        ),
        Alarm::KlSpike => rule.kl_spike(config.kl_spike),
        Alarm::LogProbMismatch => {
            rule.at_least("rollout/log_prob_k3", config.log_prob_mismatch, "nats a token")
        }
        // Where an episode may not search, none is missing.
        Alarm::SearchCollapse if max_searches == 0 => None,
        Alarm::SearchCollapse => {
            rule.at_most("rollout/num_searches", config.search_collapse, "an episode")
        }
        // One search of one is no excess.
        Alarm::SearchCap if max_searches <= 1 => None,
        Alarm::SearchCap => {
            rule.at_least("rollout/num_searches", config.search_cap * cap, "an episode")
        }
        Alarm::DocumentCopy => rule.at_least(
            "rollout/document_copy_frac",
            config.document_copy,
            "of the policy's words",
        ),
        Alarm::MalformedReplies => {
            rule.at_least("search/malformed_frac", config.malformed_replies, "of the searches")
        }
    }
}

struct Rule<'a> {
    alarm: Alarm,
    history: &'a [Metrics],
    window: usize,
}

impl Rule<'_> {
    /// The values of a metric at the last `count` steps, oldest first; nothing where one is missing.
    fn last(&self, key: &str, count: usize) -> Option<Vec<f64>> {
        let start = self.history.len().checked_sub(count)?;
        self.history[start..].iter().map(|it| it.get(key)).collect()
    }

    /// The mean over the last window.
    fn recent(&self, key: &str) -> Option<f64> {
        self.last(key, self.window).map(|it| mean(&it))
    }

    /// Rise of the mean over the last window above the mean over the window before.
    fn rise(&self, key: &str) -> Option<f64> {
        let values = self.last(key, 2 * self.window)?;
        let (before, now) = values.split_at(self.window);
        Some(mean(now) - mean(before))
    }

    fn on(&self, value: f64, threshold: f64, message: String) -> Option<Reading> {
        Some(Reading { alarm: self.alarm, value, threshold, message })
    }

    fn at_most(&self, key: &str, threshold: f64, of: &str) -> Option<Reading> {
        let value = self.recent(key).filter(|it| *it <= threshold)?;
        let message =
            format!("`{key}` is {value:.4} {of} over {} steps, at most {threshold}", self.window);
        self.on(value, threshold, message)
    }

    fn at_least(&self, key: &str, threshold: f64, of: &str) -> Option<Reading> {
        let value = self.recent(key).filter(|it| *it >= threshold)?;
        let message =
            format!("`{key}` is {value:.4} {of} over {} steps, at least {threshold}", self.window);
        self.on(value, threshold, message)
    }

    fn reward_hacking(&self, threshold: f64) -> Option<Reading> {
        let rise = self.rise("reward/mean").filter(|it| *it >= threshold)?;
        let format = match self.rise("reward/format") {
            Some(rise) => Some(("`reward/format`", -rise)),
            None => self.rise("rollout/invalid_frac").map(|it| ("the share of valid turns", it)),
        };
        let answers = self.rise("curriculum/success_rate").map(|it| ("exact match", -it));
        let falls = [answers, format].into_iter().flatten();
        let (what, fall) = falls.max_by(|a, b| a.1.total_cmp(&b.1))?;
        if fall < threshold {
            return None;
        }
        let window = self.window;
        let message = format!(
            "`reward/mean` rose by {rise:.3} while {what} fell by {fall:.3} from {window} steps to \
             the next {window}"
        );
        self.on(fall, threshold, message)
    }

    /// The divergence from the reference model where there is one, else from the policy that sampled.
    fn kl_spike(&self, factor: f64) -> Option<Reading> {
        let keys = ["actor/kl", "reward/kl", "actor/ppo_kl"];
        let (key, mut values) =
            keys.iter().find_map(|key| Some((key, self.last(key, self.window + 1)?)))?;
        let value = values.pop()?.abs();
        let mut before: Vec<f64> = values.iter().map(|it| it.abs()).collect();
        before.sort_by(f64::total_cmp);
        let threshold = (factor * before[before.len() / 2]).max(SMALLEST_KL);
        if value < threshold {
            return None;
        }
        let message = format!(
            "`{key}` is {value:.4} at this step, {factor} times the median of the {} before is \
             {threshold:.4}",
            self.window
        );
        self.on(value, threshold, message)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::super::readings;
    use super::*;

    /// Metrics of steps 1, 2, …, each the value of every key at that step.
    fn history(keys: &[(&str, &[f64])]) -> Vec<Metrics> {
        (0..keys[0].1.len())
            .map(|at| {
                let mut metrics = Metrics::of_step(at + 1);
                keys.iter().for_each(|(key, values)| metrics.set(*key, values[at]));
                metrics
            })
            .collect()
    }

    /// The steps at which an alarm is on, with a window of 2 and episodes of up to 4 searches.
    #[track_caller]
    fn check(alarm: Alarm, keys: &[(&str, &[f64])], expected: &[usize]) {
        let config = AlarmsConfig { window: 2, ..AlarmsConfig::default() };
        let history = history(keys);
        let is_on = |end: &usize| {
            let readings = readings(&history[..*end], &config, 4);
            assert!(readings.iter().all(|it| it.alarm == alarm), "{readings:?}");
            !readings.is_empty()
        };
        let on: Vec<usize> = (1..=history.len()).filter(is_on).collect();
        assert_eq!(on, expected, "{alarm:?}");
        let off = AlarmsConfig { off: vec![alarm], ..config };
        assert!(readings(&history, &off, 4).is_empty());
    }

    #[test]
    fn levels_are_compared_over_a_window() {
        check(
            Alarm::EntropyCollapse,
            &[("actor/entropy", &[0.5, 0.0, 0.02, 0.0, 0.0])],
            &[3, 4, 5],
        );
        check(Alarm::EntropyCollapse, &[("actor/entropy", &[0.0])], &[]);
        check(
            Alarm::ZeroVarianceGroups,
            &[("reward/zero_variance_groups", &[1.0, 0.7, 1.0, 0.9])],
            &[4],
        );
        check(Alarm::LogProbMismatch, &[("rollout/log_prob_k3", &[0.0, 0.0, 0.03])], &[3]);
        let searches = [0.0, 0.0, 0.2, 3.8, 3.9, 3.0];
        check(Alarm::SearchCollapse, &[("rollout/num_searches", &searches[..4])], &[2]);
        check(Alarm::SearchCap, &[("rollout/num_searches", &searches[2..])], &[3]);
        check(Alarm::DocumentCopy, &[("rollout/document_copy_frac", &[0.0, 0.4, 0.7])], &[3]);
        check(Alarm::MalformedReplies, &[("search/malformed_frac", &[0.0, 0.1, 0.1])], &[3]);
    }

    #[test]
    fn caps_that_say_nothing_are_not_watched() {
        let history = history(&[("rollout/num_searches", &[1.0; 9])]);
        let config = AlarmsConfig::default();
        assert!(readings(&history, &config, 1).is_empty());
        let history = self::history(&[("rollout/num_searches", &[0.0; 9])]);
        assert!(readings(&history, &config, 0).is_empty());
        assert_eq!(readings(&history, &config, 1).len(), 1);
    }

    #[test]
    fn a_rising_reward_must_not_cost_answers_or_format() {
        let up: &[f64] = &[0.2, 0.2, 0.5, 0.5];
        let down: &[f64] = &[0.5, 0.5, 0.3, 0.3];
        let answers = ("curriculum/success_rate", down);
        check(Alarm::RewardHacking, &[("reward/mean", up), answers], &[4]);
        check(Alarm::RewardHacking, &[("reward/mean", down), answers], &[]);
        check(Alarm::RewardHacking, &[("reward/mean", up), ("curriculum/success_rate", up)], &[]);
        check(Alarm::RewardHacking, &[("reward/mean", up), ("reward/format", down)], &[4]);
        check(Alarm::RewardHacking, &[("reward/mean", up), ("rollout/invalid_frac", up)], &[4]);
    }

    #[test]
    fn a_spike_is_seen_against_the_steps_before() {
        check(Alarm::KlSpike, &[("actor/kl", &[0.01, 0.012, 0.011, 0.2, 0.2])], &[4]);
        check(Alarm::KlSpike, &[("actor/ppo_kl", &[0.0, 0.0, -0.01])], &[3]);
        check(Alarm::KlSpike, &[("reward/kl", &[0.0, 0.0, 1e-5])], &[]);
    }

    #[test]
    fn messages_say_what_was_measured() {
        let history = history(&[("actor/entropy", &[0.001; 5])]);
        let readings = readings(&history, &AlarmsConfig::default(), 4);
        assert_eq!(
            readings[0].message,
            "`actor/entropy` is 0.0010 nats a token over 5 steps, at most 0.01"
        );
    }
}
