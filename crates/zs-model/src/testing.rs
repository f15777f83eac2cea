//! Test doubles for code that needs a generator, and tiny models.

mod gguf;

use std::convert::Infallible;
use std::fmt::Debug;

use zs_core::{Domain, StreamKey};

pub use gguf::{GgufWriter, tiny_gguf};

use crate::checkpoint::{fill, uniform};
use crate::{
    Architecture, CausalLm, ChatTemplate, Completion, GenerateError, Generator, ModelConfig,
    SamplingParams, SequenceRequest, Session, StopReason, TokenId, Tokenizer,
};

/// Byte-level tokenizer: token `i` is the byte `i`, and 256 ends a sequence.
///
/// # Panics
///
/// Never: the definition is fixed.
#[must_use]
pub fn byte_tokenizer() -> Tokenizer {
    let vocab: serde_json::Map<String, serde_json::Value> =
        byte_alphabet().iter().zip(0..).map(|(it, byte)| (it.to_string(), byte.into())).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [{
            "id": 256, "content": "<eos>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true
        }],
        "normalizer": null,
        "pre_tokenizer": {
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false
        },
        "post_processor": null,
        "decoder": {
            "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true
        },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": vocab, "merges": []
        }
    });
    Tokenizer::from_bytes(tokenizer.to_string().as_bytes(), "byte_tokenizer")
        .expect("a byte-level tokenizer without merges is valid")
}

/// Characters that stand for the 256 bytes in a byte-level vocabulary, as in GPT-2: printable ones
/// for themselves, the others by characters from U+0100 on.
fn byte_alphabet() -> Vec<char> {
    let printable: Vec<u32> = (33..=126).chain(161..=172).chain(174..=255).collect();
    let mut next = 256;
    let character = |byte: u32| {
        let code = if printable.contains(&byte) {
            byte
        } else {
            next += 1;
            next - 1
        };
        char::from_u32(code).expect("the alphabet is made of valid characters")
    };
    (0..256).map(character).collect()
}

/// Smallest useful configuration for [`byte_tokenizer`]: width 32, 2 layers, a context of 64
/// tokens.
#[must_use]
pub fn tiny_config() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Qwen2,
        vocab_size: 257,
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        max_position_embeddings: 64,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        no_rope_layers: Vec::new(),
        qkv_bias: true,
        output_bias: false,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_ids: vec![BYTE_EOS],
    }
}

/// Network with nonzero adapters: the zero matrices of [`with_lora`](crate::CausalLm::with_lora)
/// become random.
#[must_use]
pub fn with_random_lora(network: &CausalLm, seed: u64) -> CausalLm {
    let filled = fill(network.clone(), |entry| {
        let mut rng = StreamKey::new(seed).rng(Domain::Weights);
        let is_b = entry.name.ends_with("lora_b");
        Ok::<_, Infallible>(is_b.then(|| uniform(&mut rng, entry.len(), 0.1)))
    });
    match filled {
        Ok(network) => network,
        Err(never) => match never {},
    }
}

/// End-of-sequence token of [`byte_tokenizer`].
pub const BYTE_EOS: TokenId = 256;

/// Generator whose completions are a function of the text so far.
///
/// The function receives the whole sequence as text and the request's key, and returns the
/// continuation. The completion is cut after the first stop text, as by a real generator; without a
/// stop text it ends with [`BYTE_EOS`]. Log-probabilities are `-0.5` per token.
///
/// ```
/// use zs_core::StreamKey;
/// use zs_model::testing::ScriptedGenerator;
/// use zs_model::{Generator, SamplingParams};
///
/// let parrot = ScriptedGenerator::new(|text, _| format!("{text}{text}"));
/// let prompt = (parrot.tokenizer().encode("ab").unwrap(), StreamKey::new(0));
/// let completion = parrot.generate(&[prompt], &SamplingParams::default()).unwrap().remove(0);
/// assert_eq!(parrot.tokenizer().decode(&completion.tokens), "abab");
/// ```
pub struct ScriptedGenerator {
    tokenizer: Tokenizer,
    script: Box<Script>,
    context_length: usize,
}

type Script = dyn Fn(&str, StreamKey) -> String + Send + Sync;

impl ScriptedGenerator {
    /// Creates a generator that writes `script(text_so_far, key)`.
    pub fn new(script: impl Fn(&str, StreamKey) -> String + Send + Sync + 'static) -> Self {
        Self { tokenizer: byte_tokenizer(), script: Box::new(script), context_length: 1 << 16 }
    }

    /// Sets the chat template of prompts.
    #[must_use]
    pub fn with_chat_template(mut self, template: ChatTemplate) -> Self {
        self.tokenizer = self.tokenizer.with_chat_template(Some(template));
        self
    }

    /// Sets the context length.
    #[must_use]
    pub fn with_context_length(mut self, context_length: usize) -> Self {
        self.context_length = context_length;
        self
    }
}

impl Debug for ScriptedGenerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedGenerator").finish_non_exhaustive()
    }
}

impl Generator for ScriptedGenerator {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn context_length(&self) -> usize {
        self.context_length
    }

    fn session(&self, num_sequences: usize) -> Box<dyn Session + '_> {
        Box::new(ScriptedSession { generator: self, sequences: vec![Vec::new(); num_sequences] })
    }
}

struct ScriptedSession<'a> {
    generator: &'a ScriptedGenerator,
    sequences: Vec<Vec<TokenId>>,
}

impl Session for ScriptedSession<'_> {
    fn extend(
        &mut self,
        requests: &[SequenceRequest<'_>],
        params: &SamplingParams,
        on_token: &mut dyn FnMut(usize, TokenId),
    ) -> Result<Vec<Completion>, GenerateError> {
        let context_length = self.generator.context_length;
        for request in requests {
            let needed = self.sequences[request.sequence].len() + request.append.len() + 1;
            if needed > context_length {
                let sequence = request.sequence;
                return Err(GenerateError::ContextOverflow { sequence, needed, context_length });
            }
        }
        let mut completions = Vec::with_capacity(requests.len());
        for (index, request) in requests.iter().enumerate() {
            let sequence = &mut self.sequences[request.sequence];
            sequence.extend_from_slice(request.append);
            let text = self.generator.tokenizer.decode(sequence);
            let reply = (self.generator.script)(&text, request.key);
            let (mut tokens, mut stop_reason) = finish(&reply, &params.stop);
            let room = params.max_new_tokens.min(context_length - sequence.len());
            if tokens.len() > room {
                tokens.truncate(room);
                stop_reason = StopReason::Length;
            }
            tokens.iter().for_each(|&token| on_token(index, token));
            sequence.extend_from_slice(&tokens);
            let log_probs = vec![-0.5; tokens.len()];
            completions.push(Completion {
                tokens,
                log_probs,
                sampling_log_probs: None,
                stop_reason,
            });
        }
        Ok(completions)
    }

    fn sequence_len(&self, sequence: usize) -> usize {
        self.sequences[sequence].len()
    }
}

/// Tokens of the reply up to and including the first stop text, or with an end-of-sequence token.
fn finish(reply: &str, stop: &[String]) -> (Vec<TokenId>, StopReason) {
    let end = stop.iter().filter_map(|it| reply.find(it).map(|at| at + it.len())).min();
    let bytes = |text: &str| text.bytes().map(TokenId::from).collect::<Vec<_>>();
    match end {
        Some(end) => (bytes(&reply[..end]), StopReason::Stop),
        None => {
            let mut tokens = bytes(reply);
            tokens.push(BYTE_EOS);
            (tokens, StopReason::EndOfSequence)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_tokenizer_round_trips_text() {
        let tokenizer = byte_tokenizer();
        for text in ["<search> a </search>", "état\n\n€", ""] {
            let tokens = tokenizer.encode(text).unwrap();
            assert_eq!(tokens, text.bytes().map(TokenId::from).collect::<Vec<_>>());
            assert_eq!(tokenizer.decode(&tokens), text);
        }
        assert_eq!(tokenizer.vocab_size(), 257);
    }

    #[test]
    fn stops_after_the_first_stop_text() {
        let generator = ScriptedGenerator::new(|_, _| "a</s>b".to_owned());
        let params = SamplingParams { stop: vec!["</s>".into()], ..SamplingParams::default() };
        let prompt = (generator.tokenizer().encode("q").unwrap(), StreamKey::new(0));
        let completion = generator.generate(&[prompt], &params).unwrap().remove(0);
        assert_eq!(generator.tokenizer().decode(&completion.tokens), "a</s>");
        assert_eq!(completion.stop_reason, StopReason::Stop);
    }
}
