//! Rules by which byte-level tokenizers split a text into words, by their names in llama.cpp.

use super::GgufError;
use super::file::GgufFile;

/// Behaviour of a byte-level tokenizer apart from its vocabulary.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ByteLevelKind {
    /// Patterns; each splits what the one before has left, and what it matches is a word.
    pub(super) patterns: &'static [&'static str],
    /// True if GPT-2's pattern splits last.
    pub(super) splits_as_gpt2: bool,
    /// True if a text is brought into Unicode's composed form (NFC) first.
    pub(super) is_composed: bool,
    /// True if a word that is a token is not built from merges.
    pub(super) ignores_merges: bool,
    /// True if a sequence starts with the beginning-of-sequence token unless the file says otherwise.
    pub(super) starts_with_bos: bool,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Used by llama.cpp for models whose own rule its converter did not know.
const DEFAULT: &[&str] = &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"];

/// Rule that the file names.
pub(super) fn byte_level_kind(file: &GgufFile) -> Result<ByteLevelKind, GgufError> {
    let key = "tokenizer.ggml.pre";
    let Some(name) = file.optional_text(key)? else {
        let problem = "is missing, so it is unknown how a text is split into words";
        let remedy =
            "set it with `gguf-new-metadata --pre-tokenizer NAME`, or convert the model again";
        return Err(GgufError::metadata(file.path(), key, problem, remedy));
    };
    let kind = ByteLevelKind::default();
    let gpt2 = ByteLevelKind { splits_as_gpt2: true, ..kind };
    match name {
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" => {
            Ok(ByteLevelKind { patterns: &[r"\p{N}"], ..gpt2 })
        }
        "gpt-2" | "phi-2" | "mpt" | "olmo" => Ok(gpt2),
        "qwen2" | "deepseek-r1-qwen" | "kormo" | "megrez" => {
            Ok(ByteLevelKind { patterns: &[QWEN2], is_composed: true, ..kind })
        }
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "pixtral" => Ok(ByteLevelKind {
            patterns: &[LLAMA3],
            ignores_merges: true,
            starts_with_bos: true,
            ..kind
        }),
        "smaug-bpe" | "dbrx" => Ok(ByteLevelKind { patterns: &[LLAMA3], ..kind }),
        "tekken" => Ok(ByteLevelKind {
            patterns: &[TEKKEN],
            ignores_merges: true,
            starts_with_bos: true,
            ..kind
        }),
        "default" => Ok(ByteLevelKind { patterns: DEFAULT, ..kind }),
        other => {
            let problem = format!("= {other} is not supported");
            let remedy =
                "use smollm, gpt-2, qwen2, llama-bpe, tekken, default or a rule equal to one";
            Err(GgufError::metadata(file.path(), key, problem, remedy))
        }
    }
}
