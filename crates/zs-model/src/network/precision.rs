//! Precision of a network's matrices in training and sampling.

use burn::module::Param;
use burn::tensor::{FloatDType, Tensor};

use super::{Block, CausalLm, Linear};
use crate::kernels::PackedWeight;
use crate::{ComputeDtype, MemoryConfig};

impl CausalLm {
    /// Network with its matrices in the compute dtype, so that sampling reads less memory. Must not
    /// be trained or saved: on a CPU parameters make room for [packed weights](PackedWeight).
    pub(crate) fn for_sampling(mut self) -> Self {
        let memory = self.memory;
        if memory.batch_invariant {
            // The product with an adapter would round with the number of rows.
            self = self.merge_lora();
        }
        if is_packed(memory) {
            let embedding = &mut self.model.embed_tokens;
            embedding.packed = for_products(&mut embedding.weight, true, memory.compute_dtype);
            self.linears_mut().into_iter().for_each(|(_, it)| pack(it, memory.compute_dtype));
        }
        self
    }

    /// Appends a block to a network [for sampling](Self::for_sampling), in its compute dtype.
    pub(crate) fn push_for_sampling(&mut self, mut block: Block) {
        let memory = self.memory;
        if is_packed(memory) {
            for (_, linear) in block.linears_mut() {
                linear.compute_dtype = memory.compute_dtype;
                pack(linear, memory.compute_dtype);
            }
        }
        self.model.layers.push(block);
    }

    /// Sets the precision of every linear layer.
    pub(crate) fn set_compute_dtype(&mut self, compute_dtype: ComputeDtype) {
        if let Some(head) = &mut self.lm_head {
            head.compute_dtype = compute_dtype;
        }
        self.block_linears_mut().into_iter().for_each(|it| it.compute_dtype = compute_dtype);
    }
}

/// True if sampling multiplies packed weights on a CPU, and rounded ones on an accelerator.
fn is_packed(memory: MemoryConfig) -> bool {
    memory.compute_dtype == ComputeDtype::Bf16 || memory.batch_invariant
}

fn pack(linear: &mut Linear, compute_dtype: ComputeDtype) {
    linear.packed = for_products(&mut linear.weight, false, compute_dtype);
}

/// Packs a weight and empties its parameter; rounds the parameter to the dtype on an accelerator.
fn for_products(
    weight: &mut Param<Tensor<2>>,
    transposed: bool,
    compute_dtype: ComputeDtype,
) -> Option<PackedWeight> {
    let packed = PackedWeight::new(weight.val(), transposed, compute_dtype);
    *weight = weight.clone().map(|it| match (&packed, compute_dtype) {
        (Some(_), _) => Tensor::zeros([0, 0], &it.device()),
        (None, ComputeDtype::Bf16) => it.cast(FloatDType::BF16),
        (None, ComputeDtype::F32 | ComputeDtype::Auto) => it,
    });
    packed
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::module::Module;
    use burn::tensor::{DType, Device};

    use super::*;
    use crate::checkpoint::{named_gradients, named_parameters};
    use crate::network::PackedRows;
    use crate::optim::accumulate;
    use crate::testing::{byte_tokenizer, tiny_config, with_random_lora};
    use crate::{
        Generator, LanguageModel, LoraConfig, Optimizer, OptimizerConfig, PolicyModel,
        SamplingParams, TokenRow,
    };

    fn model() -> LanguageModel {
        LanguageModel::initialize(tiny_config(), byte_tokenizer(), 5, &Device::flex())
    }

    fn memory(compute_dtype: ComputeDtype) -> MemoryConfig {
        MemoryConfig { compute_dtype, ..MemoryConfig::default() }
    }

    fn rows() -> Vec<TokenRow> {
        let row = |row: usize| TokenRow {
            tokens: (0..9 + row).map(|it| ((row * 31 + it * 7) % 250) as u32).collect(),
            loss_mask: (0..9 + row).map(|it| it > 2).collect(),
        };
        (0..4).map(row).collect()
    }

    /// Loss and gradient of a network, concatenated over all parameters.
    fn gradient(network: &CausalLm) -> (f32, Vec<f32>) {
        let network = network.clone().train();
        let devices = network.compute_devices();
        let (grads, loss) = accumulate(&network, &devices, 1, |network, _| {
            network.flat_gradients(&PackedRows::new(&rows()), false, |scores| {
                let loss = -scores.log_probs.mean();
                (loss.clone(), loss.into_scalar::<f32>())
            })
        });
        let tensors = named_gradients(&network, &grads);
        (loss[0], tensors.iter().flat_map(|it| it.to_vec()).collect())
    }

    /// bf16 has a relative precision of 2^-8; the gradient of a few layers deviates by a few of
    /// these.
    #[track_caller]
    fn check(network: &CausalLm) {
        let (expected_loss, expected) =
            gradient(&network.clone().with_memory(memory(ComputeDtype::F32)));
        let (loss, found) = gradient(&network.clone().with_memory(memory(ComputeDtype::Bf16)));
        assert!(loss != expected_loss && (loss - expected_loss).abs() < 0.01 * expected_loss);
        assert_eq!(found.len(), expected.len());
        let norm = |values: &mut dyn Iterator<Item = f32>| -> f64 {
            values.map(|it| f64::from(it).powi(2)).sum::<f64>().sqrt()
        };
        let off = norm(&mut found.iter().zip(&expected).map(|(a, b)| a - b));
        let relative = off / norm(&mut expected.iter().copied());
        assert!(relative > 0.0 && relative < 0.03, "{relative}");
    }

    #[test]
    fn bf16_gradients_equal_f32_gradients_within_precision() {
        let network = model().network().clone();
        check(&network);
        let lora = LoraConfig { r: 4, ..LoraConfig::default() };
        check(&with_random_lora(&network.with_lora(&lora, 1).unwrap(), 2));
    }

    #[test]
    fn trained_weights_stay_in_f32() {
        let start = model();
        let mut network = start.network().clone().with_memory(memory(ComputeDtype::Bf16)).train();
        let config = OptimizerConfig { learning_rate: 1e-5, ..OptimizerConfig::default() };
        let mut optimizer = Optimizer::new(&config, &network);
        let before = named_parameters(&network.valid());
        (network, _) = crate::supervised_step(network, &mut optimizer, &rows(), 100);
        let trained = start.with_network(&network);
        // Updates too small for bf16 are kept.
        let moved = named_parameters(trained.network())
            .iter()
            .zip(&before)
            .flat_map(|(a, b)| a.to_vec().into_iter().zip(b.to_vec()).collect::<Vec<_>>())
            .filter(|(a, b)| a != b)
            .count();
        assert!(moved > 10_000, "{moved}");
        let types = |network: &CausalLm| {
            let model = &network.model;
            [&model.layers[0].mlp.up_proj.weight, &model.embed_tokens.weight]
                .map(|it| it.val().dtype())
        };
        assert_eq!(types(trained.network()), [DType::F32; 2]);
        assert_eq!(types(&start.replicas()[0]), [DType::F32; 2]);
        let is_packed = |it: &CausalLm| {
            let mlp = &it.model.layers[0].mlp;
            [&mlp.up_proj.packed, &it.model.embed_tokens.packed].map(Option::is_some)
        };
        assert_eq!(is_packed(&trained.replicas()[0]), [true; 2]);
        assert_eq!(is_packed(&start.replicas()[0]), [false; 2]);
    }

    #[test]
    fn bf16_sampling_agrees_with_bf16_scoring() {
        let model = model();
        let network = model.network().clone().with_memory(memory(ComputeDtype::Bf16));
        let model = model.with_network(&network);
        let params = SamplingParams { max_new_tokens: 12, ..SamplingParams::default() };
        let prompt = (vec![1_u32, 2, 3], zs_core::StreamKey::new(1));
        let completion = model.generate(&[prompt], &params).unwrap().remove(0);
        let tokens: Vec<u32> = [&[1, 2, 3], &completion.tokens[..]].concat();
        let loss_mask = (0..tokens.len()).map(|it| it > 2).collect();
        let scores = model.network().token_scores(&[TokenRow { tokens, loss_mask }]).log_probs;
        let scores: Vec<f32> = scores.into_data().iter::<f32>().skip(3).collect();
        for (sampled, scored) in completion.log_probs.iter().zip(scores) {
            assert!((sampled - scored).abs() < 0.02, "{sampled} {scored}");
        }
    }

    #[test]
    fn parses_the_field_and_its_old_name_and_omits_the_default() {
        let parse = |text: &str| serde_json::from_str::<MemoryConfig>(text).unwrap();
        assert_eq!(parse("{\"compute_dtype\": \"bf16\"}").compute_dtype, ComputeDtype::Bf16);
        assert_eq!(parse("{}").compute_dtype, ComputeDtype::F32);
        assert_eq!(parse("{\"products\": \"bf16\"}").compute_dtype, ComputeDtype::Bf16);
        assert!(parse("{\"recompute_blocks\": true}").gradient_checkpointing);
        let text = serde_json::to_string(&MemoryConfig::default()).unwrap();
        assert!(!text.contains("compute_dtype"), "{text}");
    }
}
