//! Run files of `zs sft`.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use zs_model::{LoraConfig, MemoryConfig, OptimizerConfig};
use zs_simulator::TemplatesConfig;
use zs_simulator::tuning::HopMix;
use zs_world::QueryMix;

use super::{Check, check_optimizer, ensure};
use crate::components::Components;

/// A run of `zs sft`: which model learns to complete which prompts.
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
    /// How it learns.
    pub tuning: TuningConfig,
}

/// Where prompts and completions come from.
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
    /// Searches in embedded worlds and what the real engine returns for them.
    World(WorldExamples),
    /// Searches that were recorded on a real engine.
    Searches(RecordedSearches),
}

/// Simulation examples out of embedded worlds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldExamples {
    /// How many worlds.
    pub worlds: usize,
    /// Seed of the first world; the others follow it.
    pub first_seed: u64,
    /// Training examples.
    pub examples: usize,
    /// Validation examples, out of one world of the validation split.
    pub validation_examples: usize,
    /// Which hops of questions the searches are for.
    #[serde(default)]
    pub hops: HopMix,
    /// How good the queries are.
    #[serde(default)]
    pub queries: QueryMix,
    /// How often a document of a reply carries loss that is not the one which matters most.
    #[serde(default = "always")]
    pub distractor_loss: f64,
    /// The prompts to learn.
    #[serde(default)]
    pub templates: TemplatesConfig,
}

fn always() -> f64 {
    1.0
}

/// Simulation examples out of recorded searches on a real engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedSearches {
    /// JSON Lines of `zs_simulator::tuning::SearchRecord`, e.g. `train.jsonl` of `zs simulate
    /// collect`.
    pub path: PathBuf,
    /// The same for the validation loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<PathBuf>,
    /// Validation examples, balanced as those for training are.
    #[serde(default = "some_validation")]
    pub validation_examples: usize,
    /// Which documents a reply is made of.
    #[serde(default)]
    pub replies: ReplyContents,
    /// Training examples, balanced by quality and hop.
    pub examples: usize,
    /// Documents a reply.
    pub num_documents: usize,
    /// The prompts to learn.
    #[serde(default)]
    pub templates: TemplatesConfig,
}

fn some_validation() -> usize {
    200
}

/// Which documents of a recorded search make up the reply to learn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyContents {
    /// All that the engine returned.
    #[default]
    Whole,
    /// The useful ones as one reply and the noisy ones as another, where they were judged.
    Judged,
}

/// How a model is fine-tuned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuningConfig {
    /// Optimiser steps.
    pub steps: usize,
    /// Tokens a step, prompts included; at least one row is taken.
    pub tokens_per_step: usize,
    /// Padded tokens that are run through the model at once; changes memory and speed only.
    pub micro_batch_tokens: usize,
    /// The validation loss is computed every so many steps and after the last.
    pub eval_every: usize,
    /// A checkpoint to resume from is written every so many steps; 0 is never.
    #[serde(default = "some_steps")]
    pub checkpoint_every: usize,
    /// Whether short rows are joined into rows as long as the model's context. A joined row attends
    /// to the examples before it, so this is for bases that are used to it; rows of similar length
    /// share a micro-batch anyway, so little padding is lost without.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub packing: bool,
    /// When to stop before `steps`; by default never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<EarlyStopConfig>,
    /// Adapters to train in place of all weights; checkpoints have them merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// What is kept in memory and what is computed again.
    #[serde(default)]
    pub memory: MemoryConfig,
    /// How parameters are updated; `total_steps = 0` means `steps`.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
}

fn some_steps() -> usize {
    100
}

/// When to stop for want of progress. The model of the lowest validation loss is kept then.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopConfig {
    /// Evaluations in a row without progress.
    pub patience: usize,
    /// How much lower than the lowest a loss must be to count as progress, in nats.
    #[serde(default)]
    pub min_delta: f64,
}

impl Check for SftConfig {
    fn check(&self, components: &Components) -> Result<()> {
        match &self.data {
            SftData::File { .. } => {}
            SftData::World(data) => data.check(components)?,
            SftData::Searches(data) => {
                ensure(data.examples > 0, "data.examples", "at least 1", data.examples)?;
                let count = data.num_documents;
                ensure(count > 0, "data.num_documents", "at least 1", count)?;
            }
        }
        self.tuning.check(components)
    }
}

impl Check for WorldExamples {
    fn check(&self, _: &Components) -> Result<()> {
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
    fn check(&self, _: &Components) -> Result<()> {
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
        check_optimizer(&self.optimizer, "tuning.optimizer")
    }
}
