//! QK-clip: limits attention logits head by head by rescaling the query and key projections.

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};

use crate::CausalLm;

/// Sharing of keys among query heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySharing {
    /// Each head has its own keys (multi-head attention).
    Own,
    /// Heads of a group share their keys (grouped-query attention).
    Grouped,
    /// Each head has its own content keys and shares the rotary key (multi-head latent attention).
    Latent,
}

/// Scale factors for the projections of one head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QkScale {
    /// Factor of the query projection, or of its content part.
    pub query: f32,
    /// Factor of the key projection, or of its content part.
    pub key: f32,
    /// Factor of the rotary part of the query projection, if it is separate.
    pub rotary_query: f32,
}

/// Scale factors that reduce a head's maximum logit to `tau`.
///
/// ```text
/// g = min(1, tau / S)
/// own:      query sqrt(g), key sqrt(g)
/// grouped:  query g,       key 1
/// latent:   query sqrt(g), key sqrt(g), rotary query g, rotary key 1
/// ```
///
/// - `S`: maximum of `q.k / sqrt(head_dim)` of the head over a batch
/// - `tau`: threshold; 100 in Kimi K2
///
/// Each query-key product is multiplied by `g`, and parameters used by other heads are unchanged.
///
/// # Differences
///
/// - The report has no grouped keys (K2's attention is latent). A square root on a shared key would
///   also shrink the logits of other heads. So all of `g` goes to the query, as in the report for
///   its shared rotary key.
///
/// # References
///
/// - [Kimi K2](https://arxiv.org/abs/2507.20534), section 2.1 and algorithm 1 (MuonClip)
///
/// ```
/// use zs_model::{KeySharing, qk_scale};
///
/// let scale = qk_scale(200.0, 100.0, KeySharing::Grouped);
/// assert_eq!((scale.query, scale.key), (0.5, 1.0));
/// assert_eq!(qk_scale(99.0, 100.0, KeySharing::Own).query, 1.0);
/// ```
#[must_use]
pub fn qk_scale(max_logit: f32, tau: f32, sharing: KeySharing) -> QkScale {
    let factor = if max_logit > tau { tau / max_logit } else { 1.0 };
    match sharing {
        KeySharing::Own | KeySharing::Latent => {
            QkScale { query: factor.sqrt(), key: factor.sqrt(), rotary_query: factor }
        }
        KeySharing::Grouped => QkScale { query: factor, key: 1.0, rotary_query: factor },
    }
}

/// Error of QK-clip.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QkClipError {
    /// The model normalises queries and keys after their projection.
    #[error(
        "the model normalises queries and keys, so scaling their projections has no effect; \
         disable QK-clip"
    )]
    Normalized,
    /// The number of maximum logits does not match layers and heads.
    #[error(
        "{found} maximum logits were given for {expected} {of}; pass one per layer and query head"
    )]
    Count {
        /// Given count.
        found: usize,
        /// Expected count.
        expected: usize,
        /// Counted item: layers or heads.
        of: &'static str,
    },
}

/// Rescales the query and key projections, weights and biases, of every head whose maximum logit
/// exceeds `tau`. Returns the model and the number of rescaled heads.
///
/// Weights of heads below `tau` are bitwise unchanged. `max_logits` comes from
/// [`CausalLm::max_attention_logits`], one value per layer and query head. Call it after an
/// optimiser step; moments are unchanged.
///
/// # Errors
///
/// Fails if the model normalises queries and keys, or on a wrong number of logits.
pub fn qk_clip(
    mut model: CausalLm,
    max_logits: &[Vec<f32>],
    tau: f32,
) -> Result<(CausalLm, usize), QkClipError> {
    let count = |found, expected, of| match found == expected {
        true => Ok(()),
        false => Err(QkClipError::Count { found, expected, of }),
    };
    count(max_logits.len(), model.model.layers.len(), "layers")?;
    let mut num_clipped = 0;
    for (block, max_logits) in model.model.layers.iter_mut().zip(max_logits) {
        let attention = &mut block.self_attn;
        if attention.q_norm.is_some() || attention.k_norm.is_some() {
            return Err(QkClipError::Normalized);
        }
        let [key_value_heads, group, head_dim] = attention.head_shape();
        count(max_logits.len(), key_value_heads * group, "heads")?;
        let of_layer = max_logits.iter().filter(|it| **it > tau).count();
        if of_layer == 0 {
            continue;
        }
        num_clipped += of_layer;
        let sharing = if group == 1 { KeySharing::Own } else { KeySharing::Grouped };
        let scales: Vec<QkScale> =
            max_logits.iter().map(|&it| qk_scale(it, tau, sharing)).collect();
        let columns = |factors: Vec<f32>| -> Vec<f32> {
            factors.into_iter().flat_map(|it| std::iter::repeat_n(it, head_dim)).collect()
        };
        let queries = columns(scales.iter().map(|it| it.query).collect());
        // Factors of keys are 1 unless each head has its own keys.
        let keys = columns(scales.iter().step_by(group).map(|it| it.key).collect());
        for (projection, factors) in
            [(&mut attention.q_proj, queries), (&mut attention.k_proj, keys)]
        {
            projection.weight = scaled(projection.weight.clone(), &factors, [1, factors.len()]);
            projection.bias =
                projection.bias.take().map(|it| scaled(it, &factors, [factors.len()]));
        }
    }
    Ok((model, num_clipped))
}

/// Scaled parameter, again a leaf.
fn scaled<const D: usize>(
    param: Param<Tensor<D>>,
    factors: &[f32],
    shape: [usize; D],
) -> Param<Tensor<D>> {
    let data = TensorData::new(factors.to_vec(), shape);
    param.map(|old| {
        let requires_grad = old.is_require_grad();
        let factors = Tensor::<D>::from_data(data, &old.device());
        (old.detach() * factors).detach().set_require_grad(requires_grad)
    })
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::module::Module;
    use burn::tensor::Device;

    use super::*;
    use crate::testing::{byte_tokenizer, tiny_config};
    use crate::{Architecture, LanguageModel, ModelConfig, TokenRow};

    #[test]
    fn factors_bring_the_logits_to_the_threshold() {
        let half = std::f32::consts::FRAC_1_SQRT_2;
        let own = qk_scale(200.0, 100.0, KeySharing::Own);
        assert!((own.query - half).abs() < 1e-6 && (own.key - half).abs() < 1e-6);
        assert!((200.0 * own.query * own.key - 100.0).abs() < 1e-4);
        // Content 150 and rotary 50 sum to 200; 75 and 25 sum to 100.
        let latent = qk_scale(200.0, 100.0, KeySharing::Latent);
        assert!((150.0 * latent.query * latent.key - 75.0).abs() < 1e-4);
        assert!((50.0 * latent.rotary_query - 25.0).abs() < 1e-5);
        // A square root on shared keys would reduce another head's 50 to 35.36.
        let grouped = qk_scale(200.0, 100.0, KeySharing::Grouped);
        assert_eq!((grouped.query, 50.0 * grouped.key), (0.5, 50.0));
        for sharing in [KeySharing::Own, KeySharing::Grouped, KeySharing::Latent] {
            let untouched = QkScale { query: 1.0, key: 1.0, rotary_query: 1.0 };
            assert_eq!(qk_scale(99.0, 100.0, sharing), untouched);
        }
    }

    fn model(config: ModelConfig) -> LanguageModel {
        LanguageModel::initialize(config, byte_tokenizer(), 1, &Device::default())
    }

    fn rows() -> [TokenRow; 2] {
        let row = |tokens: Vec<u32>| TokenRow { loss_mask: vec![false; tokens.len()], tokens };
        [row(vec![1, 2, 3, 4]), row(vec![5, 6])]
    }

    #[track_caller]
    fn check(key_value_heads: usize) {
        let config = ModelConfig { num_key_value_heads: key_value_heads, ..tiny_config() };
        let network = model(config).network().clone().train();
        let before = network.max_attention_logits(&rows());
        // A threshold between the two largest logits of the first layer clips one head there.
        let mut sorted = before[0].clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let tau = (sorted[0] + sorted[1]) / 2.0;
        let mut only_first = before.clone();
        only_first[1..].iter_mut().flatten().for_each(|it| *it = 0.0);
        let (clipped, num_clipped) = qk_clip(network, &only_first, tau).unwrap();
        assert_eq!(num_clipped, 1);
        let after = clipped.max_attention_logits(&rows());
        for (before, after) in before[0].iter().zip(&after[0]) {
            let expected = before.min(tau);
            assert!((after - expected).abs() < 1e-5, "{before} became {after}, not {expected}");
        }
        assert!(clipped.model.layers[0].self_attn.q_proj.weight.val().is_require_grad());
    }

    #[test]
    fn only_the_head_above_the_threshold_is_rescaled() {
        check(4);
        check(2);
    }

    #[test]
    fn models_below_the_threshold_are_bitwise_unchanged_and_mismatches_are_errors() {
        let network = model(tiny_config()).network().clone();
        let logits = network.max_attention_logits(&rows());
        let (same, num_clipped) = qk_clip(network.clone(), &logits, 1e9).unwrap();
        assert_eq!(num_clipped, 0);
        let weights = |it: &CausalLm| it.model.layers[1].self_attn.q_proj.weight.val().into_data();
        assert_eq!(weights(&same), weights(&network));
        let error = qk_clip(network.clone(), &logits[..1], 1.0).unwrap_err();
        assert_eq!(error, QkClipError::Count { found: 1, expected: 2, of: "layers" });
        let error = qk_clip(network, &[vec![0.0], vec![0.0]], 1.0).unwrap_err();
        assert_eq!(error, QkClipError::Count { found: 1, expected: 4, of: "heads" });
        let config =
            ModelConfig { architecture: Architecture::Qwen3, qkv_bias: false, ..tiny_config() };
        let normalized = model(config).network().clone();
        let logits = normalized.max_attention_logits(&rows());
        assert_eq!(qk_clip(normalized, &logits, 1.0).unwrap_err(), QkClipError::Normalized);
    }
}
