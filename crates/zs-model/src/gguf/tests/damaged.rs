//! Untrusted files: damaged, of another kind, or of a model that is not supported.

use proptest::prelude::*;

use super::import;
use crate::testing::{GgufWriter, tiny_gguf};

#[track_caller]
fn check_bytes(bytes: &[u8], expected: &[&str]) {
    let message = import(bytes, None).unwrap_err().to_string();
    assert!(message.contains("tiny.gguf: "), "{message}");
    assert!(expected.iter().all(|it| message.contains(it)), "{message}\nlacks one of {expected:?}");
    assert!(!message.contains('\n'), "{message}");
}

/// Checks the error after a change of the file.
#[track_caller]
fn check(change: impl FnOnce(&mut GgufWriter), expected: &[&str]) {
    let mut file = tiny_gguf();
    change(&mut file);
    check_bytes(&file.bytes(), expected);
}

#[test]
fn damaged_containers_are_refused() {
    let whole = tiny_gguf().bytes();
    check_bytes(b"", &["not a readable GGUF file", "cut short", "fetch it again"]);
    check_bytes(b"PK\x03\x04 and so on, a zip file", &["begin with `GGUF`", "name a .gguf file"]);
    let mut version = whole.clone();
    version[4] = 2;
    check_bytes(&version, &["version 2, not 3", "convert the model again"]);
    check_bytes(&whole[..200], &["cut short", "fetch it again"]);
    let last = "blk.0.ffn_down.weight ends at byte";
    check_bytes(&whole[..whole.len() - 1], &[last, "it was cut short: fetch it again"]);
    // Numbers of tensors and fields, and a text, that no memory could hold.
    for at in [8, 16, 24] {
        let mut bytes = whole.clone();
        bytes[at..at + 8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
        check_bytes(&bytes, &["not a readable GGUF file", "fetch it again"]);
    }
    check(|it| it.integer("split.count", 3), &["split.count = 3", "llama-gguf-split --merge"]);
    let missing = std::path::Path::new("/nowhere/tiny.gguf");
    let error =
        super::import_gguf(missing, "/nowhere/out".as_ref(), &super::ImportOptions::default());
    assert_eq!(error.unwrap_err().to_string(), "/nowhere/tiny.gguf: cannot be read");
}

#[test]
fn unusable_tensors_are_named() {
    let name = "blk.0.attn_v.weight";
    check(|it| it.tensor(name, &[16, 32], 10, vec![0; 84 * 2]), &[name]);
    check(|it| it.tensor(name, &[2, 256], 10, vec![0; 84 * 2]), &[name, "holds Q2_K", "Q4_1"]);
    check(|it| it.tensor(name, &[16, 32], 99, vec![0; 512]), &[name, "99", "use a file of F32"]);
    check(|it| it.tensor(name, &[16, 8], 8, vec![0; 512]), &[name, "divisible"]);
    check(|it| it.f32_tensor(name, &[32, 16], &[0.0; 512]), &[name, "shape [32, 16]", "[16, 32]"]);
    check(|it| it.tensor(name, &[usize::MAX / 4, 2], 0, vec![0; 32]), &[name]);
    check(|it| it.tensor(name, &[1 << 40, 1 << 20], 0, vec![0; 32]), &[name, "fetch it again"]);
    check(|it| it.tensor(name, &[0, usize::MAX], 0, vec![]), &[name, "shape"]);
    check(|it| it.remove(name), &[name, "is missing"]);
    check(|it| it.remove("token_embd.weight"), &["token_embd.weight is missing"]);
    check(
        |it| it.f32_tensor("blk.0.ffn_gate_inp.weight", &[1], &[0.0]),
        &["blk.0.ffn_gate_inp.weight", "not part of a Llama model"],
    );
    check(
        |it| it.f32_tensor("rope_freqs.weight", &[4], &[1.0, 2.0, 3.0, 4.0]),
        &["rope_freqs.weight", "Llama 3"],
    );
}

#[test]
fn unsupported_models_are_named() {
    check(|it| it.text("general.architecture", "gemma2"), &["= gemma2", "llama, qwen2 or qwen3"]);
    check(|it| it.text("general.architecture", "qwen3moe"), &["a mixture of experts"]);
    check(|it| it.text("general.architecture", "a\n\u{1b}[2J"), &["= a\u{FFFD}\u{FFFD}[2J is not"]);
    check(|it| it.remove("general.architecture"), &["general.architecture is missing"]);
    check(|it| it.integer("llama.expert_count", 8), &["llama.expert_count = 8"]);
    check(|it| it.text("llama.rope.scaling.type", "yarn"), &["llama.rope.scaling.type = yarn"]);
    check(|it| it.integer("llama.rope.dimension_count", 4), &["rope.dimension_count = 4", "head"]);
    check(
        |it| it.integer("llama.block_count", u32::MAX >> 1),
        &["num_hidden_layers = 2147483647", "no model is as large"],
    );
    check(|it| it.integer("llama.embedding_length", u32::MAX), &["larger than in any model"]);
    check(
        |it| it.text("llama.embedding_length", "32"),
        &["embedding_length is not a non-negative"],
    );
    check(|it| it.integer("llama.attention.head_count_kv", 3), &["num_key_value_heads = 3"]);
    check(
        |it| it.integer("llama.attention.head_count", 0),
        &["attention.head_count = 0 is not a valid size"],
    );
    check(|it| it.remove("llama.context_length"), &["llama.context_length is missing"]);
}

#[test]
fn unusable_tokenizers_are_named() {
    let key = "tokenizer.ggml";
    check(|it| it.text("tokenizer.ggml.model", "t5"), &["tokenizer.ggml.model = t5", "gpt2"]);
    check(|it| it.text("tokenizer.ggml.pre", "viking"), &["tokenizer.ggml.pre = viking", "qwen2"]);
    check(|it| it.remove("tokenizer.ggml.pre"), &["pre is missing", "--pre-tokenizer"]);
    check(|it| it.remove("tokenizer.ggml.merges"), &[key, "merges is missing"]);
    check(|it| it.texts("tokenizer.ggml.merges", &["x y"]), &["merges `x` and `y`"]);
    check(|it| it.texts("tokenizer.ggml.merges", &["xy"]), &["merges is not a list of merges"]);
    check(|it| it.texts("tokenizer.ggml.tokens", &["a"; 258]), &["`a` twice, as 0 and 1"]);
    check(|it| it.integers("tokenizer.ggml.token_type", &[1]), &["1 entries for 258 tokens"]);
    check(
        |it| it.integer("tokenizer.ggml.eos_token_id", 258),
        &["eos_token_id = 258 is not a token"],
    );
    check(|it| it.flag("tokenizer.ggml.add_bos_token", true), &["bos_token_id is missing"]);
    let tokens: Vec<String> = (0..259).map(|it| it.to_string()).collect();
    let more = |it: &mut GgufWriter| {
        it.texts("tokenizer.ggml.tokens", &tokens);
        it.integers("tokenizer.ggml.token_type", &[1; 259]);
    };
    check(more, &["holds 259 tokens, but the embedding has 258 rows"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_that_was_cut_short_is_refused(fraction in 0.0..1.0_f64) {
        let whole = tiny_gguf().bytes();
        let length = (whole.len() as f64 * fraction) as usize;
        prop_assert!(import(&whole[..length], None).is_err());
    }

    /// Any bytes in the header, metadata and tensor directory end in a model or an error.
    #[test]
    fn no_byte_makes_the_import_panic(
        changes in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 1..4),
    ) {
        let mut bytes = tiny_gguf().bytes();
        let data = 258 * 32 * 4;
        let head = bytes.len() - data;
        for (fraction, value) in changes {
            bytes[(head as f64 * fraction) as usize] = value;
        }
        let _ = import(&bytes, None);
    }
}
