//! Rotary position settings of `config.json`, in both layouts.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{ConfigError, RawConfig};

/// Llama 3's rescaling of rotary frequencies for long contexts.
///
/// # References
///
/// - transformers, `modeling_rope_utils.py`, rope type `llama3`
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Llama3RopeScaling {
    /// Divisor of low frequencies.
    pub factor: f64,
    /// Wavelengths above `original / low_freq_factor` are rescaled fully.
    pub low_freq_factor: f64,
    /// Wavelengths below `original / high_freq_factor` are unchanged.
    pub high_freq_factor: f64,
    /// Context length before rescaling.
    pub original_max_position_embeddings: f64,
}

/// Longest context whose length a 64-bit float holds exactly.
const LONGEST_CONTEXT: f64 = (1_u64 << 53) as f64;

/// Rotary base and scaling, read from `rope_parameters` or the older top-level fields.
pub(super) fn rope(
    raw: &RawConfig,
    default_theta: f64,
    path: &Path,
) -> Result<(f64, Option<Llama3RopeScaling>), ConfigError> {
    let unsupported = |field, value: &Value, advice| ConfigError::Unsupported {
        path: path.to_owned(),
        field,
        value: value.to_string(),
        advice,
    };
    let given = |it: &&Value| it.as_object().is_none_or(|it| !it.is_empty());
    let new = raw.rope_parameters.as_ref().filter(given);
    let old = raw.rope_scaling.as_ref().filter(given);
    for (field, value) in [("rope_parameters", new), ("rope_scaling", old)] {
        if let Some(value) = value.filter(|it| !it.is_object()) {
            return Err(unsupported(field, value, "write an object with a rope_type"));
        }
    }
    if let (Some(new), Some(old)) = (new, old)
        && settings(new) != settings(old)
    {
        // transformers goes by the older field, others by the newer one.
        let advice = "rope_parameters says otherwise; keep the one that is right";
        return Err(unsupported("rope_scaling", old, advice));
    }
    let parameters = new.or(old);
    let theta = parameters
        .and_then(|it| it.get("rope_theta"))
        .and_then(Value::as_f64)
        .or(raw.rope_theta)
        .unwrap_or(default_theta);
    let Some(parameters) = parameters else {
        return Ok((theta, None));
    };
    let fields = parameters.as_object().into_iter().flatten();
    if let Some((_, value)) = fields.clone().find(|(_, value)| value.is_object()) {
        return Err(unsupported("rope_parameters", value, "use the same for every layer"));
    }
    let partial = |(key, value): &(&String, &Value)| {
        *key == "partial_rotary_factor" && !value.is_null() && value.as_f64() != Some(1.0)
    };
    if let Some((_, value)) = fields.clone().find(partial) {
        return Err(unsupported("partial_rotary_factor", value, "use 1"));
    }
    let kind = kind(parameters);
    let known = ["rope_theta", "partial_rotary_factor", "rope_type", "type"];
    let other =
        fields.clone().find(|(key, value)| !known.contains(&key.as_str()) && !value.is_null());
    if let (None, Some((key, _))) = (kind, other) {
        let advice = "it has no rope_type: set that to llama3, or remove the settings";
        return Err(unsupported("rope_scaling", &key.as_str().into(), advice));
    }
    match kind.and_then(Value::as_str).unwrap_or("default") {
        "default" => Ok((theta, None)),
        "llama3" => {
            let scaling: Llama3RopeScaling =
                serde_json::from_value(parameters.clone()).map_err(|it| ConfigError::Parse {
                    path: path.to_owned(),
                    message: format!("rope_scaling: {it}"),
                })?;
            let length = scaling.original_max_position_embeddings;
            // As a whole number it is written when the model is saved.
            if !(1.0..=LONGEST_CONTEXT).contains(&length) || length.fract() != 0.0 {
                let advice = "use the whole number of tokens that the model was pre-trained with";
                let value = length.into();
                return Err(unsupported("original_max_position_embeddings", &value, advice));
            }
            Ok((theta, Some(scaling)))
        }
        other => Err(unsupported("rope_type", &other.into(), "use default or llama3")),
    }
}

/// Type of scaling, under its new or its old name.
fn kind(parameters: &Value) -> Option<&Value> {
    let named = |name| parameters.get(name).filter(|it: &&Value| !it.is_null());
    named("rope_type").or_else(|| named("type"))
}

/// Type and settings of scaling, without the base.
fn settings(parameters: &Value) -> (&str, Vec<(&String, &Value)>) {
    let kind = kind(parameters).and_then(Value::as_str).unwrap_or("default");
    let is_setting = |(name, value): &(&String, &Value)| {
        !["rope_theta", "rope_type", "type"].contains(&name.as_str()) && !value.is_null()
    };
    let mut settings: Vec<_> =
        parameters.as_object().into_iter().flatten().filter(is_setting).collect();
    settings.sort_by_key(|(name, _)| *name);
    (kind, settings)
}
