//! Warm-up of the tensor shapes of sampling.

use std::sync::Arc;

use zs_core::{Domain, StreamKey};

use crate::generate::{
    CachedRows, Choice, DeviceAccess, GraphSwitch, Logits, SampledRow, ShapeBuckets, StepContext,
};
use crate::{CausalLm, LanguageModel, ModelConfig, PolicyModel, SamplingParams, TokenId};

/// Shape of a sampling batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarmUpShape {
    /// Sequences decoded together.
    pub rows: usize,
    /// Tokens of each sequence before the next one is fed.
    pub tokens: usize,
}

/// Increment of a cache's columns between shapes.
const COLUMNS: usize = ShapeBuckets::COARSE.columns(1);

impl LanguageModel {
    /// Shapes of sampling at most `max_rows` sequences of at most `max_tokens` tokens on an
    /// accelerator, where shapes are rounded up to limit their number.
    ///
    /// ```
    /// use zs_model::testing::{byte_tokenizer, tiny_config};
    /// use zs_model::{LanguageModel, WarmUpShape};
    ///
    /// let model = LanguageModel::initialize(tiny_config(), byte_tokenizer(), 1, &Default::default());
    /// let shapes = model.warm_up_shapes(3, 60);
    /// let rows: Vec<usize> = shapes.iter().map(|it| it.rows).collect();
    /// assert_eq!(rows, [1, 2, 4]);
    /// assert!(shapes.iter().all(|it| it.tokens == 59));
    /// ```
    #[must_use]
    pub fn warm_up_shapes(&self, max_rows: usize, max_tokens: usize) -> Vec<WarmUpShape> {
        let longest = max_tokens.min(self.config().max_position_embeddings).max(2) - 1;
        let lengths: Vec<usize> =
            (1..).map(|it| it * COLUMNS).take_while(|it| *it < longest).chain([longest]).collect();
        let top = max_rows.max(1).next_power_of_two();
        let heights = std::iter::successors(Some(1), |it| Some(it * 2)).take_while(|it| *it <= top);
        heights
            .flat_map(|rows| lengths.iter().map(move |&tokens| WarmUpShape { rows, tokens }))
            .collect()
    }

    /// Samples once with a shape on each device of the model: prefills `rows` prompts of `tokens`
    /// tokens, then decodes one more token each. The model is unchanged.
    ///
    /// # Panics
    ///
    /// Panics if the shape is empty or exceeds the model's context.
    pub fn warm_up(&self, shape: WarmUpShape) {
        assert!(
            shape.rows > 0 && shape.tokens > 0,
            "rows and tokens of a warm-up shape must be positive"
        );
        let longest = self.config().max_position_embeddings;
        assert!(shape.tokens < longest, "{shape:?} exceeds the context of {longest} tokens");
        self.in_own_stream(|| {
            for network in self.replicas() {
                feed(network, self.config(), shape);
            }
        });
    }
}

/// Samples after the last token of each row.
fn feed(network: &CausalLm, config: &ModelConfig, shape: WarmUpShape) -> Vec<Choice> {
    let WarmUpShape { rows, tokens } = shape;
    let device = network.device();
    let buckets = ShapeBuckets::of(&device);
    let owners = (0..rows).map(Some).collect();
    let held = (buckets, network.memory.compute_dtype.of_cache());
    let mut cache =
        CachedRows::empty(config, owners, buckets.capacity(0, tokens, 1), held, &device);
    let (graphs, mut access) = (GraphSwitch::new(false, Arc::default()), DeviceAccess::shared());
    let token = |row: usize, at: usize| ((row * 31 + at * 7 + 1) % config.vocab_size) as TokenId;
    let prompts: Vec<Vec<TokenId>> =
        (0..rows).map(|row| (0..tokens).map(|at| token(row, at)).collect()).collect();
    let mut feed = |tokens: &[Vec<TokenId>]| {
        let context = StepContext { device: &device, graphs: &graphs, access: &mut access };
        sample(cache.feed(network, tokens, context), tokens, config)
    };
    feed(&prompts);
    let next: Vec<Vec<TokenId>> = (0..rows).map(|row| vec![token(row, tokens)]).collect();
    feed(&next)
}

fn sample(logits: Logits, rows: &[Vec<TokenId>], config: &ModelConfig) -> Vec<Choice> {
    let mut rngs: Vec<_> =
        (0..rows.len()).map(|it| StreamKey::new(it as u64).rng(Domain::Sampling)).collect();
    let sampled = rows.iter().zip(&mut rngs).enumerate();
    let sampled = sampled.map(|(row, (sequence, rng))| SampledRow { row, sequence, rng }).collect();
    logits.choose(sampled, config.vocab_size, &SamplingParams::default())
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::testing::{byte_tokenizer, tiny_config};

    #[track_caller]
    fn check(max_rows: usize, max_tokens: usize, expected: &[(usize, usize)]) {
        let config = ModelConfig { max_position_embeddings: 256, ..tiny_config() };
        let model = LanguageModel::initialize(config, byte_tokenizer(), 1, &Device::flex());
        let found: Vec<(usize, usize)> = model
            .warm_up_shapes(max_rows, max_tokens)
            .iter()
            .map(|it| (it.rows, it.tokens))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn shapes_match_the_buckets() {
        check(1, 130, &[(1, 64), (1, 128), (1, 129)]);
        check(2, 64, &[(1, 63), (2, 63)]);
        // Lengths are capped at the context length.
        check(1, 9_999, &[(1, 64), (1, 128), (1, 192), (1, 255)]);
        check(0, 0, &[(1, 1)]);
    }

    #[test]
    fn warm_up_samples_finite_log_probs() {
        let model = LanguageModel::initialize(tiny_config(), byte_tokenizer(), 1, &Device::flex());
        let shape = WarmUpShape { rows: 3, tokens: 9 };
        let choices = feed(model.network(), model.config(), shape);
        assert_eq!(choices.len(), 3);
        assert!(choices.iter().all(|it| it.log_prob.is_finite() && it.log_prob < 0.0));
        assert_ne!(choices[0].log_prob, choices[1].log_prob);
    }
}
