//! Files of a model directory.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use zs_model::testing::{byte_tokenizer, tiny_config};
use zs_model::{
    ChatMessage, ChatTemplate, ImportOptions, LanguageModel, ModelCard, ModelConfig, Tokenizer,
    WeightCheck, import_gguf, verify_directory,
};

use crate::Scratch;

/// Configuration that weights are held against: one block of width 8.
const CONFIG: &str = r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"],
    "vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true, "eos_token_id": 1}"#;

pub(crate) fn config(_: &Scratch, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(config) = ModelConfig::from_json(&text, Path::new("config.json")) else { return };
    let _ = config.num_parameters();
    let again = ModelConfig::from_json(&config.to_json(), Path::new("again.json"));
    assert_eq!(again.expect("what was written is read"), config);
}

/// The template, and after a NUL the message that it is given.
pub(crate) fn chat_template(_: &Scratch, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (source, message) = text.split_once('\0').unwrap_or((&text, "who?"));
    let (bos, eos) = ("<s>".to_owned(), "</s>".to_owned());
    let Ok(template) = ChatTemplate::new(source.to_owned(), bos, eos) else { return };
    let messages = ["system", "user", "assistant", "user"]
        .map(|role| ChatMessage { role: role.to_owned(), content: message.to_owned() });
    let _ = template.render(&messages);
}

pub(crate) fn tokenizer_config(scratch: &Scratch, bytes: &[u8]) {
    let path = scratch.file("template/tokenizer_config.json", bytes);
    let _ = ChatTemplate::from_dir(folder(&path));
}

/// The tokenizer, and after a NUL the text that it is given.
pub(crate) fn tokenizer(_: &Scratch, bytes: &[u8]) {
    let nul = bytes.iter().position(|it| *it == 0);
    let (source, text) = nul.map_or((bytes, &b"who?"[..]), |it| (&bytes[..it], &bytes[it + 1..]));
    let Ok(tokenizer) = Tokenizer::from_bytes(source, "tokenizer.json") else { return };
    let Ok(tokens) = tokenizer.encode(&String::from_utf8_lossy(text)) else { return };
    let _ = tokenizer.decode(&tokens);
    let _ = tokenizer.decode_with_special(&[0, 1, 2, u32::MAX]);
}

pub(crate) fn safetensors(scratch: &Scratch, bytes: &[u8]) {
    scratch.file("weights/config.json", CONFIG.as_bytes());
    let path = scratch.file("weights/model.safetensors", bytes);
    let _ = verify_directory(folder(&path), WeightCheck::Headers);
    let _ = verify_directory(folder(&path), WeightCheck::Values);
}

pub(crate) fn safetensors_index(scratch: &Scratch, bytes: &[u8]) {
    scratch.file("sharded/config.json", CONFIG.as_bytes());
    let shard = b"\x48\0\0\0\0\0\0\0{\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}\0\0\0\0";
    scratch.file("sharded/model-1.safetensors", shard);
    let path = scratch.file("sharded/model.safetensors.index.json", bytes);
    let _ = verify_directory(folder(&path), WeightCheck::Values);
    let _ = ModelCard::read(folder(&path));
}

pub(crate) fn special_tokens(scratch: &Scratch, bytes: &[u8]) {
    scratch.file("special/config.json", CONFIG.as_bytes());
    scratch.file("special/tokenizer_config.json", b"{\"chat_template\": \"{{ bos_token }}\"}");
    scratch.file("special/generation_config.json", bytes);
    let path = scratch.file("special/special_tokens_map.json", bytes);
    let _ = ModelConfig::from_dir(folder(&path));
    let _ = ChatTemplate::from_dir(folder(&path));
}

pub(crate) fn adapter(scratch: &Scratch, bytes: &[u8]) {
    let model = scratch.model.get_or_init(|| {
        LanguageModel::initialize(tiny_config(), byte_tokenizer(), 1, &Device::flex())
    });
    let path = scratch.file("adapter/adapter_config.json", bytes);
    scratch.file("adapter/adapter_model.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    let _ = model.with_adapter_from(folder(&path));
}

pub(crate) fn gguf(scratch: &Scratch, bytes: &[u8]) {
    let path = scratch.file("model.gguf", bytes);
    let imported = scratch.folder().join("imported");
    if import_gguf(&path, &imported, &ImportOptions::default()).is_ok() {
        let found = verify_directory(&imported, WeightCheck::Headers);
        assert!(!found.is_empty(), "nothing was checked");
        fs::remove_dir_all(&imported).expect("a folder that was just written");
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().expect("a file lies in a folder")
}
