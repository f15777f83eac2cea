//! The interaction loop: the policy model writes, the search engine answers, turn by turn, a whole
//! batch at a time.

mod config;
mod error;
mod observation;
mod prompt;
mod stats;

use zs_core::{
    Action, Document, DocumentQuality, Domain, INVALID_ACTION_MESSAGE, Question, SearchEngine,
    SearchRequest, SearchResult, StreamKey, parse_action,
};
use zs_model::{Completion, Generator, SequenceRequest, StopReason, TokenId};

pub use self::config::{RolloutConfig, ZEROSEARCH_PROMPT};
pub use self::error::RolloutError;
pub use self::stats::RolloutStats;

use self::observation::Observer;
use self::prompt::PromptTemplate;
use crate::{SearchRecord, Trajectory, Turn};

/// One episode to be played.
#[derive(Clone, Copy, Debug)]
pub struct Episode<'a> {
    /// What is asked.
    pub question: &'a Question,
    /// Where in the run it is asked; `turn` is set by the loop. Everything random about the episode
    /// is a function of this key.
    pub key: StreamKey,
}

/// The episodes as they were played, and what they add up to.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutOutput {
    /// One trajectory an episode, in the order of the episodes.
    pub trajectories: Vec<Trajectory>,
    /// Counts over all of them.
    pub stats: RolloutStats,
}

/// What happens during a rollout, as it happens. `episode` is an index into the episodes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum RolloutEvent<'a> {
    /// The policy model wrote a token.
    Token {
        /// The episode.
        episode: usize,
        /// The turn.
        turn: u32,
        /// The token.
        token: TokenId,
    },
    /// A turn is over, its observation included.
    Turn {
        /// The episode.
        episode: usize,
        /// The turn's number.
        turn: u32,
        /// The turn.
        record: &'a Turn,
    },
    /// An episode is over.
    Finished {
        /// The episode.
        episode: usize,
        /// All of it.
        trajectory: &'a Trajectory,
    },
}

/// Plays episodes until each has answered, cannot go on, or has used up its turns.
///
/// ```text
/// for turn in 0..=max_searches:
///     text = sample(until </search>, </answer>, end of sequence, or max_new_tokens)
///     <answer>            -> the episode ends
///     end of sequence     -> the episode ends, unanswered
///     last turn           -> the episode ends, unanswered; a search here is not carried out
///     <search>            -> observation = documents, useful or noisy
///     neither             -> observation = a message that explains the format
///     context full        -> the episode ends, truncated
/// ```
///
/// - Each query is noisy with probability `noise_probability`, drawn from its own key; the loop does
///   not know why.
/// - A search that fails shows "no information", is marked in its [`SearchRecord`] and counted.
/// - Documents that exceed `max_observation_tokens` or the context lose the last ones, and a single
///   one its end; the closing tag stays.
/// - All rows are sampled in one session and all queries of a turn go to the engine together. With a
///   deterministic engine, an episode is a function of its question and key, whatever else is in the
///   batch.
///
/// # Differences from the reference code
///
/// Tokens are kept as sampled (there they are decoded and encoded again), sampling stops at the
/// closing tags (there it runs on and the tail is dropped), and the search of the last turn is not
/// sent to the engine (there it is, and its result thrown away).
///
/// # Errors
///
/// Fails before sampling on an invalid config or noise probability and on a question whose prompt
/// does not fit; later when the generator fails or the engine breaks its contract. A failing
/// *search* is not an error.
///
/// # References
///
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588); reference code `generation.py` 337-452
pub fn rollout(
    generator: &dyn Generator,
    engine: &dyn SearchEngine,
    episodes: &[Episode<'_>],
    noise_probability: f64,
    config: &RolloutConfig,
    observer: &mut dyn FnMut(RolloutEvent<'_>),
) -> Result<RolloutOutput, RolloutError> {
    if !(0.0..=1.0).contains(&noise_probability) {
        return Err(RolloutError::NoiseProbability { value: noise_probability });
    }
    let mut rows = open(generator, episodes, config)?;
    let observations = Observer::new(generator.tokenizer(), config)?;
    let params = config.sampling_params();
    let mut session = generator.session(rows.len());
    for turn in 0..=config.max_searches {
        let active: Vec<usize> = (0..rows.len()).filter(|&it| !rows[it].is_finished).collect();
        if active.is_empty() {
            break;
        }
        let completions = {
            let requests: Vec<SequenceRequest<'_>> = active
                .iter()
                .map(|&it| SequenceRequest {
                    sequence: it,
                    append: &rows[it].append,
                    key: StreamKey { turn, ..rows[it].episode.key },
                })
                .collect();
            let mut on_token = |index: usize, token| {
                observer(RolloutEvent::Token { episode: active[index], turn, token });
            };
            session.extend(&requests, &params, &mut on_token)?
        };
        let may_search = turn < config.max_searches;
        for (&index, completion) in active.iter().zip(completions) {
            rows[index].write(completion, may_search, generator);
        }
        search(&mut rows, &active, engine, turn, noise_probability, config)?;
        for &index in &active {
            let row = &mut rows[index];
            let reserved = config.min_turn_tokens;
            row.observe(&observations, generator.context_length().saturating_sub(reserved))?;
            if let Some(record) = row.trajectory.turns.last() {
                observer(RolloutEvent::Turn { episode: index, turn, record });
            }
            if row.is_finished {
                let trajectory = &row.trajectory;
                observer(RolloutEvent::Finished { episode: index, trajectory });
            }
        }
    }
    let trajectories: Vec<Trajectory> = rows.into_iter().map(|it| it.trajectory).collect();
    Ok(RolloutOutput { stats: RolloutStats::of(&trajectories), trajectories })
}

/// An episode being played.
struct Row<'a> {
    episode: Episode<'a>,
    trajectory: Trajectory,
    /// What the session has not seen yet: the prompt, later an observation.
    append: Vec<TokenId>,
    num_tokens: usize,
    /// What the environment owes the policy for its last turn.
    reply: Reply,
    is_finished: bool,
}

/// What follows a turn.
enum Reply {
    /// The episode ends.
    Nothing,
    /// The documents of this search, once the engine has answered.
    Documents,
    /// The message about the format.
    Message,
}

/// Encodes the prompts, and refuses those that leave no room for a token.
fn open<'a>(
    generator: &dyn Generator,
    episodes: &[Episode<'a>],
    config: &RolloutConfig,
) -> Result<Vec<Row<'a>>, RolloutError> {
    let template = PromptTemplate::new(config)?;
    let context_length = generator.context_length();
    let open_row = |episode: &Episode<'a>| {
        let question_id = &episode.question.id;
        let text = template.render(episode.question)?;
        let prompt = generator.tokenizer().encode_prompt(&text)?;
        if prompt.is_empty() {
            return Err(RolloutError::EmptyPrompt { question_id: question_id.clone() });
        }
        let num_tokens = prompt.len();
        if num_tokens >= context_length {
            let question_id = question_id.clone();
            return Err(RolloutError::PromptTooLong { question_id, num_tokens, context_length });
        }
        Ok(Row {
            episode: *episode,
            append: prompt.clone(),
            trajectory: Trajectory::new(question_id, prompt),
            num_tokens,
            reply: Reply::Nothing,
            is_finished: false,
        })
    };
    episodes.iter().map(open_row).collect()
}

impl Row<'_> {
    /// The documents that the episode has been shown so far.
    fn documents_read(&self) -> Vec<Document> {
        self.trajectory.searches().flat_map(|it| it.documents.iter().cloned()).collect()
    }

    /// Takes the policy's turn and decides what follows it.
    fn write(&mut self, completion: Completion, may_search: bool, generator: &dyn Generator) {
        let text = generator.tokenizer().decode(&completion.tokens);
        let action = parse_action(&text);
        self.num_tokens += completion.tokens.len();
        let is_full = self.num_tokens >= generator.context_length();
        let has_ended = completion.stop_reason == StopReason::EndOfSequence;
        self.reply = match &action {
            Action::Answer(_) => Reply::Nothing,
            Action::Invalid if has_ended => Reply::Nothing,
            Action::Search(_) | Action::Invalid if is_full => {
                self.trajectory.truncated = true;
                Reply::Nothing
            }
            Action::Search(_) | Action::Invalid if !may_search => Reply::Nothing,
            Action::Search(_) => Reply::Documents,
            Action::Invalid => Reply::Message,
        };
        self.trajectory.turns.push(Turn {
            completion,
            text,
            action,
            observation: Vec::new(),
            observation_text: String::new(),
            search: None,
        });
    }

    /// Appends the observation of the last turn, or ends the episode. With it, the episode holds
    /// `limit` tokens at most.
    fn observe(&mut self, observations: &Observer<'_>, limit: usize) -> Result<(), RolloutError> {
        let Some(turn) = self.trajectory.turns.last_mut() else { return Ok(()) };
        let room = limit.saturating_sub(self.num_tokens);
        let observation = match (&self.reply, &turn.search) {
            (Reply::Documents, Some(search)) => observations.documents(&search.documents, room)?,
            (Reply::Message, _) => observations.message(INVALID_ACTION_MESSAGE, room)?,
            (Reply::Nothing | Reply::Documents, _) => {
                self.is_finished = true;
                return Ok(());
            }
        };
        match observation {
            Some((text, tokens)) => {
                self.num_tokens += tokens.len();
                self.append.clone_from(&tokens);
                turn.observation = tokens;
                turn.observation_text = text;
            }
            None => {
                self.trajectory.truncated = true;
                self.is_finished = true;
            }
        }
        Ok(())
    }
}

/// Carries out the searches of one turn, all in one batch.
fn search(
    rows: &mut [Row<'_>],
    active: &[usize],
    engine: &dyn SearchEngine,
    turn: u32,
    noise_probability: f64,
    config: &RolloutConfig,
) -> Result<(), RolloutError> {
    let mut searching: Vec<(usize, SearchRecord)> = Vec::new();
    for &index in active {
        let row = &rows[index];
        let action = row.trajectory.turns.last().map(|it| &it.action);
        if let (Reply::Documents, Some(Action::Search(query))) = (&row.reply, action) {
            let key = StreamKey { turn, ..row.episode.key };
            let quality = draw_quality(key, noise_probability);
            let query = query.clone();
            searching
                .push((index, SearchRecord { query, quality, documents: Vec::new(), error: None }));
        }
    }
    if searching.is_empty() {
        return Ok(());
    }
    let results = {
        let read: Vec<Vec<Document>> =
            searching.iter().map(|(index, _)| rows[*index].documents_read()).collect();
        let requests: Vec<SearchRequest<'_>> = searching
            .iter()
            .zip(&read)
            .map(|((index, record), read)| {
                let Episode { question, key } = rows[*index].episode;
                SearchRequest {
                    query: &record.query,
                    question,
                    quality: record.quality,
                    read,
                    k: config.num_documents,
                    seed: StreamKey { turn, ..key }.derive_seed(Domain::Search),
                }
            })
            .collect();
        engine.search_batch(&requests)
    };
    if results.len() != searching.len() {
        return Err(RolloutError::EngineContract {
            engine: engine.name().to_owned(),
            requests: searching.len(),
            results: results.len(),
        });
    }
    for ((index, mut record), result) in searching.into_iter().zip(results) {
        fill(&mut record, result, config.num_documents);
        if let Some(turn) = rows[index].trajectory.turns.last_mut() {
            turn.search = Some(record);
        }
    }
    Ok(())
}

/// Useful or noisy, drawn for one query.
fn draw_quality(key: StreamKey, noise_probability: f64) -> DocumentQuality {
    let draw: f64 = rand::RngExt::random(&mut key.rng(Domain::Quality));
    if draw < noise_probability { DocumentQuality::Noisy } else { DocumentQuality::Useful }
}

fn fill(record: &mut SearchRecord, result: SearchResult, k: usize) {
    match result {
        Ok(documents) => {
            record.documents = documents;
            record.documents.truncate(k);
        }
        Err(error) => {
            let mut message = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                message.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            record.error = Some(message);
        }
    }
}

#[cfg(test)]
mod tests;
