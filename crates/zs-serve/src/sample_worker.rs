//! The sampling thread: prompts of all requests with the same parameters, one session at a time.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use zs_core::StreamKey;
use zs_model::{Completion, Generator, SamplingParams, SequenceRequest, TokenId, Tokenizer};

use crate::batcher::{BatchConfig, Batcher, Job};
use crate::metrics::ServerMetrics;
use crate::{ServeError, ServedModel};

/// A model behind a batcher.
#[derive(Debug)]
pub(crate) struct Sampler {
    model: ServedModel,
    vocab_size: usize,
    batcher: Batcher<SampleJob>,
}

/// Progress of the sequences of a request.
#[derive(Debug)]
pub(crate) enum SampleEvent {
    /// A sampled token, sent to streaming requests only.
    Token {
        /// Index of the sequence in the request.
        sequence: usize,
        /// The token.
        token: TokenId,
    },
    /// All completions. The last event.
    Done(Vec<Completion>),
    /// The error of sampling. The last event.
    Failed(String),
}

#[derive(Debug)]
struct SampleJob {
    prompts: Vec<(Vec<TokenId>, StreamKey)>,
    params: SamplingParams,
    is_streamed: bool,
    /// Unbounded, so that a slow client does not delay others; it holds the tokens of one request at
    /// most.
    events: UnboundedSender<SampleEvent>,
}

impl Job for SampleJob {
    fn size(&self) -> usize {
        self.prompts.len()
    }
}

impl Sampler {
    pub(crate) fn start(
        model: ServedModel,
        config: BatchConfig,
        metrics: Arc<ServerMetrics>,
    ) -> Result<Self, ServeError> {
        let generator = Arc::clone(&model.generator);
        let process = move |jobs: Vec<SampleJob>| {
            for group in group_by_params(jobs) {
                sample(generator.as_ref(), &group, &metrics);
            }
        };
        let vocab_size = model.generator.tokenizer().vocab_size();
        Ok(Self { model, vocab_size, batcher: Batcher::start("sample", config, process)? })
    }

    pub(crate) fn name(&self) -> &str {
        &self.model.name
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        self.model.generator.tokenizer()
    }

    /// Returns a handle that outlives the request.
    pub(crate) fn generator(&self) -> Arc<dyn Generator> {
        Arc::clone(&self.model.generator)
    }

    pub(crate) fn context_length(&self) -> usize {
        self.model.generator.context_length()
    }

    pub(crate) fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Queues prompts that fit the context. The events end without a last one when the model panics.
    pub(crate) fn sample(
        &self,
        prompts: Vec<(Vec<TokenId>, StreamKey)>,
        params: SamplingParams,
        is_streamed: bool,
    ) -> UnboundedReceiver<SampleEvent> {
        let (events, receiver) = unbounded_channel();
        self.batcher.submit(SampleJob { prompts, params, is_streamed, events });
        receiver
    }
}

/// Groups jobs by sampling parameters, in the order of the first job of each group.
fn group_by_params(jobs: Vec<SampleJob>) -> Vec<Vec<SampleJob>> {
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
    // Row `r` of the session is sequence `owners[r].1` of job `owners[r].0`.
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
    // Sending fails when the client has disconnected; its sequences are sampled to their end.
    let mut on_token = |row: usize, token: TokenId| {
        let (job, sequence) = owners[row];
        if jobs[job].is_streamed {
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
                let own = completions.by_ref().take(job.prompts.len()).collect();
                let _ = job.events.send(SampleEvent::Done(own));
            }
        }
        Err(error) => {
            for job in jobs {
                let _ = job.events.send(SampleEvent::Failed(error.to_string()));
            }
        }
    }
}
