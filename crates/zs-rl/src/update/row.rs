//! Trajectories as rows, ready for the model: advantages, log-probabilities, values.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use zs_model::{TokenRow, TokenScores};

use super::rows::{floats, padded};
use crate::algorithm::PolicyBatch;
use crate::{LossTokens, Trajectory};

/// One trajectory, ready for the model.
pub(super) struct UpdateRow {
    pub(super) tokens: TokenRow,
    /// Tokens that helper models wrote; empty where that does not matter.
    agent_mask: Vec<bool>,
    pub(super) num_loss_tokens: usize,
    pub(super) num_turns: usize,
    pub(super) advantages: Vec<f32>,
    /// Denominator of the importance ratio.
    pub(super) old_log_probs: Vec<f32>,
    /// Log-probabilities recorded at sampling, where they differ from those.
    pub(super) recorded_log_probs: Option<Vec<f32>>,
    pub(super) ref_log_probs: Option<Vec<f32>>,
    /// The teacher's scores, where one is distilled.
    pub(super) teacher: Option<TeacherRow>,
    /// Values and their targets; empty without a value model.
    pub(super) old_values: Vec<f32>,
    pub(super) returns: Vec<f32>,
    turn_numbers: Vec<usize>,
}

/// A teacher's log-probabilities of one trajectory.
pub(super) struct TeacherRow {
    /// One a token.
    pub(super) log_probs: Vec<f32>,
    /// True if the divergence of this episode is learned from.
    pub(super) is_distilled: bool,
}

impl UpdateRow {
    pub(super) fn new(trajectory: &Trajectory, with_agents: bool, loss_tokens: LossTokens) -> Self {
        let (mut tokens, agent_mask) = match with_agents && !trajectory.consults.is_empty() {
            true => (trajectory.token_row_with_agents(), trajectory.agent_mask()),
            false => (trajectory.token_row(), Vec::new()),
        };
        let added = trajectory.mask_of(loss_tokens);
        tokens.loss_mask.iter_mut().zip(added).for_each(|(mask, added)| *mask |= added);
        Self {
            agent_mask,
            num_loss_tokens: tokens.loss_mask.iter().filter(|it| **it).count(),
            num_turns: trajectory.turns.len(),
            advantages: Vec::new(),
            old_log_probs: trajectory.old_log_probs(),
            recorded_log_probs: None,
            ref_log_probs: None,
            teacher: None,
            old_values: Vec::new(),
            returns: Vec::new(),
            turn_numbers: trajectory.turn_numbers(),
            tokens,
        }
    }

    /// Log-probabilities recorded at sampling.
    pub(super) fn sampled_log_probs(&self) -> &[f32] {
        self.recorded_log_probs.as_deref().unwrap_or(&self.old_log_probs)
    }

    /// The teacher's log-probabilities; empty without a teacher.
    pub(super) fn teacher_log_probs(&self) -> &[f32] {
        self.teacher.as_ref().map_or(&[], |it| &it.log_probs)
    }

    /// True for the tokens that the policy wrote.
    pub(super) fn policy_mask(&self) -> impl Iterator<Item = bool> {
        self.turn_numbers.iter().map(|it| *it > 0)
    }

    pub(super) fn is_distilled(&self) -> bool {
        self.teacher.as_ref().is_some_and(|it| it.is_distilled)
    }

    /// True for the tokens whose divergence from the teacher is learned from.
    pub(super) fn distilled_mask(&self) -> Vec<bool> {
        let is_distilled = self.is_distilled();
        self.policy_mask().map(|is_own| is_own && is_distilled).collect()
    }

    pub(super) fn has_advantage(&self) -> bool {
        self.advantages.iter().zip(&self.tokens.loss_mask).any(|(it, mask)| *mask && *it != 0.0)
    }
}

/// The rows of one micro-batch as tensors, padded to the width and on the device of the scores.
pub(super) fn policy_batch(
    rows: &[(&UpdateRow, f32)],
    num_loss_tokens: usize,
    kl_scale: f64,
    scores: &TokenScores,
) -> PolicyBatch {
    let [_, width] = scores.log_probs.dims();
    let device = &scores.log_probs.device();
    let column = |pick: fn(&UpdateRow) -> &[f32]| float_column(rows, pick, width, device);
    let mask = |pick: fn(&UpdateRow) -> &[bool]| {
        let values = rows.iter().flat_map(|(row, _)| padded(pick(row), width, false));
        let values = TensorData::new(values.collect::<Vec<bool>>(), [rows.len(), width]);
        Tensor::<2, Bool>::from_data(values, device)
    };
    let has_agents = rows.iter().any(|(row, _)| row.agent_mask.contains(&true));
    let has_reference = rows.iter().all(|(row, _)| row.ref_log_probs.is_some());
    let mut num_turns = 0;
    let mut turn_ids: Vec<i32> = Vec::with_capacity(rows.len() * width);
    for (row, _) in rows {
        let id = |number: usize| if number == 0 { 0 } else { (num_turns + number) as i32 };
        turn_ids.extend(padded(&row.turn_numbers, width, 0).map(id));
        num_turns += row.num_turns;
    }
    let turn_ids = TensorData::new(turn_ids, [rows.len(), width]);
    PolicyBatch {
        advantages: column(|it| &it.advantages),
        old_log_probs: column(|it| &it.old_log_probs),
        ref_log_probs: has_reference
            .then(|| column(|it| it.ref_log_probs.as_deref().unwrap_or_default())),
        loss_mask: mask(|it| &it.tokens.loss_mask),
        agent_mask: has_agents.then(|| mask(|it| &it.agent_mask)),
        turn_ids: Tensor::<2, Int>::from_data(turn_ids, device),
        num_turns,
        row_weights: floats(rows.iter().map(|(_, it)| *it).collect(), [rows.len(), 1], device),
        num_loss_tokens,
        kl_scale,
    }
}

/// One kind of number of each row, padded with zeros.
pub(super) fn float_column(
    rows: &[(&UpdateRow, f32)],
    pick: fn(&UpdateRow) -> &[f32],
    width: usize,
    device: &Device,
) -> Tensor<2> {
    let values = rows.iter().flat_map(|(row, _)| padded(pick(row), width, 0.0)).collect();
    floats(values, [rows.len(), width], device)
}
