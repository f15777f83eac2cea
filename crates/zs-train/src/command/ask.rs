//! `zs ask`: one question, printed as the model answers it.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use zs_core::{Question, StreamKey};
use zs_model::{Generator, TextStream};
use zs_rl::{Episode, RolloutConfig, RolloutEvent, rollout};

use crate::cli::AskArgs;
use crate::{console, device, source};

/// Plays one episode and prints it token by token.
pub(crate) fn ask(args: &AskArgs) -> Result<()> {
    let device = device::select()?;
    let policy = Arc::new(source::load_model(&args.model, &device)?);
    let engine = super::eval::engine(&args.engine, Some(Arc::clone(&policy) as _), &device)?;
    let question = Question::new("asked", args.question.as_str(), args.answer.iter().cloned());
    let config = RolloutConfig {
        temperature: args.temperature,
        max_searches: args.max_searches,
        num_documents: args.k,
        ..source::default_rollout(policy.tokenizer())
    };
    let episode = Episode { question: &question, key: StreamKey::new(args.seed) };
    let mut stream = TextStream::new(policy.tokenizer());
    let output = rollout(
        policy.as_ref(),
        engine.as_ref(),
        &[episode],
        0.0,
        &config,
        &mut |event| match event {
            RolloutEvent::Token { token, .. } => console::print(&stream.push(token)),
            RolloutEvent::Turn { record, .. } => {
                stream = TextStream::new(policy.tokenizer());
                console::print(&record.observation_text);
                let error = record.search.as_ref().and_then(|it| it.error.as_ref());
                if let Some(error) = error {
                    console::print(&format!("(the search failed: {error})\n"));
                }
            }
            _ => {}
        },
    )?;
    console::print("\n");
    let transcript = output.trajectories.first().map(zs_rl::Trajectory::transcript);
    let transcript = transcript.ok_or_else(|| anyhow!("the model wrote nothing"))?;
    match transcript.answer() {
        Some(answer) => console::print(&format!("Answer: {answer}\n")),
        None => console::print("The model ended without an answer.\n"),
    }
    Ok(())
}
