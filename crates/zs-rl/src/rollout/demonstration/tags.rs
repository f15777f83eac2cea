//! Tags in the texts of a demonstration.

use zs_core::RESERVED_TAGS;

/// The end of the first closing tag of an action, where sampling stops.
pub(super) fn end_of_action(text: &str) -> Option<usize> {
    let closing = ["</search>", "</answer>"];
    closing.iter().filter_map(|it| text.find(it).map(|at| at + it.len())).min()
}

/// The first tag of a turn that has no counterpart or that policies do not write.
///
/// A turn may close thoughts that it has not opened, since the prompts of reasoning models open them.
pub(super) fn stray_tag(text: &str) -> Option<&'static str> {
    let mut open: Option<&'static str> = None;
    let mut rest = text;
    let mut is_first = true;
    while let Some((at, tag)) = next_tag(rest) {
        rest = &rest[at + tag.len()..];
        let is_prefilled = is_first && tag == "</think>";
        is_first = false;
        match (open, tag.strip_prefix("</")) {
            (_, _) if tag.contains("information") => return Some(tag),
            (None, None) => open = Some(tag),
            (None, Some(_)) if is_prefilled => {}
            (Some(opening), Some(name)) if opening[1..] == *name => open = None,
            (Some(opening), _) => return Some(opening),
            (None, Some(_)) => return Some(tag),
        }
    }
    open
}

fn next_tag(text: &str) -> Option<(usize, &'static str)> {
    RESERVED_TAGS.iter().filter_map(|it| text.find(it).map(|at| (at, *it))).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(stray_tag(text), expected, "{text}");
    }

    #[test]
    fn tags_come_in_pairs() {
        check("<think> a </think>\n<search> q </search>", None);
        check("a </think> <answer> x </answer>", None);
        check("", None);
        check("<think> a <search> q </search>", Some("<think>"));
        check("<search> q", Some("<search>"));
        check("q </search>", Some("</search>"));
        check("<search> q </answer>", Some("<search>"));
        check("<think> a </think> b </think>", Some("</think>"));
        check("<information>x</information>", Some("<information>"));
        assert_eq!(end_of_action("a</answer> b</search>"), Some(10));
        assert_eq!(end_of_action("a"), None);
    }
}
