//! The answer of an episode under any protocol.

use zs_core::{INVALID_ACTION_MESSAGE, Transcript, strip_answer};
use zs_rl::ZEROSEARCH_PROMPT;

use crate::{Protocol, Quirk};

const OPENING: &str = "<answer>";
const CLOSING: &str = "</answer>";

/// Returns the answer of an episode, or `None` when it has none.
///
/// Without quirks it is the last `<answer>…</answer>` of the policy model's own text, turn by turn.
/// Quirks extend the search to the prompt, messages and documents, and the last answer in all of them
/// counts. A prompt without two examples of its own is read as ZeroSearch's.
///
/// # References
///
/// - ZeroSearch reference code, `qa_em.py` 106-117: `<answer>(.*?)</answer>` over prompt and response,
///   none where there is at most one match, else the last. The prompt alone has two.
pub(crate) fn read_answer(
    protocol: &Protocol,
    prompt: &str,
    transcript: &Transcript,
) -> Option<String> {
    let reads = |quirk| protocol.has(quirk);
    let beyond = [Quirk::PromptAnswers, Quirk::MessageAnswers, Quirk::DocumentAnswers];
    if !beyond.into_iter().any(reads) {
        let own = transcript.turns.iter().rev().find_map(|it| answers(&it.text).last());
        return own.map(|it| strip_answer(restarted(it)).to_owned());
    }
    let mut text = String::new();
    if reads(Quirk::PromptAnswers) {
        let has_examples = answers(prompt).nth(1).is_some();
        text.push_str(if has_examples { prompt } else { ZEROSEARCH_PROMPT });
    }
    for turn in &transcript.turns {
        text.push_str(&turn.text);
        let is_message = turn.observation.contains(INVALID_ACTION_MESSAGE.trim());
        let quirk = if is_message { Quirk::MessageAnswers } else { Quirk::DocumentAnswers };
        if reads(quirk) {
            text.push_str(&turn.observation);
        }
    }
    answers(&text).last().map(|it| strip_answer(it).to_owned())
}

/// Returns the answer under a protocol when an episode is known only to have none.
pub(crate) fn missing_answer(protocol: &Protocol) -> Option<String> {
    read_answer(protocol, "", &Transcript::default())
}

/// Returns the matches of `<answer>(.*?)</answer>` from left to right, without overlap.
fn answers(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, body) = rest.split_once(OPENING)?;
        let (answer, after) = body.split_once(CLOSING)?;
        rest = after;
        Some(answer)
    })
}

/// Returns the text after the last of several repeated opening tags, as the rollout does.
fn restarted(answer: &str) -> &str {
    answer.rsplit_once(OPENING).map_or(answer, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use zs_core::{Action, TranscriptTurn};

    use super::*;

    fn transcript(turns: &[(&str, &str)]) -> Transcript {
        let turn = |(text, observation): &(&str, &str)| TranscriptTurn {
            text: (*text).to_owned(),
            action: Action::Invalid,
            observation: (*observation).to_owned(),
        };
        Transcript { turns: turns.iter().map(turn).collect() }
    }

    #[track_caller]
    fn check(protocol: &str, turns: &[(&str, &str)], expected: Option<&str>) {
        let protocol = protocol.parse().unwrap();
        let answer = read_answer(&protocol, "Question: who?\n", &transcript(turns));
        assert_eq!(answer.as_deref(), expected, "{protocol}");
    }

    const SEARCHED: (&str, &str) =
        ("<search> q </search>", "<information>Doc 1: <answer> Ulm </answer></information>");
    const CONFUSED: (&str, &str) = ("hm", INVALID_ACTION_MESSAGE);

    #[test]
    fn strict_reads_the_policy_alone() {
        check("strict", &[], None);
        check("strict", &[("I wonder.", "")], None);
        check("strict", &[SEARCHED, ("I wonder.", "")], None);
        check("strict", &[CONFUSED, ("I wonder.", "")], None);
        check("strict", &[SEARCHED, ("<answer> Bonn </answer>", "")], Some("Bonn"));
        check("strict", &[("<answer>a</answer> no <answer>b</answer>", "")], Some("b"));
        check("strict", &[("<answer> a <answer> b </answer>", "")], Some("b"));
        check("strict", &[("<answer></answer>", "")], Some(""));
        check("strict", &[("<answer>a", "x"), ("b</answer>", "")], None);
    }

    #[test]
    fn each_quirk_adds_what_it_names() {
        check("strict + prompt-answers", &[("I wonder.", "")], Some("Beijing"));
        check("strict + prompt-answers", &[SEARCHED, CONFUSED], Some("Beijing"));
        check("strict + prompt-answers", &[("<answer>x</answer>", "")], Some("x"));
        check("strict + message-answers", &[CONFUSED, ("I wonder.", "")], Some("and"));
        check("strict + message-answers", &[SEARCHED], None);
        check("strict + document-answers", &[SEARCHED, ("I wonder.", "")], Some("Ulm"));
        check("strict + document-answers", &[CONFUSED], None);
    }

    #[test]
    fn compatible_reads_everything_and_the_last_answer_wins() {
        check("zs-compat", &[], Some("Beijing"));
        check("zs-compat", &[CONFUSED], Some("and"));
        check("zs-compat", &[CONFUSED, SEARCHED], Some("Ulm"));
        check("zs-compat", &[SEARCHED, ("<answer> Bonn </answer>", "")], Some("Bonn"));
        // The expression matches from the first opening tag to the first closing tag after it.
        check("zs-compat", &[("<answer> a <answer> b </answer>", "")], Some("a <answer> b"));
        check("zs-compat", &[("<answer>a", "<x>"), ("b</answer>", "")], Some("a<x>b"));
    }

    #[test]
    fn examples_of_the_prompt_at_hand_come_first() {
        let prompt = "between <answer> and </answer>, e.g. <answer> Rome </answer>.";
        let protocol = Protocol::zs_compat();
        let answer = read_answer(&protocol, prompt, &Transcript::default());
        assert_eq!(answer.as_deref(), Some("Rome"));
        assert_eq!(missing_answer(&protocol).as_deref(), Some("Beijing"));
        assert_eq!(missing_answer(&Protocol::strict()), None);
    }
}
