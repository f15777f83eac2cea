//! Run files of `zs pretrain`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zs_model::{OptimizerConfig, Schedule};
use zs_simulator::pretraining::CorpusMix;
use zs_world::{BehaviourMix, WorldPreset};

use super::{Check, RunFileError, check_optimizer, ensure};
use crate::components::Components;

/// A run of `zs pretrain`: a model from scratch on embedded worlds, in phases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// Seed of weights and data.
    pub seed: u64,
    /// Run directory to create; the final model is `out/checkpoints/final`.
    pub out: PathBuf,
    /// The model's shape.
    pub model: ModelShape,
    /// Preset of the worlds, easy unless told otherwise; the tokenizer is that of the preset.
    #[serde(default, skip_serializing_if = "WorldPreset::is_easy")]
    pub world: WorldPreset,
    /// Number of worlds of the training split to learn from.
    pub worlds: usize,
    /// Seed of the first world; the others follow it.
    pub first_world_seed: u64,
    /// Tokens per step.
    pub tokens_per_step: usize,
    /// Padded tokens that are run through the model at once; changes memory and speed only.
    pub micro_batch_tokens: usize,
    /// Examples that are generated together, ahead of training.
    pub chunk_examples: usize,
    /// Interval of checkpoints in steps.
    pub checkpoint_every: usize,
    /// Probe of copying.
    pub probe: ProbeConfig,
    /// Optimiser; each phase starts its own, with its own schedule over its own steps.
    pub optimizer: OptimizerConfig,
    /// Phases, in order.
    pub phases: Vec<Phase>,
}

/// The shape of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Decoder blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Context length in tokens.
    pub max_position_embeddings: usize,
}

/// Phase of pre-training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Name in the log.
    pub name: String,
    /// Optimiser steps.
    pub steps: usize,
    /// Factor on the optimiser's learning rate.
    #[serde(default = "one")]
    pub learning_rate_factor: f64,
    /// Learning-rate schedule of the phase.
    #[serde(default)]
    pub schedule: Schedule,
    /// Shares of the kinds of examples.
    pub mix: CorpusMix,
    /// Shares of the behaviours in transcripts.
    #[serde(default)]
    pub behaviours: BehaviourMix,
}

fn one() -> f64 {
    1.0
}

/// Probe of copying: the model is to write a name that it has never seen, out of documents that
/// state it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeConfig {
    /// Interval of the probe in steps; it is also run after the last step.
    pub every: usize,
    /// Questions of a world of the validation split.
    pub questions: usize,
}

impl Check for PretrainConfig {
    fn check(&self, _: &Components) -> Result<(), RunFileError> {
        let counts = [
            ("worlds", self.worlds),
            ("tokens_per_step", self.tokens_per_step),
            ("micro_batch_tokens", self.micro_batch_tokens),
            ("chunk_examples", self.chunk_examples),
            ("checkpoint_every", self.checkpoint_every),
            ("probe.every", self.probe.every),
            ("model.hidden_size", self.model.hidden_size),
            ("model.intermediate_size", self.model.intermediate_size),
            ("model.num_hidden_layers", self.model.num_hidden_layers),
            ("model.num_attention_heads", self.model.num_attention_heads),
            ("model.num_key_value_heads", self.model.num_key_value_heads),
            ("model.max_position_embeddings", self.model.max_position_embeddings),
            ("phases (their number)", self.phases.len()),
        ];
        for (key, value) in counts {
            ensure(value > 0, key, "at least 1", value)?;
        }
        let ModelShape { hidden_size, num_attention_heads: heads, num_key_value_heads, .. } =
            self.model;
        let must = "a multiple of twice `model.num_attention_heads`";
        ensure(hidden_size % (2 * heads) == 0, "model.hidden_size", must, hidden_size)?;
        let must = "a divisor of `model.num_attention_heads`";
        let key = "model.num_key_value_heads";
        ensure(heads % num_key_value_heads == 0, key, must, num_key_value_heads)?;
        for (index, phase) in self.phases.iter().enumerate() {
            let key = |name: &str| format!("phases[{index}].{name}");
            ensure(phase.steps > 0, &key("steps"), "at least 1", phase.steps)?;
            let factor = phase.learning_rate_factor;
            let is_factor = factor.is_finite() && factor > 0.0;
            ensure(is_factor, &key("learning_rate_factor"), "above 0", factor)?;
        }
        check_optimizer(&self.optimizer, "optimizer")
    }
}
