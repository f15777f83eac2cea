//! State that learning changes, and its place in a checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use serde::{Deserialize, Serialize};
use zs_data::{read_json, write_json};
use zs_model::{
    CausalLm, LanguageModel, LoraError, Optimizer, TokenRow, ValueNetwork, weights_digest,
};
use zs_rl::{
    Critic, LearningState, Teacher, TrainerResources, TrajectoryGroup, UpdateMetrics, ValueLearner,
    update_with,
};
use zs_search::Usage;

use super::Trainer;
use super::validation::Best;
use crate::TrainError;
use crate::config::TrainingConfig;
use crate::order::EpochOrder;
use crate::run_dir_error::RunDirError;
use crate::supervised::sft::next_batch;
use crate::trainable::trainable;
use crate::weights::{CRITIC, POLICY, STATE, load_weights, save_weights};

const REFERENCE: &str = "reference";
const BEST: &str = "best";
const OPTIMIZER: &str = "optimizer.bpk";
const CRITIC_OPTIMIZER: &str = "critic_optimizer.bpk";

/// Policy in training, with optimiser, reference, value model and progress.
pub(super) struct Learner<'a> {
    trainer: &'a Trainer,
    /// The sampling copy.
    pub(super) policy: LanguageModel,
    /// The training copy; taken while an update runs.
    network: Option<CausalLm>,
    optimizer: Optimizer,
    reference: Option<CausalLm>,
    teacher: Option<CausalLm>,
    critic: Option<ValueLearner<ValueNetwork>>,
    pub(super) best: Best,
    pub(super) numbers: RunNumbers,
}

/// Numbers of a checkpoint: progress of the run, and state between steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunNumbers {
    /// Steps done.
    pub(super) step: usize,
    /// The place in the order of the next question.
    pub(super) next_question: usize,
    /// The place in the order of the next curated text.
    next_text: usize,
    /// Searches carried out in training.
    pub(super) num_searches: u64,
    /// State that algorithms carry from one update to the next.
    learning: LearningState,
    /// The step of the best policy, and its score.
    best_step: usize,
    best_score: Option<f64>,
    /// Usage of the engines, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) usage: BTreeMap<String, Usage>,
    /// Searches that each budget has passed on, in the order in which the engines were opened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) budgets: Vec<u64>,
}

impl<'a> Learner<'a> {
    /// Begins a run.
    pub(super) fn new(trainer: &'a Trainer) -> Result<Self, LoraError> {
        let (config, policy) = (&trainer.config, trainer.policy.clone());
        let algorithm = trainer.algorithm.as_ref();
        let network = trainable(&policy, config.lora.as_ref(), config.memory, trainer.seed)?;
        let policy = policy.with_network(&network);
        let optimizer = Optimizer::new(&trainer.optimizer_config(), &network);
        let reference =
            algorithm.requirements().needs_reference.then(|| trainer.policy.network().clone());
        let critic = algorithm.requirements().value_clip.map(|_| {
            let values = trainer.values.clone();
            let values =
                values.unwrap_or_else(|| ValueNetwork::from_policy(trainer.policy.network()));
            let network = values.with_memory(config.memory).train();
            let optimizer = Optimizer::new(&trainer.critic_optimizer_config(), &network);
            ValueLearner::new(network, optimizer)
        });
        let best = Best::new(&policy, None);
        let (network, numbers, teacher) = (Some(network), RunNumbers::default(), teacher(trainer));
        Ok(Self { trainer, policy, network, optimizer, reference, teacher, critic, best, numbers })
    }

    /// Resumes from a checkpoint.
    ///
    /// # Errors
    ///
    /// Fails when a file of the checkpoint is missing, malformed, or of another run.
    pub(super) fn load(trainer: &'a Trainer, dir: &Path) -> Result<Self, RunDirError> {
        let resume =
            |source| RunDirError::Resume { path: dir.to_owned(), source: Box::new(source) };
        Self::read(trainer, dir).map_err(resume)
    }

    fn read(trainer: &'a Trainer, dir: &Path) -> Result<Self, RunDirError> {
        let algorithm = trainer.algorithm.as_ref();
        let numbers: RunNumbers = read_json(&dir.join(STATE))?;
        let policy = load_weights(&dir.join(POLICY), &trainer.policy)?;
        let network = training_copy(&policy, &trainer.config);
        let policy = policy.with_network(&network);
        let optimizer =
            Optimizer::load(&trainer.optimizer_config(), &network, &dir.join(OPTIMIZER))?;
        let refreshed = dir.join(REFERENCE);
        let reference = match algorithm.requirements().needs_reference {
            false => None,
            true if refreshed.exists() => {
                Some(load_weights(&refreshed, &trainer.policy)?.network().clone())
            }
            true => Some(trainer.policy.network().clone()),
        };
        let critic = match algorithm.requirements().value_clip {
            None => None,
            Some(_) => {
                let device = policy.device();
                let values = ValueNetwork::load(&dir.join(CRITIC), policy.config(), &device)?
                    .with_devices(&policy.compute_devices())
                    .with_memory(trainer.config.memory)
                    .train();
                let config = trainer.critic_optimizer_config();
                let optimizer = Optimizer::load(&config, &values, &dir.join(CRITIC_OPTIMIZER))?;
                Some(ValueLearner::new(values, optimizer))
            }
        };
        let best = match numbers.best_step {
            step if step == numbers.step => policy.clone(),
            0 => trainer.policy.clone(),
            _ => load_weights(&dir.join(BEST), &trainer.policy)?,
        };
        let best = Best { step: numbers.best_step, score: numbers.best_score, policy: best };
        Ok(Self {
            trainer,
            policy,
            network: Some(network),
            optimizer,
            reference,
            teacher: teacher(trainer),
            critic,
            best,
            numbers,
        })
    }

    /// Fills the directory of a checkpoint.
    ///
    /// The policy that the run started from is not written: the run file names it.
    ///
    /// # Errors
    ///
    /// Fails when a file cannot be written.
    pub(super) fn save(&self, dir: &Path) -> Result<(), RunDirError> {
        save_weights(&self.policy, &dir.join(POLICY))?;
        self.optimizer.save(&dir.join(OPTIMIZER))?;
        if let (Some(reference), true) = (&self.reference, self.reference_is_refreshed()) {
            save_weights(&self.policy.with_network(reference), &dir.join(REFERENCE))?;
        }
        if let Some(critic) = &self.critic {
            critic.model().save(&dir.join(CRITIC))?;
            critic.optimizer().save(&dir.join(CRITIC_OPTIMIZER))?;
        }
        if ![0, self.numbers.step].contains(&self.best.step) {
            save_weights(&self.best.policy, &dir.join(BEST))?;
        }
        let numbers = RunNumbers {
            best_step: self.best.step,
            best_score: self.best.score,
            ..self.numbers.clone()
        };
        Ok(write_json(&dir.join(STATE), &numbers)?)
    }

    /// Learns from the episodes of the next step, and from the log-probabilities of a teacher on
    /// servers.
    ///
    /// # Errors
    ///
    /// As [`update_with`]; afterwards the learner is as before, or no longer
    /// [intact](Self::is_intact).
    pub(super) fn learn(
        &mut self,
        groups: &[TrajectoryGroup],
        teacher_log_probs: Option<&[Vec<f32>]>,
    ) -> Result<UpdateMetrics, TrainError> {
        let config = &self.trainer.config;
        let step = self.numbers.step + 1;
        let before = (self.num_optimizer_steps(), self.numbers.next_text);
        let micro_batch_tokens = self.numbers.learning.micro_batch_tokens;
        let texts = self.next_texts();
        let network = self.network.take().ok_or(TrainError::LostWeights)?;
        let updated = update_with(
            network,
            &mut self.optimizer,
            TrainerResources {
                reference: self.reference.as_ref(),
                teacher: match (teacher_log_probs, &self.teacher) {
                    (Some(scores), _) => Some(Teacher::LogProbs(scores)),
                    (None, model) => model.as_ref().map(Teacher::Model),
                },
                critic: self.critic.as_mut().map(|it| it as &mut dyn Critic),
                ptx: &texts,
                state: &mut self.numbers.learning,
            },
            groups,
            self.trainer.algorithm.as_ref(),
            &config.update,
        );
        let (network, learned) = match updated {
            Ok(updated) => updated,
            Err(error) => {
                if self.num_optimizer_steps() == before.0 {
                    // Nothing has moved, and the sampling copy has the same weights.
                    self.network = Some(training_copy(&self.policy, config));
                    self.numbers.next_text = before.1;
                }
                return Err(error.into());
            }
        };
        if self.numbers.learning.micro_batch_tokens != micro_batch_tokens {
            // The update ran out of memory and was computed again with smaller micro-batches.
            self.trainer.context.health.forgive(zs_rl::is_out_of_memory);
        }
        self.policy = self.policy.with_network(&network);
        self.network = Some(network);
        let every = config.schedule.reference_every;
        if every > 0 && step.is_multiple_of(every) {
            self.reference = self.reference.take().map(|_| self.policy.network().clone());
        }
        self.numbers.step = step;
        Ok(learned)
    }

    /// Digests gradients from here on.
    pub(super) fn digest_gradients(&mut self) {
        self.optimizer.digest_gradients();
    }

    /// Digest of the gradients of the last step; none where no optimiser step was taken.
    pub(super) fn take_gradients_digest(&mut self) -> Option<[u8; 32]> {
        self.optimizer.take_gradients_digest()
    }

    /// Digest of the policy's weights.
    pub(super) fn weights_digest(&self) -> [u8; 32] {
        weights_digest(self.policy.network())
    }

    /// Digest of the value model's weights, where the algorithm has one.
    pub(super) fn value_weights_digest(&self) -> Option<[u8; 32]> {
        self.values().map(weights_digest)
    }

    /// Returns true if nothing was lost in a failed update.
    pub(super) fn is_intact(&self) -> bool {
        self.network.is_some()
    }

    /// The value model, where the algorithm has one.
    pub(super) fn values(&self) -> Option<&ValueNetwork> {
        self.critic.as_ref().map(ValueLearner::model)
    }

    /// Steps that policy and value model have taken.
    fn num_optimizer_steps(&self) -> usize {
        self.optimizer.steps() + self.critic.as_ref().map_or(0, |it| it.optimizer().steps())
    }

    fn reference_is_refreshed(&self) -> bool {
        let every = self.trainer.config.schedule.reference_every;
        every > 0 && self.numbers.step >= every
    }

    /// The curated texts of the next step.
    fn next_texts(&mut self) -> Vec<TokenRow> {
        let Trainer { texts, seed, config, .. } = self.trainer;
        let seed = *seed;
        let mut taken = 0;
        let walk = EpochOrder::new(seed, texts.len()).walk().skip(self.numbers.next_text);
        let mut walk = walk.inspect(|_| taken += 1);
        let batch = next_batch(texts, &mut walk, config.texts_per_step());
        drop(walk);
        self.numbers.next_text += taken;
        batch
    }
}

/// The weights of a teacher in this process, in the precision of the policy.
fn teacher(trainer: &Trainer) -> Option<CausalLm> {
    match &trainer.teacher {
        Some(crate::teacher::Teacher::Model(model)) => {
            Some(model.network().clone().with_memory(trainer.config.memory))
        }
        _ => None,
    }
}

/// Training copy of a policy that already has its adapters, if any.
fn training_copy(policy: &LanguageModel, config: &TrainingConfig) -> CausalLm {
    policy.network().clone().with_memory(config.memory).train()
}
