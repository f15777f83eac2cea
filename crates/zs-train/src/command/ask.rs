//! `zs ask`: one question, printed as the model answers it.

use anyhow::{Result, anyhow};
use zs_core::{Question, StreamKey};
use zs_model::{Generator, TokenId, Tokenizer};
use zs_rl::{Episode, RolloutConfig, RolloutEvent, rollout};

use crate::cli::AskArgs;
use crate::{console, device, source};

/// Plays one episode and prints it token by token.
pub(crate) fn ask(args: &AskArgs) -> Result<()> {
    let device = device::select();
    let policy = source::load_model(&args.model, &device)?;
    let engine = super::eval::engine(&args.engine, &device)?;
    let question = Question::new("asked", args.question.as_str(), args.answer.iter().cloned());
    let config = RolloutConfig {
        temperature: args.temperature,
        max_searches: args.max_searches,
        num_documents: args.k,
        ..source::default_rollout(policy.tokenizer())
    };
    let episode = Episode { question: &question, key: StreamKey::new(args.seed) };
    let mut stream = Stream::new(policy.tokenizer());
    let output =
        rollout(&policy, engine.as_ref(), &[episode], 0.0, &config, &mut |event| match event {
            RolloutEvent::Token { token, .. } => console::print(&stream.push(token)),
            RolloutEvent::Turn { record, .. } => {
                stream = Stream::new(policy.tokenizer());
                console::print(&record.observation_text);
                let error = record.search.as_ref().and_then(|it| it.error.as_ref());
                if let Some(error) = error {
                    console::print(&format!("(the search failed: {error})\n"));
                }
            }
            _ => {}
        })?;
    console::print("\n");
    let transcript = output.trajectories.first().map(zs_rl::Trajectory::transcript);
    let transcript = transcript.ok_or_else(|| anyhow!("the model wrote nothing"))?;
    match transcript.answer() {
        Some(answer) => console::print(&format!("Answer: {answer}\n")),
        None => console::print("The model ended without an answer.\n"),
    }
    Ok(())
}

/// Tokens as the text that they add.
struct Stream<'a> {
    tokenizer: &'a Tokenizer,
    tokens: Vec<TokenId>,
    printed: usize,
}

impl<'a> Stream<'a> {
    fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, tokens: Vec::new(), printed: 0 }
    }

    /// What this token adds; nothing while a character is not whole.
    fn push(&mut self, token: TokenId) -> String {
        self.tokens.push(token);
        let text = self.tokenizer.decode(&self.tokens);
        if text.ends_with('\u{fffd}') || !text.is_char_boundary(self.printed) {
            return String::new();
        }
        let added = text.get(self.printed..).unwrap_or_default().to_owned();
        self.printed = self.printed.max(text.len());
        added
    }
}

#[cfg(test)]
mod tests {
    use zs_model::testing::byte_tokenizer;

    use super::*;

    #[test]
    fn tokens_are_printed_as_whole_characters() {
        let tokenizer = byte_tokenizer();
        let mut stream = Stream::new(&tokenizer);
        let parts: Vec<String> = "aéb".bytes().map(|it| stream.push(it.into())).collect();
        assert_eq!(parts, ["a", "", "é", "b"]);
    }
}
