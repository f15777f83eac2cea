//! Adapter files in the layout of the PEFT library.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{LoraConfig, LoraError};
use crate::checkpoint::{
    NamedTensor, TensorEntry, WeightDtype, WeightFiles, fill, named_parameters, replace_directory,
    write_safetensors,
};
use crate::{CausalLm, CheckpointError, LanguageModel, SaveError, model_file};

/// Error while loading adapters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// `adapter_config.json` is missing or not of the expected form.
    #[error("{path}: not an adapter's configuration: {message}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Description of the defect.
        message: String,
    },
    /// The adapter type is not supported.
    #[error("{path}: {field} = {value} is not supported; {advice}", path = path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// Supported alternative.
        advice: &'static str,
    },
    /// The adapters do not fit the model.
    #[error("{path}: {source}", path = path.display())]
    Lora {
        /// The configuration file.
        path: PathBuf,
        /// Cause.
        source: LoraError,
    },
    /// The weights do not fit the configuration.
    #[error(transparent)]
    Weights(#[from] CheckpointError),
}

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Fields of `adapter_config.json` that affect the computation.
#[derive(Deserialize)]
struct PeftConfig {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    target_modules: Value,
    #[serde(default)]
    use_rslora: bool,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl LanguageModel {
    /// Model with new adapters on a frozen network, a function of the seed.
    ///
    /// # Errors
    ///
    /// Fails like [`CausalLm::with_lora`].
    pub fn with_lora(&self, config: &LoraConfig, seed: u64) -> Result<Self, LoraError> {
        Ok(self.with_network(&self.network().with_lora(config, seed)?))
    }

    /// Base model without the adapters, sharing its weights.
    #[must_use]
    pub fn without_lora(&self) -> Self {
        self.with_network(&self.network().without_lora())
    }

    /// Writes only the adapters, in PEFT's layout: `adapter_config.json` and
    /// `adapter_model.safetensors` with names under `base_model.model.`, in f32.
    ///
    /// `base_model` is the path or hub name of the model that loaders should add the adapters to.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be written; `dir` is then unchanged.
    ///
    /// # Panics
    ///
    /// Panics if the model has no adapters.
    pub fn save_adapter(&self, dir: &Path, base_model: &str) -> Result<(), SaveError> {
        let config = self
            .network()
            .lora_config()
            .expect("`save_adapter` is called on a model with adapters");
        let json = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_model,
            "r": config.r,
            "lora_alpha": config.alpha,
            "target_modules": config.target_modules,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "use_rslora": false,
            "use_dora": false,
            "modules_to_save": null,
            "init_lora_weights": true,
            "inference_mode": true,
        });
        let adapters: Vec<NamedTensor> = named_parameters(self.network())
            .into_iter()
            .filter_map(|it| Some(it.renamed(peft_name(&it.entry.name)?)))
            .collect();
        replace_directory(dir, |partial| {
            let path = partial.join(CONFIG);
            std::fs::write(&path, format!("{json:#}\n"))
                .map_err(|source| SaveError::Write { path, source })?;
            write_safetensors(&adapters, WeightDtype::F32, &partial.join(WEIGHTS))
        })
    }

    /// Model with adapters loaded from a directory in PEFT's layout, on a frozen network.
    ///
    /// # Errors
    ///
    /// Fails, naming file and field or tensor, on anything missing, malformed or unsupported.
    pub fn with_adapter_from(&self, dir: &Path) -> Result<Self, AdapterError> {
        let path = dir.join(CONFIG);
        let config = read_config(&path)?;
        let failed = |source| AdapterError::Lora { path: path.clone(), source };
        let targets = self.network().lora_targets(&config).map_err(failed)?;
        let mut files = WeightFiles::open_single(dir.join(WEIGHTS))?;
        // No memory is allocated for a rank that the weights have not.
        files.check(targets.into_iter().flat_map(|(layer, [input, output])| {
            let name = |side| format!("base_model.model.{layer}.lora_{side}.weight");
            [(name('A'), vec![config.r, input]), (name('B'), vec![output, config.r])]
        }))?;
        let network: CausalLm = self.network().with_zero_lora(&config).map_err(failed)?;
        let network = fill(network, |entry| match peft_name(&entry.name) {
            Some(name) => files.take(&TensorEntry { name, ..entry.clone() }).map(Some),
            None => Ok(None),
        })?;
        files.finish(|_| false)?;
        Ok(self.with_network(&network))
    }
}

/// PEFT's name of an adapter tensor such as `model.layers.0.mlp.up_proj.adapter.lora_a`; `None` for
/// other tensors.
fn peft_name(name: &str) -> Option<String> {
    let (path, side) = name.split_once(".adapter.")?;
    let side = if side == "lora_a" { "lora_A" } else { "lora_B" };
    Some(format!("base_model.model.{path}.{side}.weight"))
}

fn read_config(path: &Path) -> Result<LoraConfig, AdapterError> {
    let malformed = |message: String| AdapterError::Config { path: path.to_owned(), message };
    let text = model_file::read_text(path).map_err(|it| malformed(it.to_string()))?;
    let config: PeftConfig = serde_json::from_str(&text).map_err(|it| malformed(it.to_string()))?;
    let unsupported = |field, value: String, advice| {
        Err(AdapterError::Unsupported { path: path.to_owned(), field, value, advice })
    };
    if config.peft_type != "LORA" {
        return unsupported("peft_type", config.peft_type, "use LORA");
    }
    // Fields that change the computation, with their neutral values.
    let plain = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(it) => it.is_empty(),
        Value::Array(it) => it.is_empty(),
        Value::String(it) => it == "none",
        _ => false,
    };
    for field in [
        "use_dora",
        "bias",
        "fan_in_fan_out",
        "modules_to_save",
        "rank_pattern",
        "alpha_pattern",
        "layers_to_transform",
        "lora_bias",
        "target_parameters",
        "trainable_token_indices",
    ] {
        if let Some(value) = config.others.get(field).filter(|it| !plain(it)) {
            return unsupported(field, value.to_string(), "leave it out");
        }
    }
    if config.r == 0 {
        return Err(AdapterError::Lora { path: path.to_owned(), source: LoraError::NoRank });
    }
    let target_modules = match config.target_modules {
        Value::Array(names) => names
            .into_iter()
            .map(|it| it.as_str().map(str::to_owned))
            .collect::<Option<Vec<String>>>()
            .ok_or_else(|| {
                malformed("target_modules contains a value that is not a string".into())
            })?,
        other => {
            return unsupported(
                "target_modules",
                other.to_string(),
                "list the names of the linear layers",
            );
        }
    };
    // Rank-stabilised adapters are scaled by alpha / sqrt(r).
    let alpha = if config.use_rslora {
        config.lora_alpha * (config.r as f64).sqrt()
    } else {
        config.lora_alpha
    };
    Ok(LoraConfig { r: config.r, alpha, target_modules })
}
