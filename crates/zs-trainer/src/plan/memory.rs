//! Estimate of the memory of a training run, from its run file and the shapes of its models.

use zs_core::registry::Settings;
use zs_model::{ComputeDtype, LoraConfig, ModelConfig, OptimizerKind, concurrent_micro_batches};
use zs_rl::Branching;
use zs_simulator::SimulatedSettings;

use super::episode_tokens;
use crate::LoadError;
use crate::components::Components;
use crate::config::{TrainConfig, TrainingConfig};
use crate::context::Devices;

/// Weights, gradients and moments are f32.
const BYTES: u64 = 4;
/// Bytes of a weight, key or value in bf16, as sampling holds them with that precision.
const BYTES_BF16: u64 = 2;
/// Sequences decoded at once, at most.
const MAX_BATCH_ROWS: usize = 512;
/// Queries of attention that training on a GPU works on at a time.
const ATTENTION_WIDTH: usize = 512;
/// Attention scores that one pass of sampling on a GPU holds.
const SCORES_OF_PASS: u64 = 1 << 26;

/// Name of the part that a simulation LLM takes.
pub const SIMULATOR: &str = "simulation LLM";

/// Part of the memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Name in the plan.
    pub name: &'static str,
    /// Size.
    pub bytes: u64,
    /// Phase in which the memory is held, while the policy learns or while it plays; `None` for
    /// throughout.
    pub phase: Option<Phase>,
}

/// The two halves of a step, whose memory is not needed at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Playing episodes.
    Rollout,
    /// Updating the policy.
    Update,
}

/// Placement of a run; the estimate is of the memory of the first of its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The first device is a GPU.
    pub is_gpu: bool,
    /// Devices that share sampling and training.
    pub num_devices: usize,
    /// Cores that the first device computes on; 1 for a GPU.
    pub cores: usize,
    /// The simulation LLM is on another device.
    pub has_simulator_apart: bool,
}

impl Placement {
    /// One GPU.
    pub const GPU: Self =
        Self { is_gpu: true, num_devices: 1, cores: 1, has_simulator_apart: false };

    /// The devices of a run.
    pub fn of(devices: &Devices) -> Self {
        let is_gpu = !devices.is_cpu();
        // Several names of the CPU share its memory, and its cores.
        let num_devices = if is_gpu { devices.count() } else { 1 };
        let has_simulator_apart = devices.own_simulator_name().is_some();
        Self { is_gpu, num_devices, cores: devices.workers(), has_simulator_apart }
    }
}

/// The parts of a run's memory.
///
/// ```text
/// P = parameters, T = those that are trained, N = those of the blocks, V = vocabulary, L = blocks,
/// d = hidden, f = feed-forward, H, K = query and key heads, h = head width,
/// M = tokens of a micro-batch, at most those of a step, S = tokens of an episode, m = min(S, M),
/// E = episodes of a lane and a device, or continuations of them if those are more, R = min(E, 512) rows of them decoded at once, n = lanes,
/// w = 2 with `compute_dtype = "bf16"`, else 4
///
/// weights          4 P
/// reference model  4 P      with a divergence and without adapters, from the first step on
/// teacher          4 P of its own shape    where it is a model in this process
/// sampling copy    2 (N + V d)   in bf16; kept from step to step
///                  4 (N + 2 V d) in f32 with `batch_invariant` on a CPU
/// (a policy that is sampled on servers has neither this copy nor what sampling takes)
/// best policy      4 P      with validation, and its sampling copy
/// moments          8 T      (Muon: 4 T)
/// gradients        8 T      the sum, and that of one micro-batch
/// activations      M (L s + 4 d + 4 q) + 2 N        per micro-batch at work
///        with checkpointing       M (4 L d + s + 4 q) + 2 N / L
///     a = 4 d + 2 H h + 2 K h + 3 f,   p = 2 d + H h + f
///     s = 4 a in f32; with `compute_dtype = "bf16"` 4 (a - p) + 2 p
///     q = 2 a on a CPU; on a GPU 2 a + 3 H min(m, 512)
/// logits           12 max_logits
/// cache            2 w L K h S' max(R', E) n
/// cache in motion  2 w L K h (S' R + S_0 R')     on a GPU
/// pass             12 R' V + 8 2^26              on a GPU
/// ```
///
/// `a` counts the saved activations of one block a token: the inputs of norms and products, rotated
/// queries and keys, values, and the feed-forward layer; `p` are those that are inputs of products alone,
/// and `s` their bytes. `q` is the work of one block at a time: its gradients and, on a GPU, the scores of
/// attention, their softmax and its gradient, 512 columns wide. `2 N` are the weights of the blocks once
/// more, in bf16; there are none in f32. A value model has the activations of the policy, at another time.
///
/// On GPUs, `R'` is `R` rounded up to a power of two and `S'` is `S` rounded up to a multiple of 64, as
/// sampling does there; elsewhere they are as they are. `S_0` is what an episode holds before its last
/// observation: when rows move to a wider cache, the one that they leave, the rows on their way and the
/// new one exist together, for one lane at a time.
///
/// It is an estimate: temporaries of the backward come on top, and pages are returned late.
pub fn parts(
    config: &TrainConfig,
    on: Placement,
    components: &Components,
) -> Result<Vec<Part>, LoadError> {
    let shape = ModelConfig::from_dir(&config.policy)?;
    let training = &config.training;
    let is_bf16 = is_bf16(config, on);
    let weights = BYTES * shape.num_parameters() as u64;
    let is_local = config.rollout.is_local();
    let is_invariant = training.memory.batch_invariant && !on.is_gpu;
    let embedding = (shape.vocab_size * shape.hidden_size) as u64;
    let packed = of_blocks(&shape) as u64 + embedding;
    let copy = match (is_bf16, is_invariant) {
        _ if !is_local => 0,
        (true, _) => BYTES_BF16 * packed,
        (false, true) => BYTES * (packed + embedding),
        (false, false) => 0,
    };
    let trained = match &training.lora {
        None => shape.num_parameters(),
        Some(lora) => num_adapter_parameters(&shape, lora),
    } as u64;
    let algorithm = components.algorithms.build(&training.algorithm, &())?;
    let continuations = continuations(config, algorithm.requirements().branching);
    let mut parts = vec![Part { name: "weights", bytes: weights, phase: None }];
    let mut add = |name, bytes, phase| {
        if bytes > 0 {
            parts.push(Part { name, bytes, phase });
        }
    };
    if algorithm.requirements().needs_reference && training.lora.is_none() {
        add("reference model", weights, None);
    }
    if let Some(teacher) = &config.teacher {
        for model in components.teachers.inputs(teacher)? {
            let shape = ModelConfig::from_dir(&model)?;
            add("teacher", BYTES * shape.num_parameters() as u64, None);
        }
    }
    add("copy for sampling", copy, None);
    if config.validation.is_some() && training.lora.is_none() {
        add("best policy", weights + copy, None);
    }
    let moments = |trained: u64| match training.optimizer.kind {
        OptimizerKind::AdamW => 2 * BYTES * trained,
        OptimizerKind::Muon => BYTES * trained,
    };
    add("optimizer", moments(trained), None);
    if algorithm.requirements().value_clip.is_some() {
        add("value model and its optimizer", weights + 2 * weights, None);
    }
    add("gradients", 2 * BYTES * trained, Some(Phase::Update));
    let at_once = concurrent_micro_batches(on.cores, shape.num_parameters()) as u64;
    add(
        "activations",
        at_once * activations(config, &shape, on, continuations),
        Some(Phase::Update),
    );
    let logits = micro_batch_tokens(config, &shape, continuations).saturating_mul(shape.vocab_size);
    let logits = logits.min(training.memory.max_logits);
    add("logits", 3 * BYTES * logits as u64, Some(Phase::Update));
    if is_local {
        let sampling = Sampling::of(config, &shape, on, continuations);
        add("key-value cache", sampling.cache, Some(Phase::Rollout));
        add("key-value cache in motion", sampling.moving, Some(Phase::Rollout));
        add("a pass of sampling", sampling.pass, Some(Phase::Rollout));
    }
    if !on.has_simulator_apart {
        add(SIMULATOR, simulator_bytes(config, on.is_gpu, components)?, None);
    }
    Ok(parts)
}

/// Memory of a simulation LLM in this process; 0 where there is none.
pub fn simulator_bytes(
    config: &TrainConfig,
    is_gpu: bool,
    components: &Components,
) -> Result<u64, LoadError> {
    let mut models = Vec::new();
    components.engines.visit(&config.engine, &mut |it| {
        if it.kind == SimulatedSettings::KIND {
            models.extend(it.parse::<SimulatedSettings>().ok());
        }
    })?;
    models.iter().try_fold(0, |sum, it| {
        let of_weight = match it.compute_dtype.resolved(is_gpu) {
            ComputeDtype::Bf16 => BYTES_BF16,
            ComputeDtype::F32 | ComputeDtype::Auto => BYTES,
        };
        Ok(sum + of_weight * ModelConfig::from_dir(&it.model)?.num_parameters() as u64)
    })
}

/// The larger of the two halves of a step.
pub fn peak(parts: &[Part]) -> u64 {
    let during = |phase: Phase| -> u64 {
        parts.iter().filter(|it| it.phase.is_none_or(|it| it == phase)).map(|it| it.bytes).sum()
    };
    during(Phase::Rollout).max(during(Phase::Update))
}

/// True if products take bf16 on the devices of a run.
fn is_bf16(config: &TrainConfig, on: Placement) -> bool {
    config.training.memory.compute_dtype.resolved(on.is_gpu) == ComputeDtype::Bf16
}

/// Continuations of a step's episodes, at most.
pub fn continuations(config: &TrainConfig, branching: Option<Branching>) -> usize {
    let TrainingConfig { schedule, rollout, .. } = &config.training;
    let max_turns = rollout.max_searches as usize + 1;
    let of_group = |it: Branching| it.max_continuations(schedule.group_size, max_turns);
    schedule.questions_per_step * branching.map_or(0, of_group)
}

/// Tokens of a micro-batch, at most those of a step.
fn micro_batch_tokens(config: &TrainConfig, shape: &ModelConfig, continuations: usize) -> usize {
    let schedule = &config.training.schedule;
    let rows = schedule.questions_per_step * schedule.group_size + continuations;
    config.training.update.micro_batch_tokens.min(rows * episode_tokens(config, shape))
}

/// Memory of the activations of one micro-batch.
fn activations(
    config: &TrainConfig,
    shape: &ModelConfig,
    on: Placement,
    continuations: usize,
) -> u64 {
    let memory = &config.training.memory;
    let tokens = micro_batch_tokens(config, shape, continuations);
    let (d, f, blocks) = (shape.hidden_size, shape.intermediate_size, shape.num_hidden_layers);
    let (heads, keys) = (shape.num_attention_heads, shape.num_key_value_heads);
    let row = episode_tokens(config, shape).min(tokens);
    let block = 4 * d + 2 * (heads + keys) * shape.head_dim + 3 * f;
    let scores = if on.is_gpu { 3 * heads * row.min(ATTENTION_WIDTH) } else { 0 };
    let work = 2 * block + scores;
    // In bf16 a product saves its rounded inputs and weights.
    let of_products = 2 * d + heads * shape.head_dim + f;
    let (saved, weights) = match is_bf16(config, on) {
        false => (BYTES * block as u64, 0),
        true => (
            BYTES * (block - of_products) as u64 + BYTES_BF16 * of_products as u64,
            BYTES_BF16 * of_blocks(shape) as u64,
        ),
    };
    let (tokens, blocks) = (tokens as u64, blocks as u64);
    match memory.gradient_checkpointing {
        false => tokens * (blocks * saved + BYTES * (d + work) as u64) + weights,
        true => {
            let inputs = BYTES * blocks * d as u64;
            tokens * (inputs + saved + BYTES * work as u64) + weights / blocks.max(1)
        }
    }
}

/// Memory besides the weights while episodes are sampled.
struct Sampling {
    cache: u64,
    moving: u64,
    pass: u64,
}

impl Sampling {
    fn of(config: &TrainConfig, shape: &ModelConfig, on: Placement, continuations: usize) -> Self {
        let training = &config.training;
        let schedule = &training.schedule;
        let of_step = schedule.questions_per_step * schedule.group_size;
        let played = of_step.max(continuations).max(schedule.eval_batch_size);
        let all = played.div_ceil(on.num_devices);
        let lanes = training.rollout.lanes.clamp(1, all.max(1));
        let of_lane = all.div_ceil(lanes);
        let rows = of_lane.min(MAX_BATCH_ROWS);
        let tokens = episode_tokens(config, shape);
        let (height, width) = match on.is_gpu {
            true => (rows.next_power_of_two(), tokens.next_multiple_of(64)),
            false => (rows, tokens),
        };
        let number = if on.is_gpu && is_bf16(config, on) { BYTES_BF16 } else { BYTES };
        let of_token = 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim;
        let of_tokens = |tokens: usize| number * (tokens * of_token) as u64;
        // Rows that are not decoded at the moment keep what they hold for their next turn.
        let cache = of_tokens(width * height.max(of_lane) * lanes);
        if !on.is_gpu {
            return Self { cache, moving: 0, pass: 0 };
        }
        let rollout = &training.rollout;
        let before = width.saturating_sub(rollout.max_new_tokens + rollout.max_observation_tokens);
        Self {
            cache,
            moving: of_tokens(width * rows + before * height),
            pass: 3 * BYTES * (height * shape.vocab_size) as u64 + 2 * BYTES * SCORES_OF_PASS,
        }
    }
}

/// Parameters of the blocks.
fn of_blocks(shape: &ModelConfig) -> usize {
    let embeddings = if shape.tie_word_embeddings { 1 } else { 2 };
    let outside = (embeddings * shape.vocab_size + 1) * shape.hidden_size;
    shape.num_parameters() - outside
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
