//! Continuous batching of the sequences of one worker, with KV caches kept across turns.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use burn::tensor::Device;
use rand_chacha::ChaCha8Rng;
use tracing::info_span;

use super::cached_rows::{CachedRows, CopiedRow};
use super::decode_step::{GraphCounters, GraphSwitch, StepContext};
use super::device_access::DeviceAccess;
use super::logits::{Logits, SampledRow};
use super::shape_buckets::ShapeBuckets;
use super::stop::StopTexts;
use super::turn::{PartialCompletion, Turn};
use super::{Completion, GenerateError, IsCancelled, SamplingParams, SequenceRequest, StopReason};
use crate::TokenId;
use crate::workers::is_host;
use crate::{CausalLm, ModelConfig, PolicyModel, Tokenizer};

/// Batch height below which finished rows are not compacted away while no request waits.
const MIN_ROWS_TO_NARROW: usize = 4;

/// Sequences of one worker.
///
/// The host stores every sequence's tokens; the KV caches only save computation. At most `max_rows`
/// sequences are decoded at once, one token each per step, and all rows of a cache share its
/// columns. When half of the rows have finished, the others move to a new cache together with
/// waiting sequences, whose prompts or observations are prefilled first:
///
/// - sequences with equal tokens are prefilled once, and their keys and values copied;
/// - sequences with a cache from an earlier turn are fed only their new tokens;
/// - cached tokens are never recomputed.
///
/// A finished row stays in its cache for the next turn. A sequence that is absent from a turn loses
/// its row and is prefilled from the start when it returns.
pub(crate) struct Shard<'a> {
    network: CausalLm,
    config: &'a ModelConfig,
    tokenizer: Option<&'a Tokenizer>,
    device: Device,
    max_rows: usize,
    keep_finished: bool,
    buckets: ShapeBuckets,
    graphs: GraphSwitch,
    sequences: Vec<Vec<TokenId>>,
    caches: Vec<CachedRows>,
}

/// Rows decoded together: row `r` of the cache belongs to `requests[rows[r]]` and is fed `next[r]`.
struct Batch {
    cache: CachedRows,
    rows: Vec<usize>,
    next: Vec<Vec<TokenId>>,
}

impl<'a> Shard<'a> {
    pub(crate) fn new(
        network: &CausalLm,
        config: &'a ModelConfig,
        tokenizer: Option<&'a Tokenizer>,
        [num_sequences, max_rows]: [usize; 2],
        counters: &Arc<GraphCounters>,
    ) -> Self {
        let device = network.device();
        Self {
            network: network.clone(),
            config,
            tokenizer,
            buckets: ShapeBuckets::of(&device),
            graphs: GraphSwitch::new(!is_host(&device), Arc::clone(counters)),
            device,
            max_rows: max_rows.max(1),
            keep_finished: true,
            sequences: vec![Vec::new(); num_sequences],
            caches: Vec::new(),
        }
    }

    /// Drops the cache of finished rows as soon as the others have moved on; for sessions with a
    /// single turn.
    pub(crate) fn drop_finished(&mut self) {
        self.keep_finished = false;
    }

    pub(crate) fn sequence_len(&self, sequence: usize) -> usize {
        self.sequences[sequence].len()
    }

    /// [`Session::extend`](super::Session::extend) for validated requests.
    ///
    /// # Errors
    ///
    /// Fails where logits are not finite.
    pub(crate) fn extend(
        &mut self,
        requests: &[SequenceRequest<'_>],
        params: &SamplingParams,
        on_token: &mut dyn FnMut(usize, TokenId),
        is_cancelled: IsCancelled<'_>,
    ) -> Result<Vec<Completion>, GenerateError> {
        for request in requests {
            self.sequences[request.sequence].extend_from_slice(request.append);
        }
        let growing = requests.iter().map(|it| PartialCompletion::new(it, params)).collect();
        let stop = StopTexts::new(self.tokenizer, &params.stop);
        let (sampled, failure) = (Vec::new(), None);
        let mut turn =
            Turn { requests, params, stop, growing, sampled, failure, on_token, is_cancelled };
        if params.max_new_tokens > 0 {
            self.run(&mut turn);
        }
        match turn.failure {
            Some(error) => Err(error),
            None => Ok(turn.growing.into_iter().map(|it| it.completion).collect()),
        }
    }

    fn run(&mut self, turn: &mut Turn<'_>) {
        let mut is_requested = vec![false; self.sequences.len()];
        turn.requests.iter().for_each(|it| is_requested[it.sequence] = true);
        self.caches.iter_mut().for_each(|cache| cache.keep(|it| is_requested[it]));
        let mut waiting: VecDeque<usize> = (0..turn.requests.len()).collect();
        let mut batch: Option<Batch> = None;
        loop {
            // Callbacks run without device access, since they might acquire it themselves.
            turn.report_tokens();
            if turn.failure.is_some() {
                break;
            }
            turn.end_cancelled();
            waiting.retain(|it| !turn.growing[*it].done);
            let access = &mut DeviceAccess::shared();
            let active = batch.as_ref().map_or(0, |it| it.active(turn).count());
            let height = batch.as_ref().map_or(0, |it| it.rows.len());
            let is_sparse = 2 * active <= height;
            if !waiting.is_empty() && (is_sparse || height == 0) {
                let free = (self.max_rows - active).min(waiting.len());
                let entering: Vec<usize> = waiting.drain(..free).collect();
                let _span = info_span!("prefill", rows = entering.len()).entered();
                batch = self.regroup(batch, &entering, turn, access);
            } else if active == 0 {
                break;
            } else if is_sparse && height >= MIN_ROWS_TO_NARROW {
                batch = self.regroup(batch, &[], turn, access);
            }
            if !self.keep_finished {
                self.caches.clear();
            }
            let Some(batch) = &mut batch else { continue };
            let _span = info_span!("decode", rows = batch.rows.len()).entered();
            let logits = self.feed(&mut batch.cache, &batch.next, access);
            self.accept(&mut batch.next, &batch.rows, logits, turn);
        }
        let _access = DeviceAccess::shared();
        self.caches.extend(batch.map(|it| it.cache.without_graph()));
        self.caches.retain(|it| !it.is_empty());
    }

    /// Feeds each row of a cache its next tokens.
    fn feed(
        &self,
        cache: &mut CachedRows,
        next: &[Vec<TokenId>],
        access: &mut DeviceAccess,
    ) -> Logits {
        let context = StepContext { device: &self.device, graphs: &self.graphs, access };
        cache.feed(&self.network, next, context)
    }

    /// Admits waiting requests to the active rows and removes finished rows.
    ///
    /// Returns `None` if no row is active after the first token of the admitted requests.
    fn regroup(
        &mut self,
        batch: Option<Batch>,
        entering: &[usize],
        turn: &mut Turn<'_>,
        access: &mut DeviceAccess,
    ) -> Option<Batch> {
        let mut batches: Vec<Batch> = batch.into_iter().collect();
        let (held, fresh): (Vec<usize>, Vec<usize>) = entering.iter().partition(|&&it| {
            let sequence = turn.requests[it].sequence;
            self.caches.iter().any(|cache| cache.row_of(sequence).is_some())
        });
        batches.extend(self.admit_cached(&held, turn, access));
        batches.extend(self.admit_new(&fresh, turn, access));

        // Newly admitted rows are not moved if only a few finished immediately.
        if let [batch] = &batches[..]
            && 2 * batch.active(turn).count() > batch.rows.len()
        {
            return batches.pop();
        }
        let active: Vec<Vec<usize>> = batches.iter().map(|it| it.active(turn).collect()).collect();
        let widest = batches
            .iter()
            .zip(&active)
            .flat_map(|(batch, active)| active.iter().map(|&row| batch.cache.held(row)));
        let Some(widest) = widest.max() else {
            self.caches.extend(batches.into_iter().map(|it| it.cache.without_graph()));
            return None;
        };
        let left = batches
            .iter()
            .zip(&active)
            .flat_map(|(batch, active)| active.iter().map(|&row| turn.left(batch.rows[row])));
        let capacity = self.buckets.capacity(widest, 0, left.max().unwrap_or(0));
        let mut parts = Vec::new();
        let (mut rows, mut next) = (Vec::new(), Vec::new());
        for (mut batch, active) in batches.into_iter().zip(active) {
            let copied: Vec<CopiedRow> = active
                .iter()
                .map(|&row| CopiedRow {
                    row,
                    held: batch.cache.held(row),
                    owner: turn.requests[batch.rows[row]].sequence,
                })
                .collect();
            if !copied.is_empty() {
                parts.push(batch.cache.copy(&copied, capacity, &self.device));
            }
            batch.cache.keep(|it| !copied.iter().any(|copied| copied.owner == it));
            self.caches.push(batch.cache.without_graph());
            rows.extend(active.iter().map(|&row| batch.rows[row]));
            next.extend(active.iter().map(|&row| std::mem::take(&mut batch.next[row])));
        }
        self.caches.retain(|it| !it.is_empty());
        let cache = CachedRows::stack(parts, self.config, capacity, &self.device);
        Some(Batch { cache, rows, next })
    }

    /// Feeds the new tokens of sequences with a cached prefix and samples one token each.
    fn admit_cached(
        &mut self,
        entering: &[usize],
        turn: &mut Turn<'_>,
        access: &mut DeviceAccess,
    ) -> Option<Batch> {
        if entering.is_empty() {
            return None;
        }
        // Cache and row of each request, grouped by cache.
        let mut sources: Vec<(usize, CopiedRow, usize)> = entering
            .iter()
            .filter_map(|&request| {
                let owner = turn.requests[request].sequence;
                let mut caches = self.caches.iter().enumerate();
                let (cache, row) = caches.find_map(|(at, it)| Some((at, it.row_of(owner)?)))?;
                // The last token is always fed again, to get logits to sample from.
                let held = self.caches[cache].held(row).min(self.sequences[owner].len() - 1);
                Some((cache, CopiedRow { row, held, owner }, request))
            })
            .collect();
        sources.sort_by_key(|(cache, _, request)| (*cache, *request));
        let next: Vec<Vec<TokenId>> =
            sources.iter().map(|(_, it, _)| self.sequences[it.owner][it.held..].to_vec()).collect();
        let widest = sources.iter().map(|(_, it, _)| it.held).max().unwrap_or(0);
        let longest = next.iter().map(Vec::len).max().unwrap_or(0);
        let capacity = self.buckets.capacity(widest, longest, turn.params.max_new_tokens);
        let parts = sources
            .chunk_by(|a, b| a.0 == b.0)
            .map(|chunk| {
                let copied: Vec<CopiedRow> = chunk.iter().map(|(_, it, _)| *it).collect();
                let cache = &mut self.caches[chunk[0].0];
                let part = cache.copy(&copied, capacity, &self.device);
                cache.keep(|it| !copied.iter().any(|copied| copied.owner == it));
                part
            })
            .collect();
        self.caches.retain(|it| !it.is_empty());
        let cache = CachedRows::stack(parts, self.config, capacity, &self.device);
        let rows = sources.into_iter().map(|(.., request)| request).collect();
        let mut batch = Batch { cache, rows, next };
        let logits = self.feed(&mut batch.cache, &batch.next, access);
        self.accept(&mut batch.next, &batch.rows, logits, turn);
        Some(batch)
    }

    /// Prefills sequences without a cache, equal ones once, and samples one token each.
    fn admit_new(
        &mut self,
        entering: &[usize],
        turn: &mut Turn<'_>,
        access: &mut DeviceAccess,
    ) -> Option<Batch> {
        if entering.is_empty() {
            return None;
        }
        let owner = |request: usize| turn.requests[request].sequence;
        let mut distinct: Vec<usize> = Vec::new();
        let mut found: HashMap<&[TokenId], usize> = HashMap::new();
        let sources: Vec<usize> = entering
            .iter()
            .map(|&request| {
                *found.entry(&self.sequences[owner(request)]).or_insert_with(|| {
                    distinct.push(owner(request));
                    distinct.len() - 1
                })
            })
            .collect();
        let prompts: Vec<Vec<TokenId>> =
            distinct.iter().map(|&it| self.sequences[it].clone()).collect();
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let new = turn.params.max_new_tokens;
        let is_shared = distinct.len() < entering.len();
        let capacity = self.buckets.capacity(0, longest, if is_shared { 0 } else { new });
        let owners = distinct.iter().map(|it| Some(*it)).collect();
        let held = (self.buckets, self.network.memory.compute_dtype.of_cache());
        let mut cache = CachedRows::empty(self.config, owners, capacity, held, &self.device);
        let mut logits = self.feed(&mut cache, &prompts, access);
        if is_shared {
            let copied: Vec<CopiedRow> = entering
                .iter()
                .zip(&sources)
                .map(|(&it, &row)| CopiedRow { row, held: prompts[row].len(), owner: owner(it) })
                .collect();
            let capacity = self.buckets.capacity(longest, 0, new);
            let part = cache.copy(&copied, capacity, &self.device);
            cache = CachedRows::stack(vec![part], self.config, capacity, &self.device);
            logits = logits.select(&sources, self.config.vocab_size);
        }
        let mut batch =
            Batch { cache, rows: entering.to_vec(), next: vec![Vec::new(); entering.len()] };
        self.accept(&mut batch.next, &batch.rows, logits, turn);
        Some(batch)
    }

    /// Samples a token for each active row and sets its next input.
    fn accept(
        &mut self,
        next: &mut [Vec<TokenId>],
        rows: &[usize],
        logits: Logits,
        turn: &mut Turn<'_>,
    ) {
        next.iter_mut().for_each(Vec::clear);
        let active: Vec<(usize, usize)> = (0..rows.len())
            .map(|row| (row, rows[row]))
            .filter(|(_, index)| !turn.growing[*index].done)
            .collect();
        let mut rngs: Vec<Option<&mut ChaCha8Rng>> =
            turn.growing.iter_mut().map(|it| Some(&mut it.rng)).collect();
        let sampled = active.iter().filter_map(|&(row, index)| {
            let sequence = &self.sequences[turn.requests[index].sequence];
            Some(SampledRow { row, sequence, rng: rngs[index].take()? })
        });
        let choices = logits.choose(sampled.collect(), self.config.vocab_size, turn.params);
        for ((row, index), choice) in active.into_iter().zip(choices) {
            let grow = &mut turn.growing[index];
            let owner = turn.requests[index].sequence;
            let sequence = &mut self.sequences[owner];
            if !choice.log_prob.is_finite() {
                let (sequence, position) = (owner, sequence.len());
                turn.failure.get_or_insert(GenerateError::NotFinite { sequence, position });
                grow.finish(StopReason::Length);
                continue;
            }
            sequence.push(choice.token);
            grow.completion.tokens.push(choice.token);
            grow.completion.log_probs.push(choice.log_prob);
            if let Some(sampling) = &mut grow.completion.sampling_log_probs {
                sampling.push(choice.sampling_log_prob);
            }
            turn.sampled.push((index, choice.token));
            let is_full = sequence.len() >= self.config.max_position_embeddings
                || grow.completion.tokens.len() >= turn.params.max_new_tokens;
            let (eos, tail) = (&self.config.eos_token_ids, &mut grow.tail);
            match turn.stop.stop_reason(tail, choice.token, eos, is_full) {
                Some(reason) => grow.finish(reason),
                None => next[row].push(choice.token),
            }
        }
    }
}

impl Batch {
    /// Rows whose completions are not finished.
    fn active(&self, turn: &Turn<'_>) -> impl Iterator<Item = usize> {
        (0..self.rows.len()).filter(|&it| !turn.growing[self.rows[it]].done)
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use zs_core::StreamKey;

    use super::*;
    use crate::testing::{byte_tokenizer, tiny_config};
    use crate::{Generator, LanguageModel};

    /// Samples two turns of ragged sequences, some with a shared prompt, in tensors of the given
    /// shapes or in host memory.
    fn two_turns(
        buckets: Option<ShapeBuckets>,
        max_rows: usize,
        counters: &Arc<GraphCounters>,
    ) -> (Vec<Completion>, Vec<usize>) {
        let model = LanguageModel::initialize(tiny_config(), byte_tokenizer(), 7, &Device::flex());
        let (network, config) = (model.network(), model.config());
        let mut shard =
            Shard::new(network, config, Some(model.tokenizer()), [11, max_rows], counters);
        if let Some(buckets) = buckets {
            shard.buckets = buckets;
            shard.graphs = GraphSwitch::accepting_software(Arc::clone(counters));
        }
        let letters = ('a'..='z').map(|it| it.to_string()).collect();
        let params = SamplingParams { max_new_tokens: 14, stop: letters, ..Default::default() };
        let mut completions = Vec::new();
        for turn in 0..2_u32 {
            let append: Vec<Vec<TokenId>> =
                (0..11).map(|it| vec![65 + it / 3 + turn; 2 + it as usize / 3 * 3]).collect();
            let requests: Vec<SequenceRequest<'_>> = append
                .iter()
                .enumerate()
                .map(|(sequence, append)| {
                    let key = StreamKey { sample: sequence as u32, turn, ..StreamKey::new(3) };
                    SequenceRequest { sequence, append, key }
                })
                .collect();
            let extended = shard.extend(&requests, &params, &mut |_, _| {}, &|_| false);
            completions.extend(extended.unwrap());
        }
        (completions, (0..11).map(|it| shard.sequence_len(it)).collect())
    }

    #[test]
    fn storage_shapes_and_passes_do_not_change_samples() {
        let (expected, lengths) = two_turns(Some(ShapeBuckets::EXACT), 100, &Arc::default());
        let short = ShapeBuckets::EXACT.with_max_pass_tokens(3);
        let counters = Arc::default();
        for (buckets, max_rows) in [
            (None, 100),
            (None, 1),
            (None, 4),
            (Some(ShapeBuckets::EXACT), 1),
            (Some(ShapeBuckets::EXACT), 4),
            (Some(short), 100),
            (Some(short), 3),
            (Some(ShapeBuckets::COARSE), 100),
            (Some(ShapeBuckets::COARSE), 3),
        ] {
            let (actual, actual_lengths) = two_turns(buckets, max_rows, &counters);
            assert_eq!(actual_lengths, lengths, "{buckets:?} {max_rows}");
            for (actual, expected) in actual.iter().zip(&expected) {
                assert_eq!(actual.tokens, expected.tokens, "{buckets:?} {max_rows}");
                assert_eq!(actual.stop_reason, expected.stop_reason);
                for (a, e) in actual.log_probs.iter().zip(&expected.log_probs) {
                    assert!((a - e).abs() < 1e-4, "{a} {e}");
                }
            }
        }
        assert!(counters.read().captured > 0, "no step was captured");
    }

    #[test]
    fn single_turn_sessions_drop_finished_rows() {
        let model = LanguageModel::initialize(tiny_config(), byte_tokenizer(), 7, &Device::flex());
        let mut shard = Shard::new(model.network(), model.config(), None, [6, 2], &Arc::default());
        shard.drop_finished();
        let params = SamplingParams { max_new_tokens: 3, ..SamplingParams::default() };
        let requests: Vec<_> = (0..6)
            .map(|sequence| SequenceRequest {
                sequence,
                append: &[1, 2, 3],
                key: StreamKey::new(sequence as u64),
            })
            .collect();
        shard.extend(&requests, &params, &mut |_, _| {}, &|_| false).unwrap();
        // Only the rows of the last batch remain.
        assert!((0..4).all(|it| shard.caches.iter().all(|cache| cache.row_of(it).is_none())));
    }

    #[test]
    fn only_finished_rows_are_kept_for_the_next_turn() {
        let model = LanguageModel::initialize(tiny_config(), byte_tokenizer(), 7, &Device::flex());
        let mut shard = Shard::new(model.network(), model.config(), None, [6, 2], &Arc::default());
        let params = SamplingParams { max_new_tokens: 3, ..SamplingParams::default() };
        let request = |sequence, append| SequenceRequest {
            sequence,
            append,
            key: StreamKey::new(sequence as u64),
        };
        let all: Vec<_> = (0..6).map(|it| request(it, &[1, 2, 3][..])).collect();
        shard.extend(&all, &params, &mut |_, _| {}, &|_| false).unwrap();
        let cached = |shard: &Shard<'_>| -> Vec<usize> {
            (0..6).filter(|&it| shard.caches.iter().any(|c| c.row_of(it).is_some())).collect()
        };
        assert_eq!(cached(&shard), [0, 1, 2, 3, 4, 5]);
        let two = [request(4, &[9]), request(1, &[9])];
        shard.extend(&two, &params, &mut |_, _| {}, &|_| false).unwrap();
        assert_eq!(cached(&shard), [1, 4]);
    }
}
