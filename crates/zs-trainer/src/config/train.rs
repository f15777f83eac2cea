//! Run files of `zs train`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, Spec};
use zs_curriculum::ConstantCurriculum;
use zs_eval::Summary;
use zs_model::{LoraConfig, MemoryConfig, OptimizerConfig};
use zs_rl::reward::{RewardNeeds, needs};
use zs_rl::{F1, Reinforce, RolloutConfig, TemperatureSchedule, UpdateConfig};
use zs_search::Price;

use super::{
    AlarmsConfig, Check, CheckpointConfig, CorpusSource, FaultPolicy, HelperModelsConfig,
    JudgeConfig, LoggingConfig, RolloutPlace, RunFileError, check_group_size, ensure, resolved,
};
use crate::components::Components;
use crate::teacher::TeacherError;

/// Run of `zs train`: a policy, the questions that it learns from, and the engine that it searches
/// with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Seed of everything random.
    pub seed: u64,
    /// The run directory to create.
    pub out: PathBuf,
    /// Model directory of the policy.
    pub policy: PathBuf,
    /// The training questions.
    pub questions: Spec,
    /// The engine that the policy trains with.
    pub engine: Spec,
    /// Validation, which chooses among checkpoints; without it the last one is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationConfig>,
    /// Helper models that the policy may consult while it trains; validation has none.
    #[serde(default, alias = "consultants", skip_serializing_if = "Option::is_none")]
    pub helper_models: Option<HelperModelsConfig>,
    /// The model that compares episodes, for the reward `rubric`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeConfig>,
    /// The teacher that the policy is distilled from, with `training.update.distillation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Spec>,
    /// Place where episodes are sampled; this process by default.
    #[serde(default, skip_serializing_if = "RolloutPlace::is_local")]
    pub rollout: RolloutPlace,
    /// Texts of gold documents, for the reward `information_gain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corpus: Option<CorpusSource>,
    /// Prices of engines, by their names; web search has its providers' published prices unless
    /// told otherwise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prices: BTreeMap<String, Price>,
    /// Leaves out (and counts) rows of question files that cannot be read, instead of refusing the
    /// file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_bad_rows: bool,
    /// Thresholds of alarms.
    #[serde(default)]
    pub alarms: AlarmsConfig,
    /// Logs besides the metrics.
    #[serde(default)]
    pub logging: LoggingConfig,
    /// Settings of training.
    #[serde(default)]
    pub training: TrainingConfig,
}

/// Validation, which chooses among checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationConfig {
    /// Questions that are neither trained on nor reported.
    pub questions: Spec,
    /// Engine; by default the one of training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Spec>,
    /// Asks the questions with the engine of training too, where that is another one: the
    /// difference measures how far the simulation is from what it simulates. On by default.
    #[serde(default = "yes")]
    pub side_by_side: bool,
    /// Metric by which the best checkpoint is chosen.
    #[serde(default)]
    pub choose_by: ValidationMetric,
}

/// Metric by which the best checkpoint is chosen: a mean over the validation questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValidationMetric {
    /// Exact match.
    #[default]
    ExactMatch,
    /// F1.
    F1,
    /// Cover exact match: the answer contains a golden one.
    CoverExactMatch,
}

impl ValidationMetric {
    /// The metric's value in a report.
    pub(crate) fn of(self, summary: &Summary) -> f64 {
        match self {
            Self::ExactMatch => summary.exact_match.mean,
            Self::F1 => summary.f1.mean,
            Self::CoverExactMatch => summary.cover_exact_match.mean,
        }
    }
}

fn yes() -> bool {
    true
}

/// Settings of reinforcement learning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// Number of steps, and the size of each.
    pub schedule: ScheduleConfig,
    /// Rollout of the episodes.
    pub rollout: RolloutConfig,
    /// Reward of an episode.
    pub reward: Spec,
    /// Credit assignment and loss.
    pub algorithm: Spec,
    /// Split of a batch into optimiser steps.
    pub update: UpdateConfig,
    /// Optimiser; `total_steps = 0` means the steps of the schedule.
    pub optimizer: OptimizerConfig,
    /// Optimiser of the value model, for algorithms that have one.
    pub critic: CriticConfig,
    /// Curated texts to keep likely, with the weight `update.ptx_coef`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ptx: Option<PtxConfig>,
    /// Adapters to train in place of all weights; checkpoints have them merged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// Memory and precision of training.
    pub memory: MemoryConfig,
    /// Curriculum: the probability of noisy documents.
    pub curriculum: Spec,
    /// Schedule of the sampling temperature; that of the rollout throughout by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<TemperatureSchedule>,
    /// Times at which the run is saved.
    pub checkpoints: CheckpointConfig,
    /// Faults that the run tolerates before it stops.
    pub faults: FaultPolicy,
}

/// The settings of ZeroSearch, without noise.
impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            schedule: ScheduleConfig::default(),
            rollout: RolloutConfig::default(),
            reward: spec_of(&F1::default()),
            algorithm: spec_of(&Reinforce::default()),
            update: UpdateConfig::default(),
            optimizer: OptimizerConfig::default(),
            critic: CriticConfig::default(),
            ptx: None,
            lora: None,
            memory: MemoryConfig::default(),
            curriculum: no_noise(),
            temperature: None,
            checkpoints: CheckpointConfig::default(),
            faults: FaultPolicy::default(),
        }
    }
}

/// Writes settings that serialize to a table, as those of built-in components do.
fn spec_of<S: Settings>(settings: &S) -> Spec {
    Spec::of(settings).unwrap_or_else(|_| Spec::named(S::KIND))
}

/// Curriculum without noise.
#[must_use]
pub fn no_noise() -> Spec {
    spec_of(&ConstantCurriculum { probability: 0.0 })
}

impl TrainingConfig {
    /// Resources that the reward needs.
    fn reward_needs(&self, components: &Components) -> Result<RewardNeeds, RunFileError> {
        needs(&components.rewards, &self.reward)
            .map_err(|it| RunFileError::in_table(it, "training.reward"))
    }

    /// Tokens of curated texts per step.
    pub(crate) fn texts_per_step(&self) -> usize {
        self.ptx.as_ref().map_or(0, |it| it.tokens_per_step)
    }
}

/// Optimiser of a value model; everything else is as in `optimizer`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CriticConfig {
    /// Learning rate after warm-up.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises.
    pub warmup_steps: usize,
}

/// The settings of ZeroSearch (`train_ppo.sh`: 1e-5, warm-up over 3 of 203 steps).
impl Default for CriticConfig {
    fn default() -> Self {
        Self { learning_rate: 1e-5, warmup_steps: 3 }
    }
}

/// Curated texts to keep likely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PtxConfig {
    /// JSON Lines with `prompt` and `completion`.
    pub path: PathBuf,
    /// Tokens a training step, prompts included; at least one row is taken.
    pub tokens_per_step: usize,
}

/// Number of steps, and the size of each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// Training steps.
    pub steps: usize,
    /// Questions per step.
    pub questions_per_step: usize,
    /// Episodes per question.
    pub group_size: usize,
    /// Interval of validation in steps; it also runs before the first step and after the last.
    pub eval_every: usize,
    /// Episodes that are evaluated together; changes memory and speed only.
    pub eval_batch_size: usize,
    /// Interval in steps at which trajectories are written; 0 writes none.
    pub record_every: usize,
    /// Interval in steps at which the reference model becomes a copy of the policy; 0 keeps the policy
    /// that the run started from.
    pub reference_every: usize,
}

/// The settings of ZeroSearch (README, `train_reinforce.sh`): 203 steps of 64 questions with 5
/// episodes each.
impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            steps: 203,
            questions_per_step: 64,
            group_size: 5,
            eval_every: 20,
            eval_batch_size: 64,
            record_every: 1,
            reference_every: 0,
        }
    }
}

impl Check for TrainConfig {
    fn resolve(&mut self, components: &Components) -> Result<(), RunFileError> {
        let Components { engines, question_sources, teachers, .. } = components;
        self.questions = resolved(question_sources, &self.questions, "questions")?;
        self.engine = resolved(engines, &self.engine, "engine")?;
        if let Some(it) = &mut self.validation {
            it.questions = resolved(question_sources, &it.questions, "validation.questions")?;
            if let Some(engine) = &mut it.engine {
                *engine = resolved(engines, engine, "validation.engine")?;
            }
        }
        if let Some(teacher) = &mut self.teacher {
            *teacher = resolved(teachers, teacher, "teacher")?;
        }
        self.logging.resolve(components)?;
        self.training.resolve(components)
    }

    fn check(&self, components: &Components) -> Result<(), RunFileError> {
        if let Some(helper_models) = &self.helper_models {
            helper_models.check("helper_models")?;
        }
        if let Some(judge) = &self.judge {
            judge.check("judge")?;
        }
        match (&self.teacher, self.training.update.distillation) {
            (None, Some(_)) => {
                return Err(RunFileError::invalid(TeacherError::Missing.to_string()));
            }
            (Some(_), None) => return Err(RunFileError::invalid(TeacherError::Unused.to_string())),
            _ => {}
        }
        let needs = self.training.reward_needs(components)?;
        if self.corpus.is_none() && needs.corpus {
            let problem = "`training.reward` needs gold documents; add the table `corpus`";
            return Err(RunFileError::invalid(problem));
        }
        if self.judge.is_none() && needs.judge {
            let problem = "`training.reward` needs a judge; add the table `judge`";
            return Err(RunFileError::invalid(problem));
        }
        self.alarms.check(components)?;
        self.logging.check(components)?;
        self.training.check(components)?;
        let TrainingConfig { rollout, temperature, .. } = &self.training;
        let is_full_softmax = temperature.is_none() && rollout.sampling_params().is_full_softmax();
        match &self.rollout.servers {
            Some(servers) => servers.check(is_full_softmax),
            None => Ok(()),
        }
    }
}

impl Check for TrainingConfig {
    fn resolve(&mut self, components: &Components) -> Result<(), RunFileError> {
        let Self { reward, algorithm, curriculum, rollout, .. } = self;
        *reward = resolved(&components.rewards, reward, "training.reward")?;
        *algorithm = resolved(&components.algorithms, algorithm, "training.algorithm")?;
        *curriculum = resolved(&components.curricula, curriculum, "training.curriculum")?;
        for (index, program) in rollout.programs.iter_mut().enumerate() {
            let table = format!("training.rollout.programs.{index}");
            *program = resolved(&components.program_functions, program, &table)?;
        }
        Ok(())
    }

    fn check(&self, components: &Components) -> Result<(), RunFileError> {
        let ScheduleConfig { steps, questions_per_step, group_size, eval_every, .. } =
            self.schedule;
        ensure(steps > 0, "training.schedule.steps", "at least 1", steps)?;
        let key = "training.schedule.questions_per_step";
        ensure(questions_per_step > 0, key, "at least 1", questions_per_step)?;
        ensure(group_size > 0, "training.schedule.group_size", "at least 1", group_size)?;
        ensure(eval_every > 0, "training.schedule.eval_every", "at least 1", eval_every)?;
        let batch_size = self.schedule.eval_batch_size;
        ensure(batch_size > 0, "training.schedule.eval_batch_size", "at least 1", batch_size)?;
        self.rollout.validate()?;
        self.reward_needs(components)?;
        if let Some(schedule) = self.temperature {
            let key = "training.temperature";
            ensure(schedule.is_valid(), key, "finite and not negative at both ends", "not")?;
        }
        let table = "training.algorithm";
        let algorithm = components.algorithms.build(&self.algorithm, &());
        let algorithm = algorithm.map_err(|it| RunFileError::in_table(it, table))?;
        check_group_size(group_size, &*algorithm)?;
        self.update.validate()?;
        let critic = self.critic.learning_rate;
        let is_positive = critic.is_finite() && critic > 0.0;
        ensure(is_positive, "training.critic.learning_rate", "above 0", critic)?;
        let coefficient = self.update.ptx_coef;
        let key = "training.update.ptx_coef";
        ensure(
            coefficient == 0.0 || self.ptx.is_some(),
            key,
            "0 without training.ptx",
            coefficient,
        )?;
        if let Some(ptx) = &self.ptx {
            let tokens = ptx.tokens_per_step;
            ensure(tokens > 0, "training.ptx.tokens_per_step", "at least 1", tokens)?;
            ensure(coefficient > 0.0, key, "above 0 with training.ptx", coefficient)?;
        }
        components
            .curricula
            .build(&self.curriculum, &())
            .map_err(|it| RunFileError::in_table(it, "training.curriculum"))?;
        self.checkpoints.check(components)?;
        self.faults.check(components)?;
        check_lora(self.lora.as_ref(), "training.lora")?;
        check_optimizer(&self.optimizer, "training.optimizer")
    }
}

/// Checks the settings of adapters under `key`.
///
/// # Errors
///
/// Fails with the first key whose value leaves nothing to train.
pub(crate) fn check_lora(lora: Option<&LoraConfig>, key: &str) -> Result<(), RunFileError> {
    let Some(LoraConfig { r, alpha, target_modules, .. }) = lora else { return Ok(()) };
    ensure(*r > 0, &format!("{key}.r"), "at least 1", r)?;
    ensure(alpha.is_finite() && *alpha > 0.0, &format!("{key}.alpha"), "above 0", alpha)?;
    ensure(!target_modules.is_empty(), &format!("{key}.target_modules"), "a list of layers", "[]")
}

/// Checks the settings of an optimiser under `key`.
///
/// # Errors
///
/// Fails with the first key whose value is out of range.
pub fn check_optimizer(config: &OptimizerConfig, key: &str) -> Result<(), RunFileError> {
    let key = |name: &str| format!("{key}.{name}");
    let OptimizerConfig { learning_rate, max_grad_norm, weight_decay, .. } = *config;
    let positive = |it: f64| it.is_finite() && it > 0.0;
    ensure(positive(learning_rate), &key("learning_rate"), "above 0", learning_rate)?;
    ensure(positive(max_grad_norm), &key("max_grad_norm"), "above 0", max_grad_norm)?;
    let is_decay = (0.0..1.0).contains(&weight_decay);
    ensure(is_decay, &key("weight_decay"), "in [0, 1)", weight_decay)?;
    for (name, beta) in [("beta_1", config.beta_1), ("beta_2", config.beta_2)] {
        ensure((0.0..1.0).contains(&beta), &key(name), "in [0, 1)", beta)?;
    }
    ensure(positive(config.epsilon), &key("epsilon"), "above 0", config.epsilon)
}
