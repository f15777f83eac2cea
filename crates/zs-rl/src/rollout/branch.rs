//! Branches: further continuations of episodes that have been played.

use zs_core::{DocumentQuality, StreamKey};
use zs_model::Tokenizer;

use super::row::{RolloutRow, TurnReply};
use super::{Episode, RolloutError, TokenBudget};
use crate::program::{Harness, ProgramOutcome};
use crate::trajectory::BranchOrigin;
use crate::{SearchRecord, Trajectory};

/// Point of a played episode from which another continuation is played, and its difference from the
/// episode.
///
/// An episode is a function of its question, its key and the policy. A branch keeps the tokens of the
/// turns before it and the key of the environment: the quality of documents, the seeds of searches and
/// the draws of helper models are those of the episode at the same turn (common random numbers).
#[derive(Clone, Copy, Debug)]
pub struct Branch<'a> {
    /// The episode, with the key that it was played with.
    pub episode: Episode<'a>,
    /// The episode as it was played.
    pub trajectory: &'a Trajectory,
    /// Index of the episode in its group, for [`BranchOrigin::parent`].
    pub parent: usize,
    /// The turn, from 0.
    pub turn: usize,
    /// Difference from the episode.
    pub change: BranchChange,
}

/// Difference of a continuation from the episode that it branches from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchChange {
    /// The policy samples the turn and all later ones under this key.
    Policy(StreamKey),
    /// The turn stands and the documents of its search are replaced; the policy samples later turns
    /// under the key of the episode.
    Documents(ReplacedDocuments),
}

/// Replacement of the documents of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplacedDocuments {
    /// The query is sent again, with this quality and the seed of the replaced search.
    Quality(DocumentQuality),
    /// No documents.
    Nothing,
}

impl<'a> Branch<'a> {
    /// The same branch with other samples of the policy; one that replaces documents is as it is.
    #[must_use]
    pub fn resampled(&self, shift: u32) -> Self {
        let change = match self.change {
            BranchChange::Policy(key) => {
                BranchChange::Policy(StreamKey { sample: key.sample + shift, ..key })
            }
            documents @ BranchChange::Documents(_) => documents,
        };
        Self { change, ..*self }
    }

    /// Opens the row in the state of the episode at the branch.
    pub(super) fn open(
        &self,
        tokenizer: &Tokenizer,
        harness: &Harness,
        budget: Option<&TokenBudget>,
    ) -> Result<RolloutRow<'a>, RolloutError> {
        let Self { episode, trajectory, parent, turn, change } = *self;
        let (policy_key, num_written) = match change {
            BranchChange::Policy(key) => (key, turn),
            BranchChange::Documents(_) => (episode.key, turn + 1),
        };
        let searched = trajectory.turns.get(turn).map(|it| it.search.is_some());
        let is_there = match change {
            BranchChange::Policy(_) => searched.is_some(),
            BranchChange::Documents(_) => searched == Some(true),
        };
        if !is_there {
            let question_id = episode.question.id.clone();
            return Err(RolloutError::NoBranch { question_id, turn });
        }
        let mut prefix = Trajectory {
            prefill: trajectory.prefill.clone(),
            turns: trajectory.turns[..num_written].to_vec(),
            consults: trajectory
                .consults
                .iter()
                .filter(|it| it.turn < num_written)
                .cloned()
                .collect(),
            programs: trajectory
                .programs
                .iter()
                .filter(|it| it.turn < num_written)
                .cloned()
                .collect(),
            branch: Some(BranchOrigin { parent, turn: num_written }),
            ..Trajectory::new(&trajectory.question_id, trajectory.prompt.clone())
        };
        let mut injected = Vec::new();
        let mut reply = TurnReply::Nothing;
        let mut replaced = None;
        if let (BranchChange::Documents(documents), Some(last)) = (change, prefix.turns.last_mut())
        {
            last.observation = Vec::new();
            last.observation_text = String::new();
            replaced = last.search.take().map(|it| match documents {
                ReplacedDocuments::Nothing => {
                    Replaced::By(SearchRecord { documents: Vec::new(), error: None, ..it })
                }
                ReplacedDocuments::Quality(quality) => Replaced::Quality(quality),
            });
            reply = TurnReply::Documents;
            let of_turn = prefix.programs.iter().filter(|it| it.turn == turn);
            injected.extend(of_turn.filter_map(|it| match &it.outcome {
                ProgramOutcome::Injected { text, .. } => Some(text.clone()),
                _ => None,
            }));
        }
        let budget = budget.map_or(usize::MAX, |it| it.of(episode.question));
        let written: usize = (0..num_written).map(|it| prefix.turn_tokens(it)).sum();
        let review = harness.state_after(&prefix);
        let mut row = RolloutRow::new(episode, prefix.tokens(), tokenizer, budget);
        row.policy_key = policy_key;
        row.trajectory = prefix;
        row.reply = reply;
        row.replaced = replaced;
        row.resume(budget.saturating_sub(written), review, injected);
        Ok(row)
    }
}

/// Replacement of a search that a row is about to carry out.
#[derive(Debug)]
pub(super) enum Replaced {
    /// Nothing is asked.
    By(SearchRecord),
    /// The engine is asked for this quality.
    Quality(DocumentQuality),
}
