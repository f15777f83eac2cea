//! Progress of fine-tuning, in memory and in checkpoints.

use std::path::Path;

use burn::module::Module;
use serde::{Deserialize, Serialize};
use zs_data::{read_json, write_json};
use zs_model::{CausalLm, LanguageModel, MemoryConfig, Optimizer, OptimizerConfig};

use crate::config::EarlyStopConfig;
use crate::run_dir_error::RunDirError;
use crate::weights::{STATE, load_weights, save_weights};

/// Names of the parts of a checkpoint.
const NETWORK: &str = "model";
const BEST: &str = "best";
const OPTIMIZER: &str = "optimizer.bpk";

/// Progress of a run, without weights and moments.
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

/// State of a run at one step, from which it resumes.
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
    ) -> Result<Self, RunDirError> {
        let state: State = read_json(&dir.join(STATE))?;
        let network = |name: &str| {
            let model = load_weights(&dir.join(name), base)?;
            Ok::<_, RunDirError>(model.network().clone().with_memory(memory))
        };
        let best = state.best.map(|_| network(BEST)).transpose()?;
        let network = network(NETWORK)?.train();
        let optimizer = Optimizer::load(optimizer, &network, &dir.join(OPTIMIZER))?;
        Ok(Self { state, network, optimizer, best })
    }

    /// Writes everything into the directory of a checkpoint.
    ///
    /// # Errors
    ///
    /// Fails when a file cannot be written.
    pub(super) fn save(&self, dir: &Path, base: &LanguageModel) -> Result<(), RunDirError> {
        save_weights(&base.with_network(&self.network), &dir.join(NETWORK))?;
        self.optimizer.save(&dir.join(OPTIMIZER))?;
        if let Some(best) = &self.best {
            save_weights(&base.with_network(best), &dir.join(BEST))?;
        }
        Ok(write_json(&dir.join(STATE), &self.state)?)
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

    /// Returns true if there has been no progress for too long.
    pub(super) fn is_stale(&self, config: Option<EarlyStopConfig>) -> bool {
        config.is_some_and(|it| self.state.num_stale >= it.patience)
    }
}
