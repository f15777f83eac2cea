//! Repair of texts that are cut inside of a character, for tokenizers that fall back to bytes.

use std::collections::HashMap;

use crate::TokenId;

/// Identifiers of the tokens `<0x00>` to `<0xFF>`.
///
/// The tokenizers crate decodes a run of them as a whole: one byte that is missing at its end makes every
/// character of the run illegible.
#[derive(Debug)]
pub(super) struct ByteTokens {
    ids: Vec<TokenId>,
    bytes: HashMap<TokenId, u8>,
}

impl ByteTokens {
    /// The tokens of a tokenizer that has all of them and decodes them to bytes.
    pub(super) fn of(tokenizer: &tokenizers::Tokenizer) -> Option<Self> {
        let decoder = serde_json::to_string(tokenizer.get_decoder()?).ok()?;
        if !decoder.contains("\"ByteFallback\"") {
            return None;
        }
        let id = |byte: u8| tokenizer.token_to_id(&format!("<0x{byte:02X}>"));
        let ids: Vec<TokenId> = (0..=u8::MAX).map(id).collect::<Option<_>>()?;
        let bytes = ids.iter().copied().zip(0..=u8::MAX).collect();
        Some(Self { ids, bytes })
    }

    /// Tokens in which every illegible byte is a U+FFFD; `None` where there is none.
    pub(super) fn repaired(&self, tokens: &[TokenId]) -> Option<Vec<TokenId>> {
        let mut out = Vec::with_capacity(tokens.len());
        let mut is_changed = false;
        let is_byte = |it: &TokenId| self.bytes.contains_key(it);
        for run in tokens.chunk_by(|left, right| is_byte(left) == is_byte(right)) {
            let bytes: Vec<u8> = run.iter().filter_map(|it| self.bytes.get(it).copied()).collect();
            if bytes.is_empty() || std::str::from_utf8(&bytes).is_ok() {
                out.extend_from_slice(run);
                continue;
            }
            is_changed = true;
            let text = String::from_utf8_lossy(&bytes);
            out.extend(text.bytes().map(|it| self.ids[usize::from(it)]));
        }
        is_changed.then_some(out)
    }
}
