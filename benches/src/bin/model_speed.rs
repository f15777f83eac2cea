//! Speed and memory of a model: prefill, decoding and one update, against the limits of the machine.
#![expect(clippy::print_stdout, reason = "a command-line tool speaks on the console")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use clap::Parser;
use serde_json::{Value, json};
use zs_benches::{Floor, SHAPES, Work, num_block_weights, random_model, shape, work};
use zs_core::StreamKey;
use zs_model::{
    Generator, LanguageModel, LoraConfig, MemoryConfig, ModelConfig, Optimizer, OptimizerConfig,
    SamplingParams, TokenId, TokenRow, supervised_step,
};

/// Times prefill, decoding and one update of a model
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench model")]
struct Arguments {
    /// A shape (tiny, 8m, qwen2.5-0.5b; random weights) or a model directory
    #[arg(default_value = "tiny")]
    model: String,
    /// Write the numbers to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Compare with numbers that `benches/compare/transformers_bench.py` wrote
    #[arg(long)]
    against: Option<PathBuf>,
    /// How often each piece of work is timed; the best counts
    #[arg(long, default_value_t = 3)]
    tries: usize,
}

/// A piece of work that was timed.
struct Timing {
    name: &'static str,
    tokens: usize,
    seconds: f64,
    floor_seconds: f64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let device = Device::default();
    let other = arguments.against.as_deref().map(read_json).transpose()?;
    let model = match shape(&arguments.model) {
        Some(config) => random_model(config, &device),
        None => LanguageModel::load(arguments.model.as_ref(), &device)
            .map_err(|it| format!("{it}; or name a shape: {}", SHAPES.join(", ")))?,
    };
    let floor = Floor::measure(&device);
    let work = work(model.config());
    println!(
        "{}: {:.1} M parameters; products {:.0} GFLOP/s, memory {:.1} GB/s",
        arguments.model,
        model.config().num_parameters() as f64 / 1e6,
        floor.flops / 1e9,
        floor.bytes / 1e9,
    );
    let mut timings = sampling(&model, &work, &floor, arguments.tries)?;
    timings.push(update(&model, &work, &floor, arguments.tries)?);
    let runs: Vec<Value> = timings.iter().map(|it| report(it, other.as_ref())).collect();
    let peak = peak_bytes();
    if let Some(peak) = peak {
        println!("peak memory {:.2} GiB", peak as f64 / f64::from(1 << 30));
    }
    let json = json!({
        "model": arguments.model,
        "flops_per_s": floor.flops,
        "bytes_per_s": floor.bytes,
        "runs": runs,
        "peak_bytes": peak,
    });
    match &arguments.json {
        Some(path) => std::fs::write(path, format!("{json:#}\n"))
            .map_err(|it| format!("{}: {it}", path.display())),
        None => Ok(()),
    }
}

fn read_json(path: &std::path::Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|it| format!("{}: {it}", path.display()))?;
    serde_json::from_str(&text).map_err(|it| format!("{}: {it}", path.display()))
}

/// Prints a timing and gives it as JSON, with the ratio to another program's.
fn report(timing: &Timing, other: Option<&Value>) -> Value {
    let rate = timing.tokens as f64 / timing.seconds;
    let fraction = timing.floor_seconds / timing.seconds;
    let theirs = other.and_then(|it| {
        let runs = it["runs"].as_array()?;
        runs.iter().find(|it| it["name"] == timing.name)?["tokens_per_s"].as_f64()
    });
    let ratio = theirs.map(|it| rate / it);
    let beside = ratio.map_or_else(String::new, |it| format!(", {it:.2}x the other"));
    let name = timing.name;
    println!("{name:>8}: {rate:>9.0} tokens/s, {:.0} % of the limit{beside}", 100.0 * fraction);
    json!({
        "name": timing.name,
        "tokens": timing.tokens,
        "seconds": timing.seconds,
        "tokens_per_s": rate,
        "fraction_of_floor": fraction,
        "ratio": ratio,
    })
}

/// Best time of some tries.
fn best<E: std::fmt::Display>(
    tries: usize,
    mut work: impl FnMut() -> Result<(), E>,
) -> Result<f64, String> {
    let mut best = f64::INFINITY;
    for _ in 0..tries.max(1) {
        let start = Instant::now();
        work().map_err(|it| it.to_string())?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
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
    let prefill = generate(1)?;
    let whole = generate(work.new)?;
    let weights = num_block_weights(config) as f64;
    let head = (config.vocab_size * config.hidden_size) as f64;
    let rows = work.rows as f64;
    let prefill_flops = 2.0 * rows * (work.prompt as f64 * weights + head)
        + 2.0 * rows * attention_flops(config, work.prompt);
    // A step reads every weight once and every key and value of the rows.
    let steps = (work.new - 1) as f64;
    let cached = work.prompt as f64 + work.new as f64 / 2.0;
    let key_values = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim;
    let step_bytes = 4.0 * (weights + head + rows * cached * key_values as f64);
    let scores = config.num_attention_heads * config.head_dim * config.num_hidden_layers;
    let step_flops = rows * (2.0 * (weights + head) + 4.0 * cached * scores as f64);
    Ok(vec![
        Timing {
            name: "prefill",
            tokens: work.rows * work.prompt,
            seconds: prefill,
            floor_seconds: floor.seconds(prefill_flops, 4.0 * weights),
        },
        Timing {
            name: "decode",
            tokens: work.rows * (work.new - 1),
            seconds: (whole - prefill).max(1e-9),
            floor_seconds: steps * floor.seconds(step_flops, step_bytes),
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
        let memory = MemoryConfig { recompute_blocks: true, ..MemoryConfig::default() };
        network = network.with_memory(memory);
    }
    let network = network.train();
    let optimizer = Optimizer::new(&OptimizerConfig::default(), &network);
    let count = work.update_rows * work.update_len;
    // One micro-batch a core.
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let seconds = best(tries, || {
        let (network, mut optimizer) = (network.clone(), optimizer.clone());
        drop(supervised_step(network, &mut optimizer, &rows, count.div_ceil(cores)));
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
        seconds,
        floor_seconds: floor.seconds(passes * forward, 0.0),
    })
}

/// Largest resident size of this process so far, where the system says so.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|it| it.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|it| it * 1024)
}
