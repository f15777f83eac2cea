//! Weights in a checkpoint: adapters alone where a model has any, since what they are on does not
//! change.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use zs_model::LanguageModel;

/// Writes all weights, or adapters alone and not merged.
///
/// # Errors
///
/// Fails when a file cannot be written.
pub(super) fn save_weights(model: &LanguageModel, dir: &Path) -> Result<()> {
    match model.network().lora_config() {
        Some(_) => Ok(model.save_adapter(dir, "")?),
        None => Ok(model.save(dir)?),
    }
}

/// The model that was [saved](save_weights); adapters are put on `base`.
///
/// # Errors
///
/// Fails, naming the file, on what is missing or malformed.
pub(super) fn load_weights(dir: &Path, base: &LanguageModel) -> Result<LanguageModel> {
    Ok(match dir.join("adapter_config.json").exists() {
        true => base.with_adapter_from(dir)?,
        false => LanguageModel::load(dir, &base.device())?.with_devices(&base.compute_devices()),
    })
}

/// The file of a checkpoint that says how far the run is.
pub(super) const STATE: &str = "state.json";

/// Reads the [`STATE`] of a checkpoint.
///
/// # Errors
///
/// Fails, naming the file, where it is missing or malformed.
pub(super) fn read_state<T: DeserializeOwned>(checkpoint: &Path) -> Result<T> {
    let path = checkpoint.join(STATE);
    let context = || path.display().to_string();
    serde_json::from_slice(&fs::read(&path).with_context(context)?).with_context(context)
}
