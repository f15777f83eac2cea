//! Tokens per second of a supervised step and of sampling at the shape of the shipped model.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use zs_core::StreamKey;
use zs_model::{
    Architecture, Generator, LanguageModel, ModelConfig, Optimizer, OptimizerConfig, OptimizerKind,
    SamplingParams, TokenRow, supervised_step, testing::byte_tokenizer,
};

fn main() {
    let config = ModelConfig {
        architecture: Architecture::Qwen2,
        vocab_size: 768,
        hidden_size: 128,
        intermediate_size: 384,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 32,
        max_position_embeddings: 512,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        qkv_bias: true,
        output_bias: false,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_ids: vec![],
    };
    let device = Device::flex();
    let model = LanguageModel::initialize(config, byte_tokenizer(), 0, &device);
    let rows: Vec<TokenRow> = (0..60)
        .map(|row| {
            let len = 80 + row % 40;
            let tokens = (0..len).map(|it| ((it * 7 + row * 13) % 250) as u32).collect();
            let mut loss_mask: Vec<bool> = (0..len).map(|it| it % 2 == 0).collect();
            loss_mask[0] = false;
            TokenRow { tokens, loss_mask }
        })
        .collect();
    let tokens: usize = rows.iter().map(|it| it.tokens.len()).sum();
    for max_tokens in [1500, 3000] {
        let mut network = model.network().clone().train();
        let kind = OptimizerKind::Muon;
        let mut optimizer =
            Optimizer::new(&OptimizerConfig { kind, ..OptimizerConfig::default() }, &network);
        let mut stats = None;
        for round in 0..2 {
            let start = Instant::now();
            let steps = 4;
            for _ in 0..steps {
                let (next, step) = supervised_step(network, &mut optimizer, &rows, max_tokens);
                network = next;
                stats = Some(step);
            }
            let rate = (steps * tokens) as f64 / start.elapsed().as_secs_f64();
            println!("round {round}, micro-batch {max_tokens}: {rate:.0} tokens/s");
        }
        println!("{stats:?}");
    }
    let prompts: Vec<_> =
        (0..64).map(|it| (rows[it % 60].tokens.clone(), StreamKey::new(it as u64))).collect();
    let params = SamplingParams { max_new_tokens: 32, ..SamplingParams::default() };
    for _ in 0..2 {
        let start = Instant::now();
        let done = model.generate(&prompts, &params).expect("prompts fit");
        let new: usize = done.iter().map(|it| it.tokens.len()).sum();
        println!(
            "sampling: {:.0} tokens/s, {:.3} s",
            new as f64 / start.elapsed().as_secs_f64(),
            start.elapsed().as_secs_f64()
        );
    }
}
