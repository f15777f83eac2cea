//! Independence of results from the number of devices, up to rounding.
#![cfg(feature = "flex")]

use burn::module::Module;
use burn::tensor::Device;
use zs_core::StreamKey;
use zs_model::testing::{byte_tokenizer, tiny_config};
use zs_model::{
    CausalLm, Completion, Generator, LanguageModel, LoraConfig, Optimizer, OptimizerConfig,
    PolicyModel, SamplingParams, TokenRow, accumulate_gradients, map_replicas, micro_batches,
    supervised_loss, supervised_step,
};

/// The CPU, listed several times.
fn devices(count: usize) -> Vec<Device> {
    vec![Device::flex(); count]
}

fn model(num_devices: usize) -> LanguageModel {
    LanguageModel::initialize(tiny_config(), byte_tokenizer(), 7, &Device::flex())
        .with_devices(&devices(num_devices))
}

fn rows() -> Vec<TokenRow> {
    (0..11_usize)
        .map(|row| {
            let tokens: Vec<u32> =
                (0..5 + 4 * row).map(|it| ((it * 5 + row) % 40) as u32).collect();
            let loss_mask = (0..tokens.len()).map(|it| it > 0 && it % 3 != 0).collect();
            TokenRow { tokens, loss_mask }
        })
        .collect()
}

/// Gradient norm, and loss and index of each micro-batch, of a network's next update.
fn gradients(network: &CausalLm) -> (f64, Vec<(usize, f32)>) {
    let rows = rows();
    let inputs: Vec<Vec<TokenRow>> = micro_batches(&rows, 60)
        .into_iter()
        .map(|indices| indices.into_iter().map(|it| rows[it].clone()).collect())
        .collect();
    let network = network.clone().train();
    let (grads, kept) = accumulate_gradients(&network, &inputs, |index, scores| {
        let loss = -scores.log_probs.sum() * 0.01;
        (loss.clone(), (index, loss.into_scalar::<f32>()))
    });
    let mut optimizer = Optimizer::new(&OptimizerConfig::default(), &network);
    let (_, stats) = optimizer.step(network, grads);
    (stats.grad_norm, kept)
}

#[track_caller]
fn check_gradients(of: impl Fn(usize) -> CausalLm) {
    let (norm, kept) = gradients(&of(1));
    assert!(kept.len() > 4 && kept.iter().map(|it| it.0).eq(0..kept.len()), "{kept:?}");
    // Includes more devices than micro-batches.
    for count in [2, 3, 16] {
        let (shared_norm, shared) = gradients(&of(count));
        assert!((shared_norm - norm).abs() < 1e-5 * norm, "{count}: {shared_norm} {norm}");
        for (ours, theirs) in shared.iter().zip(&kept) {
            assert_eq!(ours.0, theirs.0);
            assert!((ours.1 - theirs.1).abs() < 1e-4, "{ours:?} {theirs:?}");
        }
    }
}

#[test]
fn gradients_equal_those_of_one_device() {
    check_gradients(|count| model(count).network().clone());
    let lora = LoraConfig { r: 2, ..LoraConfig::default() };
    check_gradients(|count| model(count).network().with_lora(&lora, 3).unwrap());
}

#[test]
fn supervised_training_equals_one_device_and_is_reproducible() {
    let train = |count: usize| {
        let start = model(count);
        let config = OptimizerConfig { learning_rate: 3e-3, ..OptimizerConfig::default() };
        let mut network = start.network().clone().train();
        let mut optimizer = Optimizer::new(&config, &network);
        for _ in 0..5 {
            (network, _) = supervised_step(network, &mut optimizer, &rows(), 60);
            assert_eq!(network.compute_devices().len(), count, "a step keeps the devices");
        }
        let trained = start.with_network(&network);
        assert_eq!(trained.compute_devices().len(), count);
        supervised_loss(trained.network(), &rows(), 60)
    };
    let (one, num_tokens) = train(1);
    for count in [2, 3] {
        let (loss, tokens) = train(count);
        assert_eq!(tokens, num_tokens);
        assert!((loss - one).abs() < 1e-4, "{count}: {loss} {one}");
        assert_eq!(train(count).0.to_bits(), loss.to_bits(), "the same devices, the same bytes");
    }
}

#[test]
fn sampling_equals_one_device() {
    let params = SamplingParams { max_new_tokens: 12, ..SamplingParams::default() };
    let sample = |count: usize, sequences: usize| -> Vec<Completion> {
        let prompts: Vec<_> = (0..sequences)
            .map(|it| {
                let key = StreamKey { sample: it as u32, ..StreamKey::new(3) };
                ((0..1 + it % 9).map(|at| ((it * 3 + at) % 250) as u32).collect(), key)
            })
            .collect();
        model(count).generate(&prompts, &params).unwrap()
    };
    for sequences in [1, 7, 33] {
        let one = sample(1, sequences);
        for count in [2, 3] {
            let shared = sample(count, sequences);
            assert_eq!(shared.len(), one.len());
            for (ours, theirs) in shared.iter().zip(&one) {
                assert_eq!(ours.tokens, theirs.tokens);
                for (a, b) in ours.log_probs.iter().zip(&theirs.log_probs) {
                    assert!((a - b).abs() < 1e-4, "{a} {b}");
                }
            }
        }
    }
}

#[test]
fn sampling_replicas_follow_training() {
    let start = model(2);
    let prompt = vec![(vec![1, 2, 3], StreamKey::new(0)); 16];
    let params = SamplingParams { max_new_tokens: 6, ..SamplingParams::default() };
    let before = start.generate(&prompt, &params).unwrap();
    let config = OptimizerConfig { learning_rate: 0.05, ..OptimizerConfig::default() };
    let network = start.network().clone().train();
    let mut optimizer = Optimizer::new(&config, &network);
    let (network, _) = supervised_step(network, &mut optimizer, &rows(), 60);
    let after = start.with_network(&network).generate(&prompt, &params).unwrap();
    // The last sequences are sampled on the second device, whose weights must be updated too.
    assert_ne!(before[15].log_probs, after[15].log_probs);
    assert_eq!(after[15].tokens, after[0].tokens);
    assert!((after[15].log_probs[0] - after[0].log_probs[0]).abs() < 1e-5);
}

#[test]
fn results_are_returned_in_order() {
    let model = model(3);
    let found = map_replicas(model.network(), &devices(3), 10, |replica, index| {
        (index, replica.compute_devices().len())
    });
    assert_eq!(found, (0..10).map(|it| (it, 3)).collect::<Vec<_>>());
}

#[test]
#[should_panic(expected = "the first device must be the network's own")]
fn the_first_device_must_be_the_models_own() {
    let _ = model(1).with_devices(&[]);
}
