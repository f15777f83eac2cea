//! The sequences of one worker: a key-value cache that follows them turn by turn.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use zs_core::Domain;

use super::sampling::choose;
use super::stop::StopWatch;
use super::{Completion, SamplingParams, SequenceRequest, StopReason, TokenId};
use crate::network::{KeyValueCache, MASKED};
use crate::{CausalLm, ModelConfig, PolicyModel, Tokenizer};

/// Rows below which finished ones are not worth leaving behind.
const MIN_ROWS_TO_NARROW: usize = 4;

/// Sequences of one worker.
///
/// The host keeps every sequence's tokens; the caches are only an accelerator. At the start of a
/// turn the rows that go on are packed to the left of a fresh cache, new tokens are prefilled in one
/// pass, and each sampled token writes one column for all rows. When half of the rows are finished,
/// the others move to a narrower cache; the old one stays for the next turn. A sequence that sat out
/// a turn loses its cache and is prefilled again, should it come back.
pub(crate) struct Shard<'a> {
    network: CausalLm,
    config: &'a ModelConfig,
    tokenizer: Option<&'a Tokenizer>,
    device: Device,
    sequences: Vec<Vec<TokenId>>,
    /// The last is the one in use; the others hold rows that finished earlier in the turn.
    caches: Vec<CachedRows>,
}

/// A cache and what its rows and columns hold.
struct CachedRows {
    cache: KeyValueCache,
    /// The sequence of each row; `None` once it has moved to another cache.
    owners: Vec<Option<usize>>,
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

impl<'a> Shard<'a> {
    pub(crate) fn new(
        network: &CausalLm,
        config: &'a ModelConfig,
        tokenizer: Option<&'a Tokenizer>,
        num_sequences: usize,
    ) -> Self {
        Self {
            network: network.clone(),
            config,
            tokenizer,
            device: network.device(),
            sequences: vec![Vec::new(); num_sequences],
            caches: Vec::new(),
        }
    }

    pub(crate) fn sequence_len(&self, sequence: usize) -> usize {
        self.sequences[sequence].len()
    }

    /// [`Session::extend`](super::Session::extend) for requests that are known to fit.
    pub(crate) fn extend(
        &mut self,
        requests: &[SequenceRequest<'_>],
        params: &SamplingParams,
        on_token: &mut dyn FnMut(usize, TokenId),
    ) -> Vec<Completion> {
        for request in requests {
            self.sequences[request.sequence].extend_from_slice(request.append);
        }
        let mut growing: Vec<Growing> =
            requests.iter().map(|it| Growing::new(it.key.rng(Domain::Sampling))).collect();
        if requests.is_empty() || params.max_new_tokens == 0 {
            return growing.into_iter().map(|it| it.completion).collect();
        }
        let watch = StopWatch::new(self.tokenizer, &params.stop);
        let vocab_size = self.config.vocab_size;
        // Row r of the cache in use belongs to requests[rows[r]] and is fed next[r].
        let (mut rows, mut next) = self.pack(requests, params.max_new_tokens);
        for step in 1..=params.max_new_tokens {
            let logits = self.feed(&next);
            for (row, &index) in rows.iter().enumerate() {
                next[row].clear();
                let grow = &mut growing[index];
                if grow.done {
                    continue;
                }
                let choice =
                    choose(&logits[row * vocab_size..][..vocab_size], params, &mut grow.rng);
                let sequence = &mut self.sequences[requests[index].sequence];
                sequence.push(choice.token);
                grow.completion.tokens.push(choice.token);
                grow.completion.log_probs.push(choice.log_prob);
                on_token(index, choice.token);
                if self.config.eos_token_ids.contains(&choice.token) {
                    grow.finish(StopReason::EndOfSequence);
                } else if watch.is_complete(&grow.completion.tokens) {
                    grow.finish(StopReason::Stop);
                } else if sequence.len() >= self.config.max_position_embeddings {
                    grow.finish(StopReason::Length);
                } else {
                    next[row].push(choice.token);
                }
            }
            let alive: Vec<usize> = (0..rows.len()).filter(|&it| !growing[rows[it]].done).collect();
            if alive.is_empty() {
                break;
            }
            if rows.len() >= MIN_ROWS_TO_NARROW && 2 * alive.len() <= rows.len() {
                self.narrow(&alive, params.max_new_tokens - step);
                rows = alive.iter().map(|&it| rows[it]).collect();
                next = alive.iter().map(|&it| std::mem::take(&mut next[it])).collect();
            }
        }
        growing.into_iter().map(|it| it.completion).collect()
    }

    /// Makes the requested sequences the rows of a fresh cache with room for this turn. Returns the
    /// request of each row and its tokens that are not in the cache yet: at least one.
    fn pack(
        &mut self,
        requests: &[SequenceRequest<'_>],
        max_new_tokens: usize,
    ) -> (Vec<usize>, Vec<Vec<TokenId>>) {
        // Requests by the cache that holds them; those without a cache come last.
        let place = |request: &SequenceRequest<'_>| {
            self.caches.iter().enumerate().find_map(|(cache, it)| {
                let row = it.owners.iter().position(|it| *it == Some(request.sequence))?;
                Some((cache, row))
            })
        };
        let places: Vec<Option<(usize, usize)>> = requests.iter().map(place).collect();
        let mut rows: Vec<usize> = (0..requests.len()).collect();
        rows.sort_by_key(|&it| (places[it].map_or(usize::MAX, |(cache, _)| cache), it));
        let held: Vec<Vec<usize>> = rows
            .iter()
            .map(|&it| {
                let Some((cache, row)) = places[it] else { return Vec::new() };
                let columns = &self.caches[cache].columns[row];
                // The last token is always fed again, so that there are logits to sample from.
                let len = columns.len().min(self.sequences[requests[it].sequence].len() - 1);
                columns[..len].to_vec()
            })
            .collect();
        let pending: Vec<Vec<TokenId>> = rows
            .iter()
            .zip(&held)
            .map(|(&it, held)| self.sequences[requests[it].sequence][held.len()..].to_vec())
            .collect();
        let longest = pending.iter().map(Vec::len).max().unwrap_or(0);
        let widest = held.iter().map(Vec::len).max().unwrap_or(0);
        let capacity = widest + longest + max_new_tokens;

        let mut parts = Vec::new();
        let mut start = 0;
        while start < rows.len() {
            let cache = places[rows[start]].map(|(cache, _)| cache);
            let same = |it: &&usize| places[**it].map(|(cache, _)| cache) == cache;
            let end = start + rows[start..].iter().take_while(same).count();
            parts.push(match cache {
                Some(cache) => {
                    let from: Vec<usize> =
                        rows[start..end].iter().filter_map(|&it| Some(places[it]?.1)).collect();
                    let from_cache = &self.caches[cache].cache;
                    from_cache.repack(&from, &held[start..end], capacity, &self.device)
                }
                None => KeyValueCache::new(self.config, end - start, capacity, &self.device),
            });
            start = end;
        }
        self.caches = vec![CachedRows {
            cache: KeyValueCache::stack(parts),
            owners: rows.iter().map(|&it| Some(requests[it].sequence)).collect(),
            columns: held.into_iter().map(|it| (0..it.len()).collect()).collect(),
        }];
        (rows, pending)
    }

    /// Goes on with some rows in a cache of their own; the others stay where they are.
    fn narrow(&mut self, alive: &[usize], room: usize) {
        let current = self.caches.last_mut().expect("rows are packed before they are fed");
        let columns: Vec<Vec<usize>> =
            alive.iter().map(|&it| current.columns[it].clone()).collect();
        let widest = columns.iter().map(Vec::len).max().unwrap_or(0);
        let cache = current.cache.repack(alive, &columns, widest + room, &self.device);
        let owners = alive.iter().map(|&it| current.owners[it].take()).collect();
        let columns = columns.into_iter().map(|it| (0..it.len()).collect()).collect();
        self.caches.push(CachedRows { cache, owners, columns });
    }

    /// Feeds each row its next tokens (none for a finished row) and returns the logits after the
    /// last of them, `[rows, vocab]` in row-major order.
    fn feed(&mut self, tokens: &[Vec<TokenId>]) -> Vec<f32> {
        let cached = self.caches.last_mut().expect("rows are packed before they are fed");
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

impl Growing {
    fn new(rng: ChaCha8Rng) -> Self {
        let completion = Completion {
            tokens: Vec::new(),
            log_probs: Vec::new(),
            stop_reason: StopReason::Length,
        };
        Self { completion, rng, done: false }
    }

    fn finish(&mut self, reason: StopReason) {
        self.completion.stop_reason = reason;
        self.done = true;
    }
}
