//! One optimiser step of the policy model on a mini-batch.

use std::collections::BTreeMap;

use burn::optim::GradientsParams;
use burn::tensor::{Bool, Tensor, TensorData};
use zs_model::{
    Optimizer, PolicyModel, TokenRow, TokenScores, accumulate_gradients, micro_batches,
};

use super::memory::MicroBatchTokens;
use super::row::{UpdateRow, float_column, policy_batch};
use super::rows::{padded, pick};
use super::{UpdateConfig, UpdateError, UpdateMetrics};
use crate::algorithm::{Algorithm, LossOutput, PolicyBatch};
use crate::loss::{kl_divergence, likelihood_displacement};

const LOG_PROB_DIFF: &str = "rollout/log_prob_diff";
const LOG_PROB_MAX_RATIO: &str = "rollout/log_prob_max_ratio";
const LOG_PROB_K3: &str = "rollout/log_prob_k3";
const EFFECTIVE_SAMPLE_FRAC: &str = "rollout/effective_sample_frac";
/// Comparisons of sampling and training, which mean something only while the weights are the same.
pub(super) const FIRST_STEP_ONLY: [&str; 4] =
    [LOG_PROB_DIFF, LOG_PROB_MAX_RATIO, LOG_PROB_K3, EFFECTIVE_SAMPLE_FRAC];

/// A mini-batch and the inputs of its loss.
pub(super) struct MiniBatch<'a> {
    pub(super) rows: &'a [UpdateRow],
    /// Curated texts, for the loss that keeps the policy a language model.
    pub(super) ptx: &'a [TokenRow],
    pub(super) kl_scale: f64,
    pub(super) algorithm: &'a dyn Algorithm,
    pub(super) config: &'a UpdateConfig,
}

impl MiniBatch<'_> {
    /// Takes one optimiser step, or none where nothing carries gradient or something is not finite.
    pub(super) fn step<M: PolicyModel>(
        &self,
        model: M,
        optimizer: &mut Optimizer,
        tokens: &mut MicroBatchTokens,
        metrics: &mut UpdateMetrics,
    ) -> Result<M, UpdateError> {
        let needs_all =
            self.algorithm.requirements().needs_every_episode || self.config.llds_coef > 0.0;
        let in_loss = self.config.distillation.is_some_and(|it| it.is_in_loss());
        let carries_gradient = |row: &UpdateRow| {
            let has_term = needs_all || (in_loss && row.is_distilled());
            row.num_loss_tokens > 0 && (has_term || row.has_advantage())
        };
        let num_used = self.rows.iter().filter(|it| carries_gradient(it)).count();
        metrics.num_skipped_episodes += self.rows.len() - num_used;
        if num_used == 0 && self.config.ptx_coef == 0.0 {
            return Ok(model);
        }
        let (grads, mut values) =
            tokens.attempt(|tokens| self.gradients(&model, tokens, carries_gradient))??;
        if metrics.skip_if_not_finite(pairs(&values)) {
            return Ok(model);
        }
        let (model, stats) = optimizer.step(model, grads);
        if metrics.skip_if_not_finite([("actor/grad_norm", stats.grad_norm)]) {
            return Ok(model);
        }
        values.insert("actor/grad_norm", stats.grad_norm);
        values.insert("actor/lr", stats.learning_rate);
        for (key, value) in values {
            if metrics.num_steps == 0 || !FIRST_STEP_ONLY.contains(&key) {
                *metrics.values.entry(key).or_default() += value;
            }
        }
        metrics.num_steps += 1;
        Ok(model)
    }

    /// Gradient of the mini-batch's loss and its metrics, from the rows that are used.
    pub(super) fn gradients<M: PolicyModel>(
        &self,
        model: &M,
        micro_batch_tokens: usize,
        is_used: impl Fn(&UpdateRow) -> bool,
    ) -> Result<(GradientsParams, BTreeMap<&'static str, f64>), UpdateError> {
        // The normaliser counts every row, used or not.
        let counts: Vec<usize> = self.rows.iter().map(|it| it.num_loss_tokens).collect();
        let weights = self.algorithm.requirements().terms.aggregation.row_weights(&counts);
        let used: Vec<(&UpdateRow, f32)> =
            self.rows.iter().zip(weights).filter(|(it, _)| is_used(it)).collect();
        let num_loss_tokens = used.iter().map(|(row, _)| row.num_loss_tokens).sum();
        let token_rows: Vec<TokenRow> = used.iter().map(|(row, _)| row.tokens.clone()).collect();
        let plan = micro_batches(&token_rows, micro_batch_tokens);
        let mut inputs = pick(&token_rows, &plan);
        let texts = self.texts(micro_batch_tokens);
        inputs.extend(texts.micro_batches.iter().cloned());

        let (grads, kept) = accumulate_gradients(model, &inputs, |index, scores| {
            let Some(rows) = plan.get(index) else {
                let loss = -scores.log_probs.sum() / texts.num_loss_tokens as f64;
                let metrics = vec![("actor/ptx_loss", loss.clone().detach())];
                let metrics = MicroBatchMetrics { metrics, mismatch: None };
                return (loss * self.config.ptx_coef, Ok(metrics));
            };
            let rows: Vec<(&UpdateRow, f32)> = rows.iter().map(|&at| used[at]).collect();
            let batch = policy_batch(&rows, num_loss_tokens, self.kl_scale, &scores);
            let mut output = self.algorithm.policy_loss(&scores, &batch);
            if let Err(error) = self.check(&output.loss) {
                return (scores.log_probs.sum() * 0.0, Err(error));
            }
            self.guard(&mut output, &scores, &batch);
            self.distil(&mut output, &rows, &scores, &batch);
            let mismatch = Some(Mismatch::new(&rows, &scores, &batch));
            (output.loss, Ok(MicroBatchMetrics { metrics: output.metrics, mismatch }))
        });

        let mut values: BTreeMap<&'static str, f64> = BTreeMap::new();
        let mut mismatches = Vec::new();
        for kept in kept {
            let kept = kept?;
            for (key, value) in kept.metrics {
                *values.entry(key).or_default() += number(value);
            }
            mismatches.extend(kept.mismatch);
        }
        if !mismatches.is_empty() {
            Mismatch::log(mismatches, num_loss_tokens, &mut values);
        }
        Ok((grads, values))
    }

    /// Fails on a loss that cannot be differentiated.
    fn check(&self, loss: &Tensor<1>) -> Result<(), UpdateError> {
        let (algorithm, [found]) = (self.algorithm.name(), loss.dims());
        if found != 1 {
            return Err(UpdateError::LossShape { algorithm, found });
        }
        if loss.is_tracked() { Ok(()) } else { Err(UpdateError::NoGradient { algorithm }) }
    }

    /// Adds the guard against likelihood displacement, where it is wanted.
    fn guard(&self, output: &mut LossOutput, scores: &TokenScores, batch: &PolicyBatch) {
        if self.config.llds_coef == 0.0 {
            return;
        }
        let lost = likelihood_displacement(
            scores.log_probs.clone(),
            batch.old_log_probs.clone(),
            batch.advantages.clone(),
            &batch.loss_mask,
            batch.turn_ids.clone(),
            batch.num_turns,
        );
        let loss = lost.sum() / batch.num_loss_tokens.max(1) as f64;
        output.metrics.push(("actor/llds_loss", loss.clone().detach()));
        output.loss = output.loss.clone() + loss * self.config.llds_coef;
    }

    /// Adds the divergence from the teacher, where it is a term of the loss.
    fn distil(
        &self,
        output: &mut LossOutput,
        rows: &[(&UpdateRow, f32)],
        scores: &TokenScores,
        batch: &PolicyBatch,
    ) {
        let Some(config) = self.config.distillation.filter(|it| it.is_in_loss()) else { return };
        let [height, width] = scores.log_probs.dims();
        let device = &scores.log_probs.device();
        let mask = rows
            .iter()
            .flat_map(|(row, _)| padded(&row.distilled_mask(), width, false).collect::<Vec<_>>());
        let mask = TensorData::new(mask.collect::<Vec<bool>>(), [height, width]);
        let mask = Tensor::<2, Bool>::from_data(mask, device);
        let teacher = float_column(rows, UpdateRow::teacher_log_probs, width, device);
        let kl = kl_divergence(scores.log_probs.clone(), teacher, &mask, config.kl_estimator);
        output.metrics.push(("actor/teacher_kl", batch.token_mean(kl.clone())));
        output.loss = output.loss.clone() + batch.aggregate(kl) * config.kl_coef;
    }

    /// The curated texts in micro-batches; none where they have no weight.
    fn texts(&self, micro_batch_tokens: usize) -> Texts {
        if self.config.ptx_coef == 0.0 {
            return Texts { micro_batches: Vec::new(), num_loss_tokens: 0 };
        }
        let rows: Vec<TokenRow> =
            self.ptx.iter().filter(|it| it.loss_mask.contains(&true)).cloned().collect();
        let num_loss_tokens =
            rows.iter().map(|it| it.loss_mask.iter().filter(|it| **it).count()).sum();
        let plan = micro_batches(&rows, micro_batch_tokens);
        Texts { micro_batches: pick(&rows, &plan), num_loss_tokens }
    }
}

struct Texts {
    micro_batches: Vec<Vec<TokenRow>>,
    num_loss_tokens: usize,
}

/// Metrics of one micro-batch, read once all are through.
struct MicroBatchMetrics {
    metrics: Vec<(&'static str, Tensor<1>)>,
    mismatch: Option<Mismatch>,
}

/// Mismatch between sampling and training in one micro-batch.
struct Mismatch {
    diff: Tensor<1>,
    k3: Tensor<1>,
    max_abs_diff: Tensor<1>,
    weights: Tensor<1>,
    squared_weights: Tensor<1>,
}

impl Mismatch {
    /// ```text
    /// d  = log p_sampled - log p_trained,   w = exp(-d)
    /// k1 = mean(d)    k3 = mean(w - 1 + d)    max ratio = exp(max |d|)
    /// effective sample share = (sum w)^2 / (N sum w^2)
    /// ```
    fn new(rows: &[(&UpdateRow, f32)], scores: &TokenScores, batch: &PolicyBatch) -> Self {
        let trained = scores.log_probs.clone().detach();
        let is_other = rows.iter().any(|(row, _)| row.recorded_log_probs.is_some());
        let sampled = if is_other {
            float_column(rows, UpdateRow::sampled_log_probs, trained.dims()[1], &trained.device())
        } else {
            batch.old_log_probs.clone()
        };
        // Tokens of helper models were never sampled from the policy.
        let masked = batch.policy_mask().bool_not();
        let diff = (sampled - trained).mask_fill(masked.clone(), 0.0);
        let weights = (-diff.clone()).clamp(-20.0, 20.0).exp();
        let only_written = weights.clone().mask_fill(masked, 0.0);
        Self {
            k3: batch.token_mean(weights - 1.0 + diff.clone()),
            diff: batch.token_mean(diff.clone()),
            max_abs_diff: diff.abs().max(),
            weights: only_written.clone().sum(),
            squared_weights: only_written.square().sum(),
        }
    }

    fn log(parts: Vec<Self>, num_tokens: usize, values: &mut BTreeMap<&'static str, f64>) {
        let (mut max_abs_diff, mut weights, mut squared_weights) = (0.0_f64, 0.0, 0.0);
        for part in parts {
            *values.entry(LOG_PROB_DIFF).or_default() += number(part.diff);
            *values.entry(LOG_PROB_K3).or_default() += number(part.k3);
            max_abs_diff = max_abs_diff.max(number(part.max_abs_diff));
            weights += number(part.weights);
            squared_weights += number(part.squared_weights);
        }
        values.insert(LOG_PROB_MAX_RATIO, max_abs_diff.exp());
        let effective = weights * weights / (num_tokens.max(1) as f64 * squared_weights);
        values.insert(EFFECTIVE_SAMPLE_FRAC, effective);
    }
}

fn number(value: Tensor<1>) -> f64 {
    f64::from(value.into_scalar::<f32>())
}

fn pairs<'a>(
    values: &'a BTreeMap<&'static str, f64>,
) -> impl Iterator<Item = (&'static str, f64)> + use<'a> {
    values.iter().map(|(key, value)| (*key, *value))
}
