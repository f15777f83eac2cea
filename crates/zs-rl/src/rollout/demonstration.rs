//! Demonstrations: episodes that were written in advance, played through the loop of the rollout, so
//! that what is imitated is what a rollout shows.

mod error;
mod script;
mod tags;

use serde::{Deserialize, Serialize};
use zs_core::{Action, Document, Question, StreamKey, parse_action};
use zs_model::{StopReason, Tokenizer};

use super::{Episode, Rollout, RolloutConfig};
use crate::{Trajectory, Turn};

pub use self::error::DemonstrationError;

use self::script::{RecordedResults, Script};
use self::tags::{end_of_action, stray_tag};

/// Episode that was written in advance, as text: what the policy is to write, and the documents that
/// its searches return.
///
/// ```
/// use zs_core::{Document, Question};
/// use zs_model::testing::byte_tokenizer;
/// use zs_rl::{DemonstratedTurn, Demonstration, RolloutConfig};
///
/// let demonstration = Demonstration {
///     question: Question::new("q1", "What is the capital of France?", ["Paris"]),
///     turns: vec![
///         DemonstratedTurn::search("capital of France", vec![Document::new("", "It is Paris.")]),
///         DemonstratedTurn::answer("Paris"),
///     ],
/// };
/// let config = RolloutConfig { prompt_template: "{{ question }}\n".into(), ..Default::default() };
/// let trajectory = demonstration.play(&byte_tokenizer(), 1000, &config)?;
/// assert_eq!(
///     byte_tokenizer().decode(&trajectory.tokens()),
///     "What is the capital of France?\n<search> capital of France </search>\n\n\
///      <information>Doc 1: It is Paris.\n</information>\n\n<answer> Paris </answer>"
/// );
/// # Ok::<(), zs_rl::DemonstrationError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Demonstration {
    /// Question of the episode.
    #[serde(flatten)]
    pub question: Question,
    /// The turns, in order. All but the last search, and the last one answers.
    pub turns: Vec<DemonstratedTurn>,
}

/// Turn of a [`Demonstration`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemonstratedTurn {
    /// Text that the policy is to write; its action is read from it.
    pub text: String,
    /// Documents that the search of the turn returns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<Document>,
}

impl DemonstratedTurn {
    /// A turn that searches, without thoughts.
    #[must_use]
    pub fn search(query: &str, documents: Vec<Document>) -> Self {
        Self { text: format!("<search> {} </search>", query.trim()), documents }
    }

    /// A turn that answers, without thoughts.
    #[must_use]
    pub fn answer(answer: &str) -> Self {
        Self { text: format!("<answer> {} </answer>", answer.trim()), documents: Vec::new() }
    }
}

impl Demonstration {
    /// Texts and results of an episode that was played, without the replies of helper models.
    #[must_use]
    pub fn of(trajectory: &Trajectory, question: Question) -> Self {
        let turn = |(index, turn): (usize, &Turn)| DemonstratedTurn {
            text: trajectory.turn_text(index).into_owned(),
            documents: turn.search.as_ref().map_or_else(Vec::new, |it| it.documents.clone()),
        };
        Self { question, turns: trajectory.turns.iter().enumerate().map(turn).collect() }
    }

    /// Plays the demonstration through [`Rollout`] in place of a policy and an engine.
    ///
    /// Prompt, observations, limits and program functions are those of `config`, so tokens and
    /// authors are what a rollout would record of a policy that writes these texts. As there, nothing
    /// follows the closing tag of a turn, not even an end-of-sequence token. The part of the first
    /// turn that the prompt already holds ([`Tokenizer::prefill`]) is not written twice.
    /// Log-probabilities are 0.
    ///
    /// # Errors
    ///
    /// Fails on turns that no policy could have written in this loop, and where the rollout would cut
    /// or end the episode before its answer.
    pub fn play(
        &self,
        tokenizer: &Tokenizer,
        context_length: usize,
        config: &RolloutConfig,
    ) -> Result<Trajectory, DemonstrationError> {
        self.check(config.max_searches as usize)?;
        let key = StreamKey::new(0);
        let script = Script { turns: &self.turns, tokenizer, context_length };
        let engine = RecordedResults { turns: &self.turns, key };
        let episode = Episode { question: &self.question, key };
        let played = Rollout::new(&script, &engine, config).play(&[episode], &mut |_| {})?;
        let mut trajectories = played.trajectories.into_iter();
        let trajectory = trajectories.next().unwrap_or_else(|| Trajectory::new("", Vec::new()));
        self.check_played(&trajectory, context_length, config)?;
        Ok(trajectory)
    }

    /// Checks the texts, before anything is encoded: tags, actions, and the number of searches.
    ///
    /// # Errors
    ///
    /// Fails at the first turn that no policy could have written in the loop of the rollout.
    pub fn check(&self, max_searches: usize) -> Result<(), DemonstrationError> {
        use DemonstrationError as E;
        let Some(last) = self.turns.len().checked_sub(1) else { return Err(E::NoTurns) };
        for (index, DemonstratedTurn { text, documents }) in self.turns.iter().enumerate() {
            let turn = index + 1;
            if let Some(tag) = stray_tag(text) {
                return Err(E::StrayTag { turn, tag });
            }
            let end = end_of_action(text).ok_or(E::NoAction { turn })?;
            if !text[end..].trim().is_empty() {
                return Err(E::GoesOn { turn });
            }
            match parse_action(text) {
                Action::Invalid => return Err(E::NoAction { turn }),
                Action::Answer(_) if index < last => return Err(E::AfterAnswer { turn: turn + 1 }),
                Action::Answer(_) if !documents.is_empty() => {
                    return Err(E::ResultWithoutSearch { turn });
                }
                Action::Search(_) if index == last => return Err(E::Unanswered),
                Action::Answer(_) | Action::Search(_) => {}
            }
        }
        match last > max_searches {
            true => Err(E::TooManySearches { searches: last, limit: max_searches }),
            false => Ok(()),
        }
    }

    /// Checks that the rollout has shown everything that the policy is to write.
    fn check_played(
        &self,
        trajectory: &Trajectory,
        context_length: usize,
        config: &RolloutConfig,
    ) -> Result<(), DemonstrationError> {
        use DemonstrationError as E;
        let turn = trajectory.turns.len();
        if trajectory.over_budget {
            return Err(E::OverBudget { turn });
        }
        let cut = |it: &Turn| it.completion.stop_reason == StopReason::Length;
        match trajectory.turns.iter().position(cut) {
            _ if trajectory.truncated => return Err(E::TooLong { turn, context_length }),
            Some(_) if trajectory.num_tokens() >= context_length => {
                return Err(E::TooLong { turn, context_length });
            }
            Some(index) => {
                let limit = config.max_new_tokens;
                return Err(E::TurnTooLong { turn: index + 1, limit });
            }
            None => {}
        }
        let written = self.turns.iter().map(|it| parse_action(&it.text));
        let mut pairs = written.zip(&trajectory.turns);
        match pairs.position(|(written, read)| written != read.action) {
            Some(index) => Err(E::Changed { turn: index + 1 }),
            None if turn != self.turns.len() => Err(E::Changed { turn }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
