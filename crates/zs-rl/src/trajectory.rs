//! One episode as it was sampled, turn by turn. Tokens, masks and log-probabilities are derived from
//! the turns and never rebuilt from text.

mod counterfactual;
mod program_check;
mod turn;
mod unchecked;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use zs_core::{Question, Transcript, TranscriptTurn, exact_match};
use zs_model::{Completion, TokenId, TokenRow};

pub use self::counterfactual::{
    Counterfactual, ReplacedDocuments, SearchValue, SearchesThatMattered, search_values,
};
pub use self::program_check::{ProgramCheck, ProgramOutcome};
pub use self::turn::{Consult, SearchRecord, Turn};
use self::unchecked::UncheckedTrajectory;
use crate::consult::HelperKind;

/// One episode: a prompt and the turns that followed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedTrajectory")]
pub struct Trajectory {
    /// The question that was asked.
    pub question_id: String,
    /// Tokens of the prompt; never empty.
    pub prompt: Vec<TokenId>,
    /// The part of the first turn that the prompt already holds: `<think>`, where the chat template
    /// opens the block.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prefill: String,
    /// The turns, in order.
    pub turns: Vec<Turn>,
    /// True if the episode ended because the model's context was full.
    pub truncated: bool,
    /// True if the episode ended because the policy's token budget was spent.
    #[serde(skip_serializing_if = "is_false")]
    pub over_budget: bool,
    /// Requests of the policy to helper models, in order; each belongs to a turn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub consults: Vec<Consult>,
    /// Requests to helper models that were refused because the episode's budget was spent.
    #[serde(skip_serializing_if = "is_zero")]
    pub refused_consults: u32,
    /// The audit log of program functions: every check, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<ProgramCheck>,
    /// Place at which it branches from another episode of the question; none for an episode that was
    /// played from its prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<BranchOrigin>,
    /// Ends of the episode with the documents of one search replaced, in the order of the searches; where
    /// they were played.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub counterfactuals: Vec<Counterfactual>,
}

/// Place at which a continuation branches from an episode.
///
/// The turns before it are the episode's: in the continuation they are part of the prompt
/// ([`Provenance::Prompt`]), so they carry no loss and are not counted as sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BranchOrigin {
    /// Index of the episode in its group.
    pub parent: usize,
    /// The first turn of the continuation's own, from 0.
    pub turn: usize,
}

/// Author of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// The prompt template and the question; in a [continuation](BranchOrigin), also the turns of the
    /// episode that it branches from.
    Prompt,
    /// The policy model. These tokens carry loss.
    Policy,
    /// A helper model. These tokens carry loss in algorithms that [learn from
    /// them](crate::Requirements::learns_from_helpers), and none elsewhere.
    Agent(HelperKind),
    /// The environment: documents, or the message after an invalid action.
    Observation,
}

/// Tokens of an episode that carry loss.
///
/// # References
///
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588), section 3.5 and table 7: training with and
///   without document tokens
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossTokens {
    /// Tokens that the policy wrote.
    #[default]
    Policy,
    /// Tokens of the policy and of observations, which the policy did not choose: an ablation.
    PolicyAndObservations,
}

impl Trajectory {
    /// An episode without turns.
    #[must_use]
    pub fn new(question_id: impl Into<String>, prompt: Vec<TokenId>) -> Self {
        Self {
            question_id: question_id.into(),
            prompt,
            prefill: String::new(),
            turns: Vec::new(),
            truncated: false,
            over_budget: false,
            consults: Vec::new(),
            refused_consults: 0,
            programs: Vec::new(),
            branch: None,
            counterfactuals: Vec::new(),
        }
    }

    /// Number of turns that another episode has written; 0 unless it is a continuation.
    #[must_use]
    pub fn num_shared_turns(&self) -> usize {
        self.branch.map_or(0, |it| it.turn)
    }

    /// Number of tokens before a turn.
    #[must_use]
    pub fn num_tokens_before(&self, turn: usize) -> usize {
        let before = self.segments().filter(|it| it.turn.is_none_or(|it| it < turn));
        before.map(|it| it.tokens.len()).sum()
    }

    /// Prompt, completions, replies and observations, in order.
    #[must_use]
    pub fn tokens(&self) -> Vec<TokenId> {
        self.segments().flat_map(|it| it.tokens.iter().copied()).collect()
    }

    /// Number of tokens of the episode, of all authors.
    #[must_use]
    pub fn num_tokens(&self) -> usize {
        self.segments().map(|it| it.tokens.len()).sum()
    }

    /// Number of tokens that the policy sampled.
    #[must_use]
    pub fn num_policy_tokens(&self) -> usize {
        let own = self.segments().filter(|it| it.source == Provenance::Policy);
        own.map(|it| it.tokens.len()).sum()
    }

    /// The turn that wrote each token, counted from 1; 0 where the policy model did not write it.
    #[must_use]
    pub fn turn_numbers(&self) -> Vec<usize> {
        let number = |it: &Segment<'_>| match it.source {
            Provenance::Policy => it.turn.map_or(0, |turn| turn + 1),
            Provenance::Prompt | Provenance::Agent(_) | Provenance::Observation => 0,
        };
        self.segments().flat_map(|it| std::iter::repeat_n(number(&it), it.tokens.len())).collect()
    }

    /// Author of each token.
    #[must_use]
    pub fn provenance(&self) -> Vec<Provenance> {
        self.segments().flat_map(|it| std::iter::repeat_n(it.source, it.tokens.len())).collect()
    }

    /// Loss mask: the policy model's own tokens.
    ///
    /// # References
    ///
    /// - [ZeroSearch](https://arxiv.org/abs/2505.04588), table 7: training with and without document tokens
    #[must_use]
    pub fn loss_mask(&self) -> Vec<bool> {
        self.mask(|it| it == Provenance::Policy)
    }

    /// Loss mask of an update on these tokens.
    #[must_use]
    pub fn mask_of(&self, tokens: LossTokens) -> Vec<bool> {
        match tokens {
            LossTokens::Policy => self.loss_mask(),
            LossTokens::PolicyAndObservations => {
                self.mask(|it| matches!(it, Provenance::Policy | Provenance::Observation))
            }
        }
    }

    /// Mask of the tokens that helper models wrote; disjoint from [`loss_mask`](Self::loss_mask).
    #[must_use]
    pub fn agent_mask(&self) -> Vec<bool> {
        self.mask(|it| matches!(it, Provenance::Agent(_)))
    }

    fn mask(&self, is_set: impl Fn(Provenance) -> bool) -> Vec<bool> {
        self.provenance().into_iter().map(is_set).collect()
    }

    /// Log-probabilities recorded at sampling time, aligned with [`tokens`](Self::tokens): the
    /// policy's for its own tokens, the helper model's where they are known, zero elsewhere.
    #[must_use]
    pub fn old_log_probs(&self) -> Vec<f32> {
        let mut log_probs = Vec::new();
        for Segment { tokens, log_probs: known, .. } in self.segments() {
            let end = log_probs.len() + tokens.len();
            log_probs.extend_from_slice(known);
            log_probs.resize(end, 0.0);
        }
        log_probs
    }

    /// The episode as a row to be scored by the trainable model.
    #[must_use]
    pub fn token_row(&self) -> TokenRow {
        TokenRow { tokens: self.tokens(), loss_mask: self.loss_mask() }
    }

    /// The episode as a row with loss on the tokens of helper models too.
    #[must_use]
    pub fn token_row_with_agents(&self) -> TokenRow {
        let is_learned = |it| matches!(it, Provenance::Policy | Provenance::Agent(_));
        TokenRow { tokens: self.tokens(), loss_mask: self.mask(is_learned) }
    }

    /// The episode as text, for metrics.
    #[must_use]
    pub fn transcript(&self) -> Transcript {
        let turn = |(index, turn): (usize, &Turn)| TranscriptTurn {
            text: self.turn_text(index).into_owned(),
            action: turn.action.clone(),
            observation: turn.observation_text.clone(),
        };
        Transcript { turns: self.turns.iter().enumerate().map(turn).collect() }
    }

    /// Text of a turn, without the replies of helper models: what the prompt holds of it and what the
    /// policy wrote.
    ///
    /// # Panics
    ///
    /// If there is no such turn.
    #[must_use]
    pub fn turn_text(&self, turn: usize) -> Cow<'_, str> {
        let last = self.turns[turn].text.as_str();
        let prefill = Some(self.prefill.as_str()).filter(|it| turn == 0 && !it.is_empty());
        let consults = self.consults_of(turn).map(|it| it.text.as_str());
        let mut parts = prefill.into_iter().chain(consults).peekable();
        match parts.peek() {
            None => Cow::Borrowed(last),
            Some(_) => Cow::Owned(parts.chain([last]).collect()),
        }
    }

    /// Number of tokens that the policy sampled in a turn.
    ///
    /// # Panics
    ///
    /// If there is no such turn.
    #[must_use]
    pub fn turn_tokens(&self, turn: usize) -> usize {
        let asked: usize = self.consults_of(turn).map(|it| it.completion.tokens.len()).sum();
        asked + self.turns[turn].completion.tokens.len()
    }

    /// Returns true if the episode's answer equals a golden answer of its question.
    #[must_use]
    pub fn is_right(&self, question: &Question) -> bool {
        let is_right = |answer: &str| exact_match(answer, &question.golden_answers);
        self.transcript().answer().is_some_and(is_right)
    }

    /// The searches that were carried out, in order.
    pub fn searches(&self) -> impl Iterator<Item = &SearchRecord> {
        self.turns.iter().filter_map(|turn| turn.search.as_ref())
    }

    fn consults_of(&self, turn: usize) -> impl Iterator<Item = &Consult> {
        self.consults.iter().filter(move |it| it.turn == turn)
    }

    fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let turns = self.turns.iter().enumerate().flat_map(|(index, turn)| {
            let consults = self.consults_of(index).flat_map(move |it| {
                [
                    Segment::of_policy(index, &it.completion),
                    Segment {
                        source: it.reply_provenance(),
                        turn: Some(index),
                        tokens: &it.reply,
                        log_probs: &it.reply_log_probs,
                    },
                ]
            });
            let turn = [
                Segment::of_policy(index, &turn.completion),
                Segment {
                    source: Provenance::Observation,
                    turn: Some(index),
                    tokens: &turn.observation,
                    log_probs: &[],
                },
            ];
            consults.chain(turn)
        });
        let prompt = Segment {
            source: Provenance::Prompt,
            turn: None,
            tokens: &self.prompt,
            log_probs: &[],
        };
        let num_shared = self.num_shared_turns();
        let turns = turns.map(move |it| match it.turn.is_some_and(|turn| turn < num_shared) {
            true => Segment { source: Provenance::Prompt, log_probs: &[], ..it },
            false => it,
        });
        std::iter::once(prompt).chain(turns)
    }
}

/// Consecutive tokens of one author.
struct Segment<'a> {
    source: Provenance,
    /// The turn that it belongs to, from 0; none for the prompt.
    turn: Option<usize>,
    tokens: &'a [TokenId],
    /// One a token, or none.
    log_probs: &'a [f32],
}

impl<'a> Segment<'a> {
    fn of_policy(turn: usize, completion: &'a Completion) -> Self {
        let Completion { tokens, log_probs, .. } = completion;
        Self { source: Provenance::Policy, turn: Some(turn), tokens, log_probs }
    }
}

fn is_false(it: &bool) -> bool {
    !it
}

fn is_zero(it: &u32) -> bool {
    *it == 0
}

#[cfg(test)]
mod tests {
    use zs_model::StopReason;

    use zs_core::Action;

    use super::*;

    fn two_turns() -> Trajectory {
        let turn = |tokens: &[TokenId], action, observation: &[TokenId]| Turn {
            completion: Completion {
                tokens: tokens.to_vec(),
                log_probs: tokens.iter().map(|&it| -(it as f32)).collect(),
                sampling_log_probs: None,
                stop_reason: StopReason::Stop,
            },
            text: format!("{tokens:?}"),
            action,
            observation: observation.to_vec(),
            observation_text: format!("{observation:?}"),
            search: None,
        };
        let mut trajectory = Trajectory::new("q", vec![1, 2]);
        trajectory.turns = vec![
            turn(&[3, 4], Action::Search("s".into()), &[5, 6, 7]),
            turn(&[8], Action::Answer("a".into()), &[]),
        ];
        trajectory
    }

    #[test]
    fn everything_is_derived_from_turns() {
        use Provenance::{Observation as O, Policy as M, Prompt as P};
        let trajectory = two_turns();
        assert_eq!(trajectory.tokens(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((trajectory.num_tokens(), trajectory.num_policy_tokens()), (8, 3));
        assert_eq!(trajectory.turn_numbers(), [0, 0, 1, 1, 0, 0, 0, 2]);
        assert_eq!(trajectory.provenance(), [P, P, M, M, O, O, O, M]);
        let (t, f) = (true, false);
        assert_eq!(trajectory.loss_mask(), [f, f, t, t, f, f, f, t]);
        assert_eq!(trajectory.mask_of(LossTokens::Policy), trajectory.loss_mask());
        let unmasked = trajectory.mask_of(LossTokens::PolicyAndObservations);
        assert_eq!(unmasked, [f, f, t, t, t, t, t, t]);
        assert_eq!(trajectory.old_log_probs(), [0.0, 0.0, -3.0, -4.0, 0.0, 0.0, 0.0, -8.0]);
        assert_eq!(trajectory.token_row().tokens, trajectory.tokens());
        let transcript = trajectory.transcript();
        assert_eq!(transcript.answer(), Some("a"));
        assert_eq!(transcript.turns[0].observation, "[5, 6, 7]");
    }

    fn consult(turn: usize, tokens: &[TokenId], error: Option<&str>) -> Consult {
        Consult {
            turn,
            agent: HelperKind::Verify,
            completion: Completion {
                tokens: tokens.to_vec(),
                log_probs: vec![-0.5; tokens.len()],
                sampling_log_probs: None,
                stop_reason: StopReason::Stop,
            },
            text: "<verify>r</verify>".to_owned(),
            request: "r".to_owned(),
            reply: vec![90, 91],
            reply_text: "right".to_owned(),
            reply_log_probs: Vec::new(),
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn consults_stand_before_the_completion_of_their_turn() {
        use Provenance::{Observation as O, Policy as M, Prompt as P};
        const A: Provenance = Provenance::Agent(HelperKind::Verify);
        let mut trajectory = two_turns();
        trajectory.consults = vec![
            Consult { reply_log_probs: vec![-0.1, -0.2], ..consult(0, &[70], None) },
            consult(1, &[71], None),
            consult(1, &[72], Some("down")),
        ];
        let tokens = [1, 2, 70, 90, 91, 3, 4, 5, 6, 7, 71, 90, 91, 72, 90, 91, 8];
        assert_eq!(trajectory.tokens(), tokens);
        let sources = [P, P, M, A, A, M, M, O, O, O, M, A, A, M, O, O, M];
        assert_eq!(trajectory.provenance(), sources);
        let (with, without) = (trajectory.token_row_with_agents(), trajectory.token_row());
        assert_eq!(with.tokens, without.tokens);
        for (index, source) in sources.into_iter().enumerate() {
            assert_eq!(without.loss_mask[index], source == M);
            assert_eq!(trajectory.agent_mask()[index], source == A);
            assert_eq!(with.loss_mask[index], source == M || source == A);
        }
        let z = 0.0;
        let log_probs = [z, z, -0.5, -0.1, -0.2, -3.0, -4.0, z, z, z, -0.5, z, z, -0.5, z, z, -8.0];
        assert_eq!(trajectory.old_log_probs(), log_probs);
        assert_eq!(trajectory.turn_text(0), "<verify>r</verify>[3, 4]");
        assert_eq!((trajectory.turn_tokens(0), trajectory.turn_tokens(1)), (3, 3));
        let json = serde_json::to_string(&trajectory).unwrap();
        assert_eq!(serde_json::from_str::<Trajectory>(&json).unwrap(), trajectory);
    }

    #[track_caller]
    fn check_refused(edit: impl FnOnce(&mut Trajectory), expected: &str) {
        let mut trajectory = two_turns();
        edit(&mut trajectory);
        let json = serde_json::to_string(&trajectory).unwrap();
        let message = serde_json::from_str::<Trajectory>(&json).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn broken_rows_are_refused() {
        check_refused(|it| it.prompt.clear(), "`prompt` of question `q` is empty");
        check_refused(
            |it| {
                it.turns[1].completion.log_probs.pop();
            },
            "turn 1 of question `q` has 1 tokens but 0 `log_probs`",
        );
        check_refused(
            |it| it.consults.push(consult(2, &[9], None)),
            "consult 0 of question `q` has `turn` 2",
        );
        check_refused(
            |it| it.consults = vec![consult(1, &[9], None), consult(0, &[9], None)],
            "consult 1 of question `q` has `turn` 0",
        );
        check_refused(
            |it| it.branch = Some(BranchOrigin { parent: 0, turn: 3 }),
            "`branch` of question `q` has `turn` 3; it must not be above 2",
        );
        let documents = ReplacedDocuments::None;
        let end = Counterfactual { turn: 0, documents, answer: None, tokens_sampled: 0 };
        check_refused(|it| it.counterfactuals.push(end), "has `turn` 0, which has no search");
        let short = Consult { reply_log_probs: vec![0.0], ..consult(0, &[9], None) };
        check_refused(|it| it.consults.push(short), "the reply of consult 0");
    }
}
