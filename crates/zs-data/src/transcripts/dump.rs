//! Parser of an episode that another program dumped as one text: prompt, turns, observations.

use zs_core::{INVALID_ACTION_MESSAGE, Transcript, TranscriptTurn, parse_action};

use crate::questions::fields::{EXAMPLE, QUESTION};

/// Marks with which chat templates open the policy's turn.
const ASSISTANT: [&str; 2] =
    ["<|im_start|>assistant", "<|start_header_id|>assistant<|end_header_id|>"];
const OPENING: &str = "<information>";
const CLOSING: &str = "</information>";

/// An episode and the prompt before it.
///
/// ```
/// use zs_data::Dump;
///
/// let text = "<search>who</search><information>Ann</information><answer>Ann</answer>";
/// let dump = Dump::parse(text, None, "");
/// assert_eq!(dump.transcript.answer(), Some("Ann"));
/// assert_eq!(dump.transcript.turns[0].observation, "<information>Ann</information>");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Dump {
    /// The prompt; empty when the text does not contain it.
    pub prompt: String,
    /// The episode.
    pub transcript: Transcript,
}

impl Dump {
    /// Parses a text.
    ///
    /// The prompt precedes the first turn: it is `prompt` when given, and otherwise ends with the line
    /// of the question in the prompts of ZeroSearch and Search-R1, or with the first assistant mark of
    /// a chat template. Observations are `<information>` blocks and the message about invalid
    /// actions; all other text is the policy's own. A block that is never closed ends before the next
    /// `<think>`, or with the text.
    #[must_use]
    pub fn parse(text: &str, prompt: Option<&str>, question: &str) -> Self {
        let (prompt, mut rest) = split_prompt(text, prompt, question);
        let mut turns = Vec::new();
        while let Some((start, end)) = next_observation(rest) {
            turns.push(turn(&rest[..start], &rest[start..end]));
            rest = &rest[end..];
        }
        if !rest.trim().is_empty() {
            turns.push(turn(rest, ""));
        }
        Self { prompt: prompt.to_owned(), transcript: Transcript { turns } }
    }
}

fn turn(text: &str, observation: &str) -> TranscriptTurn {
    TranscriptTurn {
        text: text.to_owned(),
        action: parse_action(text),
        observation: observation.to_owned(),
    }
}

fn split_prompt<'a>(text: &'a str, prompt: Option<&str>, question: &str) -> (&'a str, &'a str) {
    if let Some(prompt) = prompt.filter(|it| !it.is_empty() && text.starts_with(*it)) {
        return text.split_at(prompt.len());
    }
    let instruction = end_of_instruction(text, question).unwrap_or(0);
    // The mark directly after the question belongs to the prompt; later marks belong to later turns.
    let mark = ASSISTANT
        .iter()
        .filter_map(|mark| Some(instruction + text[instruction..].find(mark)? + mark.len()))
        .min()
        .filter(|&end| instruction == 0 || end - instruction < 100);
    let end = mark.unwrap_or(instruction);
    text.split_at(end)
}

/// Returns the end of the line of the question.
fn end_of_instruction(text: &str, question: &str) -> Option<usize> {
    let example = text.find(EXAMPLE)? + EXAMPLE.len();
    let start = example + text[example..].find(QUESTION)? + QUESTION.len();
    let asked = text[start..].trim_start();
    let start = text.len() - asked.len();
    let question = question.trim();
    if !question.is_empty() && asked.starts_with(question) {
        // Some prompts add a question mark, or close the line.
        let after = &asked[question.len()..];
        let tail = after.len() - after.trim_start_matches(['?', '\n']).len();
        return Some(start + question.len() + tail);
    }
    Some(asked.find('\n').map_or(text.len(), |at| start + at + 1))
}

/// Returns the start and the end of the next observation.
fn next_observation(text: &str) -> Option<(usize, usize)> {
    let message = INVALID_ACTION_MESSAGE.trim();
    let message = text.find(message).map(|at| (at, at + message.len()));
    let block = text.find(OPENING).map(|at| {
        let body = &text[at..];
        let closed = body.find(CLOSING).map(|it| it + CLOSING.len());
        let end = closed.or_else(|| body.find("<think>")).unwrap_or(body.len());
        (at, at + end)
    });
    message.into_iter().chain(block).min()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zs_core::Action;

    use super::*;

    const INSTRUCTION: &str = "Answer the given question. … inside <answer> and </answer>, without \
        detailed illustrations. For example, <answer> Beijing </answer>. Question: who?\n";

    #[track_caller]
    fn check(text: &str, prompt: &str, turns: &[(&str, &str)]) {
        let dump = Dump::parse(text, None, "who?");
        assert_eq!(dump.prompt, prompt);
        let read: Vec<_> =
            dump.transcript.turns.iter().map(|it| (&it.text[..], &it.observation[..])).collect();
        assert_eq!(read, turns);
    }

    #[test]
    fn texts_are_taken_apart() {
        check("", "", &[]);
        check("<answer>a</answer>", "", &[("<answer>a</answer>", "")]);
        check(
            &format!(
                "{INSTRUCTION}<search>q</search>\n\n<information>d</information>\n\n<answer>a</answer>"
            ),
            INSTRUCTION,
            &[
                ("<search>q</search>\n\n", "<information>d</information>"),
                ("\n\n<answer>a</answer>", ""),
            ],
        );
        let chat = format!("<|im_start|>user\n{INSTRUCTION}<|im_end|>\n<|im_start|>assistant");
        check(&format!("{chat}\n<answer>a</answer>"), &chat, &[("\n<answer>a</answer>", "")]);
        let chat = "<|im_start|>user\nQ?<|im_end|>\n<|im_start|>assistant";
        check(
            &format!("{chat}x<|im_start|>assistant y"),
            chat,
            &[("x<|im_start|>assistant y", "")],
        );
        let message = INVALID_ACTION_MESSAGE.trim();
        check(&format!("hm\n{message}\nx"), "", &[("hm\n", message), ("\nx", "")]);
        check("a<information>d", "", &[("a", "<information>d")]);
        check("a<information>d<think>t", "", &[("a", "<information>d"), ("<think>t", "")]);
    }

    #[test]
    fn a_given_prompt_is_cut_off() {
        let dump = Dump::parse("P <answer>x</answer>\nhm", Some("P <answer>x</answer>\n"), "");
        assert_eq!(dump.transcript.turns.len(), 1);
        assert_eq!(dump.transcript.turns[0].action, Action::Invalid);
    }

    #[test]
    fn a_question_of_two_lines_is_known_by_its_text() {
        let text = format!("{EXAMPLE} Question: a\nb?\n<answer>x</answer>");
        let dump = Dump::parse(&text, None, "a\nb?");
        assert_eq!(dump.transcript.turns[0].text, "<answer>x</answer>");
    }

    proptest! {
        #[test]
        fn nothing_is_lost(
            text in "(<information>|</information>|<think>|<answer>|</answer>|é|\n| |Question: |For example, <answer> Beijing </answer>.|<\\|im_start\\|>assistant){0,24}",
        ) {
            let dump = Dump::parse(&text, None, "é");
            let mut whole = dump.prompt.clone();
            for turn in &dump.transcript.turns {
                whole.push_str(&turn.text);
                whole.push_str(&turn.observation);
            }
            prop_assert!(text.starts_with(&whole));
            prop_assert!(text[whole.len()..].trim().is_empty());
        }
    }
}
