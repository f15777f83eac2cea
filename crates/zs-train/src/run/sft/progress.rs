//! How far fine-tuning is, in memory and in checkpoints.

use std::path::Path;

use anyhow::{Context, Result};
use burn::module::Module;
use serde::{Deserialize, Serialize};
use zs_model::{CausalLm, LanguageModel, MemoryConfig, Optimizer, OptimizerConfig};

use crate::config::EarlyStopConfig;

/// What a checkpoint holds.
const NETWORK: &str = "model";
const BEST: &str = "best";
const OPTIMIZER: &str = "optimizer.bpk";
const STATE: &str = "state.json";

/// How far a run is, but for weights and moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Steps done.
    pub(super) step: usize,
    /// Rows taken from the shuffled order.
    pub(super) rows_taken: usize,
    /// The last loss.
    pub(super) loss: f64,
    /// Evaluations since the lowest validation loss.
    pub(super) num_stale: usize,
    /// Step and value of the lowest validation loss, where it is watched.
    pub(super) best: Option<BestLoss>,
}

/// The lowest validation loss so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BestLoss {
    pub(super) step: usize,
    pub(super) loss: f64,
}

/// A run at one moment: all that it goes on from.
pub(super) struct Progress {
    pub(super) state: State,
    /// The training copy, adapters unmerged.
    pub(super) network: CausalLm,
    pub(super) optimizer: Optimizer,
    /// The network of the lowest validation loss, where it is watched.
    pub(super) best: Option<CausalLm>,
}

impl Progress {
    /// A run that has not begun.
    pub(super) fn new(network: CausalLm, optimizer: &OptimizerConfig) -> Self {
        let optimizer = Optimizer::new(optimizer, &network);
        Self { state: State::default(), network, optimizer, best: None }
    }

    /// The run as it was [saved](Self::save), of the same base and the same settings.
    ///
    /// # Errors
    ///
    /// Fails, naming the file, on what is missing or belongs to another model.
    pub(super) fn load(
        dir: &Path,
        base: &LanguageModel,
        memory: MemoryConfig,
        optimizer: &OptimizerConfig,
    ) -> Result<Self> {
        let path = dir.join(STATE);
        let context = || path.display().to_string();
        let text = std::fs::read(&path).with_context(context)?;
        let state: State = serde_json::from_slice(&text).with_context(context)?;
        let network = load_network(&dir.join(NETWORK), base)?.with_memory(memory).train();
        let optimizer = Optimizer::load(optimizer, &network, &dir.join(OPTIMIZER))?;
        let best = match state.best {
            Some(_) => Some(load_network(&dir.join(BEST), base)?.with_memory(memory)),
            None => None,
        };
        Ok(Self { state, network, optimizer, best })
    }

    /// Writes everything into the directory of a checkpoint.
    ///
    /// # Errors
    ///
    /// Fails when a file cannot be written.
    pub(super) fn save(&self, dir: &Path, base: &LanguageModel) -> Result<()> {
        save_network(&self.network, &dir.join(NETWORK), base)?;
        self.optimizer.save(&dir.join(OPTIMIZER))?;
        if let Some(best) = &self.best {
            save_network(best, &dir.join(BEST), base)?;
        }
        Ok(std::fs::write(dir.join(STATE), serde_json::to_vec_pretty(&self.state)?)?)
    }

    /// Keeps the network where its validation loss is the lowest so far.
    pub(super) fn observe(&mut self, loss: f64, network: &CausalLm, config: EarlyStopConfig) {
        let lowest = self.state.best.map_or(f64::INFINITY, |it| it.loss);
        if loss < lowest - config.min_delta {
            self.state.best = Some(BestLoss { step: self.state.step, loss });
            self.state.num_stale = 0;
            self.best = Some(network.clone());
        } else {
            self.state.num_stale += 1;
        }
    }

    /// Whether there has been no progress for too long.
    pub(super) fn is_stale(&self, config: Option<EarlyStopConfig>) -> bool {
        config.is_some_and(|it| self.state.num_stale >= it.patience)
    }
}

/// A network to go on from: adapters alone where it has any, since the base does not change.
fn save_network(network: &CausalLm, dir: &Path, base: &LanguageModel) -> Result<()> {
    let model = base.with_network(network);
    match network.lora_config() {
        Some(_) => model.save_adapter(dir, "")?,
        None => model.save(dir)?,
    }
    Ok(())
}

fn load_network(dir: &Path, base: &LanguageModel) -> Result<CausalLm> {
    let model = match dir.join("adapter_config.json").exists() {
        true => base.with_adapter_from(dir)?,
        false => LanguageModel::load(dir, &base.device())?,
    };
    Ok(model.network().clone())
}
