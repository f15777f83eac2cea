//! Identity of an encoder: what its vectors depend on.

use std::io::{Read, Result};
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::EncoderError;
use super::config::EncoderConfig;
use super::settings::SentenceSettings;
use crate::model_file;

/// SHA-256 of an encoder.
///
/// ```text
/// sha256(settings as JSON, 0x00, digest of tokenizer.json, digests of the files of weights by name)
/// ```
pub(super) fn of_model(
    settings: &SentenceSettings,
    config: &EncoderConfig,
    max_tokens: usize,
) -> std::result::Result<String, EncoderError> {
    let dir = &settings.transformer;
    let described = json!({
        "config": config,
        "pooling": settings.pooling,
        "is_normalized": settings.is_normalized,
        "max_tokens": max_tokens,
        "prefixes": settings.prefixes,
    });
    let mut hasher = Sha256::new();
    hasher.update(described.to_string());
    let mut add = |name: &str| {
        let path = dir.join(name);
        let digest = of_file(&path).map_err(|source| EncoderError::Read { path, source })?;
        hasher.update([0]);
        hasher.update(digest);
        Ok::<_, EncoderError>(())
    };
    add("tokenizer.json")?;
    for name in weight_files(dir) {
        add(&name)?;
    }
    Ok(hasher.finalize().iter().map(|it| format!("{it:02x}")).collect())
}

/// Names of the files of weights, sorted.
fn weight_files(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = names.filter_map(|it| it.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter(|it| it.starts_with("model") && it.ends_with(".safetensors")).collect();
    names.sort();
    names
}

fn of_file(path: &Path) -> Result<[u8; 32]> {
    let (mut file, mut hasher) = (model_file::open(path)?, Sha256::new());
    let mut part = vec![0; 1 << 20];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(hasher.finalize().into()),
            read => hasher.update(&part[..read]),
        }
    }
}
