//! Arguments for models that are sampled only.

use std::path::Path;

use anyhow::Result;
use clap::{Args, ValueEnum};
use zs_model::{ComputeDtype, MemoryConfig, SamplingModel};
use zs_trainer::{RunContext, source};

/// Sampling of the model.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct SamplingArgs {
    /// Data type of the model's matrix products and of its weights in memory: f32, bf16, or auto for
    /// bf16 where the device multiplies it faster.
    #[arg(long, value_enum, default_value_t, value_name = "DTYPE")]
    pub compute_dtype: ComputeDtypeArg,
    /// Sample on a CPU so that a completion is bit-exact whatever the rest of the batch is; costs a
    /// second copy of the weights and a slower prefill.
    #[arg(long)]
    pub batch_invariant: bool,
}

/// [`ComputeDtype`] as an argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ComputeDtypeArg {
    /// f32.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
    /// bfloat16 where it is faster.
    Auto,
}

impl SamplingArgs {
    /// Data type of matrix products.
    #[must_use]
    pub fn dtype(self) -> ComputeDtype {
        match self.compute_dtype {
            ComputeDtypeArg::F32 => ComputeDtype::F32,
            ComputeDtypeArg::Bf16 => ComputeDtype::Bf16,
            ComputeDtypeArg::Auto => ComputeDtype::Auto,
        }
    }

    /// Loads a model directory onto the devices.
    ///
    /// # Errors
    ///
    /// Fails on anything missing or malformed.
    pub(crate) fn load(self, dir: &Path, context: &RunContext) -> Result<SamplingModel> {
        let batch_invariant = self.batch_invariant;
        let memory = MemoryConfig { batch_invariant, ..self.dtype().into() };
        Ok(source::load_for_sampling(dir, &context.devices.all(), memory)?)
    }
}
