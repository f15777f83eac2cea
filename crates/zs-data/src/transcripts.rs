//! Whole episodes as text, in the forms that other programs write: chats, and texts with tags.

mod chat;
mod dump;

use serde_json::Value;
use zs_core::{Action, Question, Transcript};

use crate::questions::fields;
use crate::questions::fields::values::{list, wrong_type};
use crate::{Fields, RowContext, RowError};

pub use self::dump::Dump;

/// Fields of a chat.
const CHATS: [&str; 2] = ["messages", "conversations"];

/// Fields of a text with tags, in the order in which they are looked for.
const TEXTS: [&str; 5] = ["transcript", "text", "response", "output", "sequences_str"];

/// Fields of the prompt before such a text.
const PROMPTS: [&str; 2] = ["prompt", "input"];

/// Marks that end the text of a model, and are none of it.
const END_MARKS: [&str; 5] =
    ["<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>"];

/// Episode that another program recorded as text.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedTranscript {
    /// Question; without answers where the row has none.
    pub question: Question,
    /// Text of the policy, and the results of its searches between `<information>` and
    /// `</information>`.
    pub transcript: Transcript,
}

/// Reads an episode from the fields of a row.
///
/// | field | form |
/// |---|---|
/// | `messages` | chat: `{"role", "content"}`, with `tool_calls` or tags |
/// | `conversations` | ShareGPT: `{"from", "value"}` |
/// | `transcript`, `text`, `response`, `output`, `sequences_str` | a text with tags, as Search-R1 and ZeroSearch write it, with the prompt before it or in `prompt` or `input` |
///
/// The question is that of the row, where it has one, else the first message of the user or what the
/// prompt asks; system messages are passed over, since the prompt of a rollout takes their place.
/// Searches are `<search>` tags or calls of a tool with a `query`; results are tool messages, messages
/// of the user after the first, or `<information>` blocks. In a chat with calls, the last message is
/// the answer where it has no tags. `reasoning_content` is written between `<think>` and `</think>`.
///
/// # Errors
///
/// Fails, naming message or turn, on unknown roles, results without a search, searches without a
/// result, several calls in one message and blocks that are never closed.
///
/// ```
/// use zs_data::{open_episode_rows, recorded_transcript};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("chats.jsonl");
/// let row = r#"{"messages": [
///     {"role": "user", "content": "Who wrote Dune?"},
///     {"role": "assistant", "tool_calls": [{"function": {"name": "search", "arguments": {"query": "Dune"}}}]},
///     {"role": "tool", "content": "A novel by Frank Herbert."},
///     {"role": "assistant", "content": "Frank Herbert"}
/// ]}"#;
/// std::fs::write(&path, row.replace('\n', ""))?;
/// let (stem, rows) = open_episode_rows(&path)?;
/// let mut read = rows.try_filter_map(move |row, context| recorded_transcript(row, context, &stem).map(Some));
/// let episode = read.next().unwrap()?;
/// assert_eq!(episode.question.text, "Who wrote Dune?");
/// assert_eq!(episode.transcript.turns[0].text, "<search> Dune </search>");
/// assert_eq!(episode.transcript.answer(), Some("Frank Herbert"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn recorded_transcript(
    mut row: Fields,
    context: &mut RowContext<'_>,
    stem: &str,
) -> Result<RecordedTranscript, RowError> {
    let present = |names: &[&'static str]| {
        names.iter().copied().find(|it| row.get(*it).is_some_and(|it| !it.is_null()))
    };
    let (asked, transcript) = if let Some(name) = present(&CHATS) {
        chat::read(list(&row[name], name)?, name)?
    } else if let Some(name) = present(&TEXTS) {
        tagged(&row, name)?
    } else if row.contains_key("completion") {
        return Err(RowError::invalid(
            "a prompt with its completion is not an episode; use such files with `data.kind = \"file\"`",
        ));
    } else {
        let alternatives = "conversations, transcript, text, response, output";
        return Err(RowError::Missing { field: "messages", alternatives });
    };
    if let Some(asked) = asked {
        row.insert("prompt".to_owned(), asked.into());
    }
    check_results(&transcript)?;
    Ok(RecordedTranscript { question: fields::recorded_question(&row, context, stem)?, transcript })
}

/// A text with tags, and the prompt that it begins with.
fn tagged(row: &Fields, name: &str) -> Result<(Option<String>, Transcript), RowError> {
    let text = text_of(&row[name], || name.to_owned())?;
    let prompt = PROMPTS.iter().find_map(|it| row.get(*it)?.as_str());
    let question = row.get("question").and_then(Value::as_str).unwrap_or_default();
    let Dump { prompt: found, transcript } = Dump::parse(without_end_marks(text), prompt, question);
    let found = Some(found).filter(|it| !it.trim().is_empty());
    let asked = found.or_else(|| row.get("input")?.as_str().map(str::to_owned));
    Ok((asked.filter(|_| !row.contains_key("prompt")), trimmed(transcript)))
}

/// The turns without white space around the policy's text, which belongs to observations, and without
/// a last one of white space alone.
fn trimmed(mut transcript: Transcript) -> Transcript {
    for turn in &mut transcript.turns {
        turn.text = turn.text.trim().to_owned();
        turn.observation = turn.observation.trim().to_owned();
    }
    transcript.turns.retain(|it| !it.text.is_empty() || !it.observation.is_empty());
    transcript
}

fn without_end_marks(text: &str) -> &str {
    let mut text = text.trim_end();
    while let Some(rest) = END_MARKS.iter().find_map(|it| text.strip_suffix(it)) {
        text = rest.trim_end();
    }
    text
}

fn text_of(value: &Value, field: impl FnOnce() -> String) -> Result<&str, RowError> {
    value.as_str().ok_or_else(|| wrong_type(&field(), "a text", value))
}

/// Checks that every search but a last one has a result, and that every result has a search.
fn check_results(transcript: &Transcript) -> Result<(), RowError> {
    const OPENING: &str = "<information>";
    let last = transcript.turns.len().saturating_sub(1);
    for (index, turn) in transcript.turns.iter().enumerate() {
        let (number, result) = (index + 1, turn.observation.as_str());
        let is_result = result.starts_with(OPENING);
        let is_search = matches!(turn.action, Action::Search(_));
        if is_result && !result.ends_with("</information>") {
            return Err(RowError::invalid(format!("turn {number}: `{OPENING}` is never closed")));
        }
        if is_result && !is_search {
            let problem = match turn.text.contains("<search>") {
                true => "`<search>` is never closed",
                false => "the result of a search follows text that does not search",
            };
            return Err(RowError::invalid(format!("turn {number}: {problem}")));
        }
        if is_search && !is_result && index < last {
            return Err(RowError::invalid(format!("turn {number}: the search has no result")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
