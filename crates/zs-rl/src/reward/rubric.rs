//! Win rates as a reward.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;

use super::{EpisodeView, GroupReward, RewardOutput};
use crate::judge::{Comparison, JudgeError, Rubric, RubricJudge, RubricKind, Verdict};

/// Settings of [`RubricReward`]: criteria of the comparison, and its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RubricConfig {
    /// Criteria of a good episode.
    pub rubrics: Vec<Rubric>,
    /// If true, each pair is compared in both orders, which cancels a judge's position bias.
    pub both_orders: bool,
}

impl Settings for RubricConfig {
    const KIND: &'static str = "rubric";
}

/// Rubrics of our own; Kimi K2's are published in its appendix F, for chat.
impl Default for RubricConfig {
    fn default() -> Self {
        let rubric = |kind, text: &str| Rubric { kind, text: text.to_owned() };
        Self {
            rubrics: vec![
                rubric(RubricKind::Core, "The answer follows from what was searched for."),
                rubric(RubricKind::Core, "The answer is short and says only what was asked."),
                rubric(RubricKind::Prescriptive, "It does not praise or grade itself."),
                rubric(RubricKind::Prescriptive, "It does not repeat a search."),
            ],
            both_orders: true,
        }
    }
}

/// Fraction of comparisons with its siblings that an episode wins.
///
/// ```text
/// r_i = mean over comparisons of i of { 1 won, 1/2 tied, 0 lost }
/// ```
///
/// Every pair of the group is compared, in both orders if configured. Comparisons without a verdict
/// are left out, and their fraction is logged as `reward/rubric_failed`; an episode without any
/// verdict, or without siblings, has reward 1/2. The judge sees the policy's own text and no
/// document.
///
/// # Differences
///
/// K2 ranks by a critic that is itself refreshed from episodes with verifiable rewards; here the
/// judge is fixed. K2 does not say how rankings become a reward.
///
/// # References
///
/// - [Kimi K2](https://arxiv.org/abs/2507.20534), section 3.2.2
#[derive(Clone, Debug)]
pub struct RubricReward {
    judge: Arc<dyn RubricJudge>,
    config: RubricConfig,
}

impl RubricReward {
    /// The reward by this judge.
    #[must_use]
    pub fn new(judge: Arc<dyn RubricJudge>, config: RubricConfig) -> Self {
        Self { judge, config }
    }
}

impl GroupReward for RubricReward {
    fn name(&self) -> &'static str {
        "rubric"
    }

    fn score_group(&self, episodes: &[EpisodeView<'_>]) -> Vec<RewardOutput> {
        let text = |it: &EpisodeView<'_>| {
            it.turns.iter().map(|turn| turn.text.trim()).collect::<Vec<_>>().join("\n")
        };
        let texts: Vec<String> = episodes.iter().map(text).collect();
        let n = episodes.len();
        let pairs: Vec<(usize, usize)> = (0..n)
            .flat_map(|a| (0..n).map(move |b| (a, b)))
            .filter(|(a, b)| a < b || (self.config.both_orders && a != b))
            .collect();
        let comparison = |&(a, b): &(usize, usize)| Comparison {
            question: &episodes[a].question.text,
            a: &texts[a],
            b: &texts[b],
            rubrics: &self.config.rubrics,
        };
        let verdicts = match pairs.is_empty() {
            true => Vec::new(),
            false => self.judge.compare_batch(&pairs.iter().map(comparison).collect::<Vec<_>>()),
        };
        let mut tallies = vec![Tally::default(); n];
        for (index, &(a, b)) in pairs.iter().enumerate() {
            // A judge that returns too few verdicts has failed on the rest.
            let points = verdicts.get(index).and_then(points_of_first);
            tallies[a].add(points);
            tallies[b].add(points.map(|it| 1.0 - it));
        }
        tallies.into_iter().map(Tally::earned).collect()
    }
}

/// Points of the first episode of a pair.
fn points_of_first(verdict: &Result<Verdict, JudgeError>) -> Option<f32> {
    match verdict {
        Ok(Verdict::A) => Some(1.0),
        Ok(Verdict::B) => Some(0.0),
        Ok(Verdict::Tie) => Some(0.5),
        Err(_) => None,
    }
}

#[derive(Clone, Copy, Default)]
struct Tally {
    points: f32,
    num_judged: usize,
    num_failed: usize,
}

impl Tally {
    fn add(&mut self, points: Option<f32>) {
        match points {
            Some(points) => {
                self.points += points;
                self.num_judged += 1;
            }
            None => self.num_failed += 1,
        }
    }

    fn earned(self) -> RewardOutput {
        let Self { points, num_judged, num_failed } = self;
        let total = if num_judged == 0 { 0.5 } else { points / num_judged as f32 };
        let failed = num_failed as f32 / (num_judged + num_failed).max(1) as f32;
        RewardOutput { details: vec![("rubric_failed", failed)], ..RewardOutput::from(total) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use zs_core::Question;

    use super::*;
    use crate::RewardResources;
    use crate::reward::builtin;
    use crate::reward::testing::trajectory;

    /// A judge that says what a function says.
    #[derive(Debug)]
    pub(crate) struct Scripted(pub(crate) fn(&Comparison<'_>) -> Result<Verdict, JudgeError>);

    impl RubricJudge for Scripted {
        fn compare_batch(
            &self,
            comparisons: &[Comparison<'_>],
        ) -> Vec<Result<Verdict, JudgeError>> {
            comparisons.iter().map(self.0).collect()
        }
    }

    fn failed() -> JudgeError {
        JudgeError::Malformed { reply: String::new() }
    }

    #[track_caller]
    fn check(
        judge: fn(&Comparison<'_>) -> Result<Verdict, JudgeError>,
        texts: &[&str],
        both_orders: bool,
        expected: &[f32],
        expected_failed: &[f32],
    ) {
        let config = RubricConfig { both_orders, ..RubricConfig::default() };
        let reward = RubricReward::new(Arc::new(Scripted(judge)), config);
        let question = Question::new("q", "?", ["a"]);
        let episodes: Vec<_> = texts.iter().map(|it| trajectory(&[it])).collect();
        let views: Vec<_> = episodes.iter().map(|it| EpisodeView::new(&question, it)).collect();
        let earned = reward.score_group(&views);
        assert_eq!(earned.iter().map(|it| it.total).collect::<Vec<_>>(), expected);
        assert_eq!(earned.iter().map(|it| it.details[0].1).collect::<Vec<_>>(), expected_failed);
    }

    fn longer(it: &Comparison<'_>) -> Result<Verdict, JudgeError> {
        Ok(match it.a.len().cmp(&it.b.len()) {
            std::cmp::Ordering::Greater => Verdict::A,
            std::cmp::Ordering::Equal => Verdict::Tie,
            std::cmp::Ordering::Less => Verdict::B,
        })
    }

    #[test]
    fn win_rates_by_hand() {
        for both_orders in [false, true] {
            check(longer, &["a", "aaa", "aa"], both_orders, &[0.0, 1.0, 0.5], &[0.0; 3]);
            check(longer, &["aa", "aa", "a"], both_orders, &[0.75, 0.75, 0.0], &[0.0; 3]);
            check(longer, &["a"], both_orders, &[0.5], &[0.0]);
            check(longer, &[], both_orders, &[], &[]);
        }
        // A judge that always takes the first is only heard without the second order.
        check(|_| Ok(Verdict::A), &["a", "b"], false, &[1.0, 0.0], &[0.0; 2]);
        check(|_| Ok(Verdict::A), &["a", "b"], true, &[0.5, 0.5], &[0.0; 2]);
        check(|_| Err(failed()), &["a", "b"], true, &[0.5, 0.5], &[1.0, 1.0]);
        // Of three pairs, the two with "x" fail.
        let picky = |it: &Comparison<'_>| match it.a == "x" || it.b == "x" {
            true => Err(failed()),
            false => longer(it),
        };
        check(picky, &["a", "aa", "x"], false, &[0.0, 1.0, 0.5], &[0.5, 0.5, 1.0]);
    }

    #[test]
    fn rubrics_are_part_of_a_sum() {
        let json = r#"{"kind":"sum","terms":[
            {"weight":1.0,"reward":{"kind":"exact_match"}},
            {"weight":0.5,"reward":{"kind":"rubric","both_orders":false}}]}"#;
        let judge: Arc<dyn RubricJudge> = Arc::new(Scripted(longer));
        let resources = RewardResources::new(None, Some(judge));
        let reward = builtin().build(&serde_json::from_str(json).unwrap(), &resources).unwrap();
        let question = Question::new("q", "?", ["a"]);
        let group = [trajectory(&["<answer>a</answer>"]), trajectory(&["<answer>bb</answer>"])];
        let totals: Vec<f32> =
            reward.score_group(&question, &group).iter().map(|it| it.total).collect();
        assert_eq!(totals, [1.0, 0.5]);
    }
}
