//! The thread that samples: prompts of all requests that sample alike, one session at a time.

use std::sync::Arc;

use anyhow::Result;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use zs_core::StreamKey;
use zs_model::{Completion, Generator, SamplingParams, SequenceRequest, TokenId, Tokenizer};

use super::ServedModel;
use super::batcher::{BatchConfig, Batcher, Job};
use super::metrics::ServerMetrics;

/// A model behind a batcher.
#[derive(Debug)]
pub(super) struct Sampler {
    model: ServedModel,
    vocab_size: usize,
    batcher: Batcher<SampleJob>,
}

/// What becomes of a request's sequences, as it happens.
#[derive(Debug)]
pub(super) enum SampleEvent {
    /// A token of one of them; only where tokens were asked for.
    Token {
        /// Which sequence of the request.
        sequence: usize,
        /// The token.
        token: TokenId,
    },
    /// All of them, whole. The last event.
    Done(Vec<Completion>),
    /// Why there are none. The last event.
    Failed(String),
}

#[derive(Debug)]
struct SampleJob {
    prompts: Vec<(Vec<TokenId>, StreamKey)>,
    params: SamplingParams,
    wants_tokens: bool,
    /// Unbounded, so that a client that reads slowly delays nobody; it holds at most the tokens of
    /// one request.
    events: UnboundedSender<SampleEvent>,
}

impl Job for SampleJob {
    fn size(&self) -> usize {
        self.prompts.len()
    }
}

impl Sampler {
    pub(super) fn start(
        model: ServedModel,
        config: BatchConfig,
        metrics: Arc<ServerMetrics>,
    ) -> Result<Self> {
        let generator = Arc::clone(&model.generator);
        let process = move |jobs: Vec<SampleJob>| {
            for alike in group_alike(jobs) {
                sample(generator.as_ref(), &alike, &metrics);
            }
        };
        let vocab_size = model.generator.tokenizer().vocab_size();
        Ok(Self { model, vocab_size, batcher: Batcher::start("sample", config, process)? })
    }

    pub(super) fn name(&self) -> &str {
        &self.model.name
    }

    pub(super) fn tokenizer(&self) -> &Tokenizer {
        self.model.generator.tokenizer()
    }

    /// A handle that outlives the request.
    pub(super) fn generator(&self) -> Arc<dyn Generator> {
        Arc::clone(&self.model.generator)
    }

    pub(super) fn context_length(&self) -> usize {
        self.model.generator.context_length()
    }

    pub(super) fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Queues some prompts, which are known to fit; the events end early where the model broke down.
    pub(super) fn sample(
        &self,
        prompts: Vec<(Vec<TokenId>, StreamKey)>,
        params: SamplingParams,
        wants_tokens: bool,
    ) -> UnboundedReceiver<SampleEvent> {
        let (events, receiver) = unbounded_channel();
        self.batcher.submit(SampleJob { prompts, params, wants_tokens, events });
        receiver
    }
}

/// Puts jobs with the same sampling parameters together, in the order of their first.
fn group_alike(jobs: Vec<SampleJob>) -> Vec<Vec<SampleJob>> {
    let mut groups: Vec<Vec<SampleJob>> = Vec::new();
    for job in jobs {
        match groups.iter_mut().find(|it| it[0].params == job.params) {
            Some(group) => group.push(job),
            None => groups.push(vec![job]),
        }
    }
    groups
}

fn sample(generator: &dyn Generator, jobs: &[SampleJob], metrics: &ServerMetrics) {
    // Row r of the session is sequence owners[r].1 of job owners[r].0.
    let owners: Vec<(usize, usize)> = jobs
        .iter()
        .enumerate()
        .flat_map(|(job, it)| (0..it.prompts.len()).map(move |sequence| (job, sequence)))
        .collect();
    let requests: Vec<SequenceRequest<'_>> = owners
        .iter()
        .enumerate()
        .map(|(row, &(job, sequence))| {
            let (append, key) = &jobs[job].prompts[sequence];
            SequenceRequest { sequence: row, append, key: *key }
        })
        .collect();
    metrics.batch("sample", requests.len());
    metrics.prompt_tokens.inc_by(requests.iter().map(|it| it.append.len() as u64).sum());
    // Sending fails where the client has gone; its row is finished all the same.
    let mut on_token = |row: usize, token: TokenId| {
        let (job, sequence) = owners[row];
        if jobs[job].wants_tokens {
            let _ = jobs[job].events.send(SampleEvent::Token { sequence, token });
        }
    };
    let mut session = generator.session(requests.len());
    match session.extend(&requests, &jobs[0].params, &mut on_token) {
        Ok(completions) => {
            let sampled: usize = completions.iter().map(|it| it.tokens.len()).sum();
            metrics.completion_tokens.inc_by(sampled as u64);
            let mut completions = completions.into_iter();
            for job in jobs {
                let mine = completions.by_ref().take(job.prompts.len()).collect();
                let _ = job.events.send(SampleEvent::Done(mine));
            }
        }
        Err(error) => {
            for job in jobs {
                let _ = job.events.send(SampleEvent::Failed(error.to_string()));
            }
        }
    }
}
