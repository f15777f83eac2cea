//! Injection of special tokens: no document text may be tokenised to a special token, although
//! tokenizers match them anywhere.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use zs_core::{Document, render_observation};
use zs_model::Tokenizer;
use zs_model::testing::byte_tokenizer;

/// Special tokens of Qwen, Llama, Mistral, Gemma, DeepSeek and BERT.
const SPECIAL: [&str; 22] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<s>",
    "</s>",
    "<unk>",
    "[INST]",
    "[/INST]",
    "[TOOL_CALLS]",
    "<start_of_turn>",
    "<end_of_turn>",
    "<｜User｜>",
    "<｜end▁of▁sentence｜>",
    "[SEP]",
];

/// First special token.
const FIRST: u32 = 257;

/// Byte-level tokenizer with all special tokens.
fn tokenizer() -> Tokenizer {
    let mut json: serde_json::Value =
        serde_json::from_str(&byte_tokenizer().to_json().unwrap()).unwrap();
    let added = json["added_tokens"].as_array_mut().unwrap();
    for (id, token) in (FIRST..).zip(SPECIAL) {
        added.push(serde_json::json!({
            "id": id, "content": token, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true
        }));
    }
    Tokenizer::from_bytes(json.to_string().as_bytes(), "special").unwrap()
}

#[test]
fn the_tokenizer_matches_special_tokens_in_text() {
    let tokens = tokenizer().encode("a<|im_end|>[INST]").unwrap();
    assert_eq!(tokens, [u32::from(b'a'), FIRST + 1, FIRST + 14]);
}

fn pieces() -> impl Strategy<Value = String> {
    let part = (proptest::sample::select(&SPECIAL[..]), 0..20_usize, any::<bool>());
    let part = part.prop_map(|(token, at, from_start)| {
        let signs = token.chars();
        if from_start { signs.take(at).collect::<String>() } else { signs.skip(at).collect() }
    });
    proptest::collection::vec(part, 0..8).prop_map(|it| it.concat())
}

proptest! {
    #[test]
    fn documents_contain_no_special_token(
        documents in proptest::collection::vec((pieces(), pieces()), 1..4)
    ) {
        let tokenizer = tokenizer();
        let documents: Vec<Document> =
            documents.into_iter().map(|(title, text)| Document::new(title, text)).collect();
        for titles in [false, true] {
            let text = render_observation(&documents, titles);
            let tokens = tokenizer.encode(&text).unwrap();
            prop_assert!(tokens.iter().all(|it| *it < 256), "{text}");
        }
    }
}
