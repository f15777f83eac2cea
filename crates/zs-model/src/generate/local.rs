//! Batched sampling from a local network, on all cores of a CPU and on all devices of a model.

use std::sync::Arc;
use std::sync::mpsc::channel;

use burn::tensor::StreamId;

use super::decode_step::GraphCounters;
use super::shard::Shard;
use super::{Completion, GenerateError, IsCancelled, SamplingParams, SequenceRequest, Session};
use crate::TokenId;
use crate::replicas::threads_of;
use crate::workers::run_on_threads;
use crate::{CausalLm, ModelConfig, PolicyModel, Tokenizer};

/// Minimum sequences per worker, so that computation outweighs overhead.
const MIN_SEQUENCES_PER_SHARD: usize = 8;

/// Session of a local network, sharded over the workers of its devices.
///
/// A sequence's tokens do not depend on the rest of its batch, so the number of workers affects
/// only the speed. Adjacent sequences share a worker because they tend to share a prompt.
pub(crate) struct LocalSession<'a> {
    config: &'a ModelConfig,
    /// Sequence `s` is sequence `s % block` of shard `s / block`.
    shards: Vec<Shard<'a>>,
    block: usize,
    num_sequences: usize,
    /// Threads of a shard. A single shard with one thread runs on the caller's.
    threads: usize,
    /// Stream in which the session was created and computes.
    stream: StreamId,
}

/// Requests of one shard, with their indices in the whole batch.
#[derive(Default)]
struct ShardRequests<'a> {
    indices: Vec<usize>,
    requests: Vec<SequenceRequest<'a>>,
}

impl<'a> LocalSession<'a> {
    pub(crate) fn new(
        replicas: &[CausalLm],
        config: &'a ModelConfig,
        tokenizer: Option<&'a Tokenizer>,
        [num_sequences, max_rows]: [usize; 2],
        counters: &Arc<GraphCounters>,
    ) -> Self {
        let devices: Vec<_> = replicas.iter().map(PolicyModel::device).collect();
        let threads = threads_of(&devices, config.num_parameters());
        let of_worker: Vec<&CausalLm> = replicas
            .iter()
            .zip(&threads)
            .flat_map(|(network, threads)| std::iter::repeat_n(network, threads.workers))
            .collect();
        let num_shards = of_worker.len().min(num_sequences / MIN_SEQUENCES_PER_SHARD).max(1);
        let block = num_sequences.div_ceil(num_shards).max(1);
        let max_rows = max_rows.div_ceil(num_shards);
        // Few sequences are spread over all devices rather than the workers of the first.
        let shards = (0..num_shards)
            .map(|it| of_worker[it * of_worker.len() / num_shards])
            .map(|network| Shard::new(network, config, tokenizer, [block, max_rows], counters))
            .collect();
        let threads = threads.first().map_or(1, |it| it.per_worker);
        Self { config, shards, block, num_sequences, threads, stream: StreamId::current() }
    }

    /// Session with a single turn, which drops finished sequences immediately.
    pub(crate) fn for_single_turn(mut self) -> Self {
        self.shards.iter_mut().for_each(Shard::drop_finished);
        self
    }

    fn check_requests(&self, requests: &[SequenceRequest<'_>]) -> Result<(), GenerateError> {
        let mut seen = vec![false; self.num_sequences];
        for request in requests {
            let sequence = request.sequence;
            assert!(!std::mem::replace(&mut seen[sequence], true), "one request a sequence");
            let held = self.sequence_len(sequence);
            assert!(held + request.append.len() > 0, "a new sequence needs a prompt");
            request.check(held, self.config)?;
        }
        Ok(())
    }
}

impl LocalSession<'_> {
    /// [`Session::extend`] that ends the completions of cancelled requests early.
    pub(crate) fn extend_unless(
        &mut self,
        requests: &[SequenceRequest<'_>],
        params: &SamplingParams,
        on_token: &mut dyn FnMut(usize, TokenId),
        is_cancelled: IsCancelled<'_>,
    ) -> Result<Vec<Completion>, GenerateError> {
        params.check()?;
        self.check_requests(requests)?;
        let num_shards = self.shards.len();
        let (stream, threads) = (self.stream, self.threads);
        if num_shards == 1 && threads == 1 {
            let shard = &mut self.shards[0];
            return stream.executes(|| shard.extend(requests, params, on_token, is_cancelled));
        }
        let mut shares: Vec<ShardRequests<'_>> =
            (0..num_shards).map(|_| ShardRequests::default()).collect();
        for (index, request) in requests.iter().enumerate() {
            let share = &mut shares[request.sequence / self.block];
            let sequence = request.sequence % self.block;
            share.indices.push(index);
            share.requests.push(SequenceRequest { sequence, ..*request });
        }
        let block = self.block;
        let mut completions: Vec<Option<Completion>> = requests.iter().map(|_| None).collect();
        let mut failure = None;
        std::thread::scope(|scope| {
            let (sender, tokens) = channel();
            let mut running = Vec::new();
            for (shard, share) in self.shards.iter_mut().zip(&shares) {
                let sender = sender.clone();
                running.push(scope.spawn(move || {
                    run_on_threads(threads, stream, || {
                        let on_token = &mut |index: usize, token| {
                            // The receiver outlives all senders.
                            let _ = sender.send((share.indices[index], token));
                        };
                        let is_cancelled = |index: usize| is_cancelled(share.indices[index]);
                        shard.extend(&share.requests, params, on_token, &is_cancelled)
                    })
                }));
            }
            drop(sender);
            for (index, token) in tokens {
                on_token(index, token);
            }
            for (shard, (handle, share)) in running.into_iter().zip(&shares).enumerate() {
                match handle.join().unwrap_or_else(|it| std::panic::resume_unwind(it)) {
                    Ok(done) => {
                        for (&index, completion) in share.indices.iter().zip(done) {
                            completions[index] = Some(completion);
                        }
                    }
                    Err(error) => {
                        failure.get_or_insert(error.in_block(shard * block));
                    }
                }
            }
        });
        match failure {
            Some(error) => Err(error),
            None => Ok(completions.into_iter().flatten().collect()),
        }
    }
}

impl Session for LocalSession<'_> {
    fn extend(
        &mut self,
        requests: &[SequenceRequest<'_>],
        params: &SamplingParams,
        on_token: &mut dyn FnMut(usize, TokenId),
    ) -> Result<Vec<Completion>, GenerateError> {
        self.extend_unless(requests, params, on_token, &|_| false)
    }

    fn sequence_len(&self, sequence: usize) -> usize {
        self.shards[sequence / self.block].sequence_len(sequence % self.block)
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::Device;
    use zs_core::StreamKey;

    use super::*;
    use crate::testing::{byte_tokenizer, tiny_config};
    use crate::{Generator, LanguageModel, on_secondary_stream};

    /// Stream in which a session, opened and used on this thread, computes.
    fn stream(model: &LanguageModel) -> StreamId {
        let params = SamplingParams { max_new_tokens: 1, ..SamplingParams::default() };
        let request = SequenceRequest { sequence: 0, append: &[1, 2], key: StreamKey::new(0) };
        let mut stream = None;
        let on_token = &mut |_, _| stream = Some(StreamId::current());
        model.session(1).extend(&[request], &params, on_token).expect("the request fits");
        stream.expect("a token was sampled")
    }

    /// A device graph that used weights of another stream would wait for it, which is not allowed
    /// during capture.
    #[test]
    fn a_model_samples_in_the_stream_of_its_weights() {
        let make =
            || LanguageModel::initialize(tiny_config(), byte_tokenizer(), 1, &Device::flex());
        let (here, second) = (StreamId::current(), on_secondary_stream(StreamId::current));
        assert_ne!(here, second);
        let (policy, simulator) = (make(), on_secondary_stream(make));
        assert_eq!(stream(&simulator), second);
        assert_eq!(on_secondary_stream(|| stream(&policy)), here);
        // New weights belong to the stream of the caller.
        let trained = simulator.with_network(policy.network());
        assert_eq!(stream(&trained), here);
    }
}
