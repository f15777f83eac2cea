//! Verification of a model directory alone: every file that loading reads, without a reference.

use std::path::Path;

use serde::Serialize;

use crate::checkpoint::{check_tied_head, is_redundant, open_network, tensor_shapes};
use crate::{ChatMessage, CheckpointError, ConfigError, ModelConfig, Tokenizer};

/// State of a part of a model directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DirectoryState {
    /// The part is right.
    Good,
    /// The part loads, and has a property that its user should know.
    Notice,
    /// The model does not load.
    Problem,
}

/// Finding on a part of a model directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DirectoryCheck {
    /// The part, e.g. `tokenizer`.
    pub name: &'static str,
    /// Its state.
    pub state: DirectoryState,
    /// The finding; for a problem, the error.
    pub found: String,
}

/// Parts of the weights that [`verify_directory`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightCheck {
    /// Names, shapes and dtypes, from the headers.
    Headers,
    /// Every value, which must be finite.
    Values,
}

/// Checks a model directory: its layout, `config.json`, weights, tokenizer, chat template, and the tokens
/// that end a sequence.
///
/// All findings are returned; the model loads if none is a [`Problem`](DirectoryState::Problem).
#[must_use]
pub fn verify_directory(dir: &Path, weights: WeightCheck) -> Vec<DirectoryCheck> {
    let mut checks = Checks::default();
    let config = ModelConfig::from_dir(dir);
    match &config {
        Err(error @ ConfigError::Foreign { .. }) => {
            checks.problem("directory", error);
            return checks.0;
        }
        Ok(it) => checks.good(
            "config.json",
            format!("{:?}, {:.2} M parameters", it.architecture, it.num_parameters() as f64 / 1e6),
        ),
        Err(error) => checks.problem("config.json", error),
    }
    let config = config.ok();
    if let Some(config) = &config {
        match check_weights(dir, config, weights) {
            Ok(found) => checks.good("weights", found),
            Err(error) => checks.problem("weights", &error),
        }
    }
    match Tokenizer::from_dir(dir) {
        Ok(tokenizer) => checks.tokenizer(&tokenizer, config.as_ref()),
        Err(error) => checks.problem("tokenizer", &error),
    }
    checks.0
}

fn check_weights(
    dir: &Path,
    config: &ModelConfig,
    weights: WeightCheck,
) -> Result<String, CheckpointError> {
    let mut files = open_network(dir, config)?;
    if weights == WeightCheck::Values {
        check_tied_head(&files, config)?;
    }
    let (mut num_tensors, mut num_values) = (0, 0);
    for (name, shape) in tensor_shapes(config) {
        num_tensors += 1;
        num_values += shape.iter().product::<usize>();
        match weights {
            WeightCheck::Headers => files.skip(&name),
            WeightCheck::Values => files.check_values(&name)?,
        }
    }
    files.finish(|name| is_redundant(config, name))?;
    let values = match weights {
        WeightCheck::Headers => "values not read",
        WeightCheck::Values => "all finite",
    };
    Ok(format!("{num_tensors} tensors of {:.2} M values, {values}", num_values as f64 / 1e6))
}

/// Findings so far.
#[derive(Default)]
struct Checks(Vec<DirectoryCheck>);

impl Checks {
    fn push(&mut self, name: &'static str, state: DirectoryState, found: impl Into<String>) {
        self.0.push(DirectoryCheck { name, state, found: found.into() });
    }

    fn good(&mut self, name: &'static str, found: impl Into<String>) {
        self.push(name, DirectoryState::Good, found);
    }

    fn problem(&mut self, name: &'static str, error: &dyn std::error::Error) {
        let mut found = error.to_string();
        let mut cause = error.source();
        while let Some(it) = cause {
            found = format!("{found}: {it}");
            cause = it.source();
        }
        self.push(name, DirectoryState::Problem, found);
    }

    fn tokenizer(&mut self, tokenizer: &Tokenizer, config: Option<&ModelConfig>) {
        let size = tokenizer.vocab_size();
        let rows = config.map_or(size, |it| it.vocab_size);
        match size <= rows {
            true => self.good("tokenizer", format!("{size} tokens, {rows} rows of the embedding")),
            false => self.problem(
                "tokenizer",
                &CheckpointError::TokenizerTooLarge {
                    tokenizer: tokenizer.source().to_owned(),
                    tokens: size,
                    vocab_size: rows,
                },
            ),
        }
        let tags = tokenizer.text_special_tokens();
        if !tags.is_empty() {
            self.good("special tokens kept as text", tags.join(" "));
        }
        if let Some((tag, back)) = tokenizer.lost_tags().first() {
            let found = format!(
                "`a {tag} b` comes back as `{back}`, so a policy writes no valid action; add the tags as \
                 tokens"
            );
            self.push("tags", DirectoryState::Notice, found);
        }
        self.chat_template(tokenizer);
        self.end_of_sequence(tokenizer, config);
    }

    fn chat_template(&mut self, tokenizer: &Tokenizer) {
        const NAME: &str = "chat template";
        const PROBE: &str = "Question: who?";
        let Some(template) = tokenizer.chat_template() else {
            return self.push(NAME, DirectoryState::Notice, "none; prompts are plain text");
        };
        let rendered = template.render(&[ChatMessage::user(PROBE)]);
        let prompt = tokenizer.encode_prompt(PROBE);
        match (rendered, prompt) {
            (Ok(text), _) if !text.contains(PROBE) => {
                let found = "it leaves out the message of the user, so prompts hold no question";
                self.push(NAME, DirectoryState::Notice, found);
            }
            (Ok(_), Ok(prompt)) => {
                let mut found = format!("a prompt of {} tokens", prompt.len());
                let prefill = tokenizer.prefill(&prompt);
                if !prefill.is_empty() {
                    found = format!("{found}, which opens the reply with {prefill:?}");
                }
                if template.source().contains("strftime_now") {
                    found = format!("{found}; the date is fixed at {}", template.date());
                }
                self.good(NAME, found);
            }
            (Err(error), _) => self.problem(NAME, &error),
            (_, Err(error)) => self.problem(NAME, &error),
        }
    }

    fn end_of_sequence(&mut self, tokenizer: &Tokenizer, config: Option<&ModelConfig>) {
        const NAME: &str = "end of sequence";
        let Some(config) = config else { return };
        let mut config = config.clone();
        config.add_eos_tokens(tokenizer.eos_token_id());
        let shown = |id: &u32| match tokenizer.token_text(*id) {
            Some(text) => format!("{id} {text:?}"),
            None => format!("{id} (no token)"),
        };
        let listed: Vec<String> = config.eos_token_ids.iter().map(shown).collect();
        let is_known = |it: &u32| tokenizer.token_text(*it).is_some();
        if let Some(text) = tokenizer.missing_eos_token() {
            let found = format!("eos_token {text:?} is not a token of tokenizer.json");
            return self.push(NAME, DirectoryState::Notice, found);
        }
        if listed.is_empty() {
            let found = "no file names a token: only the token limit ends a reply";
            return self.push(NAME, DirectoryState::Notice, found);
        }
        match config.eos_token_ids.iter().all(is_known) {
            true => self.good(NAME, listed.join(", ")),
            false => self.push(NAME, DirectoryState::Notice, listed.join(", ")),
        }
    }
}
