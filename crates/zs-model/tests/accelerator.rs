//! Agreement of an accelerator with the CPU, up to rounding.
//!
//! With the feature `wgpu` the accelerator may be a CPU too: any Vulkan driver works, including
//! Mesa's `lavapipe`.
#![cfg(all(feature = "flex", any(feature = "wgpu", feature = "cuda")))]

use burn::module::Module;
use burn::tensor::Device;
use zs_core::StreamKey;
use zs_model::testing::{byte_tokenizer, tiny_config};
use zs_model::{
    CausalLm, Completion, ComputeDtype, Generator, LanguageModel, LoraConfig, MemoryConfig,
    Optimizer, OptimizerConfig, SamplingParams, TokenRow, accumulate_gradients, micro_batches,
    supervised_step, verify,
};

/// Accelerator of the build, with its tolerance; CUDA may round inputs of products to TF32.
fn accelerator() -> (Device, f32) {
    #[cfg(feature = "cuda")]
    return (Device::cuda(0), 5e-3);
    #[cfg(not(feature = "cuda"))]
    return (Device::wgpu(burn::tensor::DeviceKind::DefaultDevice), 1e-4);
}

fn model(device: &Device) -> LanguageModel {
    LanguageModel::initialize(tiny_config(), byte_tokenizer(), 7, device)
}

fn rows() -> Vec<TokenRow> {
    (0..7_usize)
        .map(|row| {
            let tokens: Vec<u32> =
                (0..5 + 4 * row).map(|it| ((it * 5 + row) % 40) as u32).collect();
            let loss_mask = (0..tokens.len()).map(|it| it > 0 && it % 3 != 0).collect();
            TokenRow { tokens, loss_mask }
        })
        .collect()
}

/// Gradient norm and losses of the micro-batches of an update.
fn gradients(network: &CausalLm) -> Vec<f64> {
    let rows = rows();
    let inputs: Vec<Vec<TokenRow>> = micro_batches(&rows, 70)
        .into_iter()
        .map(|indices| indices.into_iter().map(|it| rows[it].clone()).collect())
        .collect();
    let network = network.clone().train();
    let (grads, losses) = accumulate_gradients(&network, &inputs, |_, scores| {
        let loss = -scores.log_probs.sum() * 0.01 + scores.entropy.sum() * 0.001;
        (loss.clone(), f64::from(loss.into_scalar::<f32>()))
    });
    let mut optimizer = Optimizer::new(&OptimizerConfig::default(), &network);
    let (_, stats) = optimizer.step(network, grads);
    losses.into_iter().chain([stats.grad_norm]).collect()
}

#[track_caller]
fn check_gradients(of: impl Fn(CausalLm) -> CausalLm, slack: f64) {
    let (device, tolerance) = accelerator();
    let on = |device: &Device| gradients(&of(model(device).network().clone()));
    for (there, here) in on(&device).into_iter().zip(on(&Device::flex())) {
        let error = (there - here).abs() / here.abs();
        assert!(
            error < slack * f64::from(tolerance),
            "{there} on the accelerator, {here} on the CPU"
        );
    }
}

#[test]
fn gradients_equal_those_of_the_cpu() {
    check_gradients(|it| it, 1.0);
    let lora = LoraConfig { r: 2, ..LoraConfig::default() };
    check_gradients(|it| it.with_lora(&lora, 3).expect("it has what LoRA adapts"), 1.0);
    let memory =
        MemoryConfig { max_logits: 3000, gradient_checkpointing: true, ..MemoryConfig::default() };
    check_gradients(|it| it.with_memory(memory), 1.0);
}

fn completions(device: &Device, precision: ComputeDtype) -> Vec<Completion> {
    let model = model(device);
    let memory = MemoryConfig { compute_dtype: precision, ..MemoryConfig::default() };
    let model = model.with_network(&model.network().clone().with_memory(memory));
    let prompts: Vec<_> =
        (0..5_u64).map(|row| ((0..3 + 9 * row as u32).collect(), StreamKey::new(row))).collect();
    let params = SamplingParams { max_new_tokens: 70, ..SamplingParams::default() };
    model.generate(&prompts, &params).expect("it fits")
}

#[test]
fn samples_equal_those_of_the_cpu() {
    let (device, tolerance) = accelerator();
    let there = completions(&device, ComputeDtype::F32);
    for (there, here) in there.iter().zip(completions(&Device::flex(), ComputeDtype::F32)) {
        let agree = there.tokens.iter().zip(&here.tokens).take_while(|(a, b)| a == b).count();
        // Rounding may change a token when a random number falls on the border between two.
        assert!(2 * agree >= here.tokens.len(), "{agree} of {}", here.tokens.len());
        for (a, b) in there.log_probs.iter().zip(&here.log_probs).take(agree) {
            assert!((a - b).abs() < 20.0 * tolerance, "{a} {b}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_samples() {
    let (device, _) = accelerator();
    assert_eq!(completions(&device, ComputeDtype::F32), completions(&device, ComputeDtype::F32));
}

#[test]
fn training_losses_equal_those_of_the_cpu() {
    let (device, tolerance) = accelerator();
    let losses = |device: &Device| -> Vec<f64> {
        let mut network = model(device).network().clone().train();
        let config = OptimizerConfig { learning_rate: 3e-3, ..OptimizerConfig::default() };
        let mut optimizer = Optimizer::new(&config, &network);
        let mut losses = Vec::new();
        for _ in 0..6 {
            let stats;
            (network, stats) = supervised_step(network, &mut optimizer, &rows(), 60);
            losses.push(stats.loss);
        }
        losses
    };
    let (there, here) = (losses(&device), losses(&Device::flex()));
    assert!(here[5] < 0.9 * here[0], "the loss did not fall: {here:?}");
    for (there, here) in there.iter().zip(&here) {
        assert!((there - here).abs() < 20.0 * f64::from(tolerance) * here, "{there} {here}");
    }
}

#[test]
fn reference_checkpoints_agree() {
    let (device, tolerance) = accelerator();
    let fixtures =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/hf_parity");
    for name in ["qwen2_gqa_untied", "llama32_rope_scaled", "qwen3_qk_norm"] {
        let dir = fixtures.join(name);
        if !dir.is_dir() {
            continue;
        }
        let golden = dir.join("golden.safetensors");
        let report = verify(&dir, &golden, f64::from(tolerance), &device).expect("it is readable");
        let failed: Vec<_> = report.checks.iter().filter(|it| !it.passed).collect();
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
