//! Loading of a network from a model directory.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;

use super::{CheckpointError, WeightFiles, fill, fill_at, tensor_shapes};
use crate::network::Block;
use crate::{CausalLm, MemoryConfig, ModelConfig};

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// Loads the weights of a model directory tensor by tensor. Besides the network, only a chunk of
/// one tensor's file is in memory at a time.
pub(crate) fn load_network(
    dir: &Path,
    config: &ModelConfig,
    device: &Device,
) -> Result<CausalLm, CheckpointError> {
    let files = open_network(dir, config)?;
    check_tied_head(&files, config)?;
    fill_module(files, CausalLm::zeros(config, device), |name| is_redundant(config, name))
}

/// Loads the weights of a model directory as sampling wants them, block by block: besides the network
/// and what [`load_network`] holds, one block in f32.
pub(crate) fn load_for_sampling(
    dir: &Path,
    config: &ModelConfig,
    memory: MemoryConfig,
    device: &Device,
) -> Result<CausalLm, CheckpointError> {
    let mut files = open_network(dir, config)?;
    let rest = CausalLm::without_blocks(config, device).with_memory(memory);
    let mut network = fill(rest, |entry| files.take(entry).map(Some))?.for_sampling();
    for index in 0..config.num_hidden_layers {
        let block = Block::zeros(config, index, device);
        let path = format!("model.layers.{index}");
        let block = fill_at(&path, block, |entry| files.take(entry).map(Some))?;
        network.push_for_sampling(block);
    }
    files.finish(|name| is_redundant(config, name))?;
    Ok(network)
}

/// Opens the weights of a model directory, whose tensors are those that the configuration calls for.
pub(crate) fn open_network(
    dir: &Path,
    config: &ModelConfig,
) -> Result<WeightFiles, CheckpointError> {
    let files = WeightFiles::open_model(dir)?;
    files.check(tensor_shapes(config))?;
    Ok(files)
}

/// Fails where the file has a head of its own although the configuration ties it to the embedding.
pub(crate) fn check_tied_head(
    files: &WeightFiles,
    config: &ModelConfig,
) -> Result<(), CheckpointError> {
    match files.path_of(HEAD) {
        Some(path) if config.tie_word_embeddings && !files.are_equal(HEAD, EMBEDDING)? => {
            Err(CheckpointError::TiedHead { path: path.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Returns true for the redundant tensors of some exports: rotary frequencies, and a copy of a tied
/// head.
pub(crate) fn is_redundant(config: &ModelConfig, name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq") || (config.tie_word_embeddings && name == HEAD)
}

/// Fills a module from the weights of a directory. `is_ignored` selects tensors that may be present
/// without a parameter.
pub(crate) fn load_module<M: Module>(
    dir: &Path,
    module: M,
    is_ignored: impl Fn(&str) -> bool,
) -> Result<M, CheckpointError> {
    fill_module(WeightFiles::open_model(dir)?, module, is_ignored)
}

fn fill_module<M: Module>(
    mut files: WeightFiles,
    module: M,
    is_ignored: impl Fn(&str) -> bool,
) -> Result<M, CheckpointError> {
    let module = fill(module, |entry| files.take(entry).map(Some))?;
    files.finish(is_ignored)?;
    Ok(module)
}
