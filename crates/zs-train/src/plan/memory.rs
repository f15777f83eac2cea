//! What a training run needs in memory, estimated from its run file and the shapes of its models.

use std::path::Path;

use anyhow::{Context, Result};
use zs_model::{LoraConfig, ModelConfig, OptimizerKind};

use super::episode_tokens;
use crate::config::{EngineConfig, TrainConfig};

/// Weights, gradients and moments are f32.
const BYTES: u64 = 4;
/// Sequences decoded at once, at most.
const MAX_BATCH_ROWS: usize = 512;

/// One part of the memory.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) bytes: u64,
    /// Whether it is there only while the policy learns, or only while it plays; `None` for
    /// throughout.
    pub(crate) phase: Option<Phase>,
}

/// The two halves of a step, whose memory is not needed at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Rollout,
    Update,
}

/// The parts of a run's memory.
///
/// ```text
/// P = parameters, T = those that are trained, L = blocks, d = hidden, f = feed-forward,
/// H, K = query and key heads, h = head width, M = tokens of a micro-batch, S = tokens of an episode
///
/// weights       4 P
/// reference     4 P      with a divergence and without adapters, from the first step on
/// best          4 P      with validation
/// moments       8 T      (Muon: 4 T)
/// gradients     8 T      the sum, and that of one micro-batch
/// activations   4 M (L s + d)  per micro-batch at work,  s = 8 d + 3 H h + 4 K h + 4 f + 2 H min(S, M)
///               4 M (L d + s)  with recomputed blocks
/// logits        12 max_logits
/// cache         8 L K h S min(episodes, 512)
/// ```
///
/// `s` counts what one block keeps of a token for the way back: norms, projections before and after
/// the rotation, attention scores before and after the softmax, and the feed-forward layer. It is an
/// estimate: temporaries of the backend come on top, and pages are returned late.
pub(crate) fn parts(config: &TrainConfig, micro_batches_at_once: usize) -> Result<Vec<Part>> {
    let shape = shape(&config.policy)?;
    let training = &config.training;
    let weights = BYTES * shape.num_parameters() as u64;
    let trained = match &training.lora {
        None => shape.num_parameters(),
        Some(lora) => num_adapter_parameters(&shape, lora),
    } as u64;
    let algorithm = training.algorithm.build()?;
    let mut parts = vec![Part { name: "weights", bytes: weights, phase: None }];
    let mut add = |name, bytes, phase| parts.push(Part { name, bytes, phase });
    if algorithm.needs_reference() && training.lora.is_none() {
        add("reference model", weights, None);
    }
    if config.validation.is_some() && training.lora.is_none() {
        add("best policy", weights, None);
    }
    let moments = |trained: u64| match training.optimizer.kind {
        OptimizerKind::AdamW => 2 * BYTES * trained,
        OptimizerKind::Muon => BYTES * trained,
    };
    add("optimizer", moments(trained), None);
    if algorithm.value_clip().is_some() {
        add("value model and its optimizer", weights + 2 * weights, None);
    }
    add("gradients", 2 * BYTES * trained, Some(Phase::Update));
    add(
        "activations",
        micro_batches_at_once as u64 * activations(config, &shape),
        Some(Phase::Update),
    );
    let logits =
        training.memory.max_logits.min(training.update.micro_batch_tokens * shape.vocab_size);
    add("logits", 3 * BYTES * logits as u64, Some(Phase::Update));
    let rows = training.schedule.questions_per_step * training.schedule.group_size;
    let rows = rows.max(training.schedule.eval_batch_size).min(MAX_BATCH_ROWS);
    let cache = rows * episode_tokens(config, &shape) * cache_per_token(&shape);
    add("key-value cache", BYTES * cache as u64, Some(Phase::Rollout));
    if let Some(model) = simulator(&config.engine) {
        let shape = self::shape(model)?;
        add("simulation LLM", BYTES * shape.num_parameters() as u64, None);
    }
    Ok(parts)
}

/// The larger of the two halves of a step.
pub(crate) fn peak(parts: &[Part]) -> u64 {
    let during = |phase: Phase| -> u64 {
        parts.iter().filter(|it| it.phase.is_none_or(|it| it == phase)).map(|it| it.bytes).sum()
    };
    during(Phase::Rollout).max(during(Phase::Update))
}

fn activations(config: &TrainConfig, shape: &ModelConfig) -> u64 {
    let tokens = config.training.update.micro_batch_tokens;
    let (heads, keys) = (shape.num_attention_heads, shape.num_key_value_heads);
    let width = episode_tokens(config, shape).min(tokens);
    let block = 8 * shape.hidden_size
        + (3 * heads + 4 * keys) * shape.head_dim
        + 4 * shape.intermediate_size
        + 2 * heads * width;
    let kept = match config.training.memory.recompute_blocks {
        false => shape.num_hidden_layers * block + shape.hidden_size,
        true => shape.num_hidden_layers * shape.hidden_size + block,
    };
    BYTES * (tokens * kept) as u64
}

fn cache_per_token(shape: &ModelConfig) -> usize {
    2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim
}

/// Parameters of adapters: `r (in + out)` for each linear map that is a target.
fn num_adapter_parameters(shape: &ModelConfig, lora: &LoraConfig) -> usize {
    let (d, f) = (shape.hidden_size, shape.intermediate_size);
    let queries = shape.num_attention_heads * shape.head_dim;
    let keys = shape.num_key_value_heads * shape.head_dim;
    let sides = [
        ("q_proj", d + queries),
        ("k_proj", d + keys),
        ("v_proj", d + keys),
        ("o_proj", queries + d),
        ("gate_proj", d + f),
        ("up_proj", d + f),
        ("down_proj", f + d),
    ];
    let is_target = |name: &str| lora.target_modules.iter().any(|it| it.ends_with(name));
    let of_block: usize =
        sides.iter().filter(|(name, _)| is_target(name)).map(|(_, sides)| lora.r * sides).sum();
    shape.num_hidden_layers * of_block
}

/// The model of a simulation LLM that runs in this process.
fn simulator(engine: &EngineConfig) -> Option<&Path> {
    match engine.innermost() {
        EngineConfig::Simulated { model, .. } => Some(model),
        _ => None,
    }
}

fn shape(dir: &Path) -> Result<ModelConfig> {
    ModelConfig::from_dir(dir).with_context(|| format!("model {}", dir.display()))
}
