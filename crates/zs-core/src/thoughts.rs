//! Thinking blocks of reasoning models: those that a prompt opens, and those before a reply.

const OPENING: &str = "<think>";
const CLOSING: &str = "</think>";

/// The part of the reply that a prompt already holds: an open `<think>` or an empty thinking block at its
/// end, and a `<search>` or `<answer>` after it; else an empty text.
///
/// Chat templates of reasoning models end with `<think>`, so the reply has no opening tag. What reads a
/// reply puts this text before it.
///
/// ```
/// use zs_core::prefill;
///
/// assert_eq!(prefill("<|im_start|>assistant\n<think>\n"), "<think>\n");
/// assert_eq!(prefill("Reason inside <think> and </think>."), "");
/// ```
#[must_use]
pub fn prefill(prompt: &str) -> &str {
    let mut rest = prompt.trim_end();
    let mut start = prompt.len();
    if let Some(before) = ["<search>", "<answer>"].into_iter().find_map(|it| rest.strip_suffix(it))
    {
        start = before.len();
        rest = before.trim_end();
    }
    let block = rest.strip_suffix(CLOSING).map_or(rest, str::trim_end);
    if let Some(before) = block.strip_suffix(OPENING) {
        start = before.len();
    }
    &prompt[start..]
}

/// A written reply without the part that the prompt already holds. White space after that part may
/// differ.
///
/// ```
/// use zs_core::without_prefill;
///
/// assert_eq!(without_prefill("<think> a </think> b", "<think>\n"), "a </think> b");
/// assert_eq!(without_prefill("a </think> b", "<think>\n"), "a </think> b");
/// ```
#[must_use]
pub fn without_prefill<'t>(reply: &'t str, prefill: &str) -> &'t str {
    if let Some(rest) = reply.strip_prefix(prefill) {
        return rest;
    }
    reply.trim_start().strip_prefix(prefill.trim()).map_or(reply, str::trim_start)
}

/// Text after the thinking block at the start of a reply; empty where the block is not closed.
///
/// The opening tag may be missing, since the prompt may have held it.
///
/// ```
/// use zs_core::without_thoughts;
///
/// assert_eq!(without_thoughts("<think> a </think> b"), " b");
/// assert_eq!(without_thoughts("a </think> b"), " b");
/// assert_eq!(without_thoughts("b"), "b");
/// ```
#[must_use]
pub fn without_thoughts(reply: &str) -> &str {
    let (is_open, body) = match reply.trim_start().strip_prefix(OPENING) {
        Some(body) => (true, body),
        None => (false, reply),
    };
    match body.split_once(CLOSING) {
        Some((thoughts, rest)) if is_open || !thoughts.contains(OPENING) => rest,
        _ if is_open => "",
        _ => reply,
    }
}

/// True where a prompt opens the thoughts and the written reply to it never closes them, so that all of it
/// is thoughts.
///
/// ```
/// use zs_core::is_never_closed;
///
/// assert!(is_never_closed("Paris", "<think>\n"));
/// assert!(!is_never_closed("So. </think> Paris", "<think>\n"));
/// assert!(!is_never_closed("Paris", ""));
/// ```
#[must_use]
pub fn is_never_closed(reply: &str, prefill: &str) -> bool {
    prefill.trim_start().starts_with(OPENING)
        && !prefill.contains(CLOSING)
        && !without_prefill(reply, prefill).contains(CLOSING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tags_at_the_end_of_a_prompt_are_prefill() {
        for (before, expected) in [
            ("Hi", ""),
            ("Hi <|Assistant|>", "<think>"),
            ("assistant\n", "<think>\n\n</think>\n\n"),
            ("assistant\n", "<think> </think><answer>"),
            ("a ", "<answer> "),
            ("a ", "<think><search>"),
            ("inside <think> and </think>", ""),
            ("inside <answer> and </answer> ", ""),
            ("<think> a question", ""),
        ] {
            assert_eq!(prefill(&format!("{before}{expected}")), expected);
        }
    }

    #[test]
    fn what_the_prompt_holds_is_left_out_once() {
        for (reply, prefill, expected) in [
            ("a", "", "a"),
            ("<think>\na</think>", "<think>\n", "a</think>"),
            ("\n<think>a</think>", "<think>\n", "a</think>"),
            ("<think><think>a", "<think>", "<think>a"),
            ("a <think>", "<think>", "a <think>"),
            ("<think></think> b", "<think>\n\n</think>\n\n", "<think></think> b"),
            ("<think>\n\n</think>\nb", "<think>\n\n</think>\n\n", "b"),
        ] {
            assert_eq!(without_prefill(reply, prefill), expected, "{reply:?} {prefill:?}");
        }
    }

    #[test]
    fn a_reply_may_never_close_its_thoughts() {
        for (reply, prefill, expected) in [
            ("a", "<think>\n", true),
            ("<think>a", "<think>\n", true),
            ("", "<think>", true),
            ("a</think>b", "<think>\n", false),
            ("a", "<think>\n\n</think>\n\n", false),
            ("a", "<answer>", false),
            ("<think>a", "", false),
        ] {
            assert_eq!(is_never_closed(reply, prefill), expected, "{reply:?} {prefill:?}");
        }
    }

    #[test]
    fn thoughts_end_with_the_first_closing_tag() {
        for (reply, expected) in [
            ("", ""),
            ("<think>a", ""),
            ("\n<think>a</think>b</think>c", "b</think>c"),
            ("a <think> b </think> c", "a <think> b </think> c"),
            ("draft</think>final", "final"),
        ] {
            assert_eq!(without_thoughts(reply), expected, "{reply}");
        }
    }
}
