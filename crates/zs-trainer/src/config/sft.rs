//! Run files of `zs sft`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zs_core::with_causes;
use zs_model::{LoraConfig, MemoryConfig, OptimizerConfig};
use zs_rl::RolloutConfig;
use zs_simulator::TemplatesConfig;
use zs_simulator::tuning::HopMix;
use zs_world::{QueryMix, WorldPreset};

use super::{Check, RunFileError, check_lora, check_optimizer, ensure};
use crate::components::Components;

/// Run of `zs sft`: a model, and the prompts that it learns to complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftConfig {
    /// Seed of everything random.
    pub seed: u64,
    /// The run directory to create.
    pub out: PathBuf,
    /// Model directory of the base model.
    pub base: PathBuf,
    /// Prompts and completions.
    pub data: SftData,
    /// Settings of tuning.
    pub tuning: TuningConfig,
}

/// Source of prompts and completions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SftData {
    /// JSON Lines with `prompt` and `completion`.
    File {
        /// The training rows.
        train: PathBuf,
        /// The validation rows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        validation: Option<PathBuf>,
    },
    /// Searches in embedded worlds, with the documents of the real engine.
    World(WorldExamples),
    /// Searches that were recorded on a real engine.
    Searches(RecordedSearches),
    /// Whole episodes, of which the policy's own tokens are learned.
    Trajectories(Box<EpisodeFiles>),
}

/// Episodes to imitate, shown as a rollout shows them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpisodeFiles {
    /// Files of episodes, in any form of [`open_source_episodes`](crate::trajectories::open_source_episodes).
    pub train: Vec<PathBuf>,
    /// Files of episodes for the validation loss.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation: Vec<PathBuf>,
    /// If true, episodes that cannot be used are listed and left out; otherwise the run does not
    /// begin.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_bad_rows: bool,
    /// Prompt, observations and limits of episodes that are text: those of the rollouts to come.
    /// Episodes that `zs` recorded in tokens of the same tokenizer are taken as they are.
    #[serde(default)]
    pub rollout: RolloutConfig,
}

/// Simulation examples from embedded worlds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldExamples {
    /// Preset of the worlds, easy unless told otherwise.
    #[serde(default, skip_serializing_if = "WorldPreset::is_easy")]
    pub world: WorldPreset,
    /// Number of worlds.
    pub worlds: usize,
    /// Seed of the first world; the others follow it.
    pub first_seed: u64,
    /// Training examples.
    pub examples: usize,
    /// Validation examples, out of one world of the validation split.
    pub validation_examples: usize,
    /// Weights of the hops of the questions that the searches are for.
    #[serde(default)]
    pub hops: HopMix,
    /// Mix of good and bad queries.
    #[serde(default)]
    pub queries: QueryMix,
    /// Probability that a document of a reply carries loss where it is not the one which matters
    /// most.
    #[serde(default = "always")]
    pub distractor_loss: f64,
    /// The prompts to learn.
    #[serde(default)]
    pub templates: TemplatesConfig,
}

fn always() -> f64 {
    1.0
}

/// Simulation examples from recorded searches on a real engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedSearches {
    /// JSON Lines of `zs_simulator::tuning::SearchRecord`, e.g. `train.jsonl` of `zs simulate
    /// collect`.
    pub path: PathBuf,
    /// Searches of the validation loss, in the same format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<PathBuf>,
    /// Validation examples, balanced as those for training are.
    #[serde(default = "some_validation")]
    pub validation_examples: usize,
    /// Documents that a reply is made of.
    #[serde(default)]
    pub replies: ReplyContents,
    /// Training examples, balanced by quality and hop.
    pub examples: usize,
    /// Documents per reply.
    pub num_documents: usize,
    /// The prompts to learn.
    #[serde(default)]
    pub templates: TemplatesConfig,
}

fn some_validation() -> usize {
    200
}

/// Documents of a recorded search that make up the reply to learn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyContents {
    /// All that the engine returned.
    #[default]
    Whole,
    /// The useful ones as one reply and the noisy ones as another, where they were judged.
    Judged,
}

/// Settings of fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuningConfig {
    /// Optimiser steps.
    pub steps: usize,
    /// Tokens per step, prompts included; at least one row is taken.
    pub tokens_per_step: usize,
    /// Padded tokens that are run through the model at once; changes memory and speed only.
    pub micro_batch_tokens: usize,
    /// Interval of the validation loss in steps; it is also computed after the last step.
    pub eval_every: usize,
    /// Interval of checkpoints in steps; 0 writes none.
    #[serde(default = "some_steps")]
    pub checkpoint_every: usize,
    /// Joins short rows into rows as long as the model's context. A joined row attends to the
    /// examples before it, so this is for bases that are used to it; rows of similar length share a
    /// micro-batch anyway, so little padding is lost without.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub packing: bool,
    /// Early stopping before `steps`; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<EarlyStopConfig>,
    /// Adapters to train in place of all weights; checkpoints have them merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// Memory and precision of training.
    #[serde(default)]
    pub memory: MemoryConfig,
    /// Optimiser; `total_steps = 0` means `steps`.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
}

fn some_steps() -> usize {
    100
}

/// Early stopping without progress. The model of the lowest validation loss is then kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopConfig {
    /// Evaluations in a row without progress.
    pub patience: usize,
    /// Minimum decrease of the lowest loss that counts as progress, in nats.
    #[serde(default)]
    pub min_delta: f64,
}

impl Check for SftConfig {
    fn check(&self, components: &Components) -> Result<(), RunFileError> {
        match &self.data {
            SftData::File { .. } => {}
            SftData::World(data) => data.check(components)?,
            SftData::Searches(data) => {
                ensure(data.examples > 0, "data.examples", "at least 1", data.examples)?;
                let count = data.num_documents;
                ensure(count > 0, "data.num_documents", "at least 1", count)?;
            }
            SftData::Trajectories(data) => data.check(components)?,
        }
        self.tuning.check(components)
    }
}

impl Check for EpisodeFiles {
    fn check(&self, _: &Components) -> Result<(), RunFileError> {
        ensure(!self.train.is_empty(), "data.train", "a list of files", "[]")?;
        self.rollout.validate().map_err(|error| RunFileError::Invalid {
            problem: format!("data.rollout: {}", with_causes(&error)),
        })
    }
}

impl Check for WorldExamples {
    fn check(&self, _: &Components) -> Result<(), RunFileError> {
        ensure(self.worlds > 0, "data.worlds", "at least 1", self.worlds)?;
        ensure(self.examples > 0, "data.examples", "at least 1", self.examples)?;
        let is_share = (0.0..=1.0).contains(&self.distractor_loss);
        ensure(is_share, "data.distractor_loss", "in [0, 1]", self.distractor_loss)?;
        let HopMix { only, first, second } = self.hops;
        let are_weights = [only, first, second].iter().all(|it| it.is_finite() && *it >= 0.0);
        let is_some = are_weights && only + first + second > 0.0;
        ensure(is_some, "data.hops", "weights of at least 0, one of them above", only)
    }
}

impl Check for TuningConfig {
    fn check(&self, _: &Components) -> Result<(), RunFileError> {
        let TuningConfig { steps, tokens_per_step, micro_batch_tokens, eval_every, .. } = *self;
        ensure(steps > 0, "tuning.steps", "at least 1", steps)?;
        ensure(tokens_per_step > 0, "tuning.tokens_per_step", "at least 1", tokens_per_step)?;
        let key = "tuning.micro_batch_tokens";
        ensure(micro_batch_tokens > 0, key, "at least 1", micro_batch_tokens)?;
        ensure(eval_every > 0, "tuning.eval_every", "at least 1", eval_every)?;
        if let Some(EarlyStopConfig { patience, min_delta }) = self.early_stop {
            ensure(patience > 0, "tuning.early_stop.patience", "at least 1", patience)?;
            let is_delta = min_delta.is_finite() && min_delta >= 0.0;
            ensure(is_delta, "tuning.early_stop.min_delta", "at least 0", min_delta)?;
        }
        check_lora(self.lora.as_ref(), "tuning.lora")?;
        check_optimizer(&self.optimizer, "tuning.optimizer")
    }
}
