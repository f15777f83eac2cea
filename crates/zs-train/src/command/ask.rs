//! `zs ask`: one question, printed as the model answers it.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use zs_core::{Question, StreamKey};
use zs_model::{Generator, TextStream};
use zs_rl::{Episode, RolloutConfig, RolloutEvent, rollout};

use crate::cli::AskArgs;
use zs_trainer::source;

use crate::session::Session;

/// Plays one episode and prints it token by token.
pub(crate) fn ask(args: &AskArgs, session: &Session) -> Result<()> {
    let context = session.context()?;
    let policy = Arc::new(source::load_model(&args.model, context.devices.first())?);
    let engine = super::eval::engine(&args.engine, Some(Arc::clone(&policy) as _), &context)?;
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
            RolloutEvent::Token { token, .. } => session.print(&stream.push(token)),
            RolloutEvent::Turn { record, .. } => {
                stream = TextStream::new(policy.tokenizer());
                session.print(&record.observation_text);
                let error = record.search.as_ref().and_then(|it| it.error.as_ref());
                if let Some(error) = error {
                    session.print(&format!("(the search failed: {error})\n"));
                }
            }
            _ => {}
        },
    )?;
    session.print("\n");
    let transcript = output.trajectories.first().map(zs_rl::Trajectory::transcript);
    let transcript = transcript.ok_or_else(|| anyhow!("the model wrote nothing"))?;
    match transcript.answer() {
        Some(answer) => session.print(&format!("Answer: {answer}\n")),
        None => session.print("The model ended without an answer.\n"),
    }
    Ok(())
}
