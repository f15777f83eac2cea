//! Origin of converted weights, kept in `config.json` and so carried into every model trained from
//! them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ConfigError, model_file};

/// File that weights were converted from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Format of the file: `gguf`.
    pub format: String,
    /// Name of the file, without its folder.
    pub file: String,
    /// Checksum of the file in hexadecimal, if it was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Type that most values of matrices had in the file, e.g. `Q4_1`.
    pub quantization: String,
    /// Number of tensors of each type in the file.
    pub tensor_types: BTreeMap<String, usize>,
    /// Name of the model according to the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// License according to the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
}

impl Provenance {
    /// Field of `config.json`.
    pub(crate) const KEY: &str = "zs_provenance";

    /// Reads the origin of the weights from the `config.json` of a model directory.
    ///
    /// # Errors
    ///
    /// Fails on a file that cannot be read or parsed.
    pub fn read(dir: &Path) -> Result<Option<Self>, ConfigError> {
        let path = dir.join("config.json");
        let text = model_file::read_text(&path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let parsed = serde_json::from_str::<Value>(&text).and_then(|mut it| {
            it.get_mut(Self::KEY).map(|it| serde_json::from_value(it.take())).transpose()
        });
        parsed.map_err(|it| ConfigError::Parse { path, message: it.to_string() })
    }

    /// True if the weights were rounded to fewer bits than a float has.
    #[must_use]
    pub fn is_quantized(&self) -> bool {
        self.tensor_types.keys().any(|it| it.starts_with('Q'))
    }

    /// Short form for reports, e.g. `Q4_1, dequantised`.
    #[must_use]
    pub fn summary(&self) -> String {
        match self.is_quantized() {
            true => format!("{}, dequantised", self.quantization),
            false => self.quantization.clone(),
        }
    }
}
