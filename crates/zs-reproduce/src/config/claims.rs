//! Run files of `zs reproduce --preset claims`: a claim, the arms it needs, and what is compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zs_core::registry::Spec;
use zs_rl::LossTokens;
use zs_simulator::QueryGate;

use zs_trainer::Components;
use zs_trainer::config::{
    Check, CriticConfig, RunFileError, TrainingConfig, ensure, no_noise, resolved,
};

use super::ReproduceConfig;

/// One claim: what is said, by whom, and how it is put to the test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimConfig {
    /// Its name on the command line.
    pub id: String,
    /// Its place in the report.
    pub number: u32,
    /// The claim, as a sentence.
    pub claim: String,
    /// Its source: a section or table of the paper, or ours.
    pub source: String,
    /// Note to the reader of the numbers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Arms that are first needed here, by their names; any claim may compare them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arms: BTreeMap<String, ArmConfig>,
    /// Its comparisons; a claim without any is a description of the arms it shows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<ComparisonConfig>,
    /// Metrics that the table of arms shows beside exact match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<ClaimMetric>,
    /// Further arms to show beside those that are compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shows: Vec<String>,
    /// The paper's numbers on the same matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<PublishedConfig>,
}

impl ClaimConfig {
    /// Every arm that the claim needs, in the order of its comparisons.
    #[must_use]
    pub fn arm_names(&self) -> Vec<&str> {
        let compared = self.comparisons.iter().flat_map(|it| [&it.treatment, &it.control]);
        let mut names: Vec<&str> = Vec::new();
        for name in compared.chain(&self.shows).chain(self.arms.keys()) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }
}

/// Settings that differ in one arm; all others are as in the base file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmConfig {
    /// The name in tables.
    pub title: String,
    /// Search engine in training.
    #[serde(default)]
    pub engine: ArmEngine,
    /// Validates on the simulator too, for its curve beside that of the real engine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks_simulator: bool,
    /// Another noise schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curriculum: Option<Spec>,
    /// Another reward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<Spec>,
    /// Another algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Spec>,
    /// Another pace of the value model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critic: Option<CriticConfig>,
    /// Other tokens to learn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_tokens: Option<LossTokens>,
}

/// Search engine of a policy in training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ArmEngine {
    /// Nobody: the base model is evaluated as it is.
    Untrained {},
    /// BM25 over the training world; without noise.
    Real {},
    /// A simulation LLM.
    Simulated {
        /// Steps of its tuning, where they are not those of the base file; 0 is the base model,
        /// which is prompted and not tuned.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tuning_steps: Option<usize>,
        /// Another gate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gate: Option<QueryGate>,
        /// Answers queries for the question of another row, as the reference code does.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        mispaired: bool,
    },
}

impl Default for ArmEngine {
    fn default() -> Self {
        Self::Simulated { tuning_steps: None, gate: None, mispaired: false }
    }
}

impl ArmConfig {
    /// The settings of the arm: the base with what is different.
    #[must_use]
    pub fn settings(&self, base: &ReproduceConfig) -> ReproduceConfig {
        let mut settings = base.clone();
        let TrainingConfig { curriculum, reward, algorithm, critic, update, .. } =
            &mut settings.training;
        if let Some(it) = &self.curriculum {
            *curriculum = it.clone();
        }
        if let Some(it) = &self.reward {
            *reward = it.clone();
        }
        if let Some(it) = &self.algorithm {
            *algorithm = it.clone();
        }
        if let Some(it) = self.critic {
            *critic = it;
        }
        if let Some(it) = self.loss_tokens {
            update.loss_tokens = it;
        }
        match &self.engine {
            ArmEngine::Untrained {} | ArmEngine::Real {} => *curriculum = no_noise(),
            ArmEngine::Simulated { tuning_steps, gate, .. } => {
                settings.tuning.steps = tuning_steps.unwrap_or(settings.tuning.steps);
                settings.simulator.gate = gate.unwrap_or(settings.simulator.gate);
            }
        }
        settings
    }
}

/// Two arms and a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComparisonConfig {
    /// The arm that is said to be different.
    pub treatment: String,
    /// The arm that it is compared with.
    pub control: String,
    /// The metric.
    #[serde(default)]
    pub metric: ClaimMetric,
    /// Expected sign or range of `treatment - control`.
    pub expect: Expectation,
    /// The smallest difference that matters, in the unit of the metric.
    pub margin: f64,
    /// Counts towards the claim's verdict; others are shown only.
    #[serde(default = "yes")]
    pub decides: bool,
}

fn yes() -> bool {
    true
}

/// Expected sign or range of a difference `d` with the margin `m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expectation {
    /// `d > 0`.
    Greater,
    /// `d < 0`.
    Less,
    /// `d > -m`: matches or beats.
    AtLeast,
    /// `-m < d < m`.
    Within,
}

/// Metric of a trained policy, one number a seed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ClaimMetric {
    /// Exact match on the test questions, greedy, real engine.
    #[default]
    ExactMatch,
    /// Word-overlap F1 of the same answers.
    F1,
    /// Share of the same answers that contain a golden answer.
    CoverExactMatch,
    /// Words of an answer.
    AnswerWords,
    /// Searches a test question.
    NumSearches,
    /// Share of the queries that name an entity of the question or of what was read.
    NamesEntity,
    /// Share of the test questions for which the real engine returned a golden answer to the policy's
    /// own queries.
    Evidence,
    /// Exact match on the same questions where a simulation LLM answers without noise.
    SimulatedExactMatch,
    /// [`SimulatedExactMatch`](Self::SimulatedExactMatch) less [`ExactMatch`](Self::ExactMatch).
    SimToReal,
    /// Mean over training of exact match on the validation questions: how early it is learned.
    LearningArea,
    /// The largest fall of validation exact match below an earlier height: how unstable it is.
    Drawdown,
    /// Searches that the real engine carried out in training.
    ProviderCalls,
    /// Price of these at a search provider, in dollars.
    ProviderDollars,
    /// Searches that a simulation LLM answered in training.
    SimulatedCalls,
    /// Share of the sampled tokens that are thrown away without stop texts.
    DiscardedShare,
    /// Share of answers that keep text behind them without stop texts.
    TrailingAnswers,
}

impl ClaimMetric {
    /// The name in tables.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::ExactMatch => "exact match",
            Self::F1 => "F1",
            Self::CoverExactMatch => "cover exact match",
            Self::AnswerWords => "words an answer",
            Self::NumSearches => "searches a question",
            Self::NamesEntity => "queries that name the entity",
            Self::Evidence => "evidence found on the real engine",
            Self::SimulatedExactMatch => "exact match on the simulator",
            Self::SimToReal => "simulator minus real engine",
            Self::LearningArea => "mean validation exact match over training",
            Self::Drawdown => "largest fall of validation exact match",
            Self::ProviderCalls => "paid searches in training",
            Self::ProviderDollars => "dollars for searches",
            Self::SimulatedCalls => "simulated searches in training",
            Self::DiscardedShare => "sampled tokens thrown away without stop texts",
            Self::TrailingAnswers => "answers that keep text behind them without stop texts",
        }
    }
}

/// Numbers of the paper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedConfig {
    /// Model, method and metric.
    pub what: String,
    /// The number, as printed.
    pub value: String,
    /// Table or section.
    pub source: String,
}

impl Check for ClaimConfig {
    fn resolve(&mut self, components: &Components) -> Result<(), RunFileError> {
        for (name, ArmConfig { curriculum, reward, algorithm, .. }) in &mut self.arms {
            if let Some(it) = curriculum {
                *it = resolved(&components.curricula, it, &format!("arms.{name}.curriculum"))?;
            }
            if let Some(it) = reward {
                *it = resolved(&components.rewards, it, &format!("arms.{name}.reward"))?;
            }
            if let Some(it) = algorithm {
                let key = format!("arms.{name}.algorithm");
                *it = resolved(&components.algorithms, it, &key)?;
            }
        }
        Ok(())
    }

    fn check(&self, _: &Components) -> Result<(), RunFileError> {
        for (index, it) in self.comparisons.iter().enumerate() {
            let key = format!("comparisons[{index}]");
            let is_margin = it.margin.is_finite() && it.margin > 0.0;
            ensure(is_margin, &format!("{key}.margin"), "above 0", it.margin)?;
            if it.treatment == it.control {
                let problem = format!("`{key}` compares `{}` with itself", it.control);
                return Err(RunFileError::invalid(problem));
            }
        }
        Ok(())
    }
}

/// Checks that claims go together: names are unique, arms exist, and their settings are valid.
///
/// # Errors
///
/// Fails with the claim and key that is wrong.
pub fn check_claims(
    base: &ReproduceConfig,
    claims: &[ClaimConfig],
    components: &Components,
) -> Result<(), RunFileError> {
    let mut arms: BTreeMap<&str, &str> = BTreeMap::new();
    for (index, claim) in claims.iter().enumerate() {
        if claims[..index].iter().any(|it| it.id == claim.id) {
            return Err(RunFileError::invalid(format!("claim `{}` occurs twice", claim.id)));
        }
        for (name, arm) in &claim.arms {
            if let Some(other) = arms.insert(name, &claim.id) {
                let claims = format!("the claims `{other}` and `{}`", claim.id);
                let problem = format!("arm `{name}` is defined by {claims}");
                return Err(RunFileError::invalid(problem));
            }
            let settings = arm.settings(base);
            let in_arm =
                |error: RunFileError| error.at(format!("claim `{}`: arm `{name}`", claim.id));
            settings.training.check(components).map_err(in_arm)?;
        }
    }
    for claim in claims {
        for name in claim.arm_names() {
            if !arms.contains_key(name) {
                let problem = format!("names the arm `{name}`, which no claim defines");
                return Err(RunFileError::invalid(format!("claim `{}` {problem}", claim.id)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use zs_core::with_causes;

    use super::*;
    use zs_trainer::config::parse;

    const CLAIM: &str = r#"
id = "c"
number = 1
claim = "noise helps"
source = "ours"
[arms.noisy]
title = "noisy"
curriculum = { kind = "constant", probability = 0.5 }
[arms.real]
title = "real"
engine = { kind = "real" }
[[comparisons]]
treatment = "noisy"
control = "real"
expect = "greater"
margin = 0.03
"#;

    fn claim(text: &str) -> ClaimConfig {
        parse(text, "claim.toml", &Components::built_in()).unwrap()
    }

    #[test]
    fn arms_change_what_they_name_and_nothing_else() {
        let base =
            crate::claims::quick_config(zs_world::WorldPreset::Easy, &Components::built_in())
                .unwrap();
        let claim = claim(CLAIM);
        assert_eq!(claim.arm_names(), ["noisy", "real"]);
        let noisy = claim.arms["noisy"].settings(&base);
        assert_ne!(noisy.training.curriculum, base.training.curriculum);
        let mut same = noisy;
        same.training.curriculum = base.training.curriculum.clone();
        assert_eq!(same, base);
        let real = claim.arms["real"].settings(&base);
        assert_eq!(real.training.curriculum, no_noise());
        check_claims(&base, &[claim], &Components::built_in()).unwrap();
    }

    #[track_caller]
    fn check_refused(claims: &[ClaimConfig], expected: &str) {
        let base =
            crate::claims::quick_config(zs_world::WorldPreset::Easy, &Components::built_in())
                .unwrap();
        let message =
            with_causes(&check_claims(&base, claims, &Components::built_in()).unwrap_err());
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn claims_that_do_not_go_together_are_refused() {
        let other = ClaimConfig { id: "d".into(), ..claim(CLAIM) };
        check_refused(&[claim(CLAIM), claim(CLAIM)], "claim `c` occurs twice");
        check_refused(&[claim(CLAIM), other], "arm `noisy` is defined by the claims `c` and `d`");
        check_refused(
            &[claim(&CLAIM.replace("control = \"real\"", "control = \"reel\""))],
            "names the arm `reel`, which no claim defines",
        );
        let message = |text: &str| {
            with_causes(&parse::<ClaimConfig>(text, "c", &Components::built_in()).unwrap_err())
        };
        assert!(message(&CLAIM.replace("0.03", "0")).contains("`comparisons[0].margin`"));
        let itself = CLAIM.replace("control = \"real\"", "control = \"noisy\"");
        assert!(message(&itself).contains("compares `noisy` with itself"));
        let unknown = message(&CLAIM.replace("probability = 0.5", "probability = 0.5, chance = 1"));
        assert!(unknown.starts_with("c: line 8: arms.noisy.curriculum"), "{unknown}");
        let noisy = message(&CLAIM.replace("probability = 0.5", "probability = 1.5"));
        assert!(noisy.contains("`probability` of curriculum `constant`"), "{noisy}");
    }
}
