//! Parser of requests to helper models in the policy's text.

use super::HelperKind;

/// Request at the end of a text, if the last tag that the text closes is that of one of these
/// kinds.
///
/// An opening tag inside a request restarts it, as in [`zs_core::parse_action`]; an empty request
/// is none. The caller passes the policy's own text only.
///
/// ```
/// use zs_rl::consult::{HelperKind, parse_consult};
///
/// let asked = parse_consult("<think> hm <verify> 2 + 2 = 4 </verify>", &HelperKind::ALL);
/// assert_eq!(asked, Some((HelperKind::Verify, "2 + 2 = 4")));
/// assert_eq!(parse_consult("<verify> never closed", &HelperKind::ALL), None);
/// ```
#[must_use]
pub fn parse_consult<'a>(text: &'a str, kinds: &[HelperKind]) -> Option<(HelperKind, &'a str)> {
    let last = |kind: HelperKind| text.rfind(kind.closing_tag()).map(|at| (at, kind));
    let (end, kind) = kinds.iter().copied().filter_map(last).max()?;
    let tail = &text[end + kind.closing_tag().len()..];
    if ["</search>", "</answer>"].iter().any(|it| tail.contains(it)) {
        return None;
    }
    let opening = format!("<{}>", kind.tag());
    let start = text[..end].rfind(&opening)? + opening.len();
    let request = text[start..end].trim();
    (!request.is_empty()).then_some((kind, request))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(HelperKind, &str)>) {
        assert_eq!(parse_consult(text, &HelperKind::ALL), expected, "{text}");
    }

    #[test]
    fn the_last_closed_tag_counts() {
        use HelperKind::{Knowledge, Reasoning, Verify};
        check("<verify> a </verify>", Some((Verify, "a")));
        check("<knowledge> a </knowledge> tail", Some((Knowledge, "a")));
        check("<verify> a </verify><reasoning>b</reasoning>", Some((Reasoning, "b")));
        check("<verify> a <verify> b </verify>", Some((Verify, "b")));
        check("<verify>  </verify>", None);
        check("</verify><verify>", None);
        check("<knowledge> a </verify>", None);
        check("<verify> a </verify><search> q </search>", None);
        check("", None);
        assert_eq!(parse_consult("<verify> a </verify>", &[Knowledge]), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "(<|>|/|verify|knowledge|reasoning|search|é|a| ){0,24}") {
            let _ = parse_consult(&text, &HelperKind::ALL);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_consult(&String::from_utf8_lossy(&bytes), &HelperKind::ALL);
        }
    }
}
