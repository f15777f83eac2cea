//! Speed and memory of a model: prefill, decoding and one update, against the limits of the machine.
#![expect(clippy::print_stdout, reason = "a command-line tool speaks on the console")]

mod other;
mod timing;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use clap::Parser;
use serde_json::{Value, json};
use zs_core::StreamKey;
use zs_model::{
    ComputeDtype, Generator, LanguageModel, LoraConfig, MemoryConfig, ModelConfig, Optimizer,
    OptimizerConfig, SamplingParams, TokenId, TokenRow, accumulate_gradients,
    concurrent_micro_batches, micro_batches, supervised_step,
};
use zs_observe::write_json;
use zs_train::device::DeviceArgs;

use self::other::{read_json, run_other};
use self::timing::{Timing, best, gib, peak_bytes, report, reset_peak};
use crate::{Floor, SHAPES, Work, WorkSize, num_block_weights, random_model, shape, work};

/// Times prefill, decoding and one update of a model
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench model")]
struct Arguments {
    /// A shape (tiny, 8m, smollm2-135m, qwen2.5-0.5b, qwen2.5-3b; random weights) or a model directory
    #[arg(default_value = "tiny")]
    model: String,
    /// Write the numbers to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Compare with numbers that `benches/compare/transformers_bench.py` wrote
    #[arg(long)]
    against: Option<PathBuf>,
    /// Run that script first, with this Python, in f32 and in bf16, and compare with the better of
    /// both
    #[arg(long, conflicts_with = "against")]
    python: Option<PathBuf>,
    /// Repetitions of each measurement; the best counts
    #[arg(long, default_value_t = 3)]
    tries: usize,
    /// Size of the work: a laptop's, done in seconds, or a step of `ZeroSearch`'s (320 sequences of
    /// 512 + 500 tokens; an update of all weights on 320 rows of 1,024)
    #[arg(long, value_enum, default_value_t = WorkSize::Small)]
    work: WorkSize,
    /// Multiply matrices in bfloat16, with weights and sums in f32, as `compute_dtype = "bf16"` of a run file
    #[arg(long)]
    bf16: bool,
    /// Train adapters of this rank, or all weights with 0; by default adapters in a large model
    #[arg(long, value_name = "RANK")]
    lora: Option<usize>,
    /// Logits that an update holds at a time, as `max_logits` of a run file
    #[arg(long, value_name = "N")]
    max_logits: Option<usize>,
    /// Rows that are prefilled and decoded together, instead of those of the shape
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// Recompute blocks in the backward pass, as `gradient_checkpointing` of a run file
    #[arg(long)]
    gradient_checkpointing: bool,
    /// Only these pieces of work
    #[arg(long, value_delimiter = ',', default_values = PIECES)]
    pieces: Vec<String>,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Names of the pieces of work.
const PIECES: [&str; 4] = ["prefill", "decode", "update", "rl"];

impl Arguments {
    fn wants(&self, piece: &str) -> bool {
        self.pieces.iter().any(|it| it == piece)
    }

    fn memory(&self) -> MemoryConfig {
        let default = MemoryConfig::default();
        MemoryConfig {
            compute_dtype: if self.bf16 { ComputeDtype::Bf16 } else { ComputeDtype::F32 },
            max_logits: self.max_logits.unwrap_or(default.max_logits),
            // What does not fit otherwise.
            gradient_checkpointing: self.gradient_checkpointing || self.work == WorkSize::Step,
            ..default
        }
    }
}

/// Does what a command line asks for: a program's name and its arguments.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run(&Arguments::parse_from(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let devices = arguments.device.open().map_err(|it| it.to_string())?;
    let device = devices.first().clone();
    let other = match &arguments.python {
        Some(python) => Some(run_other(python, arguments)?),
        None => arguments.against.as_deref().map(read_json).transpose()?,
    };
    let model = match shape(&arguments.model) {
        Some(config) => random_model(config, &device),
        None => LanguageModel::load(arguments.model.as_ref(), &device)
            .map_err(|it| format!("{it}; or name a shape: {}", SHAPES.join(", ")))?,
    };
    let memory = arguments.memory();
    let model = model.with_network(&model.network().clone().with_memory(memory));
    let floor = Floor::measure(&device, devices.is_cpu(), memory.compute_dtype);
    let mut work = work(model.config(), arguments.work);
    work.rows = arguments.rows.unwrap_or(work.rows);
    if let Some(rank) = arguments.lora {
        work.lora_rank = (rank > 0).then_some(rank);
    }
    println!(
        "{}: {:.1} M parameters; products {:.0} GFLOP/s, memory {:.1} GB/s",
        arguments.model,
        model.config().num_parameters() as f64 / 1e6,
        floor.flops / 1e9,
        floor.bytes / 1e9,
    );
    let mut timings = Vec::new();
    if arguments.wants("prefill") || arguments.wants("decode") {
        timings.extend(sampling(&model, &work, &floor, arguments.tries)?);
    }
    if arguments.wants("update") {
        timings.push(update(&model, &devices, &work, &floor, arguments.tries)?);
    }
    if arguments.wants("rl") && work.lora_rank.is_none() {
        timings.push(policy_update(&model, &floor, arguments.tries)?);
    }
    let runs: Vec<Value> = timings.iter().map(|it| report(it, other.as_ref())).collect();
    let peak = timings.iter().filter_map(|it| it.peak).max();
    if let Some(peak) = peak {
        println!("peak memory {:.2} GiB", gib(peak));
    }
    let json = json!({
        "model": arguments.model,
        "device": format!("{:?}", model.device()),
        "memory": memory,
        "decode_graphs": model.decode_graph_stats(),
        "flops_per_s": floor.flops,
        "bytes_per_s": floor.bytes,
        "runs": runs,
        "peak_bytes": peak,
    });
    match &arguments.json {
        Some(path) => write_json(path, &json).map_err(|it| format!("{it:#}")),
        None => Ok(()),
    }
}

/// Distinct rows of arbitrary tokens.
fn tokens(config: &ModelConfig, row: usize, len: usize) -> Vec<TokenId> {
    (0..len).map(|it| ((row * 7919 + it * 104_729 + 1) % config.vocab_size) as TokenId).collect()
}

fn sampling(
    model: &LanguageModel,
    work: &Work,
    floor: &Floor,
    tries: usize,
) -> Result<Vec<Timing>, String> {
    let config = model.config();
    let prompts: Vec<(Vec<TokenId>, StreamKey)> = (0..work.rows)
        .map(|row| (tokens(config, row, work.prompt), StreamKey::new(row as u64)))
        .collect();
    let generate = |new: usize| {
        let params = SamplingParams { max_new_tokens: new, ..SamplingParams::default() };
        best(tries, || model.generate(&prompts, &params).map(drop))
    };
    reset_peak();
    let prefill = generate(1)?;
    let whole = generate(work.new)?;
    let peak = peak_bytes();
    let weights = num_block_weights(config) as f64;
    let head = (config.vocab_size * config.hidden_size) as f64;
    let rows = work.rows as f64;
    let width = match model.network().memory().compute_dtype {
        ComputeDtype::Bf16 => 2.0,
        ComputeDtype::F32 | ComputeDtype::Auto => 4.0,
    };
    let prefill_flops = 2.0 * rows * (work.prompt as f64 * weights + head)
        + 2.0 * rows * attention_flops(config, work.prompt);
    // A step reads every weight once and every key and value of the rows.
    let steps = (work.new - 1) as f64;
    let cached = work.prompt as f64 + work.new as f64 / 2.0;
    let key_values = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim;
    let step_bytes = width * (weights + head + rows * cached * key_values as f64);
    let scores = config.num_attention_heads * config.head_dim * config.num_hidden_layers;
    let step_flops = rows * (2.0 * (weights + head) + 4.0 * cached * scores as f64);
    Ok(vec![
        Timing {
            name: "prefill",
            tokens: work.rows * work.prompt,
            best: prefill,
            floor_seconds: floor.seconds(prefill_flops, width * weights),
            peak,
        },
        Timing {
            name: "decode",
            tokens: work.rows * (work.new - 1),
            best: whole.without(prefill),
            floor_seconds: steps * floor.seconds(step_flops, step_bytes),
            peak,
        },
    ])
}

/// Half of the operations of causal attention over a row: products of queries and keys, and of
/// weights and values.
fn attention_flops(config: &ModelConfig, len: usize) -> f64 {
    let heads = config.num_attention_heads * config.head_dim * config.num_hidden_layers;
    (len * len * heads) as f64
}

fn update(
    model: &LanguageModel,
    devices: &zs_trainer::Devices,
    work: &Work,
    floor: &Floor,
    tries: usize,
) -> Result<Timing, String> {
    let config = model.config();
    let rows: Vec<TokenRow> = (0..work.update_rows)
        .map(|row| TokenRow {
            tokens: tokens(config, row, work.update_len),
            loss_mask: (0..work.update_len).map(|it| it > 0).collect(),
        })
        .collect();
    let mut network = model.network().clone();
    if let Some(r) = work.lora_rank {
        let lora = LoraConfig { r, ..LoraConfig::default() };
        network = network.with_lora(&lora, 1).map_err(|it| it.to_string())?;
        let memory = MemoryConfig { gradient_checkpointing: true, ..network.memory() };
        network = network.with_memory(memory);
    }
    let network = network.train();
    let mut optimizer = Optimizer::new(&OptimizerConfig::default(), &network);
    let count = work.update_rows * work.update_len;
    // A row where all cores share one micro-batch, else one micro-batch a core; on an accelerator what
    // fits.
    let tokens = match (devices.is_cpu(), is_large(config)) {
        (true, true) => work.update_len,
        (true, false) => count.div_ceil(devices.workers()),
        (false, _) => count.div_ceil(work.update_rows.div_ceil(16)),
    };
    reset_peak();
    let mut network = Some(network);
    let best = best(tries, || {
        let (next, _) = supervised_step(
            network.take().expect("each try leaves a network"),
            &mut optimizer,
            &rows,
            tokens,
        );
        network = Some(next);
        Ok::<_, std::convert::Infallible>(())
    })?;
    let weights = num_block_weights(config) as f64;
    let head = (config.vocab_size * config.hidden_size) as f64;
    let forward = 2.0 * count as f64 * (weights + head)
        + 2.0 * work.update_rows as f64 * attention_flops(config, work.update_len);
    // Backward takes two products for each of forward's, and one where the weight is frozen.
    let passes = if work.lora_rank.is_some() { 2.0 } else { 3.0 };
    Ok(Timing {
        name: "update",
        tokens: count,
        best,
        floor_seconds: floor.seconds(passes * forward, 0.0),
        peak: peak_bytes(),
    })
}

/// An update of reinforcement learning: 8 prompts of 64 tokens with 8 episodes each, 192 to 256
/// tokens long, 36 of which an engine wrote.
fn policy_update(model: &LanguageModel, floor: &Floor, tries: usize) -> Result<Timing, String> {
    const PROMPT: usize = 64;
    let config = model.config();
    let rows: Vec<TokenRow> = (0..64)
        .map(|row| {
            let len = 192 + 16 * (row % 5);
            let mut row_tokens = tokens(config, row / 8, PROMPT);
            row_tokens.extend(tokens(config, 1000 + row, len - PROMPT));
            let loss_mask = (0..len).map(|it| it >= PROMPT && !(100..136).contains(&it)).collect();
            TokenRow { tokens: row_tokens, loss_mask }
        })
        .collect();
    let num_loss_tokens = rows.iter().flat_map(|it| &it.loss_mask).filter(|it| **it).count();
    let plan = micro_batches(&rows, if is_large(config) { 4096 } else { 8192 });
    let inputs: Vec<Vec<TokenRow>> =
        plan.iter().map(|part| part.iter().map(|&it| rows[it].clone()).collect()).collect();
    let network = model.network().clone().train();
    let mut optimizer = Optimizer::new(&OptimizerConfig::default(), &network);
    reset_peak();
    let mut network = Some(network);
    let best = best(tries, || {
        let start = network.take().expect("each try leaves a network");
        let (grads, _) = accumulate_gradients(&start, &inputs, |index, scores| {
            let log_probs = scores.log_probs;
            let advantages: Vec<f32> =
                plan[index].iter().map(|it| if it % 2 == 0 { 1.0 } else { -1.0 }).collect();
            let data = TensorData::new(advantages, [plan[index].len(), 1]);
            let advantages = Tensor::<2>::from_data(data, &log_probs.device());
            let ratio = (log_probs.clone() - log_probs.detach()).exp();
            let clipped = ratio.clone().clamp(0.8, 1.2) * advantages.clone();
            // Without a token that carries loss the ratio is 1 and carries no gradient.
            let loss = -(ratio * advantages).min_pair(clipped).sum() / num_loss_tokens as f64;
            (loss, ())
        });
        network = Some(optimizer.step(start, grads).0);
        Ok::<_, std::convert::Infallible>(())
    })?;
    let count: usize = rows.iter().map(|it| it.tokens.len()).sum();
    let weights = num_block_weights(config) as f64;
    let head = (config.vocab_size * config.hidden_size) as f64;
    let attention: f64 = rows.iter().map(|it| attention_flops(config, it.tokens.len())).sum();
    // What has to be computed: prompts once, the head where there is loss.
    let distinct = (count - 56 * PROMPT) as f64;
    let forward = 2.0 * (distinct * weights + num_loss_tokens as f64 * head + attention);
    let (floor_seconds, peak) = (floor.seconds(3.0 * forward, 0.0), peak_bytes());
    Ok(Timing { name: "rl", tokens: count, best, floor_seconds, peak })
}

/// True if the cores of a CPU share one micro-batch of a model.
fn is_large(config: &ModelConfig) -> bool {
    concurrent_micro_batches(2, config.num_parameters()) == 1
}
