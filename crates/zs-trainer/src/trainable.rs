//! The copy of a model that is trained.

use burn::module::Module;
use zs_model::{CausalLm, LanguageModel, LoraConfig, LoraError, MemoryConfig};

/// The network of a model as a training copy: all of its weights learn, or adapters on it alone.
///
/// # Errors
///
/// Fails on adapters that the model has no place for.
pub(super) fn trainable(
    model: &LanguageModel,
    lora: Option<&LoraConfig>,
    memory: MemoryConfig,
    seed: u64,
) -> Result<CausalLm, LoraError> {
    let network = match lora {
        Some(lora) => model.network().with_lora(lora, seed)?,
        None => model.network().clone(),
    };
    Ok(network.with_memory(memory).train())
}
