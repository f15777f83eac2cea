//! One episode while it is being played.

use zs_core::{
    Action, Document, DocumentQuality, INVALID_ACTION_MESSAGE, StreamKey, neutralize_tags,
    parse_action,
};
use zs_model::{Completion, StopReason, TokenId, Tokenizer};

use super::helper_reply::{CONSULT_REFUSED, ShownReply};
use super::observation::{Observation, ObservationWriter};
use super::{Episode, RolloutError};
use crate::consult::{HelperKind, parse_consult};
use crate::program::{Harness, ProgramContext, ReviewState};
use crate::{Consult, SearchRecord, Trajectory, Turn};

/// An episode being played.
pub(super) struct RolloutRow<'a> {
    pub(super) episode: Episode<'a>,
    /// Key of the policy's tokens; another than the episode's in a [branch](super::Branch).
    pub(super) policy_key: StreamKey,
    pub(super) trajectory: Trajectory,
    /// Tokens not yet fed to the session: the prompt, later an observation or a reply.
    pub(super) append: Vec<TokenId>,
    pub(super) num_tokens: usize,
    /// Pending reply of the environment to the last turn.
    pub(super) reply: TurnReply,
    /// Replacement of the pending search.
    pub(super) replaced: Option<Replaced>,
    pub(super) is_finished: bool,
    /// Tokens that the policy may still write.
    budget: usize,
    review: ReviewState,
    /// Texts that program functions inject after the last turn.
    injected: Vec<String>,
}

/// Reply of the environment to a turn.
pub(super) enum TurnReply {
    /// The episode ends.
    Nothing,
    /// The documents of this search, once the engine has answered.
    Documents,
    /// A message.
    Message(&'static str),
    /// Only the texts that program functions inject: the answer is sent back.
    Injected,
}

/// Replacement of a search that a row is about to carry out.
#[derive(Debug)]
pub(super) enum Replaced {
    /// Nothing is asked.
    By(SearchRecord),
    /// The engine is asked for this quality.
    Quality(DocumentQuality),
}

/// Kind of the segment that the policy wrote last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Its turn is over.
    Turn,
    /// Request to a helper model, in the middle of its turn.
    Consult,
}

/// Settings that determine the reply to a turn, besides its text.
pub(super) struct Rules<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) context_length: usize,
    /// Tokens that an episode may hold after something was added to it.
    pub(super) observation_limit: usize,
    pub(super) max_turns: u32,
    pub(super) harness: &'a Harness,
    /// Helper models that may be asked, and the limit of requests an episode.
    pub(super) agents: &'a [HelperKind],
    pub(super) consult_budget: u32,
}

impl<'a> RolloutRow<'a> {
    pub(super) fn new(
        episode: Episode<'a>,
        prompt: Vec<TokenId>,
        tokenizer: &Tokenizer,
        budget: usize,
    ) -> Self {
        let prefill = tokenizer.prefill(&prompt);
        let append = prompt.clone();
        Self {
            episode,
            policy_key: episode.key,
            append,
            num_tokens: prompt.len(),
            trajectory: Trajectory { prefill, ..Trajectory::new(&episode.question.id, prompt) },
            reply: TurnReply::Nothing,
            replaced: None,
            is_finished: false,
            budget,
            review: ReviewState::default(),
            injected: Vec::new(),
        }
    }

    /// Continues an episode whose first turns are there: with the rest of its budget, the state of
    /// program functions, and what they inject after the last turn.
    pub(super) fn resume(&mut self, budget: usize, review: ReviewState, injected: Vec<String>) {
        (self.budget, self.review, self.injected) = (budget, review, injected);
    }

    /// Number of turns that are written, which is the number of the next.
    pub(super) fn num_turns(&self) -> u32 {
        self.trajectory.turns.len() as u32
    }

    /// Returns true if the policy writes next; false where its last turn awaits an observation.
    pub(super) fn is_writing(&self) -> bool {
        matches!(self.reply, TurnReply::Nothing)
    }

    /// The documents that the episode has been shown so far.
    pub(super) fn documents_read(&self) -> Vec<Document> {
        self.trajectory.searches().flat_map(|it| it.documents.iter().cloned()).collect()
    }

    /// Tokens that the environment may add, with which the episode holds `limit` at most.
    pub(super) fn room(&self, limit: usize) -> usize {
        limit.saturating_sub(self.num_tokens)
    }

    /// Tokens that the policy may still write.
    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    /// Records a completion of the policy: a request to a helper model, or the end of its turn.
    pub(super) fn write(&mut self, mut completion: Completion, rules: &Rules<'_>) -> Written {
        if completion.tokens.len() > self.budget {
            completion.tokens.truncate(self.budget);
            completion.log_probs.truncate(self.budget);
            completion.stop_reason = StopReason::Length;
        }
        self.append.clear();
        self.budget -= completion.tokens.len();
        self.num_tokens += completion.tokens.len();
        let text = rules.tokenizer.decode(&completion.tokens);
        let is_full = self.num_tokens >= rules.context_length;
        let can_go_on = !is_full && self.budget > 0;
        let is_refused = match parse_consult(&text, rules.agents) {
            None => false,
            Some((agent, request)) => {
                let num_consults = self.trajectory.consults.len();
                if can_go_on && num_consults < rules.consult_budget as usize {
                    let request = request.to_owned();
                    self.ask(agent, request, completion, text);
                    return Written::Consult;
                }
                can_go_on
            }
        };
        if is_refused {
            self.trajectory.refused_consults += 1;
        }
        self.end_turn(completion, text, rules);
        if is_refused && matches!(self.reply, TurnReply::Message(_)) {
            self.reply = TurnReply::Message(CONSULT_REFUSED);
        }
        Written::Turn
    }

    fn ask(&mut self, agent: HelperKind, request: String, completion: Completion, text: String) {
        self.trajectory.consults.push(Consult {
            turn: self.trajectory.turns.len(),
            agent,
            completion,
            text,
            request,
            reply: Vec::new(),
            reply_text: String::new(),
            reply_log_probs: Vec::new(),
            error: None,
        });
    }

    /// Appends the reply of a helper model to the request.
    pub(super) fn take_reply(&mut self, reply: ShownReply) {
        let Some(consult) = self.trajectory.consults.last_mut() else { return };
        self.num_tokens += reply.tokens.len();
        self.append.extend_from_slice(&reply.tokens);
        consult.reply = reply.tokens;
        consult.reply_text = reply.text;
        consult.reply_log_probs = reply.log_probs;
        consult.error = reply.error;
    }

    /// Reads the action of a finished turn and decides what follows it.
    fn end_turn(&mut self, completion: Completion, text: String, rules: &Rules<'_>) {
        let step = self.num_turns();
        let has_ended = completion.stop_reason == StopReason::EndOfSequence;
        let is_full = self.num_tokens >= rules.context_length;
        let is_over_budget = self.budget == 0;
        let is_first = self.trajectory.turns.is_empty() && self.trajectory.consults.is_empty();
        let mut action = match is_first && !self.trajectory.prefill.is_empty() {
            true => parse_action(&format!("{}{text}", self.trajectory.prefill)),
            false => parse_action(&text),
        };
        let is_done = is_full || is_over_budget || (has_ended && action == Action::Invalid);
        if !rules.harness.is_empty() && !is_done {
            let context = ProgramContext {
                question: &self.episode.question.text,
                step,
                max_steps: rules.max_turns,
                text: &text,
                turns: &self.trajectory.turns,
            };
            let review = rules.harness.review(&context, action, &mut self.review);
            action = review.action;
            self.injected = review.injected;
            self.trajectory.programs.extend(review.checks);
        }
        let may_go_on = step + 1 < rules.max_turns;
        self.reply = match &action {
            Action::Answer(_) if self.injected.is_empty() => TurnReply::Nothing,
            Action::Answer(_) => TurnReply::Injected,
            Action::Invalid if has_ended => TurnReply::Nothing,
            Action::Search(_) | Action::Invalid if is_full || is_over_budget => {
                self.trajectory.truncated = is_full;
                self.trajectory.over_budget = is_over_budget;
                TurnReply::Nothing
            }
            Action::Search(_) | Action::Invalid if !may_go_on => TurnReply::Nothing,
            Action::Search(_) => TurnReply::Documents,
            Action::Invalid => TurnReply::Message(INVALID_ACTION_MESSAGE),
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
    pub(super) fn observe(
        &mut self,
        observations: &ObservationWriter<'_>,
        limit: usize,
    ) -> Result<(), RolloutError> {
        if matches!(self.reply, TurnReply::Nothing) {
            self.is_finished = true;
            return Ok(());
        }
        let observation = self.observation(observations, limit)?;
        let turn = self.trajectory.turns.last_mut();
        let (Some(observation), Some(turn)) = (observation, turn) else {
            // An answer that cannot be sent back stands.
            self.trajectory.truncated = !matches!(self.reply, TurnReply::Injected);
            self.is_finished = true;
            return Ok(());
        };
        self.num_tokens += observation.tokens.len();
        self.append.extend_from_slice(&observation.tokens);
        turn.observation = observation.tokens;
        turn.observation_text = observation.text;
        Ok(())
    }

    /// Observation after the last turn; `None` where the context has no room for it.
    fn observation(
        &mut self,
        observations: &ObservationWriter<'_>,
        limit: usize,
    ) -> Result<Option<Observation>, RolloutError> {
        let room = self.room(limit);
        let search = self.trajectory.turns.last().and_then(|it| it.search.as_ref());
        let observation = match &self.reply {
            TurnReply::Documents => {
                observations.documents(search.map_or(&[], |it| &it.documents), room)?
            }
            TurnReply::Message(text) => observations.message(text, room)?,
            TurnReply::Injected | TurnReply::Nothing => Some(Observation::default()),
        };
        let Some(mut observation) = observation else { return Ok(None) };
        for text in std::mem::take(&mut self.injected) {
            let text = format!("\n{}\n", neutralize_tags(text.trim()));
            let left = room.saturating_sub(observation.tokens.len());
            if let Some(more) = observations.message(&text, left)? {
                observation.text.push_str(&more.text);
                observation.tokens.extend(more.tokens);
            }
        }
        Ok((!observation.tokens.is_empty()).then_some(observation))
    }
}
