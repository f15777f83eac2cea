//! A policy that is a table: the logits of the next token given the last one.

use burn::module::{Module, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use rand::RngExt;
use zs_core::{Domain, StreamKey};
use zs_model::{
    Completion, GenerateError, Generator, PolicyModel, SamplingParams, SequenceRequest, Session,
    StopReason, TokenId, TokenRow, TokenScores, Tokenizer, ValueModel,
};

/// Logits of the next token given the last one, `[last, next]`.
#[derive(Module, Debug)]
pub(crate) struct Bigram {
    pub(crate) logits: Param<Tensor<2>>,
}

impl Bigram {
    /// Every token is equally likely.
    pub(crate) fn uniform(vocab_size: usize) -> Self {
        Self::from_logits(vec![0.0; vocab_size * vocab_size], vocab_size)
    }

    /// Every row has its own favourites.
    pub(crate) fn spread(vocab_size: usize) -> Self {
        let logits = (0..vocab_size * vocab_size).map(|it| ((it * it) % 11) as f32 / 4.0);
        Self::from_logits(logits.collect(), vocab_size)
    }

    fn from_logits(logits: Vec<f32>, vocab_size: usize) -> Self {
        let logits = TensorData::new(logits, [vocab_size, vocab_size]);
        Self { logits: Param::from_tensor(Tensor::from_data(logits, &Device::flex())) }
    }
}

/// The value of a state given the last token, `[last, 1]`.
#[derive(Module, Debug)]
pub(crate) struct BigramValues {
    table: Param<Tensor<2>>,
}

impl BigramValues {
    /// Every state has value 0.
    pub(crate) fn zeros(vocab_size: usize) -> Self {
        Self::from_table(vec![0.0; vocab_size])
    }

    /// Every state has a value of its own.
    pub(crate) fn spread(vocab_size: usize) -> Self {
        Self::from_table((0..vocab_size).map(|it| ((it * 5) % 7) as f32 / 7.0).collect())
    }

    fn from_table(table: Vec<f32>) -> Self {
        let shape = [table.len(), 1];
        let table = Tensor::from_data(TensorData::new(table, shape), &Device::flex());
        Self { table: Param::from_tensor(table) }
    }
}

impl ValueModel for BigramValues {
    fn values(&self, rows: &[TokenRow]) -> Tensor<2> {
        let device = ValueModel::device(self);
        let width = rows.iter().map(|it| it.tokens.len()).max().unwrap_or(0);
        let (mut last, mut masked) = (Vec::new(), Vec::new());
        for row in rows {
            for at in 0..width {
                let before = at.checked_sub(1).and_then(|it| row.tokens.get(it));
                last.push(before.map_or(0, |it| *it as i32));
                masked.push(!row.loss_mask.get(at).copied().unwrap_or(false));
            }
        }
        let len = last.len();
        let last = Tensor::<1, Int>::from_data(TensorData::new(last, [len]), &device);
        let masked = TensorData::new(masked, [rows.len(), width]);
        let masked = Tensor::<2, Bool>::from_data(masked, &device);
        let values: Tensor<2> = self.table.val().select(0, last).reshape([rows.len(), width]);
        values.mask_fill(masked, 0.0)
    }

    fn device(&self) -> Device {
        self.table.val().device()
    }
}

impl PolicyModel for Bigram {
    fn token_scores(&self, rows: &[TokenRow]) -> TokenScores {
        let device = PolicyModel::device(self);
        let width = rows.iter().map(|it| it.tokens.len()).max().unwrap_or(0);
        let (mut last, mut next, mut masked) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            for at in 0..width {
                let token = |at: usize| row.tokens.get(at).copied().unwrap_or(0) as i32;
                last.push(if at == 0 { 0 } else { token(at - 1) });
                next.push(token(at));
                masked.push(!row.loss_mask.get(at).copied().unwrap_or(false));
            }
        }
        let [height, len] = [rows.len(), last.len()];
        let last = Tensor::<1, Int>::from_data(TensorData::new(last, [len]), &device);
        let next = Tensor::<2, Int>::from_data(TensorData::new(next, [len, 1]), &device);
        let masked =
            Tensor::<2, Bool>::from_data(TensorData::new(masked, [height, width]), &device);
        let log_probs = log_softmax(self.logits.val().select(0, last), 1);
        let entropy = -(log_probs.clone().exp() * log_probs.clone()).sum_dim(1);
        let finish = |it: Tensor<2>| it.reshape([height, width]).mask_fill(masked.clone(), 0.0);
        TokenScores { log_probs: finish(log_probs.gather(1, next)), entropy: finish(entropy) }
    }

    fn device(&self) -> Device {
        self.logits.val().device()
    }
}

/// Samples from a [`Bigram`] table.
#[derive(Debug)]
pub(crate) struct BigramGenerator {
    tokenizer: Tokenizer,
    /// Log-probabilities, `[last][next]`.
    table: Vec<Vec<f32>>,
}

impl BigramGenerator {
    /// `vocab` holds whole words, the unknown word first.
    pub(crate) fn new(model: &Bigram, vocab: &[&str]) -> Self {
        let table = log_softmax(model.logits.val(), 1).into_data();
        let table: Vec<f32> = table.iter::<f32>().collect();
        let table = table.chunks(vocab.len()).map(<[f32]>::to_vec).collect();
        let ids: serde_json::Map<_, _> =
            vocab.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
        let tokenizer = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": { "type": "WhitespaceSplit" },
            "post_processor": null, "decoder": null,
            "model": { "type": "WordLevel", "vocab": ids, "unk_token": vocab[0] }
        });
        let tokenizer = Tokenizer::from_bytes(tokenizer.to_string().as_bytes(), "words").unwrap();
        Self { tokenizer, table }
    }
}

impl Generator for BigramGenerator {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn context_length(&self) -> usize {
        1 << 16
    }

    fn session(&self, num_sequences: usize) -> Box<dyn Session + '_> {
        Box::new(BigramSession { generator: self, sequences: vec![Vec::new(); num_sequences] })
    }
}

struct BigramSession<'a> {
    generator: &'a BigramGenerator,
    sequences: Vec<Vec<TokenId>>,
}

impl Session for BigramSession<'_> {
    fn extend(
        &mut self,
        requests: &[SequenceRequest<'_>],
        params: &SamplingParams,
        on_token: &mut dyn FnMut(usize, TokenId),
    ) -> Result<Vec<Completion>, GenerateError> {
        let sample = |(index, request): (usize, &SequenceRequest<'_>)| {
            let SequenceRequest { sequence, append, key } = *request;
            let sequence = &mut self.sequences[sequence];
            sequence.extend_from_slice(append);
            let (mut tokens, mut log_probs) = (Vec::new(), Vec::new());
            let mut rng = StreamKey::rng(key, Domain::Sampling);
            let mut stop_reason = StopReason::Length;
            while tokens.len() < params.max_new_tokens && stop_reason == StopReason::Length {
                let row = &self.generator.table[*sequence.last().unwrap() as usize];
                let mut left: f32 = rng.random();
                let token = row.iter().position(|it| {
                    left -= it.exp();
                    left < 0.0
                });
                let token = token.unwrap_or(row.len() - 1);
                sequence.push(token as TokenId);
                tokens.push(token as TokenId);
                log_probs.push(row[token]);
                on_token(index, token as TokenId);
                let text = self.generator.tokenizer.decode(&tokens);
                if params.stop.iter().any(|it| text.contains(it)) {
                    stop_reason = StopReason::Stop;
                }
            }
            Completion { tokens, log_probs, sampling_log_probs: None, stop_reason }
        };
        Ok(requests.iter().enumerate().map(sample).collect())
    }

    fn sequence_len(&self, sequence: usize) -> usize {
        self.sequences[sequence].len()
    }
}
