//! Tokenizers of imported models.

use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::import;
use crate::Tokenizer;
use crate::testing::{GgufWriter, tiny_gguf};

/// Checks the words that a text is split into, written with `·` for spaces and `¶` for line ends.
#[track_caller]
fn check_words(pre: &str, expected: &str) {
    let mut file = tiny_gguf();
    file.text("tokenizer.ggml.pre", pre);
    file.flag("tokenizer.ggml.add_bos_token", false);
    let scratch = import(&file.bytes(), None).unwrap();
    let path = scratch.path().join("model/tokenizer.json");
    let tokenizer = tokenizers::Tokenizer::from_file(path).unwrap();
    let text = "It's  12345 a==b.\n\n  IT'S";
    let mut words = PreTokenizedString::from(text);
    tokenizer.get_pre_tokenizer().unwrap().pre_tokenize(&mut words).unwrap();
    let words = words.get_splits(OffsetReferential::Original, OffsetType::Byte);
    let words: Vec<&str> = words.iter().map(|(_, (start, end), _)| &text[*start..*end]).collect();
    assert_eq!(words.join("|").replace(' ', "·").replace('\n', "¶"), expected, "{pre}");
}

/// Expected words worked by hand from the patterns in `llama-vocab.cpp` of llama.cpp.
#[test]
fn texts_are_split_by_the_rule_that_the_file_names() {
    check_words("smollm", "It|'s|··|1|2|3|4|5|·a|==|b|.|¶¶·|·IT|'|S");
    check_words("gpt-2", "It|'s|·|·12345|·a|==|b|.|¶¶·|·IT|'|S");
    check_words("qwen2", "It|'s|·|·|1|2|3|4|5|·a|==|b|.¶¶|·|·IT|'S");
    check_words("llama-bpe", "It|'s|·|·|123|45|·a|==|b|.¶¶|·|·IT|'S");
    check_words("tekken", "It|'s|·|·|1|2|3|4|5|·a|==|b|.¶¶|·|·IT|'S");
    check_words("default", "It|'|s|·|·|123|45|·a|==|b|.|¶¶·|·IT|'|S");
}

fn sentence_piece(tokens: &[(&str, f32, i32)]) -> GgufWriter {
    let mut file = tiny_gguf();
    file.text("tokenizer.ggml.model", "llama");
    file.remove("tokenizer.ggml.pre");
    file.remove("tokenizer.ggml.merges");
    let texts: Vec<&str> = tokens.iter().map(|it| it.0).collect();
    file.texts("tokenizer.ggml.tokens", &texts);
    file.numbers("tokenizer.ggml.scores", &tokens.iter().map(|it| it.1).collect::<Vec<_>>());
    file.integers("tokenizer.ggml.token_type", &tokens.iter().map(|it| it.2).collect::<Vec<_>>());
    file.integer("tokenizer.ggml.unknown_token_id", 0);
    file.integer("tokenizer.ggml.bos_token_id", 1);
    file.integer("tokenizer.ggml.eos_token_id", 2);
    file
}

#[track_caller]
fn check_sentence_piece(file: &GgufWriter, text: &str, expected: &[&str]) {
    let scratch = import(&file.bytes(), None).unwrap();
    let tokenizer = Tokenizer::from_dir(&scratch.path().join("model")).unwrap();
    let tokens = tokenizer.encode_start(text).unwrap();
    let texts: Vec<String> = tokens.iter().map(|it| tokenizer.token_text(*it).unwrap()).collect();
    assert_eq!(texts, expected);
    assert_eq!(tokenizer.decode(&tokens), text);
}

#[test]
fn sentence_piece_merges_by_score_and_falls_back_to_bytes() {
    let mut tokens = vec![("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)];
    let bytes: Vec<String> = (0..256).map(|it| format!("<0x{it:02X}>")).collect();
    // The vocabulary must fit into 258 rows, so only the bytes that the text needs are there.
    for byte in [0xE2, 0x82, 0xAC, 0x0A] {
        tokens.push((&bytes[byte], 0.0, 6));
    }
    for (token, score) in [
        ("▁", -9.0),
        ("a", -8.0),
        ("b", -7.0),
        ("c", -6.0),
        ("▁a", -3.0),
        ("ab", -2.0),
        ("bc", -1.0),
    ] {
        tokens.push((token, score, 1));
    }
    let mut file = sentence_piece(&tokens);
    // `bc` has the best score, so `ab` is not built.
    check_sentence_piece(&file, "abc", &["<s>", "▁a", "bc"]);
    check_sentence_piece(&file, "b ab", &["<s>", "▁", "b", "▁", "ab"]);
    check_sentence_piece(&file, "€\n", &["<s>", "▁", "<0xE2>", "<0x82>", "<0xAC>", "<0x0A>"]);
    file.flag("tokenizer.ggml.add_space_prefix", false);
    file.flag("tokenizer.ggml.add_eos_token", true);
    let scratch = import(&file.bytes(), None).unwrap();
    let tokenizer = Tokenizer::from_dir(&scratch.path().join("model")).unwrap();
    let id = |text: &str| tokenizer.token_id(text).unwrap();
    let expected = ["<s>", "a", "bc", "</s>"].map(id);
    assert_eq!(tokenizer.encode_start("abc").unwrap(), expected);
}

#[test]
fn padding_of_the_vocabulary_is_no_token() {
    let mut file = tiny_gguf();
    let mut tokens: Vec<String> = (0..254).map(|it| format!("t{it}")).collect();
    tokens.extend(["[PAD254]", "[PAD7]", "a", "b"].map(str::to_owned));
    let mut types = [1; 258];
    types[254..256].fill(5);
    types[257] = 4;
    file.texts("tokenizer.ggml.tokens", &tokens);
    file.integers("tokenizer.ggml.token_type", &types);
    file.texts("tokenizer.ggml.merges", &[""; 0]);
    file.remove("tokenizer.ggml.eos_token_id");
    let scratch = import(&file.bytes(), None).unwrap();
    let tokenizer = Tokenizer::from_dir(&scratch.path().join("model")).unwrap();
    assert_eq!(tokenizer.token_id("[PAD254]"), None);
    // Unused, but not what converters fill up with.
    assert_eq!(tokenizer.token_id("[PAD7]"), Some(255));
    assert_eq!(tokenizer.token_id("b"), Some(257));
    // User-defined tokens are found in texts, but are kept when special tokens are skipped.
    assert_eq!(
        (tokenizer.special_token_id("b"), tokenizer.decode(&[256, 257])),
        (None, "ab".into())
    );
}
