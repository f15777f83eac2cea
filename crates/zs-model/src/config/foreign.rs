//! Recognition of what people point at in place of a model directory.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::Value;

use super::ConfigError;
use crate::model_file;

/// Refuses, by its name, a path that holds something other than a model in Hugging Face layout.
pub(super) fn refuse_foreign(path: &Path) -> Result<(), ConfigError> {
    let foreign =
        |found, advice: String| Err(ConfigError::Foreign { path: path.to_owned(), found, advice });
    if path.is_file() {
        return match extension(path) == "gguf" {
            true => foreign("a GGUF file", GGUF_ADVICE.to_owned()),
            false => foreign("a file", "name the directory that holds config.json".to_owned()),
        };
    }
    let has_config = path.join("config.json").exists();
    let adapter = path.join("adapter_config.json");
    if adapter.exists() {
        let base = model_file::read_text(&adapter).ok();
        let base = base.and_then(|it| serde_json::from_str::<Value>(&it).ok());
        let base =
            base.and_then(|it| Some(it.get("base_model_name_or_path")?.as_str()?.to_owned()));
        let base =
            base.map_or_else(|| "its base model".to_owned(), |it| format!("its base model {it}"));
        let advice = format!("merge it into {base} (PEFT: `merge_and_unload`, `save_pretrained`)");
        let found = match has_config {
            true => "a model with a folder of LoRA adapters in the same place",
            false => "a folder of LoRA adapters",
        };
        return foreign(found, advice);
    }
    if has_config {
        return Ok(());
    }
    let snapshots = names(&path.join("snapshots"));
    if let Some(revision) = snapshots.first() {
        let directory = path.join("snapshots").join(revision);
        let advice = format!("use the model in it: {}", directory.display());
        return foreign("the hub cache of a repository", advice);
    }
    let names = names(path);
    if let Some(repository) = names.iter().find(|it| it.starts_with("models--")) {
        let advice = format!(
            "use the directory of one revision of one model, such as {}",
            path.join(repository).join("snapshots").join("REVISION").display()
        );
        return foreign("a hub cache", advice);
    }
    if names.iter().any(|it| extension(Path::new(it)) == "gguf") {
        return foreign("a folder of GGUF files", GGUF_ADVICE.to_owned());
    }
    let is_original = |it: &String| it.starts_with("consolidated.") || it == "params.json";
    if names.iter().any(is_original) {
        let advice = "use the model's Hugging Face layout (config.json, model.safetensors)";
        return foreign("a checkpoint in the layout of its authors", advice.to_owned());
    }
    Ok(())
}

const GGUF_ADVICE: &str =
    "GGUF does not load; make a model directory of it: `zs model import FILE.gguf --out DIR`";

/// Advice on the weights of a directory without safetensors under their usual names, after `; `.
pub(crate) fn weights_advice(dir: &Path) -> String {
    let names = names(dir);
    let first = |wanted: &[&str]| {
        names.iter().find(|it| wanted.contains(&extension(Path::new(it)).as_str())).cloned()
    };
    if dir.join("adapter_config.json").exists() {
        return "; it holds LoRA adapters: merge them into their base model".to_owned();
    }
    if let Some(name) = first(&["safetensors"]) {
        return format!(
            "; {name} has another name: name a single file model.safetensors, and give shards their index"
        );
    }
    if let Some(name) = first(&["gguf"]) {
        return format!("; {name}: {GGUF_ADVICE}");
    }
    if let Some(name) = first(&["bin", "pt", "pth", "ckpt", "msgpack", "h5"]) {
        return format!(
            "; {name} does not load: convert it with transformers \
             (`AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(OUT)`)"
        );
    }
    "; fetch the weights".to_owned()
}

fn extension(path: &Path) -> String {
    path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase()
}

/// Names in a directory, sorted; none where it cannot be read.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|it| it.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
