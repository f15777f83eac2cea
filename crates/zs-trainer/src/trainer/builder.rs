//! Builder of trainers.

use std::sync::Arc;

use zs_core::{Question, SearchEngine};
use zs_curriculum::Curriculum;
use zs_model::{Generator, LanguageModel, TokenRow, ValueNetwork};
use zs_rl::consult::HelperRegistry;
use zs_rl::program::Harness;
use zs_rl::{Algorithm, RewardFunction, RewardResources};

use super::{Trainer, Validation};
use crate::callback::Callback;
use crate::config::{
    AlarmsConfig, Check, TrainingConfig, check_group_size, futile_for_policy, futile_settings,
};
use crate::device_name::DeviceName;
use crate::engines::Engines;
use crate::servers::PolicyServers;
use crate::teacher::{Teacher, TeacherError};
use crate::{RunContext, TrainError};

/// Parts of a [`Trainer`]; all but policy, engine and questions have defaults.
#[derive(Debug)]
pub struct TrainerBuilder {
    title: String,
    policy: LanguageModel,
    engine: Arc<dyn SearchEngine>,
    engines: Option<Arc<Engines>>,
    questions: Vec<Question>,
    algorithm: Option<Box<dyn Algorithm>>,
    reward: Option<RewardFunction>,
    curriculum: Option<Box<dyn Curriculum>>,
    resources: RewardResources,
    validation: Option<Validation>,
    values: Option<ValueNetwork>,
    texts: Vec<TokenRow>,
    helper_models: Option<HelperRegistry>,
    teacher: Option<Teacher>,
    servers: Option<PolicyServers>,
    alarms: AlarmsConfig,
    callbacks: Vec<Box<dyn Callback>>,
    config: TrainingConfig,
    seed: u64,
    context: Option<RunContext>,
}

impl TrainerBuilder {
    pub(super) fn new(policy: LanguageModel, engine: Arc<dyn SearchEngine>) -> Self {
        Self {
            title: "training".to_owned(),
            policy,
            engine,
            engines: None,
            questions: Vec::new(),
            algorithm: None,
            reward: None,
            curriculum: None,
            resources: RewardResources::default(),
            validation: None,
            values: None,
            texts: Vec::new(),
            helper_models: None,
            teacher: None,
            servers: None,
            alarms: AlarmsConfig::default(),
            callbacks: Vec::new(),
            config: TrainingConfig::default(),
            seed: 0,
            context: None,
        }
    }

    /// Sets the questions to train on.
    #[must_use]
    pub fn questions(mut self, questions: impl Into<Vec<Question>>) -> Self {
        self.questions = questions.into();
        self
    }

    /// Sets credit assignment and loss, in place of the one that the settings name.
    #[must_use]
    pub fn algorithm(mut self, algorithm: impl Algorithm + 'static) -> Self {
        self.algorithm = Some(Box::new(algorithm));
        self
    }

    /// Sets the reward of an episode, in place of the one that the settings name.
    #[must_use]
    pub fn reward(mut self, reward: RewardFunction) -> Self {
        self.reward = Some(reward);
        self
    }

    /// Sets the schedule of noisy documents, in place of the one that the settings name.
    #[must_use]
    pub fn curriculum(mut self, curriculum: impl Curriculum + 'static) -> Self {
        self.curriculum = Some(Box::new(curriculum));
        self
    }

    /// Sets the questions and the engine by which checkpoints are chosen; the last checkpoint is
    /// kept without them.
    #[must_use]
    pub fn validation(mut self, validation: Validation) -> Self {
        self.validation = Some(validation);
        self
    }

    /// Adds a callback.
    #[must_use]
    pub fn callback(mut self, callback: impl Callback + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Adds callbacks.
    #[must_use]
    pub fn callbacks(mut self, callbacks: impl IntoIterator<Item = Box<dyn Callback>>) -> Self {
        self.callbacks.extend(callbacks);
        self
    }

    /// Sets the settings that a run file has under `[training]`.
    #[must_use]
    pub fn config(mut self, config: TrainingConfig) -> Self {
        self.config = config;
        self
    }

    /// Changes settings in place.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut TrainingConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Sets the seed of everything random.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the context of the run: devices, console, interruption. The default is the policy's own
    /// device and no output.
    #[must_use]
    pub fn context(mut self, context: RunContext) -> Self {
        self.context = Some(context);
        self
    }

    /// Sets resources of rewards that the settings name.
    #[must_use]
    pub fn reward_resources(mut self, resources: RewardResources) -> Self {
        self.resources = resources;
        self
    }

    /// Sets the engines of the run, whose costs are written and whose policy is kept up to date.
    #[must_use]
    pub fn engines(mut self, engines: Arc<Engines>) -> Self {
        self.engines = Some(engines);
        self
    }

    /// Sets the initial value model, for algorithms that have one; the default predicts 0 everywhere.
    #[must_use]
    pub fn values(mut self, values: Option<ValueNetwork>) -> Self {
        self.values = values;
        self
    }

    /// Sets curated texts to keep likely.
    #[must_use]
    pub fn texts(mut self, texts: Vec<TokenRow>) -> Self {
        self.texts = texts;
        self
    }

    /// Sets helper models that the policy may consult; validation goes without them.
    #[must_use]
    pub fn helper_models(mut self, helper_models: Option<HelperRegistry>) -> Self {
        self.helper_models = helper_models;
        self
    }

    /// Sets the teacher that the policy is distilled from, as
    /// [`UpdateConfig::distillation`](zs_rl::UpdateConfig::distillation) says.
    #[must_use]
    pub fn teacher(mut self, teacher: Option<Teacher>) -> Self {
        self.teacher = teacher;
        self
    }

    /// Sets servers that the policy is sampled on, in training and validation, in place of this
    /// process.
    #[must_use]
    pub fn servers(mut self, servers: Option<PolicyServers>) -> Self {
        self.servers = servers;
        self
    }

    /// Sets thresholds of alarms.
    #[must_use]
    pub fn alarms(mut self, alarms: AlarmsConfig) -> Self {
        self.alarms = alarms;
        self
    }

    /// Sets the title of the progress.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Builds the trainer.
    ///
    /// # Errors
    ///
    /// Fails without questions, on settings out of range, when a component that the settings
    /// name cannot be built, and on a teacher whose tokens are not the policy's.
    pub fn build(self) -> Result<Trainer, TrainError> {
        if self.questions.is_empty() {
            return Err(TrainError::NoQuestions);
        }
        let device = self.policy.device();
        let context =
            self.context.unwrap_or_else(|| RunContext::quiet(DeviceName::DEFAULT, device));
        let components = &context.components;
        self.config.check(components)?;
        let TrainingConfig { algorithm, reward, curriculum, .. } = &self.config;
        let algorithm = match self.algorithm {
            Some(algorithm) => algorithm,
            None => components.algorithms.build(algorithm, &())?,
        };
        let reward = match self.reward {
            Some(reward) => reward,
            None => components.rewards.build(reward, &self.resources)?,
        };
        let curriculum = match self.curriculum {
            Some(curriculum) => curriculum,
            None => components.curricula.build(curriculum, &())?,
        };
        check_group_size(self.config.schedule.group_size, &*algorithm)?;
        let mut warnings = futile_settings(&self.config, &*algorithm, Some(&reward), &*curriculum);
        warnings.extend(futile_for_policy(&self.config, self.policy.tokenizer()));
        for it in warnings {
            context.note(&format!("warning: {it}"));
        }
        match (&self.teacher, self.config.update.distillation) {
            (None, Some(_)) => return Err(TeacherError::Missing.into()),
            (Some(_), None) => return Err(TeacherError::Unused.into()),
            (None, None) => {}
            (Some(teacher), Some(_)) => teacher.check(&self.policy)?,
        }
        let harness = Harness::of(&components.program_functions, &self.config.rollout.programs)?;
        Ok(Trainer {
            context,
            title: self.title,
            policy: self.policy,
            questions: self.questions.into(),
            engine: self.engine,
            engines: self.engines,
            algorithm,
            reward,
            curriculum,
            harness,
            validation: self.validation,
            values: self.values,
            texts: self.texts.into(),
            helper_models: self.helper_models,
            teacher: self.teacher,
            servers: self.servers,
            alarms: self.alarms,
            callbacks: self.callbacks,
            config: self.config,
            seed: self.seed,
        })
    }
}
