//! What `zs reproduce` found, as data: `report.json` is this, the other forms are drawn from it.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use zs_eval::{Estimate, EvaluationReport, Summary};
use zs_simulator::audit::AuditReport;

use zs_trainer::alarm::AlarmRecord;

/// The scores of one policy, overall and by hops.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicyScores {
    /// Over all questions.
    #[serde(flatten)]
    pub overall: Summary,
    /// By how many facts the question joins.
    pub by_hops: BTreeMap<u8, Summary>,
}

impl From<EvaluationReport> for PolicyScores {
    fn from(report: EvaluationReport) -> Self {
        Self { overall: report.overall, by_hops: report.by_hops }
    }
}

/// All policies on the real engine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RealEngine {
    /// The base model, untrained.
    pub base: PolicyScores,
    /// Trained on the simulated engine.
    pub trained: PolicyScores,
    /// Trained on the real engine, for comparison.
    pub trained_on_real: PolicyScores,
}

/// Seconds of each part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Seconds {
    /// Making the world and its index.
    pub world: f64,
    /// Tuning the simulation LLM.
    pub tune: f64,
    /// Auditing it.
    pub audit: f64,
    /// Training on the simulated engine.
    pub train: f64,
    /// Training on the real engine.
    pub train_on_real: f64,
    /// Evaluating the three policies.
    pub eval: f64,
    /// Everything.
    pub total: f64,
}

/// What the simulated searches would have cost at a search provider.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Calls {
    /// Searches answered by the simulation LLM during training.
    pub simulated: u64,
    /// The provider's price.
    pub dollars_per_1000: f64,
    /// `simulated * dollars_per_1000 / 1000`.
    pub dollars_saved: f64,
}

/// One point of a training run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// The step, from 1; 0 is before the first.
    pub step: usize,
    /// Mean reward of the step's trajectories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward: Option<f64>,
    /// Noise probability of the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_probability: Option<f64>,
    /// Greedy exact match on the validation questions, where it was measured at this step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_exact_match: Option<f64>,
}

/// One turn of an example, as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExampleTurn {
    /// What the policy wrote.
    pub text: String,
    /// What it was shown.
    pub observation: String,
}

/// One question before and after training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    /// The question.
    pub question: String,
    /// Its golden answers.
    pub golden_answers: Vec<String>,
    /// What the base model does.
    pub before: Vec<ExampleTurn>,
    /// What the trained policy does.
    pub after: Vec<ExampleTurn>,
}

/// Everything that `zs reproduce` reports.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The version of `zs`.
    pub version: String,
    /// Which settings.
    pub preset: String,
    /// The seed of the whole job.
    pub seed: u64,
    /// Held-out questions of the evaluation.
    pub questions: usize,
    /// The policies on the real engine.
    pub real_engine: RealEngine,
    /// `trained.exact_match - base.exact_match`, question by question.
    pub gain: Estimate,
    /// `trained.exact_match / trained_on_real.exact_match`.
    pub share_of_trained_on_real: f64,
    /// The steps after which the policies were kept, by the validation split.
    pub kept_steps: BTreeMap<String, usize>,
    /// The simulation LLM.
    pub simulator: AuditReport,
    /// Searches and their price.
    pub calls: Calls,
    /// Where the time went.
    pub seconds: Seconds,
    /// Training on the simulated engine.
    pub curve_simulated: Vec<CurvePoint>,
    /// Training on the real engine.
    pub curve_real: Vec<CurvePoint>,
    /// Alarms of both training runs, each where it was raised.
    pub alarms: BTreeMap<String, Vec<AlarmRecord>>,
    /// Questions before and after.
    pub examples: Vec<Example>,
}

impl Report {
    /// One row a policy and kind of question: name, questions, exact match, F1, searches.
    #[must_use]
    pub fn rows(&self) -> Vec<[String; 5]> {
        let policies = [
            ("base", &self.real_engine.base),
            ("trained on the simulator", &self.real_engine.trained),
            ("trained on the real engine", &self.real_engine.trained_on_real),
        ];
        let mut rows = Vec::new();
        for (name, scores) in policies {
            rows.push(row(name.to_owned(), &scores.overall));
            for (hops, scores) in &scores.by_hops {
                rows.push(row(format!("{name}, {hops}-hop"), scores));
            }
        }
        rows
    }

    /// The report as Markdown.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut out = String::new();
        let title = format!("# zs reproduce: {}, seed {}\n\n", self.preset, self.seed);
        out.push_str(&title);
        out.push_str(
            "| policy, greedy on the real engine | questions | exact match | F1 | searches |\n",
        );
        out.push_str("| --- | --- | --- | --- | --- |\n");
        for row in self.rows() {
            let _ = writeln!(out, "| {} |", row.join(" | "));
        }
        out.push('\n');
        for line in self.findings() {
            let _ = writeln!(out, "- {line}");
        }
        out
    }

    /// What there is to say beside the table, a sentence each.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let calls = &self.calls;
        let alarms = self.alarms.iter().flat_map(|(run, alarms)| {
            alarms.iter().map(move |it| {
                format!(
                    "Alarm, {run} engine, step {}: {}: {}",
                    it.step,
                    it.alarm.name(),
                    it.message
                )
            })
        });
        let findings = vec![
            format!(
                "Training on the simulated engine changes exact match on the real engine by \
                 {:+.3} [{:+.3}, {:+.3}], to {:.0} % of what training on the real engine reaches.",
                self.gain.mean,
                self.gain.ci_low,
                self.gain.ci_high,
                100.0 * self.share_of_trained_on_real
            ),
            format!(
                "The answer stands in {:.0} % of the simulator's useful replies to full queries \
                 for it ({:.0} % 1-hop, {:.0} % 2-hop), in {:.0} % of its noisy ones, and in {:.0} \
                 % of its useful replies to queries that do not name their subject.",
                100.0 * self.simulator.useful_contains_answer,
                100.0 * self.simulator.useful_contains_answer_one_hop,
                100.0 * self.simulator.useful_contains_answer_two_hop,
                100.0 * self.simulator.noisy_contains_answer,
                100.0 * self.simulator.sloppy_contains_answer
            ),
            format!(
                "{} searches were simulated; at ${:.2} per 1,000 a provider would have charged \
                 ${:.2}.",
                calls.simulated, calls.dollars_per_1000, calls.dollars_saved
            ),
            format!(
                "Intervals are 95 % bootstrap intervals over {} held-out questions; checkpoints \
                 were chosen on the validation split.",
                self.questions
            ),
            format!(
                "It took {:.0} s: tuning {:.0}, training {:.0} on the simulator and {:.0} on the \
                 real engine, evaluation {:.0}.",
                self.seconds.total,
                self.seconds.tune,
                self.seconds.train,
                self.seconds.train_on_real,
                self.seconds.eval
            ),
        ];
        findings.into_iter().chain(alarms).collect()
    }
}

fn row(name: String, scores: &Summary) -> [String; 5] {
    let interval = |it: &Estimate| format!("{:.3} [{:.3}, {:.3}]", it.mean, it.ci_low, it.ci_high);
    [
        name,
        scores.n.to_string(),
        interval(&scores.exact_match),
        interval(&scores.f1),
        format!("{:.2}", scores.num_searches.mean),
    ]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use zs_trainer::alarm::Alarm;

    pub(crate) fn sample() -> Report {
        let estimate = |mean: f64| Estimate { mean, ci_low: mean - 0.05, ci_high: mean + 0.05 };
        let summary = |mean: f64| Summary {
            n: 4,
            exact_match: estimate(mean),
            cover_exact_match: estimate(mean),
            f1: estimate(mean),
            num_searches: estimate(1.5),
            answered: estimate(1.0),
            ..Summary::default()
        };
        let policy = |mean: f64| PolicyScores {
            overall: summary(mean),
            by_hops: [(1, summary(mean)), (2, summary(mean))].into(),
        };
        let turn = |text: &str| ExampleTurn { text: text.into(), observation: "<b> & ".into() };
        let point = |step: usize| CurvePoint {
            step,
            reward: Some(0.1 * step as f64),
            noise_probability: Some(0.05 * step as f64),
            validation_exact_match: step.is_multiple_of(2).then_some(0.3),
        };
        Report {
            version: "0".into(),
            preset: "quick".into(),
            seed: 7,
            questions: 4,
            real_engine: RealEngine {
                base: policy(0.1),
                trained: policy(0.5),
                trained_on_real: policy(0.55),
            },
            gain: estimate(0.4),
            share_of_trained_on_real: 0.5 / 0.55,
            kept_steps: BTreeMap::new(),
            simulator: AuditReport {
                useful_contains_answer: 0.75,
                noisy_contains_answer: 0.05,
                ..AuditReport::default()
            },
            calls: Calls { simulated: 2000, dollars_per_1000: 1.0, dollars_saved: 2.0 },
            seconds: Seconds::default(),
            curve_simulated: (1..5).map(point).collect(),
            curve_real: (1..5).map(point).collect(),
            alarms: [(
                "simulated".to_owned(),
                vec![AlarmRecord {
                    step: 3,
                    alarm: Alarm::ConstantGroups,
                    value: 0.95,
                    threshold: 0.9,
                    since: 3,
                    message: "too even".to_owned(),
                }],
            )]
            .into(),
            examples: vec![Example {
                question: "who?".into(),
                golden_answers: vec!["A <i>".into()],
                before: vec![turn("<answer>x</answer>")],
                after: vec![turn("<search>q</search>"), turn("<answer>A</answer>")],
            }],
        }
    }

    #[test]
    fn json_has_the_promised_keys() {
        let json = serde_json::to_value(sample()).unwrap();
        for policy in ["base", "trained", "trained_on_real"] {
            for key in ["mean", "ci_low", "ci_high"] {
                assert!(json["real_engine"][policy]["exact_match"][key].is_number(), "{policy}");
            }
            assert!(json["real_engine"][policy]["by_hops"]["2"]["f1"]["mean"].is_number());
        }
        for key in ["useful_contains_answer", "noisy_contains_answer"] {
            assert!(json["simulator"][key].is_number(), "{key}");
        }
        for key in ["tune", "train", "eval"] {
            assert!(json["seconds"][key].is_number(), "{key}");
        }
        assert!(json["seed"].is_number() && json["questions"].is_number());
    }

    #[test]
    fn markdown_has_a_row_for_each_policy_and_hop() {
        let text = sample().to_markdown();
        assert!(text.contains("| base | 4 | 0.100 [0.050, 0.150] | 0.100 [0.050, 0.150] | 1.50 |"));
        assert_eq!(text.matches(", 2-hop |").count(), 3);
        assert!(text.contains("$2.00"));
        let alarm = "- Alarm, simulated engine, step 3: constant_groups: too even";
        assert!(text.contains(alarm), "{text}");
    }
}
