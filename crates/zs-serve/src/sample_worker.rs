//! The sampling threads: prompts of all requests with the same parameters, one batch at a time.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use zs_core::StreamKey;
use zs_model::{
    Completion, DeviceHealth, Generator, SamplingParams, TextLimit, TokenId, Tokenizer,
};

use crate::api_error::ApiError;
use crate::batcher::{Batcher, Job, Room, Size, num_fitting};
use crate::metrics::ServerMetrics;
use crate::weights::Weights;
use crate::{ServeConfig, ServeError, ServedModel};

/// Classes of requests, from the shortest: each has a thread, so that a request waits for none of a
/// longer class. The last class has no bounds.
const CLASSES: [Class; 3] = [
    Class { name: "sample-short", max_new_tokens: 64, max_tokens: 4 << 10 },
    Class { name: "sample-medium", max_new_tokens: 512, max_tokens: 32 << 10 },
    Class { name: "sample-long", max_new_tokens: usize::MAX, max_tokens: usize::MAX },
];

/// Bounds of a class of requests.
struct Class {
    name: &'static str,
    /// Tokens that a sequence may be continued by, and so the steps of a batch.
    max_new_tokens: usize,
    /// Tokens of all sequences of a request, sampled ones included.
    max_tokens: usize,
}

/// A model behind a batcher per class of requests.
#[derive(Debug)]
pub(crate) struct Sampler {
    name: String,
    tokenizer: Tokenizer,
    context_length: usize,
    vocab_size: usize,
    limit: TextLimit,
    weights: Arc<Weights>,
    batchers: Vec<Batcher<SampleJob>>,
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
    /// Completions of the sequences from number `first` on.
    Done {
        /// Index of the first sequence.
        first: usize,
        /// Completions, in the order of the sequences.
        completions: Vec<Completion>,
    },
    /// The error of sampling. The last event.
    Failed(ApiError),
}

/// Sequences of a request, from number `first` on.
#[derive(Debug)]
struct SampleJob {
    prompts: Vec<(Vec<TokenId>, StreamKey)>,
    first: usize,
    params: SamplingParams,
    context_length: usize,
    is_streamed: bool,
    /// Unbounded, so that a slow client does not delay others; it holds the tokens of one request at
    /// most.
    events: UnboundedSender<SampleEvent>,
}

impl SampleJob {
    /// Tokens that a sequence may hold at its end.
    fn tokens_of(&self, (prompt, _): &(Vec<TokenId>, StreamKey)) -> usize {
        sequence_tokens(prompt.len(), self.params.max_new_tokens, self.context_length)
    }
}

/// Returns the number of tokens that a sequence may hold at its end.
pub(crate) fn sequence_tokens(prompt: usize, max_new_tokens: usize, context: usize) -> usize {
    prompt.saturating_add(max_new_tokens).min(context)
}

impl Job for SampleJob {
    fn size(&self) -> Size {
        let longest = self.prompts.iter().map(|it| self.tokens_of(it)).max().unwrap_or(0);
        Size { items: self.prompts.len(), longest }
    }

    fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    fn cut(mut self, room: Room) -> (Self, Option<Self>) {
        let at = num_fitting(self.prompts.iter().map(|it| self.tokens_of(it)), room);
        let rest = Self {
            prompts: self.prompts.split_off(at),
            first: self.first + at,
            params: self.params.clone(),
            context_length: self.context_length,
            is_streamed: self.is_streamed,
            events: self.events.clone(),
        };
        (self, (!rest.prompts.is_empty()).then_some(rest))
    }
}

impl Sampler {
    pub(crate) fn start(
        model: ServedModel,
        config: &ServeConfig,
        health: DeviceHealth,
        metrics: Arc<ServerMetrics>,
    ) -> Result<Self, ServeError> {
        let ServedModel { name, generator } = model;
        let (tokenizer, context_length) =
            (generator.tokenizer().clone(), generator.context_length());
        let weights = Arc::new(Weights::new(generator));
        let current = Arc::clone(&weights);
        let process: Arc<dyn Fn(Vec<SampleJob>) + Send + Sync> = Arc::new(move |jobs| {
            let generator = current.generator();
            for group in group_by_params(jobs) {
                sample(generator.as_ref(), group, &health, &metrics);
            }
        });
        let batch = config.generate_batch;
        let start = |it: &Class| {
            let tokens = config.max_batch_tokens.min(it.max_tokens.saturating_mul(4));
            let room = Room { items: batch.max_size, tokens };
            Batcher::start(it.name, room, batch.max_wait, Arc::clone(&process))
        };
        let batchers = CLASSES.iter().map(start).collect::<Result<_, _>>()?;
        let limit = TextLimit::new(&tokenizer, context_length);
        let vocab_size = tokenizer.vocab_size();
        Ok(Self { name, tokenizer, context_length, vocab_size, limit, weights, batchers })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Weights that requests sample with; all have the same tokenizer and context.
    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Returns a handle that outlives the request.
    pub(crate) fn generator(&self) -> Arc<dyn Generator> {
        self.weights.generator()
    }

    pub(crate) fn context_length(&self) -> usize {
        self.context_length
    }

    pub(crate) fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Limit on texts that are worth encoding.
    pub(crate) fn limit(&self) -> &TextLimit {
        &self.limit
    }

    /// Queues prompts that fit the context. The events end with an error, or before every sequence is
    /// done. Once the receiver is dropped, the sequences are sampled no further.
    pub(crate) fn sample(
        &self,
        prompts: Vec<(Vec<TokenId>, StreamKey)>,
        params: SamplingParams,
        is_streamed: bool,
    ) -> UnboundedReceiver<SampleEvent> {
        let (events, receiver) = unbounded_channel();
        let context_length = self.context_length();
        let job = SampleJob { prompts, first: 0, params, context_length, is_streamed, events };
        let total: usize = job.prompts.iter().map(|it| job.tokens_of(it)).sum();
        let fits =
            |it: &Class| job.params.max_new_tokens <= it.max_new_tokens && total <= it.max_tokens;
        let class = CLASSES.iter().position(fits).unwrap_or(CLASSES.len() - 1);
        self.batchers[class].submit(job);
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

/// Samples a batch. Once the model panics or its device fails, this batch and all later ones fail, since
/// nothing that is computed then can be trusted.
fn sample(
    generator: &dyn Generator,
    mut jobs: Vec<SampleJob>,
    health: &DeviceHealth,
    metrics: &ServerMetrics,
) {
    if let Err(error) = health.check() {
        return fail(jobs, || error.clone().into());
    }
    jobs.retain(|it| !it.is_abandoned());
    let Some(params) = jobs.first().map(|it| it.params.clone()) else { return };
    // Row `r` of the batch is sequence `owners[r].1` of job `owners[r].0`.
    let owners: Vec<(usize, usize)> = jobs
        .iter()
        .enumerate()
        .flat_map(|(job, it)| (0..it.prompts.len()).map(move |at| (job, it.first + at)))
        .collect();
    let lengths: Vec<usize> = jobs.iter().map(|it| it.prompts.len()).collect();
    let prompts: Vec<_> = jobs.iter_mut().flat_map(|it| std::mem::take(&mut it.prompts)).collect();
    metrics.batch("sample", prompts.len());
    metrics.prompt_tokens.inc_by(prompts.iter().map(|(tokens, _)| tokens.len() as u64).sum());
    let mut on_token = |row: usize, token: TokenId| {
        let (job, sequence) = owners[row];
        if jobs[job].is_streamed {
            let _ = jobs[job].events.send(SampleEvent::Token { sequence, token });
        }
    };
    let is_cancelled = |row: usize| jobs[owners[row].0].is_abandoned();
    let sampled = zs_core::caught(|| {
        generator.generate_streaming(&prompts, &params, &mut on_token, &is_cancelled)
    });
    let sampled = sampled.unwrap_or_else(|panic| {
        health.report(&format!("sampling {panic}"));
        Ok(Vec::new())
    });
    match (health.check(), sampled) {
        (Err(error), _) => fail(jobs, || error.clone().into()),
        (Ok(()), Ok(completions)) => {
            let sampled: usize = completions.iter().map(|it| it.tokens.len()).sum();
            metrics.completion_tokens.inc_by(sampled as u64);
            let mut completions = completions.into_iter();
            for (job, length) in jobs.into_iter().zip(lengths) {
                let completions = completions.by_ref().take(length).collect();
                let _ = job.events.send(SampleEvent::Done { first: job.first, completions });
            }
        }
        (Ok(()), Err(error)) => fail(jobs, || ApiError::Upstream(error.to_string())),
    }
}

fn fail(jobs: Vec<SampleJob>, error: impl Fn() -> ApiError) {
    for job in jobs {
        let _ = job.events.send(SampleEvent::Failed(error()));
    }
}
