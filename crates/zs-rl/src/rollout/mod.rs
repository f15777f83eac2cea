//! The interaction loop: the policy model writes, the search engine answers, turn by turn, a whole
//! batch at a time.

mod budget;
mod config;
mod consult;
mod copying;
mod error;
mod noise;
mod observation;
mod prompt;
mod row;
mod search;
mod stats;

use tracing::info_span;
use zs_core::{Question, SearchEngine, StreamKey};
use zs_model::{Generator, SamplingParams, SequenceRequest, Session, TokenId};

pub use self::budget::TokenBudget;
pub use self::config::{RolloutConfig, ZEROSEARCH_PROMPT};
pub use self::error::RolloutError;
pub use self::noise::TurnNoise;
pub use self::stats::RolloutStats;

use self::consult::{consult, part_key};
use self::observation::Observer;
use self::prompt::PromptTemplate;
use self::row::{Row, Rules, Written};
use self::search::search;
use crate::consult::{AgentKind, ConsultRegistry};
use crate::program::Harness;
use crate::{Consult, Trajectory, Turn};

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
    /// An agent was consulted in the middle of a turn.
    Consult {
        /// The episode.
        episode: usize,
        /// What was asked and replied.
        record: &'a Consult,
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

/// Plays episodes until each has answered, cannot go on, or has used up its turns: [`Rollout`]
/// without agents.
///
/// # Errors
///
/// As [`Rollout::play`].
pub fn rollout(
    generator: &dyn Generator,
    engine: &dyn SearchEngine,
    episodes: &[Episode<'_>],
    noise_probability: impl Into<TurnNoise>,
    config: &RolloutConfig,
    observer: &mut dyn FnMut(RolloutEvent<'_>),
) -> Result<RolloutOutput, RolloutError> {
    let noise_probability = noise_probability.into();
    Rollout { noise_probability, ..Rollout::new(generator, engine, config) }
        .play(episodes, observer)
}

/// How episodes are played: who writes, who searches, and what stands between them.
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
///     budget spent        -> the episode ends, over budget
/// ```
///
/// - Each query is noisy with probability `noise_probability`, which may be one number or one a turn,
///   drawn from its own key; the loop does not know why.
/// - A search that fails shows "no information", is marked in its
///   [`SearchRecord`](crate::SearchRecord) and counted.
/// - Documents that exceed `max_observation_tokens` or the context lose the last ones, and a single
///   one its end; the closing tag stays.
/// - All rows are sampled in one session and all queries of a turn go to the engine together. With a
///   deterministic engine, an episode is a function of its question and key, whatever else is in the
///   batch.
/// - With a [`harness`](Self::harness), program functions look at each action before it is carried
///   out and may rewrite it or add to the observation.
/// - With [`consultants`](Self::consultants), sampling also stops at the closing tags of agents. The
///   reply is put after the question and the policy goes on with its turn; its tokens are
///   [`Provenance::Agent`](crate::Provenance::Agent). Beyond the budget of an episode the question
///   ends the turn, and the policy is told so.
///
/// # Differences from the reference code
///
/// Tokens are kept as sampled (there they are decoded and encoded again), sampling stops at the
/// closing tags (there it runs on and the tail is dropped), and the search of the last turn is not
/// sent to the engine (there it is, and its result thrown away).
///
/// # References
///
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588); reference code `generation.py` 337-452
#[derive(Clone, Debug)]
pub struct Rollout<'a> {
    /// The policy.
    pub generator: &'a dyn Generator,
    /// Who answers its searches.
    pub engine: &'a dyn SearchEngine,
    /// How likely a search asks for noisy documents.
    pub noise_probability: TurnNoise,
    /// Limits, sampling, prompt.
    pub config: &'a RolloutConfig,
    /// Program functions of your own, in place of the config's.
    pub harness: Option<&'a Harness>,
    /// Agents that may be consulted.
    pub consultants: Option<&'a ConsultRegistry>,
}

impl<'a> Rollout<'a> {
    /// Without noise, agents, or program functions but those of the config.
    #[must_use]
    pub fn new(
        generator: &'a dyn Generator,
        engine: &'a dyn SearchEngine,
        config: &'a RolloutConfig,
    ) -> Self {
        let (noise_probability, harness, consultants) = (0.0.into(), None, None);
        Self { generator, engine, noise_probability, config, harness, consultants }
    }

    /// Plays episodes until each has answered, cannot go on, or has used up its turns.
    ///
    /// # Errors
    ///
    /// Fails before sampling on an invalid config or noise probability and on a question whose
    /// prompt does not fit; later when the generator fails, or the engine or an agent breaks its
    /// contract. A failing *search*, consultation or program function is not an error.
    pub fn play(
        &self,
        episodes: &[Episode<'_>],
        observer: &mut dyn FnMut(RolloutEvent<'_>),
    ) -> Result<RolloutOutput, RolloutError> {
        let Self { generator, engine, config, .. } = *self;
        self.noise_probability.check()?;
        let mut rows = self.open(episodes)?;
        let observations = Observer::new(generator.tokenizer(), config)?;
        let of_config = Harness::of(&config.programs);
        let agents: Vec<AgentKind> =
            self.consultants.map_or_else(Vec::new, |it| it.kinds().collect());
        let rules = Rules {
            tokenizer: generator.tokenizer(),
            context_length: generator.context_length(),
            observation_limit: generator.context_length().saturating_sub(config.min_turn_tokens),
            max_turns: config.max_searches + 1,
            harness: self.harness.unwrap_or(&of_config),
            agents: &agents,
            consult_budget: self.consultants.map_or(0, ConsultRegistry::budget),
        };
        let mut session = generator.session(rows.len());
        for turn in 0..rules.max_turns {
            let active: Vec<usize> = (0..rows.len()).filter(|&it| !rows[it].is_finished).collect();
            if active.is_empty() {
                break;
            }
            self.write(session.as_mut(), &mut rows, &active, turn, &rules, observer)?;
            let noise_probability = self.noise_probability.at(turn);
            search(&mut rows, &active, engine, turn, noise_probability, config)?;
            for &index in &active {
                let row = &mut rows[index];
                row.observe(&observations, rules.observation_limit)?;
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

    /// Encodes the prompts, and refuses those that leave no room for a token.
    fn open<'e>(&self, episodes: &[Episode<'e>]) -> Result<Vec<Row<'e>>, RolloutError> {
        let template = PromptTemplate::new(self.config)?;
        let context_length = self.generator.context_length();
        let open_row = |episode: &Episode<'e>| {
            let question_id = &episode.question.id;
            let text = template.render(episode.question)?;
            let prompt = self.generator.tokenizer().encode_prompt(&text)?;
            if prompt.is_empty() {
                return Err(RolloutError::EmptyPrompt { question_id: question_id.clone() });
            }
            let num_tokens = prompt.len();
            if num_tokens >= context_length {
                let question_id = question_id.clone();
                return Err(RolloutError::PromptTooLong {
                    question_id,
                    num_tokens,
                    context_length,
                });
            }
            let budget = self.config.token_budget.as_ref().map(|it| it.of(episode.question));
            Ok(Row::new(*episode, prompt, budget.unwrap_or(usize::MAX)))
        };
        episodes.iter().map(open_row).collect()
    }

    /// One turn of every active row, consultations included.
    fn write(
        &self,
        session: &mut dyn Session,
        rows: &mut [Row<'_>],
        active: &[usize],
        turn: u32,
        rules: &Rules<'_>,
        observer: &mut dyn FnMut(RolloutEvent<'_>),
    ) -> Result<(), RolloutError> {
        let mut writing = active.to_vec();
        for part in 0.. {
            let params = self.sampling_params(rows, &writing, rules);
            let requests: Vec<SequenceRequest<'_>> = writing
                .iter()
                .map(|&it| SequenceRequest {
                    sequence: it,
                    append: &rows[it].append,
                    key: part_key(rows[it].episode.key, turn, part),
                })
                .collect();
            let mut on_token = |index: usize, token| {
                observer(RolloutEvent::Token { episode: writing[index], turn, token });
            };
            let completions = {
                let _span = info_span!("generate", turn, sequences = requests.len()).entered();
                session.extend(&requests, &params, &mut on_token)?
            };
            let written: Vec<(usize, Written)> = writing
                .iter()
                .zip(completions)
                .map(|(&it, completion)| (it, rows[it].write(completion, turn, rules)))
                .collect();
            let asking = written.into_iter().filter(|(_, it)| *it == Written::Consult);
            writing = asking.map(|(index, _)| index).collect();
            let Some(registry) = self.consultants.filter(|_| !writing.is_empty()) else { break };
            let RolloutConfig { max_observation_tokens, .. } = *self.config;
            consult(rows, &writing, registry, rules, max_observation_tokens, (turn, part))?;
            for &episode in &writing {
                if let Some(record) = rows[episode].trajectory.consults.last() {
                    observer(RolloutEvent::Consult { episode, record });
                }
            }
        }
        Ok(())
    }

    /// What a turn, or a part of one, is sampled with.
    fn sampling_params(
        &self,
        rows: &[Row<'_>],
        writing: &[usize],
        rules: &Rules<'_>,
    ) -> SamplingParams {
        let mut params = self.config.sampling_params();
        params.stop.extend(rules.agents.iter().map(|it| it.closing_tag().to_owned()));
        // Each row is cut at its own budget afterwards; this only saves what all would throw away.
        let most = writing.iter().map(|&it| rows[it].budget()).max().unwrap_or(0);
        params.max_new_tokens = params.max_new_tokens.min(most);
        params
    }
}

#[cfg(test)]
mod hook_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
