//! Branches: further continuations of episodes that have been played.

use zs_core::StreamKey;
use zs_model::Tokenizer;

use super::row::{Replaced, RolloutRow, TurnReply};
use super::{Episode, Rollout, RolloutError, TokenBudget};
use crate::program::{Harness, ProgramOutcome};
use crate::{BranchOrigin, Counterfactual, ReplacedDocuments, SearchRecord, Trajectory};

/// An episode as it was played.
#[derive(Clone, Copy, Debug)]
pub struct PlayedEpisode<'a> {
    /// Question and key.
    pub episode: Episode<'a>,
    /// Key of the policy's last tokens: the episode's, unless it is a continuation.
    pub policy_key: StreamKey,
    /// Its turns.
    pub trajectory: &'a Trajectory,
}

/// Point of a played episode from which another continuation is played, and its difference from the
/// episode.
///
/// An episode is a function of its question, its key and the policy. A branch keeps the tokens of the
/// turns before it and the key of the environment: the quality of documents, the seeds of searches and
/// the draws of helper models are those of the episode at the same turn (common random numbers).
#[derive(Clone, Copy, Debug)]
pub struct Branch<'a> {
    /// The episode; its [`policy_key`](PlayedEpisode::policy_key) is that of the continuation.
    pub played: PlayedEpisode<'a>,
    /// Index of the episode in its group, for [`BranchOrigin::parent`].
    pub parent: usize,
    /// The turn, from 0.
    pub turn: usize,
    /// Documents in place of those of the turn's search: the turn stands, and the policy samples later
    /// ones. `None`: the policy samples the turn, too.
    pub documents: Option<ReplacedDocuments>,
}

impl<'a> PlayedEpisode<'a> {
    /// An episode that was played from its prompt.
    #[must_use]
    pub fn new(episode: Episode<'a>, trajectory: &'a Trajectory) -> Self {
        Self { episode, policy_key: episode.key, trajectory }
    }

    /// Branches that replace the documents of each search of its own that did not fail, by each of `with`
    /// but what the search already had.
    fn replaced(
        self,
        with: &[ReplacedDocuments],
    ) -> impl Iterator<Item = Branch<'a>> + use<'a, '_> {
        let turns = self.trajectory.turns.iter().enumerate();
        let own = turns.skip(self.trajectory.num_shared_turns());
        let searches = own.filter_map(|(turn, it)| Some((turn, it.search.as_ref()?)));
        searches.filter(|(_, it)| it.error.is_none()).flat_map(move |(turn, search)| {
            let others = with.iter().filter(|it| it.quality() != Some(search.quality));
            others.map(move |&it| Branch { played: self, parent: 0, turn, documents: Some(it) })
        })
    }
}

impl Rollout<'_> {
    /// Plays the ends of episodes with the documents of each search replaced, under the same draws: one
    /// list an episode. Ends in which a search fails are left out.
    ///
    /// # Errors
    ///
    /// As [`continue_from`](Self::continue_from).
    pub fn counterfactuals(
        &self,
        played: &[PlayedEpisode<'_>],
        with: &[ReplacedDocuments],
    ) -> Result<Vec<Vec<Counterfactual>>, RolloutError> {
        let (mut branches, mut of) = (Vec::new(), Vec::new());
        for (index, it) in played.iter().enumerate() {
            branches.extend(it.replaced(with));
            of.resize(branches.len(), index);
        }
        let mut ends = vec![Vec::new(); played.len()];
        // As many at once as there are episodes, so that they take no more memory.
        let mut continued = Vec::with_capacity(branches.len());
        for chunk in branches.chunks(played.len().max(1)) {
            continued.extend(self.continue_from(chunk, &mut |_| {})?.trajectories);
        }
        for ((branch, end), index) in branches.iter().zip(continued).zip(of) {
            let Some(documents) = branch.documents else { continue };
            let mut searches = end.turns[branch.turn..].iter().filter_map(|it| it.search.as_ref());
            if searches.all(|it| it.error.is_none()) {
                ends[index].push(Counterfactual {
                    turn: branch.turn,
                    documents,
                    answer: end.transcript().answer().map(str::to_owned),
                    tokens_sampled: end.num_policy_tokens(),
                });
            }
        }
        Ok(ends)
    }
}

impl<'a> Branch<'a> {
    /// The same branch with other samples of the policy.
    #[must_use]
    pub fn resampled(&self, shift: u32) -> Self {
        let policy_key = self.played.policy_key;
        let policy_key = StreamKey { sample: policy_key.sample + shift, ..policy_key };
        Self { played: PlayedEpisode { policy_key, ..self.played }, ..*self }
    }

    /// Opens the row in the state of the episode at the branch.
    pub(super) fn open(
        &self,
        tokenizer: &Tokenizer,
        harness: &Harness,
        budget: Option<&TokenBudget>,
    ) -> Result<RolloutRow<'a>, RolloutError> {
        let Self { played, parent, turn, documents } = *self;
        let PlayedEpisode { episode, policy_key, trajectory } = played;
        let num_written = if documents.is_some() { turn + 1 } else { turn };
        let searched = trajectory.turns.get(turn).map(|it| it.search.is_some());
        let is_there = match documents {
            None => searched.is_some(),
            Some(_) => searched == Some(true),
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
        if let (Some(documents), Some(last)) = (documents, prefix.turns.last_mut()) {
            last.observation = Vec::new();
            last.observation_text = String::new();
            replaced = last.search.take().map(|it| match documents.quality() {
                Some(quality) => Replaced::Quality(quality),
                None => Replaced::By(SearchRecord { documents: Vec::new(), error: None, ..it }),
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
