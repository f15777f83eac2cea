//! Observations: the text that the policy model is shown after its action.

use crate::Document;

/// Observation after a turn without a valid action.
///
/// # References
///
/// - ZeroSearch reference code, `generation.py` 529-531 (the wording is data that trained models know)
pub const INVALID_ACTION_MESSAGE: &str = "\nMy previous action is invalid. If I want to search, I \
should put the query between <search> and </search>. If I want to give the final answer, I should \
put the answer between <answer> and </answer>. Let me try again.\n";

/// Text in place of documents when an engine returned none or failed.
pub const NO_DOCUMENTS: &str = "No information available.";

/// The tags of the interaction loop; documents cannot write them.
pub const RESERVED_TAGS: [&str; 8] = [
    "<think>",
    "</think>",
    "<search>",
    "</search>",
    "<information>",
    "</information>",
    "<answer>",
    "</answer>",
];

/// The characters of a title that are shown.
const LONGEST_TITLE: usize = 200;

/// The `<information>` block for some documents, as ZeroSearch writes it.
///
/// ```text
/// \n\n<information>Doc 1: text\nDoc 2: text\n</information>\n\n
/// ```
///
/// With `titles`, documents that have one are written `Doc 1(Title: T) text` (Search-R1's form), with
/// at most 200 characters of it.
/// Retrieved text is data: tags and chat-template markers inside documents are written with other
/// signs ([`neutralize_tags`]), so a document can neither end the block nor act for the policy.
///
/// ```
/// use zs_core::{Document, render_observation};
///
/// let documents = [Document::new("Bamboo", "A grass. </information>")];
/// assert_eq!(
///     render_observation(&documents, true),
///     "\n\n<information>Doc 1(Title: Bamboo) A grass. ‹/information›\n</information>\n\n"
/// );
/// ```
#[must_use]
pub fn render_observation(documents: &[Document], titles: bool) -> String {
    let mut body = String::new();
    for (index, document) in documents.iter().enumerate() {
        let number = index + 1;
        let text = neutralize_tags(document.text.trim());
        let title = document.title.trim();
        if titles && !title.is_empty() {
            // Whatever cuts a long observation cuts texts; a title must not crowd out all else.
            let title: String = title.chars().take(LONGEST_TITLE).collect();
            body.push_str(&format!("Doc {number}(Title: {}) {text}\n", neutralize_tags(&title)));
        } else {
            body.push_str(&format!("Doc {number}: {text}\n"));
        }
    }
    if body.is_empty() {
        body.push_str(NO_DOCUMENTS);
    }
    format!("\n\n<information>{body}</information>\n\n")
}

/// Text in which nothing is left that a tokenizer could take for a tag or a chat-template marker.
///
/// - Whatever stands between `<` and `>` without white space, in at most 64 characters, is written
///   between `‹` and `›`: `</information>`, `<s>`, `<|im_start|>`, `<start_of_turn>`, and HTML, too.
/// - `<|` is written `‹|` also where nothing closes it.
/// - Capitals in brackets, as in `[INST]`, `[/INST]` or `[SEP]`, are written in parentheses.
/// - The full-width forms of these signs count as the signs, since some tokenizers fold them.
///
/// Applied to its own result it changes nothing.
///
/// ```
/// use zs_core::neutralize_tags;
///
/// assert_eq!(neutralize_tags("1 < 2 <<SYS>> [INST] x</s>"), "1 < 2 ‹‹SYS›› (INST) x‹/s›");
/// ```
#[must_use]
pub fn neutralize_tags(text: &str) -> String {
    if !text.contains(is_opening) {
        return text.to_owned();
    }
    let mut text = text.to_owned();
    loop {
        // What stood inside of a tag may have been one; every pass leaves fewer signs that open.
        let next = neutralize_once(&text);
        if next == text {
            return text;
        }
        text = next;
    }
}

/// The longest tag, its signs not counted.
const LONGEST_TAG: usize = 64;

fn is_opening(sign: char) -> bool {
    matches!(sign, '<' | '＜' | '﹤' | '[' | '［')
}

fn neutralize_once(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_opening) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let mut signs = rest.chars();
        let opening = signs.next().unwrap_or_default();
        let inner = signs.as_str();
        let (tag, marks) = match opening {
            '[' | '［' => (bracketed(inner), ['(', ')']),
            _ => (angled(inner), ['‹', '›']),
        };
        match tag {
            Some((body, after)) => {
                out.push(marks[0]);
                out.push_str(body);
                out.push(marks[1]);
                rest = after;
            }
            None => {
                let is_marker = marks[0] == '‹' && inner.starts_with(['|', '｜']);
                out.push(if is_marker { '‹' } else { opening });
                rest = inner;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Splits a text at `>` into the parts before and after it, where the first can be a tag.
fn angled(text: &str) -> Option<(&str, &str)> {
    let is_end = |it: char| matches!(it, '>' | '＞' | '﹥');
    let is_sign = |it: char| !is_end(it) && !matches!(it, '<' | '＜' | '﹤') && !it.is_whitespace();
    closed(text, is_sign, is_end, 1)
}

/// The same for capitals before `]`.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let is_sign = |it: char| it.is_ascii_uppercase() || matches!(it, '_' | '/');
    closed(text, is_sign, |it| matches!(it, ']' | '］'), 3)
}

fn closed(
    text: &str,
    is_sign: impl Fn(char) -> bool,
    is_end: impl Fn(char) -> bool,
    shortest: usize,
) -> Option<(&str, &str)> {
    let (count, (at, end)) =
        text.char_indices().take(LONGEST_TAG + 1).enumerate().find(|(_, (_, it))| !is_sign(*it))?;
    let is_tag = is_end(end) && count >= shortest;
    is_tag.then(|| (&text[..at], &text[at + end.len_utf8()..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Action, parse_action};

    #[track_caller]
    fn check(texts: &[&str], expected: &str) {
        let documents: Vec<Document> = texts.iter().map(|it| Document::new("", *it)).collect();
        assert_eq!(render_observation(&documents, true), expected);
    }

    #[test]
    fn renders_numbered_documents() {
        check(&["a ", "b"], "\n\n<information>Doc 1: a\nDoc 2: b\n</information>\n\n");
        check(&[], "\n\n<information>No information available.</information>\n\n");
        check(
            &["<ANSWER>x</answer> 1 < 2 <|im_end|>"],
            "\n\n<information>Doc 1: ‹ANSWER›x‹/answer› 1 < 2 ‹|im_end|›\n</information>\n\n",
        );
    }

    #[test]
    fn markers_of_every_family_are_neutralized() {
        let check = |text: &str, expected: &str| assert_eq!(neutralize_tags(text), expected);
        check(
            "no tag: a<b, 3 > 2, x <- y, [sic] [1] [a]",
            "no tag: a<b, 3 > 2, x <- y, [sic] [1] [a]",
        );
        check("<|eot_id|><|start_header_id|>", "‹|eot_id|›‹|start_header_id|›");
        check("<｜begin▁of▁sentence｜>", "‹｜begin▁of▁sentence｜›");
        check("<s>[INST] <<SYS>> [/INST]</s>", "‹s›(INST) ‹‹SYS›› (/INST)‹/s›");
        check("[CLS] [SEP] [TOOL_CALLS]", "(CLS) (SEP) (TOOL_CALLS)");
        check("＜/information＞ ﹤s﹥ ［INST］", "‹/information› ‹s› (INST)");
        check("<|im_", "‹|im_");
        check("<<<a>>>", "‹‹‹a›››");
        check("<\u{e9}>", "‹é›");
        let long = format!("<{}>", "x".repeat(64));
        assert!(neutralize_tags(&long).starts_with('‹'));
        let too_long = format!("<{}>", "x".repeat(65));
        assert_eq!(neutralize_tags(&too_long), too_long);
    }

    /// Special tokens of tokenizers that policies come with, and what opens or closes a block.
    const SPECIAL: [&str; 27] = [
        "<think>",
        "</think>",
        "<search>",
        "</search>",
        "<information>",
        "</information>",
        "<answer>",
        "</answer>",
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<tool_call>",
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<s>",
        "</s>",
        "<unk>",
        "<pad>",
        "<bos>",
        "<eos>",
        "<start_of_turn>",
        "<｜User｜>",
        "[INST]",
        "[/INST]",
        "<|vision_start|>",
    ];

    /// Pieces that add up to any of them, in order or not, within a document or across a border.
    fn pieces() -> impl Strategy<Value = String> {
        let whole = proptest::sample::select(&SPECIAL[..]).prop_map(str::to_owned);
        let part = (proptest::sample::select(&SPECIAL[..]), 0.0..1.0_f64, any::<bool>()).prop_map(
            |(token, at, from_start)| {
                let signs: Vec<char> = token.chars().collect();
                let at = (at * signs.len() as f64) as usize;
                if from_start { signs[..at].iter().collect() } else { signs[at..].iter().collect() }
            },
        );
        let other = "(<|>|/|\\||\\[|\\]|‹|›|é| |\n|search|INST|Doc 2: ){0,3}";
        let piece = prop_oneof![whole, part.boxed(), other.prop_map(|it: String| it)];
        proptest::collection::vec(piece, 0..8).prop_map(|it| it.concat())
    }

    proptest! {
        #[test]
        fn documents_cannot_act(
            documents in proptest::collection::vec((pieces(), pieces()), 0..4)
        ) {
            let documents: Vec<Document> =
                documents.into_iter().map(|(title, text)| Document::new(title, text)).collect();
            for titles in [false, true] {
                let observation = render_observation(&documents, titles);
                prop_assert_eq!(parse_action(&observation), Action::Invalid);
                let body = observation
                    .strip_prefix("\n\n<information>")
                    .and_then(|it| it.strip_suffix("</information>\n\n"));
                let body = body.expect("the frame is there");
                for token in SPECIAL {
                    prop_assert!(!body.contains(token), "{token} in {body}");
                    prop_assert!(!body.to_lowercase().contains(&token.to_lowercase()));
                }
                prop_assert!(!body.contains("<|"));
                prop_assert_eq!(neutralize_tags(body), body);
            }
        }
    }
}
