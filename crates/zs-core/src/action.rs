//! Actions of the policy model, and their reading from its text.

use serde::{Deserialize, Serialize};

/// Action of the policy model in one turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "text")]
pub enum Action {
    /// `<search>query</search>`, trimmed.
    Search(String),
    /// `<answer>answer</answer>`, trimmed.
    Answer(String),
    /// Neither tag was opened and closed, or the query was empty.
    Invalid,
}

/// Reads the action of one turn from the text that the policy model wrote in that turn.
///
/// The first closed `<search>…</search>` or `<answer>…</answer>` is the action, as in the loop of
/// ZeroSearch. An opening tag inside the body restarts it, so a model that stutters
/// (`<search> a <search> b </search>`) asks for `b`. A query that is empty after trimming is
/// [`Action::Invalid`]; an empty answer is an answer.
///
/// The caller passes the turn's own text only, never the prompt or an observation, so a document
/// cannot act for the policy.
///
/// ```
/// use zs_core::{Action, parse_action};
///
/// assert_eq!(parse_action("<search> who? </search>"), Action::Search("who?".to_owned()));
/// assert_eq!(parse_action("I am not sure."), Action::Invalid);
/// ```
#[must_use]
pub fn parse_action(text: &str) -> Action {
    // Where the first opening tag of a kind never closes, no later one does, so each is looked for once.
    let first_closed = |tag: &'static Tag| {
        let start = text.find(tag.opening)? + tag.opening.len();
        Some((start, &text[start..start + text[start..].find(tag.closing)?], tag))
    };
    let closed = TAGS.iter().filter_map(first_closed);
    let Some((_, mut content, tag)) = closed.min_by_key(|(start, ..)| *start) else {
        return Action::Invalid;
    };
    if let Some(restart) = content.rfind(tag.opening) {
        content = &content[restart + tag.opening.len()..];
    }
    let content = content.trim();
    match (tag.is_search, content.is_empty()) {
        (true, true) => Action::Invalid,
        (true, false) => Action::Search(content.to_owned()),
        (false, _) => Action::Answer(content.to_owned()),
    }
}

struct Tag {
    opening: &'static str,
    closing: &'static str,
    is_search: bool,
}

const TAGS: [Tag; 2] = [
    Tag { opening: "<search>", closing: "</search>", is_search: true },
    Tag { opening: "<answer>", closing: "</answer>", is_search: false },
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Action) {
        assert_eq!(parse_action(text), expected, "{text:?}");
    }

    fn search(query: &str) -> Action {
        Action::Search(query.to_owned())
    }

    fn answer(text: &str) -> Action {
        Action::Answer(text.to_owned())
    }

    #[test]
    fn first_closed_tag_wins() {
        check("<think> x </think> <search> q </search>", search("q"));
        check("<answer>a</answer><search>q</search>", answer("a"));
        check("<search>q</search><answer>a</answer>", search("q"));
        check("<search> never closed <answer> a </answer>", answer("a"));
        check("<search> a <search> b </search>", search("b"));
        check("<answer></answer>", answer(""));
        check("<search>  </search>", Action::Invalid);
        check("</search> <search>", Action::Invalid);
        check("", Action::Invalid);
        check("<search> état d'Ohio ü </search>", search("état d'Ohio ü"));
    }

    /// A text of a policy that repeats an opening tag is read in one pass.
    #[test]
    fn many_tags_that_never_close_take_no_time() {
        let start = std::time::Instant::now();
        assert_eq!(parse_action(&"<search><answer> ".repeat(1 << 16)), Action::Invalid);
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    }

    proptest! {
        #[test]
        fn never_panics(text in "(<search>|</search>|<answer>|</answer>|é|<|>|a| )*") {
            let _ = parse_action(&text);
        }

        #[test]
        fn rendered_actions_parse_back(body in "[a-zé ]{0,12}[a-z]") {
            check(&format!("<search>{body}</search>"), search(body.trim()));
            check(&format!("<answer>{body}</answer>"), answer(body.trim()));
        }
    }
}
