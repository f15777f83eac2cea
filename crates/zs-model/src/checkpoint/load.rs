//! A network from the weights of a model directory.

use std::path::Path;

use burn::tensor::Device;

use super::{CheckpointError, WeightFiles, fill};
use crate::{CausalLm, ModelConfig};

/// Loads the weights of a model directory, tensor by tensor: beside the network itself, a part of one
/// tensor's file is in memory at a time.
pub(crate) fn load_network(
    dir: &Path,
    config: &ModelConfig,
    device: &Device,
) -> Result<CausalLm, CheckpointError> {
    let mut files = WeightFiles::open_model(dir)?;
    let network = fill(CausalLm::zeros(config, device), |entry| files.take(entry).map(Some))?;
    // Some exports keep what follows from other tensors: the frequencies of the rotary embedding,
    // and a copy of a tied head.
    files.finish(|name| {
        name.ends_with("rotary_emb.inv_freq")
            || (config.tie_word_embeddings && name == "lm_head.weight")
    })?;
    Ok(network)
}
