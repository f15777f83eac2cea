//! Equality of host and tensor implementation: scores and gradients.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::HostNetwork;
use crate::batch::PaddedBatch;
use crate::checkpoint::named_gradients;
use crate::network::FlatScores;
use crate::testing::{byte_tokenizer, tiny_config, with_random_lora};
use crate::{Architecture, CausalLm, LanguageModel, LoraConfig, ModelConfig, TokenRow};

fn network(config: ModelConfig) -> CausalLm {
    LanguageModel::initialize(config, byte_tokenizer(), 3, &Device::flex()).network().clone()
}

/// Rows of several lengths: three with a common prefix, one longer than a tile, and one without
/// loss tokens.
fn rows() -> Vec<TokenRow> {
    let row = |tokens: Vec<u32>, carries: &dyn Fn(usize) -> bool| TokenRow {
        loss_mask: (0..tokens.len()).map(|it| it > 0 && carries(it)).collect(),
        tokens,
    };
    let prompt: Vec<u32> = (0..37).map(|it| it * 5 % 90).collect();
    let with = |tail: &[u32]| [&prompt[..], tail].concat();
    vec![
        row(with(&[1, 2, 3, 4, 5]), &|it| it >= 37),
        row((0..75).map(|it| it * 7 % 91).collect(), &|it| it % 3 == 1),
        row(with(&[9, 9]), &|it| it >= 30),
        row(vec![5, 6, 7], &|_| false),
        row(with(&[1, 2, 8, 7, 6, 5, 4, 3]), &|it| it >= 37 && it != 40),
        row(vec![8, 1], &|_| true),
    ]
}

/// Loss with a different weight for every token.
fn loss(scores: FlatScores) -> (Tensor<1>, f32) {
    let len = scores.log_probs.dims()[0];
    let weights = Tensor::arange(0..len as i64, &scores.log_probs.device()).float() * 0.01;
    let mut loss = (scores.log_probs.exp() * weights.clone()).sum();
    if let Some(entropy) = scores.entropy {
        loss = loss - (entropy * (weights + 0.5)).sum() * 0.1;
    }
    (loss.clone(), loss.into_scalar::<f32>())
}

fn values(values: Tensor<1>) -> Vec<f32> {
    values.into_data().iter::<f32>().collect()
}

#[track_caller]
fn assert_close(expected: &[f32], actual: &[f32], scale: f32, what: &str) {
    assert_eq!(expected.len(), actual.len(), "{what}");
    for (e, a) in expected.iter().zip(actual) {
        assert!((e - a).abs() <= 1e-5 * scale, "{what}: {e} {a}");
    }
}

#[track_caller]
fn check(network: &CausalLm, expected_tensors: usize) {
    let rows = rows();
    let batch = PaddedBatch::new(&rows);
    let plain_device = Device::flex();
    let hidden = network.model.hidden(batch.tokens(&plain_device));
    let expected = network.score(hidden, &batch, true);
    for max_logits in [300, 1 << 25] {
        let host = HostNetwork::of(network).unwrap();
        let actual = host.scores(&rows, max_logits).flat(&plain_device, true);
        let all = |it: &FlatScores| {
            [values(it.log_probs.clone()), values(it.entropy.clone().unwrap())].concat()
        };
        assert_close(&all(&expected), &all(&actual), 5.0, "scores");
    }

    let device = plain_device.autodiff();
    for with_entropy in [false, true] {
        for (gradient_checkpointing, max_logits) in [(false, 1 << 25), (true, 300)] {
            let network = network.clone().train();
            let (mut expected, expected_loss) =
                network.tensor_gradients(&batch, with_entropy, loss);
            let expected = named_gradients(&network, &mut expected);
            assert_eq!(expected.len(), expected_tensors);
            let memory = crate::MemoryConfig {
                gradient_checkpointing,
                max_logits,
                ..crate::MemoryConfig::default()
            };
            let network = network.with_memory(memory);
            let host = HostNetwork::of(&network).unwrap();
            let (mut actual, actual_loss) =
                host.gradients(&rows, max_logits, with_entropy, &device, loss);
            assert!((expected_loss - actual_loss).abs() < 1e-5 * expected_loss.abs());
            let actual = named_gradients(&network, &mut actual);
            assert_eq!(actual.len(), expected_tensors);
            let all = expected.iter().flat_map(|it| it.to_vec());
            let scale = all.fold(0.0_f32, |max, it| max.max(it.abs()));
            assert!(scale > 1e-3, "the gradient is too small to compare");
            for (expected, actual) in expected.iter().zip(&actual) {
                assert_eq!(expected.entry.name, actual.entry.name);
                let name = &expected.entry.name;
                assert_close(&expected.to_vec(), &actual.to_vec(), scale, name);
            }
        }
    }
}

#[test]
fn host_network_equals_tensor_network() {
    check(&network(tiny_config()), 26);
    check(&network(ModelConfig { tie_word_embeddings: false, ..tiny_config() }), 27);
    let qwen3 = ModelConfig { architecture: Architecture::Qwen3, qkv_bias: false, ..tiny_config() };
    check(&network(qwen3), 24);
    check(&network(ModelConfig { num_key_value_heads: 4, ..tiny_config() }), 26);
}

#[test]
fn only_adapters_get_gradients() {
    let config = LoraConfig {
        r: 2,
        alpha: 8.0,
        target_modules: ["q_proj", "layers.1.mlp.down_proj", "lm_head"].map(str::to_owned).to_vec(),
    };
    let network = network(ModelConfig { tie_word_embeddings: false, ..tiny_config() });
    let network = network.with_lora(&config, 5).unwrap();
    check(&with_random_lora(&network, 6), 8);
}
