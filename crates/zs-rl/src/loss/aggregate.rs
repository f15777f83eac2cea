//! Aggregation of token losses into one number, with the weight of each token and episode.

use burn::tensor::{Bool, Tensor, TensorData};
use garde::Validate;
use serde::{Deserialize, Serialize};
use zs_core::registry::check;

/// Average over token losses.
///
/// Every choice gives each episode one weight that all of its tokens share:
///
/// ```text
/// L = sum_i w_i sum_t m_it L_it,    n_i = sum_t m_it
///
/// token_mean                  w_i = 1 / sum_j n_j
/// sequence_mean_token_sum     w_i = 1 / B
/// sequence_mean_token_mean    w_i = 1 / (B n_i)
/// fixed_length                w_i = 1 / (B length)
/// ```
///
/// - `m_it`: the loss mask; `L_it`: the token loss
/// - `B`: episodes with at least one token of loss
///
/// Since the weights need only the token counts, they are computed once over a whole mini-batch, and
/// any split into micro-batches adds up to the same gradient.
///
/// # References
///
/// - `token_mean`: [DAPO](https://arxiv.org/abs/2503.14476), section 3.3; ZeroSearch's `masked_mean`
/// - `sequence_mean_token_mean`: [DeepSeekMath](https://arxiv.org/abs/2402.03300), equation 3
/// - `fixed_length`: [Dr. GRPO](https://arxiv.org/abs/2503.20783)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// Every token counts the same; long episodes count more.
    #[default]
    TokenMean,
    /// Sum over an episode's tokens, mean over episodes.
    SequenceMeanTokenSum,
    /// Every episode counts the same; tokens of long episodes count less.
    SequenceMeanTokenMean,
    /// Sum over tokens divided by a constant: no dependence on length at all.
    FixedLength {
        /// The constant, e.g. the most tokens that an episode may write.
        #[garde(custom(check::at_least_one))]
        length: usize,
    },
}

impl Aggregation {
    /// The weight of each episode, given how many tokens of loss each has; zero for those without.
    ///
    /// # Shapes
    ///
    /// - token_counts, output: `[batch]`
    #[must_use]
    pub fn row_weights(self, token_counts: &[usize]) -> Vec<f32> {
        let num_tokens: usize = token_counts.iter().sum();
        let num_rows = token_counts.iter().filter(|&&it| it > 0).count();
        let weight = |count: usize| match self {
            Self::TokenMean => 1.0 / num_tokens as f64,
            Self::SequenceMeanTokenSum => 1.0 / num_rows as f64,
            Self::SequenceMeanTokenMean => 1.0 / (num_rows as f64 * count as f64),
            Self::FixedLength { length } => 1.0 / (num_rows as f64 * length.max(1) as f64),
        };
        let weight = |&count: &usize| if count == 0 { 0.0 } else { weight(count) as f32 };
        token_counts.iter().map(weight).collect()
    }
}

/// One number from the losses of a whole batch.
///
/// # Shapes
///
/// - loss, loss_mask: `[batch, tokens]`
/// - output: `[1]`; zero where the mask is false everywhere
#[must_use]
pub fn aggregate(
    loss: Tensor<2>,
    loss_mask: &Tensor<2, Bool>,
    aggregation: Aggregation,
) -> Tensor<1> {
    let [rows, _] = loss.dims();
    let counts = loss_mask.clone().float().sum_dim(1).into_data();
    let counts: Vec<usize> = counts.iter::<f32>().map(|it| it as usize).collect();
    let weights = TensorData::new(aggregation.row_weights(&counts), [rows, 1]);
    let weights = Tensor::<2>::from_data(weights, &loss.device());
    (loss.mask_fill(loss_mask.clone().bool_not(), 0.0) * weights).sum()
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::testing::reference::{self, assert_close, tensor};

    const CASES: [(Aggregation, &str); 4] = [
        (Aggregation::TokenMean, "token-mean"),
        (Aggregation::SequenceMeanTokenSum, "seq-mean-token-sum"),
        (Aggregation::SequenceMeanTokenMean, "seq-mean-token-mean"),
        (Aggregation::FixedLength { length: 7 }, "seq-mean-token-sum-norm"),
    ];

    #[test]
    fn by_hand() {
        // Rows of 3, 1 and 0 tokens with losses 1 + 2 + 3 and 6; masked losses are 9.
        let device = Device::flex();
        let loss = tensor(&[vec![1., 2., 3.], vec![6., 9., 9.], vec![9., 9., 9.]], &device);
        let mask = [vec![1., 1., 1.], vec![1., 0., 0.], vec![0., 0., 0.]];
        let mask = tensor(&mask, &device).greater_elem(0.5);
        for ((aggregation, name), expected) in CASES.into_iter().zip([3.0, 6.0, 4.0, 6.0 / 7.0]) {
            assert_close(aggregate(loss.clone(), &mask, aggregation), &[expected], name);
        }
        let nothing = mask.clone().bool_and(mask.clone().bool_not());
        for (aggregation, name) in CASES {
            assert_close(aggregate(loss.clone(), &nothing, aggregation), &[0.0], name);
        }
    }

    #[test]
    fn agrees_with_verl() {
        let Some(reference) = reference::load() else { return };
        let device = Device::flex();
        let loss = reference.tensor("inputs/log_probs", &device);
        let mask = reference.mask(&device);
        for (aggregation, name) in CASES {
            let expected = [reference.value(&format!("aggregate/{name}"))];
            assert_close(aggregate(loss.clone(), &mask, aggregation), &expected, name);
        }
    }

    #[test]
    fn configs_read_as_documented() {
        for (json, expected) in [
            (r#""token_mean""#, Aggregation::TokenMean),
            (r#""sequence_mean_token_mean""#, Aggregation::SequenceMeanTokenMean),
            (r#"{"fixed_length":{"length":9}}"#, Aggregation::FixedLength { length: 9 }),
        ] {
            assert_eq!(serde_json::from_str::<Aggregation>(json).unwrap(), expected);
        }
    }
}
