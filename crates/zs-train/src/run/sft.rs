//! Supervised fine-tuning of a model on prompts and completions, e.g. into the simulation LLM.

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::module::Module;
use serde::Deserialize;
use zs_core::StreamKey;
use zs_model::{
    CausalLm, Generator, LanguageModel, Optimizer, OptimizerConfig, TokenId, TokenRow, Tokenizer,
    supervised_loss, supervised_step,
};
use zs_simulator::tuning::{read_records, split_by_label, tuning_examples, world_tuning_examples};
use zs_simulator::world::{Example, Split, World};

use super::{EpochOrder, Metrics, Timings, pack, trainable};
use crate::config::{
    EarlyStopConfig, RecordedSearches, ReplyContents, SftConfig, SftData, TuningConfig,
    WorldExamples, load,
};
use crate::console::Console;
use crate::files::{RunDir, SUMMARY};
use crate::{device, source};

/// Rows to learn from and rows to watch.
#[derive(Clone, Debug)]
pub struct TuningRows {
    /// What is learned.
    pub train: Vec<TokenRow>,
    /// What the validation loss is computed on; may be empty.
    pub validation: Vec<TokenRow>,
}

/// Fine-tunes `base`, writing metrics and the checkpoint into `run`.
///
/// Rows are taken in a shuffled order, every row once an epoch, until a step has its tokens. With
/// `early_stop`, the model of the lowest validation loss is returned and saved as `best`.
///
/// # Errors
///
/// Fails without rows, when early stopping has nothing to go by, or when a file cannot be written.
pub fn tune(
    base: &LanguageModel,
    rows: &TuningRows,
    config: &TuningConfig,
    seed: u64,
    run: &RunDir,
    console: &Console,
) -> Result<LanguageModel> {
    if !rows.train.iter().any(|it| it.loss_mask.contains(&true)) {
        bail!("there is no row with a completion to learn");
    }
    let total_steps = match config.optimizer.total_steps {
        0 => config.steps,
        given => given,
    };
    let mut watch = match config.early_stop {
        Some(_) if rows.validation.is_empty() => {
            bail!("`tuning.early_stop` needs validation rows; give some or leave it out")
        }
        it => it.map(EarlyStop::new),
    };
    let packed = config.packing.then(|| pack(&rows.train, base.config().max_position_embeddings));
    let train = packed.as_deref().unwrap_or(&rows.train);
    let mut network = trainable(base, config.lora.as_ref(), config.memory, seed)?;
    let optimizer_config = OptimizerConfig { total_steps, ..config.optimizer.clone() };
    let mut optimizer = Optimizer::new(&optimizer_config, &network);
    let mut metrics_file = run.json_lines("metrics.jsonl")?;
    let mut timings = Timings::create(run)?;
    let mut order = EpochOrder::new(seed, train.len()).walk();
    let (mut last_loss, mut num_steps) = (0.0, 0);
    let progress = console.progress("tuning", config.steps);
    for step in 1..=config.steps {
        let batch = next_batch(train, &mut order, config.tokens_per_step);
        let (updated, stats) =
            supervised_step(network, &mut optimizer, &batch, config.micro_batch_tokens);
        network = updated;
        if !stats.loss.is_finite() {
            bail!("step {step}: the loss is {}; lower the learning rate", stats.loss);
        }
        let mut metrics = Metrics::of_step(step);
        metrics.set("tuning/loss", stats.loss);
        metrics.set("tuning/loss_tokens", stats.num_loss_tokens as f64);
        metrics.set("tuning/grad_norm", stats.grad_norm);
        metrics.set("tuning/lr", stats.learning_rate);
        timings.lap("update");
        if step % config.eval_every == 0 || step == config.steps {
            let network = network.valid();
            let tokens = config.micro_batch_tokens;
            let (loss, count) = supervised_loss(&network, &rows.validation, tokens);
            if count > 0 {
                metrics.set("validation/loss", loss);
            }
            if let Some(watch) = &mut watch {
                watch.observe(step, loss, &network);
            }
            timings.lap("validation");
        }
        last_loss = stats.loss;
        progress.advance(1, &format!("loss {:.3}", stats.loss));
        metrics_file.push(&metrics)?;
        timings.end_step(step)?;
        num_steps = step;
        if watch.as_ref().is_some_and(EarlyStop::is_over) {
            break;
        }
    }
    let tuned = base.with_network(&network);
    tuned.save(&run.join("checkpoints/final"))?;
    progress.finish(&format!("loss {last_loss:.3}"));
    let mut summary = serde_json::json!({
        "kind": "sft", "seed": seed, "steps": num_steps, "rows": rows.train.len(),
        "loss": last_loss,
    });
    let best = watch.and_then(|it| it.best);
    let kept = match &best {
        Some(best) => {
            let kept = base.with_network(&best.network);
            kept.save(&run.join("checkpoints/best"))?;
            summary["best_step"] = best.step.into();
            summary["best_validation_loss"] = best.loss.into();
            kept
        }
        None => tuned,
    };
    run.write_json(SUMMARY, &summary)?;
    Ok(kept)
}

/// The lowest validation loss so far, and how long ago it was.
struct EarlyStop {
    config: EarlyStopConfig,
    best: Option<BestNetwork>,
    num_stale: usize,
}

struct BestNetwork {
    step: usize,
    loss: f64,
    network: CausalLm,
}

impl EarlyStop {
    fn new(config: EarlyStopConfig) -> Self {
        Self { config, best: None, num_stale: 0 }
    }

    fn observe(&mut self, step: usize, loss: f64, network: &CausalLm) {
        let best = self.best.as_ref().map_or(f64::INFINITY, |it| it.loss);
        if loss < best - self.config.min_delta {
            self.best = Some(BestNetwork { step, loss, network: network.clone() });
            self.num_stale = 0;
        } else {
            self.num_stale += 1;
        }
    }

    fn is_over(&self) -> bool {
        self.num_stale >= self.config.patience
    }
}

/// The next rows of the shuffled order, at least one with something to learn, until they hold
/// `tokens` tokens.
pub(super) fn next_batch(
    rows: &[TokenRow],
    order: &mut impl Iterator<Item = usize>,
    tokens: usize,
) -> Vec<TokenRow> {
    let mut batch: Vec<TokenRow> = Vec::new();
    let (mut num_tokens, mut learns) = (0, false);
    while num_tokens < tokens || !learns {
        let Some(index) = order.next() else { break };
        let row = &rows[index];
        num_tokens += row.tokens.len();
        learns |= row.loss_mask.contains(&true);
        batch.push(row.clone());
    }
    batch
}

/// Simulation examples out of embedded worlds, as rows.
///
/// # Errors
///
/// Fails when an example cannot be encoded or exceeds the model's context.
pub fn world_rows(config: &WorldExamples, model: &LanguageModel, seed: u64) -> Result<TuningRows> {
    let templates = source::simulation_templates(&config.templates, Some(model.tokenizer()))?;
    let draw = |worlds: &[World], count: usize, step: u64| {
        let key = StreamKey { step, ..StreamKey::new(seed) };
        let WorldExamples { hops, queries, distractor_loss, .. } = config;
        let examples =
            world_tuning_examples(worlds, &templates, hops, queries, *distractor_loss, count, key)?;
        encode_all(&examples, model)
    };
    let seeds = config.first_seed..config.first_seed + config.worlds as u64;
    let worlds: Vec<World> = seeds.map(|it| World::generate(it, Split::Train)).collect();
    let unseen = [World::generate(config.first_seed, Split::Validation)];
    Ok(TuningRows {
        train: draw(&worlds, config.examples, 0)?,
        validation: draw(&unseen, config.validation_examples, 1)?,
    })
}

/// Simulation examples out of recorded searches, as rows.
fn recorded_rows(
    config: &RecordedSearches,
    model: &LanguageModel,
    seed: u64,
) -> Result<TuningRows> {
    let templates = source::simulation_templates(&config.templates, Some(model.tokenizer()))?;
    let draw = |path: &Path, count: usize, step: u64| {
        let mut records = read_records(path)?;
        if config.replies == ReplyContents::Judged {
            records = split_by_label(&records);
        }
        let key = StreamKey { step, ..StreamKey::new(seed) };
        let examples = tuning_examples(&records, &templates, config.num_documents, count, key)?;
        encode_all(&examples, model).with_context(|| path.display().to_string())
    };
    Ok(TuningRows {
        train: draw(&config.path, config.examples, 0)?,
        validation: match &config.validation {
            Some(path) => draw(path, config.validation_examples, 1)?,
            None => Vec::new(),
        },
    })
}

fn encode_all(examples: &[Example], model: &LanguageModel) -> Result<Vec<TokenRow>> {
    let end = end_token(model)?;
    let rows: Vec<TokenRow> =
        examples.iter().map(|it| it.encode(model.tokenizer(), end)).collect::<Result<_, _>>()?;
    let most = model.config().max_position_embeddings;
    match rows.iter().map(|it| it.tokens.len()).max() {
        Some(longest) if longest > most => {
            bail!("an example has {longest} tokens, which exceeds the model's context of {most}")
        }
        _ => Ok(rows),
    }
}

/// Reads prompts and completions: one JSON object a line, `{"prompt", "completion"}`.
///
/// # Errors
///
/// Fails, naming file and row, on a row that is malformed or longer than the model's context, and
/// when there is no row.
pub fn read_rows(path: &Path, model: &LanguageModel) -> Result<Vec<TokenRow>> {
    #[derive(Deserialize)]
    struct Row {
        prompt: String,
        completion: String,
    }
    let file = path.display();
    let end = end_token(model)?;
    let bytes = std::fs::read(path).with_context(|| format!("{file}: cannot be read"))?;
    let mut rows = Vec::new();
    for (index, line) in bytes.split(|it| *it == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let place = || format!("{file}: row {}", index + 1);
        let line = std::str::from_utf8(line).with_context(place)?;
        let row: Row = serde_json::from_str(line).with_context(place)?;
        let row =
            encode(&row.prompt, &row.completion, model.tokenizer(), end).with_context(place)?;
        let (tokens, most) = (row.tokens.len(), model.config().max_position_embeddings);
        if tokens > most {
            bail!("{}: {tokens} tokens exceed the model's context of {most}", place());
        }
        rows.push(row);
    }
    if rows.is_empty() {
        bail!("{file}: holds no rows");
    }
    Ok(rows)
}

/// Prompt, completion and end of sequence; what comes after the prompt is learned.
fn encode(prompt: &str, completion: &str, tokenizer: &Tokenizer, end: TokenId) -> Result<TokenRow> {
    let mut tokens = tokenizer.encode_prompt(prompt)?;
    let prompt_len = tokens.len().max(1);
    tokens.extend(tokenizer.encode(completion)?);
    tokens.push(end);
    let loss_mask = (0..tokens.len()).map(|it| it >= prompt_len).collect();
    Ok(TokenRow { tokens, loss_mask })
}

fn end_token(model: &LanguageModel) -> Result<TokenId> {
    let end = model.config().eos_token_ids.first().copied();
    end.context("the model's config.json has no `eos_token_id` to end completions with")
}

/// `zs sft RUN.toml`.
///
/// # Errors
///
/// Fails on anything wrong with the run file or what it names, before the run directory is made.
pub fn command(path: &Path, console: &Console) -> Result<()> {
    let config: SftConfig = load(path)?;
    RunDir::check_free(&config.out)?;
    let base = source::load_model(&config.base, &device::select())?;
    let rows = match &config.data {
        SftData::World(data) => world_rows(data, &base, config.seed)?,
        SftData::Searches(data) => recorded_rows(data, &base, config.seed)?,
        SftData::File { train, validation } => TuningRows {
            train: read_rows(train, &base)?,
            validation: match validation {
                Some(path) => read_rows(path, &base)?,
                None => Vec::new(),
            },
        },
    };
    let run = RunDir::create(&config.out)?;
    run.write_config(&config)?;
    tune(&base, &rows, &config.tuning, config.seed, &run, console)?;
    console.note(&format!("wrote {}", run.path().display()));
    Ok(())
}
