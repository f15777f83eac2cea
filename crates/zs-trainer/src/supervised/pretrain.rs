//! Pre-training from scratch on embedded worlds, in phases, with examples made ahead of time.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};

use burn::module::Module;
use serde::{Deserialize, Serialize};
use zs_core::StreamKey;
use zs_data::{JsonLinesWriter, read_json, write_atomic, write_json};
use zs_model::{
    Architecture, CausalLm, LanguageModel, ModelConfig, Optimizer, OptimizerConfig, TokenRow,
    Tokenizer, supervised_step,
};
use zs_simulator::pretraining::{ExampleError, generate_examples};
use zs_world::{Split, World};

use super::card;
use super::probe::CopyProbe;
use crate::checkpoint::Checkpoints;
use crate::config::{ModelShape, Phase, PretrainConfig, load, note_renamed_keys};
use crate::console::Progress;
use crate::files::{RunDir, SUMMARY};
use crate::metrics::{Metrics, Timings};
use crate::run_dir_error::RunDirError;
use crate::unchanged::check_unchanged;
use crate::weights::STATE;
use crate::{LoadError, RunContext, TrainError};

/// Names of the parts of a checkpoint.
const MODEL: &str = "model";
const OPTIMIZER: &str = "optimizer.bpk";

/// The newest checkpoints that are kept; the second is there for a newest one that is damaged.
const KEEP_LAST: usize = 2;

/// Progress of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// Steps done.
    pub(crate) step: usize,
    /// Tokens seen, prompts and documents included.
    pub(crate) tokens: u64,
    /// The last loss.
    pub(crate) loss: f64,
    /// The last measured share of names copied.
    pub(crate) copy_accuracy: f64,
}

/// Trains a model from scratch, writing metrics and checkpoints into `run`.
///
/// `command` is the command that the model card names. With `resume`, it resumes from the newest
/// complete checkpoint, with the same bytes as an uninterrupted run.
///
/// # Errors
///
/// Fails when examples cannot be made, training diverges or a file cannot be written.
pub fn pretrain(
    config: &PretrainConfig,
    command: &str,
    run: &RunDir,
    resume: bool,
    context: &RunContext,
) -> Result<LanguageModel, TrainError> {
    let devices = context.devices.all();
    let device = context.devices.first();
    let tokenizer = zs_simulator::pretraining::preset_tokenizer(config.world);
    let checkpoints = Checkpoints::of(run, KEEP_LAST);
    let checkpoint = match resume {
        true => checkpoints.newest_recorded(run, context)?.map(|(_, dir)| dir),
        false => None,
    };
    let (initial, mut state) = match &checkpoint {
        Some(dir) => {
            let model = LanguageModel::load(&dir.join(MODEL), device);
            (model.map_err(RunDirError::from)?, read_json(&dir.join(STATE))?)
        }
        None => {
            let shape = model_config(config.model, &tokenizer)?;
            let model = LanguageModel::initialize(shape, tokenizer.clone(), config.seed, device);
            (model, State::default())
        }
    };
    let initial = initial.with_devices(&devices);
    let lines = |name: &str| match resume {
        true => JsonLinesWriter::resume(&run.join(name), state.step),
        false => run.json_lines(name),
    };
    let mut metrics_file = lines("metrics.jsonl")?;
    let mut timings = match resume {
        true => Timings::resume(run, 1, state.step)?,
        false => Timings::create(run)?,
    };
    let unseen = config.world.generate(config.seed, Split::Validation);
    let probe = CopyProbe::new(&unseen, config.probe.questions, config.seed, &tokenizer)
        .map_err(LoadError::from)?;
    let seeds = config.first_world_seed..config.first_world_seed + config.worlds as u64;
    let worlds: Vec<World> = seeds.map(|it| config.world.generate(it, Split::Train)).collect();

    let total: usize = config.phases.iter().map(|it| it.steps).sum();
    let progress = context.progress("pre-training", total);
    progress.advance(state.step, "resumed");
    let mut network = initial.network().clone().train();
    let mut first_step = 0;
    for (index, phase) in config.phases.iter().enumerate() {
        let done = state.step.saturating_sub(first_step).min(phase.steps);
        first_step += phase.steps;
        if done == phase.steps {
            continue;
        }
        let optimizer_config = optimizer_config(config, phase);
        let optimizer = match &checkpoint {
            Some(dir) if done > 0 => {
                Optimizer::load(&optimizer_config, &network, &dir.join(OPTIMIZER))
                    .map_err(RunDirError::from)?
            }
            _ => Optimizer::new(&optimizer_config, &network),
        };
        let checkpoints = &checkpoints;
        let mut trainer =
            Trainer { config, checkpoints, initial: &initial, probe: &probe, total, optimizer };
        network = std::thread::scope(|scope| {
            // One chunk waits while the next is made, so training never does.
            let (send, chunks) = sync_channel(1);
            let (worlds, tokenizer) = (&worlds, &tokenizer);
            scope.spawn(move || {
                for chunk in 0.. {
                    let key = StreamKey {
                        step: chunk,
                        turn: index as u32,
                        ..StreamKey::new(config.seed)
                    };
                    let examples = generate_examples(
                        worlds,
                        tokenizer,
                        &phase.mix,
                        &phase.behaviours,
                        config.chunk_examples,
                        key,
                    );
                    if send.send(examples).is_err() {
                        break;
                    }
                }
            });
            let mut batches = Batches::new(chunks, config.tokens_per_step);
            for _ in 0..done {
                batches.next()?;
            }
            for _ in done..phase.steps {
                let rows = batches.next()?;
                let metrics;
                (network, metrics) = trainer.step(network, &rows, phase, &mut state)?;
                context.health.check()?;
                timings.lap("step");
                metrics_file.push(&metrics)?;
                timings.end_step(state.step)?;
                if state.step.is_multiple_of(config.checkpoint_every) {
                    metrics_file.sync()?;
                    timings.sync()?;
                    trainer.checkpoint(&network, state)?;
                }
                report(progress.as_ref(), state);
            }
            Ok::<_, TrainError>(network)
        })?;
    }
    let model = initial.with_network(&network);
    let out = run.join("checkpoints/final");
    model.save(&out)?;
    write_atomic(&out.join("README.md"), card::write(config, command, &model, state).as_bytes())?;
    progress.finish(&format!("loss {:.3}, copies {:.2}", state.loss, state.copy_accuracy));
    run.write_json(
        SUMMARY,
        &serde_json::json!({ "kind": "pretrain", "seed": config.seed, "state": state }),
    )?;
    Ok(model)
}

fn report(progress: &dyn Progress, state: State) {
    let State { loss, tokens, copy_accuracy, .. } = state;
    let millions = tokens as f64 / 1e6;
    progress
        .advance(1, &format!("loss {loss:.3}, {millions:.2} M tokens, copies {copy_accuracy:.2}"));
}

/// Shared state of the steps of a phase.
struct Trainer<'a> {
    config: &'a PretrainConfig,
    checkpoints: &'a Checkpoints,
    initial: &'a LanguageModel,
    probe: &'a CopyProbe,
    total: usize,
    optimizer: Optimizer,
}

impl Trainer<'_> {
    fn step(
        &mut self,
        network: CausalLm,
        rows: &[TokenRow],
        phase: &Phase,
        state: &mut State,
    ) -> Result<(CausalLm, Metrics), TrainError> {
        let tokens = self.config.micro_batch_tokens;
        let (network, stats) = supervised_step(network, &mut self.optimizer, rows, tokens);
        state.step += 1;
        state.tokens += rows.iter().map(|it| it.tokens.len() as u64).sum::<u64>();
        state.loss = stats.loss;
        if !stats.loss.is_finite() {
            return Err(TrainError::NonFiniteLoss { step: state.step, loss: stats.loss });
        }
        let mut metrics = Metrics::of_step(state.step);
        metrics.set_word("pretrain/phase", &phase.name);
        metrics.set("pretrain/loss", stats.loss);
        metrics.set("pretrain/tokens", state.tokens as f64);
        metrics.set("pretrain/grad_norm", stats.grad_norm);
        metrics.set("pretrain/lr", stats.learning_rate);
        if state.step.is_multiple_of(self.config.probe.every) || state.step == self.total {
            state.copy_accuracy = self.probe.accuracy(&network.valid(), tokens);
            metrics.set("pretrain/copy_accuracy", state.copy_accuracy);
        }
        Ok((network, metrics))
    }

    fn checkpoint(&self, network: &CausalLm, state: State) -> Result<(), RunDirError> {
        self.checkpoints.write(state.step, None, |dir| {
            self.initial.with_network(network).save(&dir.join(MODEL))?;
            self.optimizer.save(&dir.join(OPTIMIZER))?;
            Ok(write_json(&dir.join(STATE), &state)?)
        })
    }
}

/// Optimiser configuration of a phase; every phase starts with a fresh optimiser.
fn optimizer_config(config: &PretrainConfig, phase: &Phase) -> OptimizerConfig {
    OptimizerConfig {
        learning_rate: config.optimizer.learning_rate * phase.learning_rate_factor,
        schedule: phase.schedule,
        total_steps: phase.steps,
        ..config.optimizer.clone()
    }
}

type Chunk = Result<Vec<TokenRow>, ExampleError>;

/// Chunks of examples, cut into steps.
struct Batches {
    chunks: Receiver<Chunk>,
    rows: VecDeque<TokenRow>,
    tokens: usize,
}

impl Batches {
    fn new(chunks: Receiver<Chunk>, tokens: usize) -> Self {
        Self { chunks, rows: VecDeque::new(), tokens }
    }

    /// The next rows, at least one with something to learn, until they hold `tokens` tokens.
    fn next(&mut self) -> Result<Vec<TokenRow>, LoadError> {
        let mut batch: Vec<TokenRow> = Vec::new();
        let (mut num_tokens, mut learns) = (0, false);
        while num_tokens < self.tokens || !learns {
            match self.rows.pop_front() {
                Some(row) => {
                    num_tokens += row.tokens.len();
                    learns |= row.loss_mask.contains(&true);
                    batch.push(row);
                }
                None => self.rows.extend(self.chunks.recv()??),
            }
        }
        Ok(batch)
    }
}

/// The configuration of a model over the vocabulary of embedded worlds.
///
/// # Errors
///
/// Fails when the tokenizer is not a world's.
pub fn model_config(shape: ModelShape, tokenizer: &Tokenizer) -> Result<ModelConfig, LoadError> {
    let token = |name: &str| {
        tokenizer.token_id(name).ok_or_else(|| {
            let (tokenizer, token) = (tokenizer.source().to_owned(), name.to_owned());
            LoadError::MissingToken { tokenizer, token }
        })
    };
    Ok(ModelConfig {
        architecture: Architecture::Llama,
        vocab_size: tokenizer.vocab_size(),
        hidden_size: shape.hidden_size,
        intermediate_size: shape.intermediate_size,
        num_hidden_layers: shape.num_hidden_layers,
        num_attention_heads: shape.num_attention_heads,
        num_key_value_heads: shape.num_key_value_heads,
        head_dim: shape.hidden_size / shape.num_attention_heads,
        max_position_embeddings: shape.max_position_embeddings,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        no_rope_layers: Vec::new(),
        qkv_bias: false,
        output_bias: false,
        tie_word_embeddings: true,
        bos_token_id: Some(token(zs_world::BOS_TOKEN)?),
        eos_token_ids: vec![token(zs_world::EOS_TOKEN)?],
    })
}

/// Pre-trains as a run file says.
///
/// # Errors
///
/// Fails on anything wrong with the run file, or when the run directory is not as expected.
pub fn from_file(file: &Path, resume: bool, context: &RunContext) -> Result<(), TrainError> {
    note_renamed_keys(file, &mut |it| context.note(it));
    let config: PretrainConfig = load(file, &context.components)?;
    let run = if resume {
        let run = RunDir::open_unfinished(&config.out)?;
        check_unchanged(&run, file, &config, &context.components)?;
        run
    } else {
        let run = RunDir::create(&config.out)?;
        run.write_config(&config)?;
        run
    };
    let made_by = format!("cargo xtask pretrain {}", file.display());
    pretrain(&config, &made_by, &run, resume, context)?;
    context.note(&format!("wrote {}", run.join("checkpoints/final").display()));
    Ok(())
}
