//! Agreement of the Qwen2.5 tokenizer and its chat template with transformers. The files are not
//! part of the repository; the test is skipped with a message if they are absent.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::Path;

use burn::tensor::Device;
use serde_json::Value;
use zs_model::testing::{byte_tokenizer, tiny_config};
use zs_model::{ChatMessage, ChatTemplate, LanguageModel, Tokenizer};

/// Small templates of our own, one for each thing that templates use, as transformers 5.24 renders them.
#[test]
fn templates_render_as_with_transformers() {
    check_templates(include_str!("interop/templates.json"));
}

/// Templates of others, rendered by transformers with `tests/interop/templates.py`.
#[test]
fn templates_of_others_render_as_with_transformers() {
    let Some(path) = std::env::var_os("ZS_TEMPLATES") else {
        println!("skipped: ZS_TEMPLATES does not name the output of tests/interop/templates.py");
        return;
    };
    check_templates(&std::fs::read_to_string(path).unwrap());
}

#[track_caller]
fn check_templates(golden: &str) {
    let golden: Value = serde_json::from_str(golden).unwrap();
    let mut failed = Vec::new();
    let mut num_templates = 0;
    for (name, it) in golden["templates"].as_object().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        let config = golden["tokens"].to_string();
        std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
        let source = it["source"].as_str().unwrap();
        std::fs::write(dir.path().join("chat_template.jinja"), source).unwrap();
        num_templates += 1;
        let template = match ChatTemplate::from_dir(dir.path()) {
            Ok(template) => template.unwrap(),
            // Templates of models that see, too, may reject a message that is a plain text.
            Err(_) if it["rendered"]["user"].is_null() => continue,
            Err(error) => {
                failed.push(format!("{name}: {error}"));
                continue;
            }
        };
        for (conversation, expected) in it["rendered"].as_object().unwrap() {
            let mut variables = golden["conversations"][conversation].as_object().unwrap().clone();
            let messages = variables.remove("messages").unwrap();
            let rendered = template.render_json(messages.as_array().unwrap(), &variables);
            match (rendered, expected.as_str()) {
                (Ok(text), Some(expected)) if text == expected => {}
                (Err(_), None) => {}
                (rendered, expected) => {
                    failed.push(format!("{name}, {conversation}:\n{rendered:?}\n{expected:?}"));
                }
            }
        }
    }
    assert!(num_templates > 0, "no templates");
    assert!(num_templates > 0);
    assert!(failed.is_empty(), "{} differ\n{}", failed.len(), failed.join("\n"));
}

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

/// A long chain of operations is parsed as deep as it is long; a stack would not hold it.
#[test]
fn deep_expressions_are_refused() {
    for link in ["|l", ".l", "[0]", " + a", "()"] {
        let source = format!("{{{{ a{} }}}}", link.repeat(200_000));
        let error = ChatTemplate::new(source, String::new(), String::new()).unwrap_err();
        assert!(error.to_string().contains("more than 4096 characters"), "{link}: {error}");
    }
}
