//! Agreement of the Qwen2.5 tokenizer and its chat template with transformers. The files are not
//! part of the repository; the test is skipped with a message if they are absent.

use std::path::Path;

use burn::tensor::Device;
use serde_json::Value;
use zs_model::testing::{byte_tokenizer, tiny_config};
use zs_model::{ChatMessage, ChatTemplate, LanguageModel, Tokenizer};

#[test]
fn saving_preserves_the_chat_template() {
    let source = "{{ bos_token }}[{{ messages[0].content }}]".to_owned();
    let template = ChatTemplate::new(source, "<s>".to_owned(), String::new()).unwrap();
    let tokenizer = byte_tokenizer().with_chat_template(Some(template));
    let model = LanguageModel::initialize(tiny_config(), tokenizer, 1, &Device::default());
    let dir = tempfile::tempdir().unwrap();
    model.save(&dir.path().join("model")).unwrap();
    let loaded = Tokenizer::from_dir(&dir.path().join("model")).unwrap();
    let prompt = loaded.encode_prompt("hi").unwrap();
    assert_eq!(loaded.decode(&prompt), "<s>[hi]");
}

#[test]
fn agrees_with_transformers() {
    let dir =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/tokenizer_qwen2_5");
    if !dir.exists() {
        println!("skipped: no shared/fixtures/tokenizer_qwen2_5 beside the workspace");
        return;
    }
    let golden: Value =
        serde_json::from_str(&std::fs::read_to_string(dir.join("golden.json")).unwrap()).unwrap();
    let tokenizer = Tokenizer::from_dir(&dir).unwrap();
    let template = tokenizer.chat_template().unwrap();
    for case in golden["chat"].as_array().unwrap() {
        let messages: Vec<ChatMessage> = serde_json::from_value(case["messages"].clone()).unwrap();
        assert_eq!(template.render(&messages).unwrap(), case["text"]);
    }
    for case in golden["encode"].as_array().unwrap() {
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        assert_eq!(tokenizer.encode(case["text"].as_str().unwrap()).unwrap(), ids);
    }
    let prompt = tokenizer.encode_prompt("Question: who?\n").unwrap();
    assert_eq!(tokenizer.decode_with_special(&prompt), golden["chat"][0]["text"]);
    let without = tokenizer.with_chat_template(None);
    assert_eq!(without.encode_prompt("hi").unwrap(), without.encode_start("hi").unwrap());
}
