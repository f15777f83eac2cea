//! Log-probabilities of the tokens of prompts, in the form of vLLM's `prompt_logprobs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use zs_core::StreamKey;
use zs_model::{TokenId, Tokenizer};

use crate::api_error::ApiError;
use crate::app::App;
use crate::sample_worker::Sampler;

/// A prompt and the log-probability of each of its tokens; 0 for the first, which nothing predicts.
#[derive(Debug)]
pub(super) struct PromptScores {
    tokens: Vec<TokenId>,
    log_probs: Vec<f32>,
}

/// Scores prompts, one request at a time.
pub(super) async fn score(
    app: &App,
    sampler: &Sampler,
    prompts: &[(Vec<TokenId>, StreamKey)],
) -> Result<Vec<PromptScores>, ApiError> {
    let lost = || ApiError::Upstream("the thread that scores has ended".to_owned());
    let turn = Arc::clone(&app.scoring).acquire_owned().await.map_err(|_| lost())?;
    let generator = sampler.weights().generator();
    let prompts: Vec<Vec<TokenId>> = prompts.iter().map(|(it, _)| it.clone()).collect();
    let work = move || {
        let scores = zs_core::caught(|| generator.log_probs(&prompts));
        drop(turn);
        scores.map(|it| it.map(|it| (prompts, it)))
    };
    match tokio::task::spawn_blocking(work).await.map_err(|_| lost())? {
        Err(panic) => {
            app.report_failure(&format!("scoring {panic}"));
            Err(ApiError::Upstream(format!("scoring {panic}")))
        }
        Ok(Err(error)) => Err(ApiError::Upstream(error.to_string())),
        Ok(Ok((prompts, scores))) => {
            let pairs = prompts.into_iter().zip(scores);
            Ok(pairs.map(|(tokens, log_probs)| PromptScores { tokens, log_probs }).collect())
        }
    }
}

impl PromptScores {
    pub(super) fn render(&self, tokenizer: &Tokenizer) -> Value {
        let entry = |(at, (token, log_prob)): (usize, (&TokenId, &f32))| match at {
            0 => Value::Null,
            _ => {
                let text = tokenizer.decode_with_special(&[*token]);
                let entry = json!({ "logprob": log_prob, "decoded_token": text });
                json!(BTreeMap::from([(token.to_string(), entry)]))
            }
        };
        self.tokens.iter().zip(&self.log_probs).enumerate().map(entry).collect()
    }
}
