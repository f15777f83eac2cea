//! Sampling with the KV cache: agreement with the full forward pass for several turns and batches.
#![cfg(feature = "flex")]
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::Module;
use burn::tensor::Device;
use proptest::prelude::*;
use zs_core::StreamKey;
use zs_model::testing::{byte_tokenizer, tiny_config};
use zs_model::{
    Completion, ComputeDtype, GenerateError, Generator, LanguageModel, MemoryConfig, PolicyModel,
    SamplingModel, SamplingParams, SequenceRequest, StopReason, TokenId, TokenRow,
};

fn model() -> LanguageModel {
    LanguageModel::initialize(tiny_config(), byte_tokenizer(), 7, &Device::flex())
}

fn key(sample: usize) -> StreamKey {
    StreamKey { sample: sample as u32, ..StreamKey::new(3) }
}

/// Stops at any letter, so that the rows of a batch end at different times.
fn params(max_new_tokens: usize) -> SamplingParams {
    let stop = ('a'..='z').chain('A'..='Z').map(|it| it.to_string()).collect();
    SamplingParams { max_new_tokens, stop, ..SamplingParams::default() }
}

/// Samples each prompt in its own batch.
fn alone(
    model: &LanguageModel,
    prompts: &[Vec<TokenId>],
    params: &SamplingParams,
) -> Vec<Completion> {
    let alone = |(sample, prompt): (usize, &Vec<TokenId>)| {
        model.generate(&[(prompt.clone(), key(sample))], params).unwrap().remove(0)
    };
    prompts.iter().enumerate().map(alone).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 8,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn samples_do_not_depend_on_the_batch(
        // Few distinct first tokens and short lengths, so that some prompts are equal and prefilled
        // once.
        prompts in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(0_u32..256, 1..20),
                proptest::collection::vec(0_u32..2, 1..3),
            ],
            1..40,
        ),
        rotation in 0_usize..40,
        max_batch_rows in 1_usize..50,
        is_cut in any::<bool>(),
    ) {
        let model = model();
        let mut params = params(16);
        if is_cut {
            params = SamplingParams {
                temperature: 0.8,
                top_k: 40,
                top_p: 0.9,
                min_p: 0.02,
                repetition_penalty: 1.2,
                ..params
            };
        }
        let expected = alone(&model, &prompts, &params);
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.rotate_left(rotation % prompts.len());
        let batch: Vec<_> = order.iter().map(|&it| (prompts[it].clone(), key(it))).collect();
        let together =
            model.with_max_batch_rows(max_batch_rows).generate(&batch, &params).unwrap();
        for (place, &sample) in order.iter().enumerate() {
            let (together, alone) = (&together[place], &expected[sample]);
            prop_assert_eq!(&together.tokens, &alone.tokens);
            prop_assert_eq!(together.stop_reason, alone.stop_reason);
            // Matrix products round differently for different numbers of rows.
            for (a, b) in together.log_probs.iter().zip(&alone.log_probs) {
                prop_assert!((a - b).abs() < 1e-4, "{} {}", a, b);
            }
            prop_assert_eq!(together.sampling_log_probs.is_some(), is_cut);
            let drawn = together.sampling_log_probs.iter().flatten();
            for (a, b) in drawn.zip(alone.sampling_log_probs.iter().flatten()) {
                prop_assert!((a - b).abs() < 1e-3 && *a <= 0.0, "{} {}", a, b);
            }
        }
    }
}

/// Samples two turns of each prompt with a KV cache, so many sequences in a session.
fn two_turns(
    model: &LanguageModel,
    prompts: &[Vec<TokenId>],
    rows: usize,
    params: &SamplingParams,
) -> Vec<[Completion; 2]> {
    let mut all = Vec::new();
    for (block, prompts) in prompts.chunks(rows).enumerate() {
        let mut session = model.session(prompts.len());
        let mut turn = |turn: u32, append: &dyn Fn(usize) -> Vec<TokenId>| {
            let append: Vec<Vec<TokenId>> = (0..prompts.len()).map(append).collect();
            let request = |sequence: usize| SequenceRequest {
                sequence,
                append: &append[sequence],
                key: StreamKey { turn, ..key(block * rows + sequence) },
            };
            let requests: Vec<_> = (0..prompts.len()).map(request).collect();
            session.extend(&requests, params, &mut |_, _| {}).unwrap()
        };
        let first = turn(0, &|it| prompts[it].clone());
        let second = turn(1, &|it| vec![70; 1 + (block * rows + it) % 3]);
        all.extend(first.into_iter().zip(second).map(|(first, second)| [first, second]));
    }
    all
}

/// Bits and not just tokens: with a KV cache and without, alone and in batches of any size, from
/// memory and from a directory.
#[test]
fn batch_invariant_samples_are_bit_exact() {
    let prompts: Vec<Vec<TokenId>> = (0..14)
        .map(|it| (0..1 + it * 5 % 23).map(|at| (at * 7 + it / 2 * 31) % 250).collect())
        .collect();
    for compute_dtype in [ComputeDtype::F32, ComputeDtype::Bf16] {
        let memory =
            MemoryConfig { compute_dtype, batch_invariant: true, ..MemoryConfig::default() };
        let start = model();
        let network = start.network().clone().with_memory(memory);
        let scratch = tempfile::tempdir().unwrap();
        start.save(scratch.path()).unwrap();
        let model = start.with_network(&network);
        let loaded = SamplingModel::load(scratch.path(), &[Device::flex()], memory).unwrap();
        let params = SamplingParams { max_new_tokens: 9, top_p: 0.95, ..SamplingParams::default() };
        let expected = two_turns(&model, &prompts, 14, &params);
        for rows in [1, 2, 5] {
            assert_eq!(two_turns(&model, &prompts, rows, &params), expected, "{rows} rows");
        }
        // Without a KV cache, as a server gets it.
        for (sample, (prompt, [first, second])) in prompts.iter().zip(&expected).enumerate() {
            let mut prefix = [&prompt[..], &first.tokens].concat();
            prefix.extend(vec![70; 1 + sample % 3]);
            let prefix = (prefix, StreamKey { turn: 1, ..key(sample) });
            assert_eq!(loaded.generate(&[prefix], &params).unwrap()[0], *second, "{sample}");
        }
    }
}

#[test]
fn tokens_are_streamed_in_order() {
    let model = model().with_max_batch_rows(3);
    let prompts: Vec<Vec<TokenId>> = (0..20).map(|it| vec![it + 1, 2]).collect();
    let requests: Vec<SequenceRequest<'_>> = prompts
        .iter()
        .enumerate()
        .map(|(sequence, append)| SequenceRequest { sequence, append, key: key(sequence) })
        .collect();
    let mut streamed = vec![Vec::new(); 20];
    let mut session = model.session(20);
    let completions = session
        .extend(&requests, &params(9), &mut |index, token| streamed[index].push(token))
        .unwrap();
    for (streamed, completion) in streamed.iter().zip(completions) {
        assert_eq!(streamed, &completion.tokens);
    }
}

#[test]
fn cancelled_completions_end_and_the_others_do_not_change() {
    let (model, params) = (model().with_max_batch_rows(3), SamplingParams::default());
    let prompts: Vec<_> = (0..10).map(|it| (vec![it as TokenId + 1, 2], key(it))).collect();
    let whole = model.generate(&prompts, &params).unwrap();
    // Even ones are cancelled after three tokens, and the last before its first.
    let num_tokens: Vec<AtomicUsize> = prompts.iter().map(|_| AtomicUsize::new(0)).collect();
    let on_token = &mut |index: usize, _| {
        num_tokens[index].fetch_add(1, Ordering::Relaxed);
    };
    let is_cancelled = |index: usize| {
        index == 9 || index.is_multiple_of(2) && num_tokens[index].load(Ordering::Relaxed) == 3
    };
    let cut = model.generate_streaming(&prompts, &params, on_token, &is_cancelled).unwrap();
    for (index, (whole, cut)) in whole.iter().zip(&cut).enumerate() {
        let expected = match index {
            9 => 0,
            it if it.is_multiple_of(2) => whole.tokens.len().min(3),
            _ => whole.tokens.len(),
        };
        assert_eq!(cut.tokens, whole.tokens[..expected], "{index}");
    }
    assert!(whole.iter().any(|it| it.tokens.len() > 10));
}

#[test]
fn parameters_out_of_range_are_named() {
    for (bad, field) in [
        (SamplingParams { temperature: -1.0, ..params(1) }, "temperature = -1"),
        (SamplingParams { temperature: f32::NAN, ..params(1) }, "temperature = NaN"),
        (SamplingParams { top_p: 0.0, ..params(1) }, "top_p = 0"),
        (SamplingParams { repetition_penalty: 0.0, ..params(1) }, "repetition_penalty = 0"),
    ] {
        let error = model().generate(&[(vec![1], key(0))], &bad).unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
}

#[test]
fn cached_turns_equal_one_long_prompt() {
    // Enough sequences for several workers, for compaction of finished rows, and for some to wait.
    let model = model().with_max_batch_rows(14);
    let num_sequences = 24;
    let mut session = model.session(num_sequences);
    let mut texts: Vec<Vec<TokenId>> =
        (0..num_sequences).map(|it| vec![it as TokenId + 1; 1 + it % 5]).collect();
    // Every third sequence skips the second turn and so returns without a cache.
    let turns: [Vec<usize>; 3] = [
        (0..num_sequences).collect(),
        (0..num_sequences).rev().filter(|it| it % 3 != 0).collect(),
        (0..num_sequences).collect(),
    ];
    let mut first = true;
    for (turn, members) in turns.into_iter().enumerate() {
        let appended: Vec<Vec<TokenId>> = members
            .iter()
            .map(|&it| if first { texts[it].clone() } else { vec![50 + it as u32; it % 4 + 1] })
            .collect();
        if !first {
            for (&it, appended) in members.iter().zip(&appended) {
                texts[it].extend(appended);
            }
        }
        first = false;
        let at = |sequence: usize| StreamKey { turn: turn as u32, ..key(sequence) };
        let requests: Vec<SequenceRequest<'_>> = members
            .iter()
            .zip(&appended)
            .map(|(&sequence, append)| SequenceRequest { sequence, append, key: at(sequence) })
            .collect();
        let completions = session.extend(&requests, &params(9), &mut |_, _| {}).unwrap();
        for (&sequence, completion) in members.iter().zip(completions) {
            let prompt = (texts[sequence].clone(), at(sequence));
            let expected = model.generate(&[prompt], &params(9)).unwrap().remove(0);
            assert_eq!(completion.tokens, expected.tokens, "turn {turn}, sequence {sequence}");
            assert_eq!(completion.stop_reason, expected.stop_reason);
            texts[sequence].extend(&completion.tokens);
            assert_eq!(session.sequence_len(sequence), texts[sequence].len());
        }
    }
}

#[test]
fn sampled_log_probs_equal_training_log_probs() {
    let model = model();
    let prompt = vec![5, 6, 7, 8];
    let completion = model.generate(&[(prompt.clone(), key(0))], &params(12)).unwrap().remove(0);
    let mut tokens = prompt.clone();
    tokens.extend(&completion.tokens);
    let loss_mask = (0..tokens.len()).map(|it| it >= prompt.len()).collect();
    let scores = model.network().clone().train().token_scores(&[TokenRow { tokens, loss_mask }]);
    let scored: Vec<f32> = scores.log_probs.into_data().iter::<f32>().collect();
    for (recorded, scored) in completion.log_probs.iter().zip(&scored[prompt.len()..]) {
        assert!((recorded - scored).abs() < 1e-4, "{recorded} != {scored}");
    }
    assert!(scored[..prompt.len()].iter().all(|it| *it == 0.0));
}

#[test]
fn a_full_context_ends_a_completion_and_rejects_more() {
    let model = model();
    let prompt = (vec![1; 60], key(0));
    let completion = model.generate(&[prompt], &params(50)).unwrap().remove(0);
    if completion.stop_reason == StopReason::Length {
        assert_eq!(completion.tokens.len(), 4);
    }
    let error = model.generate(&[(vec![1; 64], key(0))], &params(1)).unwrap_err();
    assert!(matches!(error, GenerateError::ContextOverflow { needed: 65, .. }), "{error}");
    let error = model.generate(&[(vec![300], key(0))], &params(1)).unwrap_err();
    assert!(error.to_string().contains("token 300"), "{error}");
}
