//! GRPO that also learns from the tokens of helper models, in the manner of AIPO.

use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::{Settings, with_defaults};
use zs_model::TokenScores;

use super::{Advantages, Algorithm, Grpo, LossOutput, PolicyBatch, Requirements, RolloutBatch};
use crate::loss::{OffPolicyWeight, off_policy_surrogate};

/// Learning with helper models, in the manner of AIPO.
///
/// ```text
/// A_it = as in GRPO, also for tokens of helper models in the same episode
/// L    = agg_it[ policy_it  * grpo_it
///              + agent_it   * off_policy_surrogate(rho_it, A_it) ]
/// ```
///
/// - `policy_it`, `agent_it`: 1 where the policy or a helper model wrote the token; observations and
///   prompts are neither
/// - `grpo_it`: the token loss of [`Grpo`], KL and entropy terms included
/// - `rho_it`: the policy's probability over that of the helper model, which counts as 1 where it is
///   not known; see [`OffPolicyWeight`]
///
/// A batch without tokens of helper models is trained exactly as by [`Grpo`].
///
/// # Differences
///
/// Only AIPO's abstract was available: the policy consults verify, knowledge and reasoning agents
/// (here: helper models) at bottlenecks of its reasoning, a "tailored importance sampling coefficient
/// together with a clipping strategy" counters off-policy bias and vanishing gradients on their
/// tokens, and none is used at test time. Its coefficient, clipping, constants and prompts are not
/// public. The weights here are those of the closest published method, LUFFY, so results need not
/// match AIPO's.
///
/// # References
///
/// - [AIPO](https://arxiv.org/abs/2605.08401), abstract
/// - [LUFFY](https://arxiv.org/abs/2504.14945): shaped off-policy ratio without clipping
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default)]
pub struct AipoStyle {
    /// Settings for the policy's own tokens.
    #[serde(deserialize_with = "with_defaults")]
    #[garde(dive)]
    pub grpo: Grpo,
    /// Weight of the tokens of helper models.
    #[garde(dive)]
    pub off_policy: OffPolicyWeight,
}

zs_core::settings!(AipoStyle, "aipo_style");

impl Algorithm for AipoStyle {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn requirements(&self) -> Requirements {
        Requirements { learns_from_helpers: true, ..self.grpo.requirements() }
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let mut advantages = self.grpo.advantages(batch);
        for (row, it) in advantages.tokens.iter_mut().zip(batch.trajectories()) {
            // A reply has the advantage of its request: that of the policy's last token before it.
            let mut asked = 0.0;
            let masks = it.loss_mask().into_iter().zip(it.agent_mask());
            for (advantage, (is_policy, is_agent)) in row.iter_mut().zip(masks) {
                if is_policy {
                    asked = *advantage;
                } else if is_agent {
                    *advantage = asked;
                }
            }
        }
        advantages
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let Some(agent_mask) = &batch.agent_mask else {
            return self.grpo.policy_loss(scores, batch);
        };
        let own = PolicyBatch { loss_mask: batch.policy_mask(), ..batch.clone() };
        let LossOutput { loss, mut metrics } = self.grpo.policy_loss(scores, &own);
        let of_agents = off_policy_surrogate(
            scores.log_probs.clone(),
            batch.old_log_probs.clone(),
            batch.advantages.clone(),
            agent_mask,
            self.off_policy,
        );
        let of_agents = batch.aggregate(of_agents);
        metrics.push(("actor/agent_loss", of_agents.clone().detach()));
        metrics.push(("actor/agent_frac", batch.token_mean(agent_mask.clone().float())));
        LossOutput { loss: loss + of_agents, metrics }
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::{Device, Int, Tensor, TensorData};
    use zs_core::registry::Spec;
    use zs_core::{Action, Question};
    use zs_model::{Completion, StopReason};

    use super::*;
    use crate::LossTerms;
    use crate::consult::HelperKind;
    use crate::testing::reference::{numbers, tensor};
    use crate::{Consult, RewardScore, RewardedTrajectory, Trajectory, TrajectoryGroup, Turn};

    fn algorithm(json: &str) -> AipoStyle {
        let spec =
            serde_json::from_str(json).map(|settings| Spec { kind: "aipo_style".into(), settings });
        spec.unwrap().parse().unwrap()
    }

    /// Prompt, two tokens of a question, two of a reply (or an error), one of an answer, one observed.
    fn trajectory(error: Option<&str>) -> Trajectory {
        let completion = |tokens: &[u32]| Completion {
            tokens: tokens.to_vec(),
            log_probs: vec![-1.0; tokens.len()],
            sampling_log_probs: None,
            stop_reason: StopReason::Stop,
        };
        let mut trajectory = Trajectory::new("q", vec![0]);
        trajectory.consults.push(Consult {
            turn: 0,
            agent: HelperKind::Reasoning,
            completion: completion(&[1, 2]),
            text: String::new(),
            request: String::new(),
            reply: vec![3, 4],
            reply_text: String::new(),
            reply_log_probs: Vec::new(),
            error: error.map(str::to_owned),
        });
        trajectory.turns.push(Turn {
            completion: completion(&[5]),
            text: String::new(),
            action: Action::Invalid,
            observation: vec![6],
            observation_text: String::new(),
            search: None,
        });
        trajectory
    }

    #[test]
    fn replies_share_the_advantage_of_their_question() {
        let member = |total, error| RewardedTrajectory {
            trajectory: trajectory(error),
            reward: RewardScore { total, ..RewardScore::default() },
        };
        let group = TrajectoryGroup {
            question: Question::new("q", "?", ["a"]),
            trajectories: vec![member(1.0, None), member(0.0, Some("down"))],
        };
        let algorithm = algorithm(r#"{"grpo":{"normalize_std":false}}"#);
        let advantages = algorithm.advantages(&RolloutBatch::new(&[group])).tokens;
        assert_eq!(advantages[0], [0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.0]);
        assert_eq!(advantages[1], [0.0, -0.5, -0.5, 0.0, 0.0, -0.5, 0.0]);
    }

    /// Loss and gradient over five tokens, of which the mask says who wrote them: `p`olicy, `a`gent,
    /// or `o`bservation.
    fn loss_and_gradient(algorithm: &dyn Algorithm, sources: &str) -> (f32, Vec<f32>) {
        let device = Device::flex().autodiff();
        let row = |values: Vec<f32>| tensor(&[values], &device);
        let mask = |of: &str| {
            let set = sources.chars().map(|it| f32::from(u8::from(of.contains(it)))).collect();
            row(set).greater_elem(0.5)
        };
        let leaf: Tensor<2> = row(vec![-1.0, -2.0, 0.01_f32.ln(), -0.5, -3.0]).require_grad();
        let scores = TokenScores { log_probs: leaf.clone(), entropy: row(vec![0.5; 5]) };
        let has_agents = sources.contains('a');
        let turn_ids: Vec<i32> = sources.chars().map(|it| i32::from(it == 'p')).collect();
        let batch = PolicyBatch {
            advantages: row(vec![2.0, -1.0, 1.0, 1.0, 9.0]),
            old_log_probs: row(vec![-1.1, -1.8, 0.0, 0.0, -2.0]),
            ref_log_probs: Some(row(vec![-1.0; 5])),
            loss_mask: mask("pa"),
            agent_mask: has_agents.then(|| mask("a")),
            turn_ids: Tensor::<2, Int>::from_data(TensorData::new(turn_ids, [1, 5]), &device),
            num_turns: 1,
            kl_scale: 1.0,
            row_weights: tensor(&[vec![0.25]], &device),
            num_loss_tokens: 4,
        };
        let output = algorithm.policy_loss(&scores, &batch);
        let grads = output.loss.backward();
        (numbers(output.loss)[0], numbers(leaf.grad(&grads).unwrap()))
    }

    #[test]
    fn without_agents_it_is_grpo_bit_for_bit() {
        let algorithm = algorithm("{}");
        let grpo = Grpo::default();
        for sources in ["ppppo", "ppooo", "ppppp"] {
            let expected = loss_and_gradient(&grpo, sources);
            assert_eq!(loss_and_gradient(&algorithm, sources), expected);
        }
    }

    #[test]
    fn each_author_has_its_own_loss() {
        let algorithm = algorithm(r#"{"grpo":{"kl_coef":0.5,"entropy_coef":0.1}}"#);
        let (loss, gradient) = loss_and_gradient(&algorithm, "ppaao");
        let defaults = Grpo::default();
        let terms = LossTerms { kl_coef: 0.5, entropy_coef: 0.1, ..defaults.terms };
        let (own_loss, own_gradient) = loss_and_gradient(&Grpo { terms, ..defaults }, "ppooo");
        // Shaped by 0.1, a quarter each: f(0.01) and f(exp(-0.5)).
        let p = (-0.5_f32).exp();
        let of_agents = 0.25 * (0.01 / 0.11 + p / (p + 0.1));
        assert!((loss - (own_loss - of_agents)).abs() < 1e-6, "{loss}");
        assert_eq!(gradient[..2], own_gradient[..2]);
        assert!((gradient[2] + 0.25 * 0.1 * 0.01 / 0.11_f32.powi(2)).abs() < 1e-6, "{gradient:?}");
        assert!((gradient[3] + 0.25 * 0.1 * p / (p + 0.1).powi(2)).abs() < 1e-6, "{gradient:?}");
        assert_eq!(gradient[4], 0.0, "observations have no gradient");
    }

    #[test]
    fn impossible_settings_are_refused() {
        for (json, expected) in [
            (r#"{"off_policy":{"kind":"shaped","gamma":0}}"#, "`off_policy.gamma`"),
            (r#"{"off_policy":{"kind":"truncated","lo":1,"hi":0.5}}"#, "`off_policy.hi`"),
            (r#"{"grpo":{"kl_coef":-1}}"#, "`kl_coef`"),
        ] {
            let settings = serde_json::from_str(json).unwrap();
            let spec = Spec { kind: "aipo_style".to_owned(), settings };
            let error = spec.parse::<AipoStyle>().unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
