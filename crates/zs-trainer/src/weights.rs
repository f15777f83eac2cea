//! Weights in a checkpoint: adapters alone where a model has any, since what they are on does not
//! change.

use std::path::Path;

use zs_model::{LanguageModel, SaveError};

use crate::run_dir_error::RunDirError;

/// Writes all weights, or adapters alone and not merged.
///
/// # Errors
///
/// Fails when a file cannot be written.
pub(super) fn save_weights(model: &LanguageModel, dir: &Path) -> Result<(), SaveError> {
    match model.network().lora_config() {
        Some(_) => model.save_adapter(dir, ""),
        None => model.save(dir),
    }
}

/// The model that was [saved](save_weights); adapters are put on `base`.
///
/// # Errors
///
/// Fails, naming the file, on what is missing or malformed.
pub(super) fn load_weights(dir: &Path, base: &LanguageModel) -> Result<LanguageModel, RunDirError> {
    Ok(match dir.join("adapter_config.json").exists() {
        true => base.with_adapter_from(dir)?,
        false => LanguageModel::load(dir, &base.device())?.with_devices(&base.compute_devices()),
    })
}

/// Directory of a checkpoint with the policy.
pub(super) const POLICY: &str = "policy";

/// Directory of a checkpoint with the value model.
pub(super) const CRITIC: &str = "critic";

/// The file of a checkpoint that says how far the run is.
pub(super) const STATE: &str = "state.json";
