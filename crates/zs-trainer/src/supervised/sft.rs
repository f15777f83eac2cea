//! Supervised fine-tuning of a model: on prompts and completions, e.g. into the simulation LLM, and on
//! whole episodes, e.g. as the cold start of a policy.

mod describe;
mod progress;
mod rows;

use std::path::Path;

use burn::module::Module;
use zs_data::JsonLinesWriter;
use zs_model::{LanguageModel, OptimizerConfig, TokenRow, supervised_loss, supervised_step};

use super::packing::pack;
use crate::checkpoint::Checkpoints;
use crate::config::{Assignment, SftConfig, SftData, TuningConfig, load_with, note_renamed_keys};
use crate::files::{RunDir, SUMMARY};
use crate::metrics::{Metrics, Timings};
use crate::order::EpochOrder;
use crate::trainable::trainable;
use crate::unchanged::check_unchanged;
use crate::{LoadError, RunContext, TrainError, source};

pub use self::rows::{TuningRows, read_rows, world_rows};

use self::progress::{Progress, State};

/// The newest checkpoints that are kept; the second is there for a newest one that is damaged.
const KEEP_LAST: usize = 2;

/// Fine-tunes `base`, writing metrics and the checkpoint into `run`.
///
/// Rows are taken in a shuffled order, every row once an epoch, until a step has its tokens. With
/// `early_stop`, the model of the lowest validation loss is returned and saved as `best`. With
/// `resume`, resumes from the newest complete checkpoint, to the same bytes as an uninterrupted run.
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
    resume: bool,
    context: &RunContext,
) -> Result<LanguageModel, TrainError> {
    if !rows.train.iter().any(|it| it.loss_mask.contains(&true)) {
        return Err(TrainError::NoCompletions);
    }
    let total_steps = match config.optimizer.total_steps {
        0 => config.steps,
        given => given,
    };
    if config.early_stop.is_some() && rows.validation.is_empty() {
        return Err(TrainError::NoValidationRows);
    }
    let packed = config.packing.then(|| pack(&rows.train, base.config().max_position_embeddings));
    let train = packed.as_deref().unwrap_or(&rows.train);
    let optimizer = OptimizerConfig { total_steps, ..config.optimizer.clone() };
    let checkpoints = Checkpoints::of(run, KEEP_LAST);
    let checkpoint = match resume {
        true => checkpoints.newest_recorded(run, context)?,
        false => None,
    };
    let mut at = match checkpoint {
        Some((_, dir)) => Progress::load(&dir, base, config.memory, &optimizer)?,
        None => {
            let network = trainable(base, config.lora.as_ref(), config.memory, seed)?;
            Progress::new(network, &optimizer)
        }
    };
    let lines = |name: &str| match resume {
        true => JsonLinesWriter::resume(&run.join(name), at.state.step),
        false => run.json_lines(name),
    };
    let mut metrics_file = lines("metrics.jsonl")?;
    let mut timings = match resume {
        true => Timings::resume(run, 1, at.state.step)?,
        false => Timings::create(run)?,
    };
    let mut order = EpochOrder::new(seed, train.len()).walk().skip(at.state.rows_taken);
    let progress = context.progress("tuning", config.steps);
    progress.advance(at.state.step, "resumed");
    while at.state.step < config.steps && !at.is_stale(config.early_stop) {
        let batch = next_batch(train, &mut order, config.tokens_per_step);
        let (network, stats) =
            supervised_step(at.network, &mut at.optimizer, &batch, config.micro_batch_tokens);
        at.network = network;
        at.state.step += 1;
        at.state.rows_taken += batch.len();
        at.state.loss = stats.loss;
        let step = at.state.step;
        context.health.check()?;
        if !stats.loss.is_finite() {
            return Err(TrainError::NonFiniteLoss { step, loss: stats.loss });
        }
        let mut metrics = Metrics::of_step(step);
        metrics.set("tuning/loss", stats.loss);
        metrics.set("tuning/loss_tokens", stats.num_loss_tokens as f64);
        metrics.set("tuning/grad_norm", stats.grad_norm);
        metrics.set("tuning/lr", stats.learning_rate);
        timings.lap("update");
        if step.is_multiple_of(config.eval_every) || step == config.steps {
            let network = at.network.valid();
            let tokens = config.micro_batch_tokens;
            let (loss, count) = supervised_loss(&network, &rows.validation, tokens);
            if count > 0 {
                metrics.set("validation/loss", loss);
            }
            if let Some(early_stop) = config.early_stop {
                at.observe(loss, &network, early_stop);
            }
            timings.lap("validation");
        }
        progress.advance(1, &format!("loss {:.3}", stats.loss));
        metrics_file.push(&metrics)?;
        timings.end_step(step)?;
        if config.checkpoint_every > 0 && step.is_multiple_of(config.checkpoint_every) {
            metrics_file.sync()?;
            timings.sync()?;
            checkpoints.write(step, None, |dir| at.save(dir, base))?;
        }
    }
    let State { step, loss, best, .. } = at.state;
    let tuned = base.with_network(&at.network);
    tuned.save(&run.join("checkpoints/final"))?;
    progress.finish(&format!("loss {loss:.3}"));
    let mut summary = serde_json::json!({
        "kind": "sft", "seed": seed, "steps": step, "rows": rows.train.len(), "loss": loss,
    });
    if !rows.left_out.is_empty() {
        summary["left_out"] = rows.left_out.len().into();
    }
    let kept = match best.zip(at.best) {
        Some((best, network)) => {
            let kept = base.with_network(&network);
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

/// The next rows of the shuffled order, at least one with something to learn, until they hold
/// `tokens` tokens.
pub(crate) fn next_batch(
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

/// Lines about episodes that are shown before a run.
const MAX_LINES: usize = 20;

/// Fine-tunes as a run file says, with some of its keys set to other values.
///
/// # Errors
///
/// Fails on anything wrong with the run file or what it names, before the run directory is made, and
/// when the run directory is not as expected.
pub fn from_file(
    file: &Path,
    set: &[Assignment],
    resume: bool,
    context: &RunContext,
) -> Result<(), TrainError> {
    note_renamed_keys(file, &mut |it| context.note(it));
    let config: SftConfig = load_with(file, set, &context.components)?;
    let resumed = match resume {
        true => Some(RunDir::open_unfinished(&config.out)?),
        false => RunDir::check_free(&config.out).map(|()| None)?,
    };
    let base = source::load_policy(&config.base, context)?;
    let rows = TuningRows::read(&config.data, &base, config.seed)?;
    report(&rows, &config.data, context)?;
    let run = match resumed {
        Some(run) => {
            check_unchanged(&run, file, &config, &context.components)?;
            run
        }
        None => {
            let run = RunDir::create(&config.out)?;
            run.write_config(&config)?;
            run
        }
    };
    tune(&base, &rows, &config.tuning, config.seed, &run, resume, context)?;
    context.note(&format!("wrote {}", run.path().display()));
    Ok(())
}

/// Rows and steps of a run, and its first row, as text. Nothing is written.
///
/// # Errors
///
/// Fails on anything wrong with the run file or what it names.
pub fn describe(
    file: &Path,
    set: &[Assignment],
    context: &RunContext,
) -> Result<String, TrainError> {
    note_renamed_keys(file, &mut |it| context.note(it));
    let config: SftConfig = load_with(file, set, &context.components)?;
    let base = source::load_policy(&config.base, context)?;
    let rows = TuningRows::read(&config.data, &base, config.seed)?;
    Ok(describe::text(&config, &base, &rows))
}

/// Says what is wrong with rows.
///
/// # Errors
///
/// Fails where rows cannot be used and the run file does not allow to leave them out.
fn report(rows: &TuningRows, data: &SftData, context: &RunContext) -> Result<(), LoadError> {
    let left_out = &rows.left_out;
    left_out.iter().take(MAX_LINES).for_each(|it| context.note(it));
    if left_out.len() > MAX_LINES {
        let more = left_out.len() - MAX_LINES;
        context.note(&format!("… and {more} more; `zs sft --dry-run` lists all"));
    }
    if rows.num_cut_results > 0 {
        context.note(&format!(
            "{} search results are not shown in full, by `num_documents` or \
             `max_observation_tokens`",
            rows.num_cut_results
        ));
    }
    let may_skip = matches!(data, SftData::Trajectories(it) if it.skip_bad_rows);
    let used = rows.train.len() + rows.validation.len();
    match left_out.len() {
        0 => Ok(()),
        count if may_skip => {
            context.note(&format!("{count} of {} episodes left out", used + count));
            Ok(())
        }
        count => Err(LoadError::UnusableEpisodes { count, total: used + count }),
    }
}
