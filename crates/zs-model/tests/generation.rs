//! Sampling through the cache agrees with the network itself, turn by turn and in any batch.
#![cfg(feature = "flex")]

use burn::module::Module;
use burn::tensor::Device;
use proptest::prelude::*;
use zs_core::StreamKey;
use zs_model::testing::{byte_tokenizer, tiny_config};
use zs_model::{
    Completion, GenerateError, Generator, LanguageModel, PolicyModel, SamplingParams,
    SequenceRequest, StopReason, TokenId, TokenRow,
};

fn model() -> LanguageModel {
    LanguageModel::initialize(tiny_config(), byte_tokenizer(), 7, &Device::flex())
}

fn key(sample: usize) -> StreamKey {
    StreamKey { sample: sample as u32, ..StreamKey::new(3) }
}

fn params(max_new_tokens: usize) -> SamplingParams {
    SamplingParams { max_new_tokens, ..SamplingParams::default() }
}

/// Samples each prompt alone.
fn alone(model: &LanguageModel, prompts: &[Vec<TokenId>], new: usize) -> Vec<Completion> {
    prompts
        .iter()
        .enumerate()
        .map(|(sample, prompt)| {
            model.generate(&[(prompt.clone(), key(sample))], &params(new)).unwrap().remove(0)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn batch_and_order_do_not_change_a_sequence(
        prompts in proptest::collection::vec(proptest::collection::vec(0_u32..256, 1..20), 1..7),
        rotation in 0_usize..7,
    ) {
        let model = model();
        let expected = alone(&model, &prompts, 6);
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.rotate_left(rotation % prompts.len());
        let batch: Vec<_> = order.iter().map(|&it| (prompts[it].clone(), key(it))).collect();
        let together = model.generate(&batch, &params(6)).unwrap();
        for (place, &sample) in order.iter().enumerate() {
            prop_assert_eq!(&together[place].tokens, &expected[sample].tokens);
        }
    }
}

#[test]
fn turns_through_the_cache_equal_one_long_prompt() {
    let model = model();
    let mut session = model.session(3);
    let mut texts: Vec<Vec<TokenId>> = vec![vec![1, 2, 3], vec![9], vec![4; 11]];
    // Sequence 1 sits out the second turn, so it comes back without a cache.
    let turns: [&[usize]; 3] = [&[0, 1, 2], &[2, 0], &[0, 1, 2]];
    let mut first = true;
    for (turn, members) in turns.into_iter().enumerate() {
        let appended: Vec<Vec<TokenId>> = members
            .iter()
            .map(|&it| if first { texts[it].clone() } else { vec![50 + it as u32; it + 1] })
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
        let completions = session.extend(&requests, &params(5), &mut |_, _| {}).unwrap();
        for (&sequence, completion) in members.iter().zip(completions) {
            let prompt = (texts[sequence].clone(), at(sequence));
            let expected = model.generate(&[prompt], &params(5)).unwrap().remove(0);
            assert_eq!(completion.tokens, expected.tokens, "turn {turn}, sequence {sequence}");
            texts[sequence].extend(&completion.tokens);
            assert_eq!(session.sequence_len(sequence), texts[sequence].len());
        }
    }
}

#[test]
fn recorded_log_probs_are_those_of_the_training_path() {
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
fn a_full_context_ends_a_completion_and_refuses_more() {
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
