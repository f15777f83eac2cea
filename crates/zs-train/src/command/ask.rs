//! `zs ask`: one question, printed as the model answers it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use clap::Args;
use zs_core::{Question, StreamKey};
use zs_model::{Generator, TextStream};
use zs_rl::{Episode, RolloutConfig, RolloutEvent, rollout};

use zs_trainer::source;

use super::{EngineArgs, SamplingArgs};
use crate::session::Session;

/// Arguments of `zs ask`.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// The policy model (Hugging Face layout).
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Sampling of the model.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Search engine.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// The golden answer, which the prompt of a simulation LLM needs.
    #[arg(long, conflicts_with_all = ["corpus", "index"], required_unless_present_any = ["corpus", "index", "engine"])]
    pub answer: Option<String>,
    /// Documents per search.
    #[arg(long, default_value_t = 3)]
    pub k: usize,
    /// Maximum number of searches.
    #[arg(long, default_value_t = 3)]
    pub max_searches: u32,
    /// Softmax temperature; 0 is greedy.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f32,
    /// Sampling seed.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The question.
    pub question: String,
}

/// Plays one episode and prints it token by token.
pub(crate) fn ask(args: &AskArgs, session: &Session) -> Result<()> {
    let context = session.context()?;
    let policy = Arc::new(args.sampling.load(&args.model, &context)?);
    let engine = args.engine.open(Some(Arc::clone(&policy) as _), &context)?;
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
