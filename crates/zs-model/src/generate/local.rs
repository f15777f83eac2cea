//! Batched sampling from a local network with a key-value cache.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use zs_core::Domain;

use super::sampling::choose;
use super::stop::StopWatch;
use super::{
    Completion, GenerateError, SamplingParams, SequenceRequest, Session, StopReason, TokenId,
};
use crate::network::{KeyValueCache, MASKED};
use crate::{CausalLm, ModelConfig, PolicyModel, Tokenizer};

/// Sequences of a local network.
///
/// The host keeps every sequence's tokens; the cache is only an accelerator. At the start of each
/// turn the rows that go on are packed to the left of a fresh cache, new tokens are prefilled in one
/// pass, and each sampled token writes one column for all rows. A sequence that sat out a turn
/// leaves the cache and is prefilled again, should it come back.
pub(crate) struct LocalSession<'a> {
    network: &'a CausalLm,
    config: &'a ModelConfig,
    tokenizer: Option<&'a Tokenizer>,
    device: Device,
    sequences: Vec<Vec<TokenId>>,
    cached: Option<CachedRows>,
}

/// The cache and what its rows and columns hold.
struct CachedRows {
    cache: KeyValueCache,
    /// The sequence of each row.
    owners: Vec<usize>,
    /// For each row, the columns that hold its tokens, in order: the first `len` tokens of the
    /// sequence.
    columns: Vec<Vec<usize>>,
}

/// A completion under construction.
struct Growing {
    completion: Completion,
    rng: ChaCha8Rng,
    done: bool,
}

impl<'a> LocalSession<'a> {
    pub(crate) fn new(
        network: &'a CausalLm,
        config: &'a ModelConfig,
        tokenizer: Option<&'a Tokenizer>,
        num_sequences: usize,
    ) -> Self {
        let device = network.device();
        let sequences = vec![Vec::new(); num_sequences];
        Self { network, config, tokenizer, device, sequences, cached: None }
    }

    fn check_requests(&self, requests: &[SequenceRequest<'_>]) -> Result<(), GenerateError> {
        let context_length = self.config.max_position_embeddings;
        let mut seen = vec![false; self.sequences.len()];
        for request in requests {
            let sequence = request.sequence;
            assert!(!std::mem::replace(&mut seen[sequence], true), "one request a sequence");
            let held = self.sequences[sequence].len();
            assert!(held + request.append.len() > 0, "a new sequence needs a prompt");
            let needed = held + request.append.len() + 1;
            if needed > context_length {
                return Err(GenerateError::ContextOverflow { sequence, needed, context_length });
            }
            let vocab_size = self.config.vocab_size;
            if let Some(&token) = request.append.iter().find(|it| **it as usize >= vocab_size) {
                return Err(GenerateError::TokenOutOfVocabulary { sequence, token, vocab_size });
            }
        }
        Ok(())
    }

    /// Makes the requested sequences the rows of the cache, with room for this turn, and returns the
    /// tokens of each that are not in it yet: at least one.
    fn pack(&mut self, owners: &[usize], max_new_tokens: usize) -> Vec<Vec<TokenId>> {
        let kept: Vec<Option<(usize, Vec<usize>)>> = owners
            .iter()
            .map(|owner| {
                let cached = self.cached.as_ref()?;
                let row = cached.owners.iter().position(|it| it == owner)?;
                // The last token is always fed again, so that there are logits to sample from.
                let len = cached.columns[row].len().min(self.sequences[*owner].len() - 1);
                Some((row, cached.columns[row][..len].to_vec()))
            })
            .collect();
        let pending: Vec<Vec<TokenId>> = owners
            .iter()
            .zip(&kept)
            .map(|(owner, kept)| {
                let len = kept.as_ref().map_or(0, |(_, columns)| columns.len());
                self.sequences[*owner][len..].to_vec()
            })
            .collect();
        let longest = pending.iter().map(Vec::len).max().unwrap_or(0);
        let held = kept.iter().flatten().map(|(_, columns)| columns.len()).max().unwrap_or(0);
        let capacity = held + longest + max_new_tokens;
        let columns: Vec<Vec<usize>> = kept
            .iter()
            .map(|it| it.clone().map(|(_, columns)| columns).unwrap_or_default())
            .collect();
        let cache = match self.cached.take() {
            Some(cached) if held > 0 => {
                let rows: Vec<usize> =
                    kept.iter().map(|it| it.as_ref().map_or(0, |(row, _)| *row)).collect();
                cached.cache.repack(&rows, &columns, capacity, &self.device)
            }
            _ => KeyValueCache::new(self.config, owners.len(), capacity, &self.device),
        };
        let columns = columns.into_iter().map(|it| (0..it.len()).collect()).collect();
        self.cached = Some(CachedRows { cache, owners: owners.to_vec(), columns });
        pending
    }

    /// Feeds each row its next tokens (none for a finished row) and returns the logits after the
    /// last of them, `[rows, vocab]` in row-major order.
    fn feed(&mut self, tokens: &[Vec<TokenId>]) -> Vec<f32> {
        let cached = self.cached.as_mut().expect("rows are packed before they are fed");
        let new = tokens.iter().map(Vec::len).max().unwrap_or(0);
        let rows = tokens.len();
        let first_column = cached.cache.columns;
        let width = first_column + new;
        let mut ids = vec![0_i32; rows * new];
        let mut positions = vec![0_i32; rows * new];
        let mut bias = vec![MASKED; rows * new * width];
        let mut last = vec![0_i32; rows];
        for (row, tokens) in tokens.iter().enumerate() {
            let held = cached.columns[row].len();
            for (offset, token) in tokens.iter().enumerate() {
                let at = row * new + offset;
                ids[at] = *token as i32;
                positions[at] = (held + offset) as i32;
                cached.columns[row].push(first_column + offset);
            }
            last[row] = (row * new + tokens.len().saturating_sub(1)) as i32;
            for offset in 0..new {
                // A padded query sees what a real one sees; its output is never read.
                let visible = held + (offset + 1).min(tokens.len());
                let base = (row * new + offset) * width;
                for &column in &cached.columns[row][..visible] {
                    bias[base + column] = 0.0;
                }
            }
        }
        let device = &self.device;
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [rows, new]), device);
        let positions =
            Tensor::<1, Int>::from_data(TensorData::new(positions, [rows * new]), device);
        let bias = Tensor::<5>::from_data(TensorData::new(bias, [rows, 1, 1, new, width]), device);
        let hidden = self.network.hidden_cached(ids, positions, bias, &mut cached.cache);
        let last = Tensor::<1, Int>::from_data(TensorData::new(last, [rows]), device);
        let logits = self.network.head(hidden.select(0, last));
        logits.into_data().iter::<f32>().collect()
    }
}

impl Session for LocalSession<'_> {
    fn extend(
        &mut self,
        requests: &[SequenceRequest<'_>],
        params: &SamplingParams,
        on_token: &mut dyn FnMut(usize, TokenId),
    ) -> Result<Vec<Completion>, GenerateError> {
        self.check_requests(requests)?;
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let owners: Vec<usize> = requests.iter().map(|it| it.sequence).collect();
        for request in requests {
            self.sequences[request.sequence].extend_from_slice(request.append);
        }
        let mut growing: Vec<Growing> = requests
            .iter()
            .map(|request| Growing {
                completion: Completion {
                    tokens: Vec::new(),
                    log_probs: Vec::new(),
                    stop_reason: StopReason::Length,
                },
                rng: request.key.rng(Domain::Sampling),
                done: params.max_new_tokens == 0,
            })
            .collect();
        let watch = StopWatch::new(self.tokenizer, &params.stop);
        let vocab_size = self.config.vocab_size;
        let mut next = self.pack(&owners, params.max_new_tokens);
        for _ in 0..params.max_new_tokens {
            let logits = self.feed(&next);
            for (row, grow) in growing.iter_mut().enumerate() {
                // A finished row is fed nothing: it costs its share of the batch, and stays in the
                // cache for the next turn.
                next[row].clear();
                if grow.done {
                    continue;
                }
                let choice =
                    choose(&logits[row * vocab_size..][..vocab_size], params, &mut grow.rng);
                let sequence = &mut self.sequences[owners[row]];
                sequence.push(choice.token);
                grow.completion.tokens.push(choice.token);
                grow.completion.log_probs.push(choice.log_prob);
                on_token(row, choice.token);
                if self.config.eos_token_ids.contains(&choice.token) {
                    grow.completion.stop_reason = StopReason::EndOfSequence;
                    grow.done = true;
                } else if watch.is_complete(&grow.completion.tokens) {
                    grow.completion.stop_reason = StopReason::Stop;
                    grow.done = true;
                } else if sequence.len() >= self.config.max_position_embeddings {
                    grow.done = true;
                } else {
                    next[row].push(choice.token);
                }
            }
            if growing.iter().all(|it| it.done) {
                break;
            }
        }
        Ok(growing.into_iter().map(|it| it.completion).collect())
    }

    fn sequence_len(&self, sequence: usize) -> usize {
        self.sequences[sequence].len()
    }
}
