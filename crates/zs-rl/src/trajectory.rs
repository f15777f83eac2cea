//! One episode as it was sampled, turn by turn. Tokens, masks and log-probabilities are derived from
//! the turns and never rebuilt from text.

use serde::{Deserialize, Serialize};
use zs_core::{Action, Document, DocumentQuality, Question, Transcript, TranscriptTurn};
use zs_model::{Completion, TokenId, TokenRow};

use crate::RewardScore;

/// One episode: a prompt and the turns that followed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedTrajectory")]
pub struct Trajectory {
    /// The question that was asked.
    pub question_id: String,
    /// Tokens of the prompt; never empty.
    pub prompt: Vec<TokenId>,
    /// The turns, in order.
    pub turns: Vec<Turn>,
    /// Whether the episode ended because the model's context was full.
    pub truncated: bool,
}

/// One turn: what the policy model wrote, and what the environment answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// The sampled tokens. They carry loss.
    pub completion: Completion,
    /// The same tokens decoded.
    pub text: String,
    /// The action read from [`text`](Self::text).
    pub action: Action,
    /// Tokens that the environment appended; empty where the episode ended. They carry no loss.
    pub observation: Vec<TokenId>,
    /// The observation as text.
    pub observation_text: String,
    /// The search, where one was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchRecord>,
}

/// A search that was carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchRecord {
    /// What was asked.
    pub query: String,
    /// The quality drawn for this query.
    pub quality: DocumentQuality,
    /// What the engine returned; the observation may show less of it.
    pub documents: Vec<Document>,
    /// Why the search failed, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Who wrote a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// The prompt template and the question.
    Prompt,
    /// The policy model. Only these tokens carry loss.
    Policy,
    /// The environment: documents, or the message after an invalid action.
    Observation,
}

/// A trajectory and what it was worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardedTrajectory {
    /// The episode.
    pub trajectory: Trajectory,
    /// Its outcome reward.
    pub reward: RewardScore,
}

/// The trajectories sampled for one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrajectoryGroup {
    /// The question.
    pub question: Question,
    /// One trajectory a sample.
    pub trajectories: Vec<RewardedTrajectory>,
}

impl TrajectoryGroup {
    /// The outcome rewards, one a trajectory.
    #[must_use]
    pub fn rewards(&self) -> Vec<f32> {
        self.trajectories.iter().map(|it| it.reward.total).collect()
    }
}

impl Trajectory {
    /// An episode without turns.
    #[must_use]
    pub fn new(question_id: impl Into<String>, prompt: Vec<TokenId>) -> Self {
        Self { question_id: question_id.into(), prompt, turns: Vec::new(), truncated: false }
    }

    /// Prompt, completions and observations, in order.
    #[must_use]
    pub fn tokens(&self) -> Vec<TokenId> {
        self.segments().flat_map(|(_, tokens)| tokens.iter().copied()).collect()
    }

    /// How many tokens the episode holds.
    #[must_use]
    pub fn num_tokens(&self) -> usize {
        self.segments().map(|(_, tokens)| tokens.len()).sum()
    }

    /// Who wrote each token.
    #[must_use]
    pub fn provenance(&self) -> Vec<Provenance> {
        self.segments()
            .flat_map(|(source, tokens)| std::iter::repeat_n(source, tokens.len()))
            .collect()
    }

    /// Which tokens carry loss: the policy model's own.
    ///
    /// # References
    ///
    /// - [ZeroSearch](https://arxiv.org/abs/2505.04588), table 7: training with and without document tokens
    #[must_use]
    pub fn loss_mask(&self) -> Vec<bool> {
        self.provenance().into_iter().map(|it| it == Provenance::Policy).collect()
    }

    /// Log-probabilities recorded at sampling time, aligned with [`tokens`](Self::tokens); zero
    /// where the policy model did not write the token.
    #[must_use]
    pub fn old_log_probs(&self) -> Vec<f32> {
        let mut log_probs = vec![0.0; self.prompt.len()];
        for turn in &self.turns {
            log_probs.extend_from_slice(&turn.completion.log_probs);
            log_probs.resize(log_probs.len() + turn.observation.len(), 0.0);
        }
        log_probs
    }

    /// The episode as a row to be scored by the trainable model.
    #[must_use]
    pub fn token_row(&self) -> TokenRow {
        TokenRow { tokens: self.tokens(), loss_mask: self.loss_mask() }
    }

    /// The episode as text, for rewards and metrics.
    #[must_use]
    pub fn transcript(&self) -> Transcript {
        let turns = self
            .turns
            .iter()
            .map(|turn| TranscriptTurn {
                text: turn.text.clone(),
                action: turn.action.clone(),
                observation: turn.observation_text.clone(),
            })
            .collect();
        Transcript { turns }
    }

    /// The searches that were carried out, in order.
    pub fn searches(&self) -> impl Iterator<Item = &SearchRecord> {
        self.turns.iter().filter_map(|turn| turn.search.as_ref())
    }

    fn segments(&self) -> impl Iterator<Item = (Provenance, &[TokenId])> {
        let turns = self.turns.iter().flat_map(|turn| {
            [
                (Provenance::Policy, turn.completion.tokens.as_slice()),
                (Provenance::Observation, turn.observation.as_slice()),
            ]
        });
        std::iter::once((Provenance::Prompt, self.prompt.as_slice())).chain(turns)
    }
}

/// A trajectory as it stands in a file, before its invariants are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedTrajectory {
    question_id: String,
    prompt: Vec<TokenId>,
    turns: Vec<Turn>,
    truncated: bool,
}

impl TryFrom<UncheckedTrajectory> for Trajectory {
    type Error = String;

    fn try_from(it: UncheckedTrajectory) -> Result<Self, Self::Error> {
        let UncheckedTrajectory { question_id, prompt, turns, truncated } = it;
        if prompt.is_empty() {
            return Err(format!("`prompt` of question `{question_id}` is empty"));
        }
        for (index, Turn { completion, .. }) in turns.iter().enumerate() {
            let (tokens, log_probs) = (completion.tokens.len(), completion.log_probs.len());
            if tokens != log_probs {
                return Err(format!(
                    "turn {index} of question `{question_id}` has {tokens} tokens but {log_probs} \
                     `log_probs`"
                ));
            }
        }
        Ok(Self { question_id, prompt, turns, truncated })
    }
}

#[cfg(test)]
mod tests {
    use zs_model::StopReason;

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
        assert_eq!(trajectory.num_tokens(), 8);
        assert_eq!(trajectory.provenance(), [P, P, M, M, O, O, O, M]);
        let (t, f) = (true, false);
        assert_eq!(trajectory.loss_mask(), [f, f, t, t, f, f, f, t]);
        assert_eq!(trajectory.old_log_probs(), [0.0, 0.0, -3.0, -4.0, 0.0, 0.0, 0.0, -8.0]);
        assert_eq!(trajectory.token_row().tokens, trajectory.tokens());
        let transcript = trajectory.transcript();
        assert_eq!(transcript.answer(), Some("a"));
        assert_eq!(transcript.turns[0].observation, "[5, 6, 7]");
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
    }
}
