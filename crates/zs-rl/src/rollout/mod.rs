//! Interaction loop: turn by turn, the policy model writes and the search engine answers, for a
//! whole batch at a time.

mod branch;
mod budget;
mod config;
mod consult;
mod copying;
mod demonstration;
mod error;
mod helper_reply;
mod lane;
mod lanes;
mod noise;
mod observation;
mod prompt;
mod row;
mod search;
mod stats;

use zs_core::{Question, SearchEngine, StreamKey};
use zs_model::{Generator, TokenId};

pub use self::branch::{Branch, PlayedEpisode};
pub use self::budget::TokenBudget;
pub use self::config::{RolloutConfig, ZEROSEARCH_PROMPT};
pub use self::demonstration::{DemonstratedTurn, Demonstration, DemonstrationError};
pub use self::error::RolloutError;
pub use self::noise::TurnNoise;
pub use self::stats::RolloutStats;

use self::lane::{Lane, Table};
use self::lanes::{blocks, play_lanes};
use self::observation::ObservationWriter;
use self::prompt::PromptTemplate;
use self::row::{RolloutRow, Rules};
use crate::consult::{HelperKind, HelperRegistry};
use crate::program::{self, Harness};
use crate::{Consult, Trajectory, Turn};

/// One episode to be played.
#[derive(Clone, Copy, Debug)]
pub struct Episode<'a> {
    /// Question of the episode.
    pub question: &'a Question,
    /// Random key of the episode, whose `turn` is set by the loop. Everything random about the
    /// episode is a function of this key.
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

/// Event of a rollout, reported as it happens. `episode` is an index into the episodes.
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
    /// A helper model replied in the middle of a turn.
    Consult {
        /// The episode.
        episode: usize,
        /// Request and reply.
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

/// Plays episodes until each has answered, cannot continue, or has used up its turns: [`Rollout`]
/// without helper models.
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

/// Rollout: plays episodes of a policy against a search engine.
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
///   drawn from its own key; the rollout does not know the curriculum.
/// - A search that fails shows "no information", is marked in its
///   [`SearchRecord`](crate::SearchRecord) and counted.
/// - Documents that exceed `max_observation_tokens` or the context lose the last ones, and a single
///   one its end; the closing tag stays.
/// - All rows are sampled in one session and all queries of a turn go to the engine together, or, with
///   [`lanes`](RolloutConfig::lanes), those of a lane. With a deterministic engine, an episode is a
///   function of its question and key, whatever else is in the batch.
/// - With a [`harness`](Self::harness), program functions look at each action before it is carried
///   out and may rewrite it or add to the observation.
/// - With [`consultants`](Self::consultants), sampling also stops at the closing tags of requests to
///   helper models. The reply is inserted after the request and the policy resumes its turn; the
///   tokens of the reply are [`Provenance::Agent`](crate::Provenance::Agent). A request beyond the
///   budget of an episode ends the turn with a message that refuses it.
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
    /// Engine that answers the searches.
    pub engine: &'a dyn SearchEngine,
    /// Probability that a search requests noisy documents.
    pub noise_probability: TurnNoise,
    /// Limits, sampling, prompt.
    pub config: &'a RolloutConfig,
    /// Program functions; without them, those that the config names, out of the built-in ones.
    pub harness: Option<&'a Harness>,
    /// Helper models that may be asked.
    pub consultants: Option<&'a HelperRegistry>,
}

impl<'a> Rollout<'a> {
    /// Creates a rollout without noise or helper models, and with the program functions of the
    /// config.
    #[must_use]
    pub fn new(
        generator: &'a dyn Generator,
        engine: &'a dyn SearchEngine,
        config: &'a RolloutConfig,
    ) -> Self {
        let (noise_probability, harness, consultants) = (0.0.into(), None, None);
        Self { generator, engine, noise_probability, config, harness, consultants }
    }

    /// Plays episodes until each has answered, cannot continue, or has used up its turns.
    ///
    /// `observer` is called on this thread, with the events of each episode in their order.
    ///
    /// # Errors
    ///
    /// Fails before sampling on an invalid config or noise probability and on a question whose
    /// prompt does not fit; later when the generator fails, or the engine or a helper model breaks
    /// its contract. If several lanes fail, the first one's error is returned. A failing *search*,
    /// request or program function is not an error.
    pub fn play(
        &self,
        episodes: &[Episode<'_>],
        observer: &mut dyn FnMut(RolloutEvent<'_>),
    ) -> Result<RolloutOutput, RolloutError> {
        self.noise_probability.check()?;
        let rows = self.open(episodes)?;
        let of_config = self.harness_of_config()?;
        self.play_rows(rows, self.harness.unwrap_or(&of_config), observer)
    }

    /// Plays continuations of episodes that have been played, with the engine, noise probability,
    /// config, program functions and helper models of this rollout.
    ///
    /// A continuation is the whole episode; [`Trajectory::branch`] tells which turns it shares, and
    /// [`RolloutStats`] count the others. Continuations that follow one another and branch at the same
    /// point share the forward pass of their prefix.
    ///
    /// # Errors
    ///
    /// As [`play`](Self::play), and where an episode does not have the turn, or the search, of a branch.
    pub fn continue_from(
        &self,
        branches: &[Branch<'_>],
        observer: &mut dyn FnMut(RolloutEvent<'_>),
    ) -> Result<RolloutOutput, RolloutError> {
        self.noise_probability.check()?;
        self.config.validate()?;
        let of_config = self.harness_of_config()?;
        let harness = self.harness.unwrap_or(&of_config);
        let (tokenizer, budget) = (self.generator.tokenizer(), self.config.token_budget.as_ref());
        let rows = branches.iter().map(|it| it.open(tokenizer, harness, budget));
        self.play_rows(rows.collect::<Result<_, _>>()?, harness, observer)
    }

    /// The program functions that the config names; none where the rollout has its own.
    fn harness_of_config(&self) -> Result<Harness, RolloutError> {
        match self.harness {
            Some(_) => Ok(Harness::default()),
            None => Harness::of(&program::builtin(), &self.config.programs).map_err(|error| {
                let message = format!("names what is not built in: {error}");
                RolloutError::Config { field: "programs", message }
            }),
        }
    }

    fn play_rows(
        &self,
        mut rows: Vec<RolloutRow<'_>>,
        harness: &Harness,
        observer: &mut dyn FnMut(RolloutEvent<'_>),
    ) -> Result<RolloutOutput, RolloutError> {
        let Self { generator, config, .. } = *self;
        let agents: Vec<HelperKind> =
            self.consultants.map_or_else(Vec::new, |it| it.kinds().collect());
        let context_length = generator.context_length();
        let table = Table {
            rollout: self,
            observations: ObservationWriter::new(generator.tokenizer(), config)?,
            rules: Rules {
                tokenizer: generator.tokenizer(),
                context_length,
                observation_limit: context_length.saturating_sub(config.min_turn_tokens),
                max_turns: config.max_searches + 1,
                harness,
                agents: &agents,
                consult_budget: self.consultants.map_or(0, HelperRegistry::budget),
            },
        };
        let mut lanes = Vec::new();
        let episodes: Vec<Episode<'_>> = rows.iter().map(|it| it.episode).collect();
        for block in blocks(&episodes, config.lanes) {
            let rest = rows.split_off(block.len());
            lanes.push(Lane::new(block.start, std::mem::replace(&mut rows, rest)));
        }
        let played = play_lanes(&table, lanes, observer)?;
        let trajectories: Vec<Trajectory> =
            played.into_iter().flat_map(Lane::into_trajectories).collect();
        Ok(RolloutOutput { stats: RolloutStats::of(&trajectories), trajectories })
    }

    /// Encodes the prompts, and refuses those that leave no room for a token.
    fn open<'e>(&self, episodes: &[Episode<'e>]) -> Result<Vec<RolloutRow<'e>>, RolloutError> {
        let template = self.config.template()?;
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
            let budget = budget.unwrap_or(usize::MAX);
            Ok(RolloutRow::new(*episode, prompt, self.generator.tokenizer(), budget))
        };
        episodes.iter().map(open_row).collect()
    }
}

#[cfg(test)]
mod branch_tests;
#[cfg(test)]
mod hook_tests;
#[cfg(test)]
mod lane_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
