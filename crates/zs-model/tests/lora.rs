//! Adapters: initialisation, training, merging, saving and loading.
#![cfg(feature = "flex")]
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use zs_core::StreamKey;
use zs_model::testing::{byte_tokenizer, tiny_config, with_random_lora};
use zs_model::{
    Generator, LanguageModel, LoraConfig, MemoryConfig, Optimizer, OptimizerConfig, PolicyModel,
    SamplingParams, TokenRow, supervised_loss, supervised_step,
};

fn base() -> LanguageModel {
    LanguageModel::initialize(tiny_config(), byte_tokenizer(), 1, &Device::flex())
}

fn config() -> LoraConfig {
    LoraConfig { r: 4, alpha: 8.0, ..LoraConfig::default() }
}

fn rows() -> Vec<TokenRow> {
    (0..6_usize)
        .map(|row| {
            let tokens: Vec<u32> =
                (0..8 + 2 * row).map(|it| ((it * 5 + row) % 40) as u32).collect();
            let loss_mask = (0..tokens.len()).map(|it| it > 0).collect();
            TokenRow { tokens, loss_mask }
        })
        .collect()
}

fn log_probs(model: &LanguageModel) -> Vec<f32> {
    model.network().token_scores(&rows()).log_probs.into_data().iter::<f32>().collect()
}

#[track_caller]
fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= tolerance, "{a} {b}");
    }
}

#[test]
fn new_adapters_change_nothing_and_can_be_removed() {
    let adapted = base().with_lora(&config(), 3).unwrap();
    assert_eq!(adapted.network().lora_config(), Some(&config()));
    // B is zero, so the adapters add zero.
    assert_close(&log_probs(&adapted), &log_probs(&base()), 0.0);
    let random = adapted.with_network(&with_random_lora(adapted.network(), 4));
    assert_ne!(log_probs(&random), log_probs(&base()));
    assert_eq!(log_probs(&random.without_lora()), log_probs(&base()));
}

#[test]
fn merged_weights_score_and_sample_the_same() {
    let adapted = base().with_lora(&config(), 3).unwrap();
    let adapted = adapted.with_network(&with_random_lora(adapted.network(), 4));
    let merged = adapted.with_network(&adapted.network().merge_lora());
    assert!(merged.network().lora_config().is_none());
    assert_close(&log_probs(&merged), &log_probs(&adapted), 2e-5);
    let sample = |model: &LanguageModel| {
        let params = SamplingParams { max_new_tokens: 12, ..SamplingParams::default() };
        model.generate(&[(vec![3, 4, 5], StreamKey::new(2))], &params).unwrap().remove(0).tokens
    };
    assert_eq!(sample(&merged), sample(&adapted));
}

/// Trains adapters and returns the model and the gradient norms.
fn train(memory: MemoryConfig, max_tokens: usize, steps: usize) -> (LanguageModel, Vec<f64>) {
    let start = base().with_lora(&config(), 3).unwrap();
    let mut network = start.network().clone().with_memory(memory).train();
    let optimizer = OptimizerConfig { learning_rate: 1e-2, ..OptimizerConfig::default() };
    let mut optimizer = Optimizer::new(&optimizer, &network);
    let mut norms = Vec::new();
    for _ in 0..steps {
        let stats;
        (network, stats) = supervised_step(network, &mut optimizer, &rows(), max_tokens);
        norms.push(stats.grad_norm);
    }
    (start.with_network(&network), norms)
}

#[test]
fn only_adapters_are_trained() {
    let (trained, _) = train(MemoryConfig::default(), 10_000, 20);
    let loss = |model: &LanguageModel| supervised_loss(model.network(), &rows(), 1_000).0;
    assert!(loss(&trained) < 0.9 * loss(&base()), "{} {}", loss(&trained), loss(&base()));
    // The base weights are bitwise unchanged.
    assert_eq!(log_probs(&trained.without_lora()), log_probs(&base()));
}

#[test]
fn micro_batches_chunks_and_checkpointing_change_only_rounding() {
    let (_, whole) = train(MemoryConfig::default(), 10_000, 2);
    let staged = MemoryConfig {
        max_logits: 5 * 257,
        gradient_checkpointing: true,
        ..MemoryConfig::default()
    };
    for (memory, max_tokens) in [(MemoryConfig::default(), 1), (staged, 10_000), (staged, 40)] {
        let (_, split) = train(memory, max_tokens, 2);
        for (a, b) in whole.iter().zip(&split) {
            assert!((a - b).abs() < 1e-4 * a, "{memory:?} {max_tokens}: {whole:?} {split:?}");
        }
    }
}

#[test]
fn adapters_round_trip_in_peft_layout() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("adapter");
    let adapted = base().with_lora(&config(), 3).unwrap();
    let adapted = adapted.with_network(&with_random_lora(adapted.network(), 4));
    adapted.save_adapter(&path, "some/base").unwrap();
    let loaded = base().with_adapter_from(&path).unwrap();
    assert_eq!(loaded.network().lora_config(), Some(&config()));
    assert_eq!(log_probs(&loaded), log_probs(&adapted));
    let bytes = std::fs::read(path.join("adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), 2 * 2 * 7);
    let a = file.tensor("base_model.model.model.layers.0.mlp.down_proj.lora_A.weight").unwrap();
    let b = file.tensor("base_model.model.model.layers.0.mlp.down_proj.lora_B.weight").unwrap();
    assert_eq!((a.shape(), b.shape()), (&[4, 64][..], &[32, 4][..]));
}

#[track_caller]
fn refuses(edit: impl Fn(&str) -> String, expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("adapter");
    base().with_lora(&config(), 3).unwrap().save_adapter(&path, "base").unwrap();
    let file = path.join("adapter_config.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let edited = edit(&text);
    assert_ne!(edited, text);
    std::fs::write(&file, edited).unwrap();
    let error = base().with_adapter_from(Path::new(&path)).unwrap_err().to_string();
    assert!(error.contains(expected) && error.contains("adapter"), "{error}");
}

#[test]
fn errors_name_unsupported_adapter_fields() {
    refuses(|it| it.replace("\"LORA\"", "\"IA3\""), "peft_type = IA3");
    refuses(|it| it.replace("\"use_dora\": false", "\"use_dora\": true"), "use_dora = true");
    refuses(|it| it.replace("\"q_proj\"", "\"query\""), "target module `query`");
    refuses(|it| it.replace("\"r\": 4", "\"r\": 5"), "lora_A.weight has shape [4, 32]");
    // More than any machine has is not allocated first.
    refuses(|it| it.replace("\"r\": 4", "\"r\": 1099511627776"), "lora_A.weight has shape [4, 32]");
    refuses(|it| it.replace("\"r\": 4", "\"r\": 0"), "`r`");
    refuses(|it| it.replace("\n    \"q_proj\",", ""), "q_proj.lora_A.weight is not part");
    refuses(|_| "{}".to_owned(), "missing field");
}

#[test]
fn reads_rank_stabilised_scaling() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("adapter");
    base().with_lora(&config(), 3).unwrap().save_adapter(&path, "base").unwrap();
    let file = path.join("adapter_config.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"use_rslora\": false", "\"use_rslora\": true")).unwrap();
    let loaded = base().with_adapter_from(&path).unwrap();
    // alpha / sqrt(r) = 8 / 2.
    assert_eq!(loaded.network().lora_config().unwrap().scale(), 4.0);
}
