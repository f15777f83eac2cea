//! Loading of a network from a model directory.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;

use super::{CheckpointError, WeightFiles, fill};
use crate::{CausalLm, ModelConfig};

/// Loads the weights of a model directory tensor by tensor. Besides the network, only a chunk of
/// one tensor's file is in memory at a time.
pub(crate) fn load_network(
    dir: &Path,
    config: &ModelConfig,
    device: &Device,
) -> Result<CausalLm, CheckpointError> {
    // Some exports contain redundant tensors: rotary frequencies, and a copy of a tied head.
    load_module(dir, CausalLm::zeros(config, device), |name| {
        name.ends_with("rotary_emb.inv_freq")
            || (config.tie_word_embeddings && name == "lm_head.weight")
    })
}

/// Fills a module from the weights of a directory. `is_ignored` selects tensors that may be present
/// without a parameter.
pub(crate) fn load_module<M: Module>(
    dir: &Path,
    module: M,
    is_ignored: impl Fn(&str) -> bool,
) -> Result<M, CheckpointError> {
    let mut files = WeightFiles::open_model(dir)?;
    let module = fill(module, |entry| files.take(entry).map(Some))?;
    files.finish(is_ignored)?;
    Ok(module)
}
