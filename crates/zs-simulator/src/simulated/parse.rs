//! Reading documents out of what a simulation LLM wrote.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;
use zs_core::{Document, without_thoughts};

/// The documents of a reply, at most `k`; none where the reply holds nothing usable.
///
/// Meant are lines `Doc 1: text`. Tolerated are: other spellings (`Document 2.`, `**Doc 3:**`,
/// `Doc 4 - text`, a line with `Doc 5` alone), numbers that are missing or have two digits, several
/// documents in a line, a title in parentheses, an introduction before the first document, lists
/// with bullets or bare numbers, unnumbered lines, JSON, a code fence around it all, thoughts before
/// it (`<think>`), and documents said twice, which count once.
///
/// ```
/// use zs_simulator::parse_documents;
///
/// let documents = parse_documents("Sure!\nDoc 1: a fish Doc 2 : a tree\nDoc 3: A fish", 5);
/// let texts: Vec<&str> = documents.iter().map(|it| it.text.as_str()).collect();
/// assert_eq!(texts, ["a fish", "a tree"]);
/// ```
#[must_use]
pub fn parse_documents(reply: &str, k: usize) -> Vec<Document> {
    let reply = without_fence(without_thoughts(reply));
    let mut documents: Vec<Document> = Vec::new();
    let mut push = |title: &str, text: &str| {
        let text = clean(text);
        let is_repeated = |it: &Document| it.text.to_lowercase() == text.to_lowercase();
        let is_usable = text.chars().any(char::is_alphanumeric);
        if documents.len() < k && is_usable && !documents.iter().any(is_repeated) {
            documents.push(Document::new(title.trim(), text));
        }
    };
    if let Some(rows) = json_rows(reply) {
        rows.iter().for_each(|row| push_json(row, &mut push));
        return documents;
    }
    let markers: Vec<_> = MARKER.captures_iter(reply).collect();
    if markers.is_empty() || is_introduced_list(reply) {
        let lines: Vec<&str> = reply.lines().filter(|it| !it.trim().is_empty()).collect();
        // "Here are the documents:" is none of them.
        let is_introduced = lines.len() > 1 && lines[0].trim_end().ends_with(':');
        for line in &lines[usize::from(is_introduced)..] {
            push("", BULLET.replace(line, "").as_ref());
        }
        return documents;
    }
    for (index, marker) in markers.iter().enumerate() {
        let Some(whole) = marker.get(0) else { continue };
        let next = markers.get(index + 1).and_then(|it| it.get(0));
        let end = next.map_or(reply.len(), |it| it.start());
        let bare = || marker.name("bare").map_or("", |it| it.as_str().trim().trim_matches('"'));
        let title = marker.name("title").map_or_else(bare, |it| it.as_str());
        push(title, &reply[whole.end()..end]);
    }
    documents
}

/// Returns true if a line that ends in a colon is followed by nothing but the lines of a list.
fn is_introduced_list(reply: &str) -> bool {
    let mut lines = reply.lines().filter(|it| !it.trim().is_empty());
    let is_introduced = lines.next().is_some_and(|it| it.trim_end().ends_with(':'));
    let mut rest = lines.peekable();
    let is_item = |it: &str| BULLET.is_match(it) && !MARKER.is_match(it);
    is_introduced && rest.peek().is_some() && rest.all(is_item)
}

/// Text inside a code fence around the whole reply.
fn without_fence(reply: &str) -> &str {
    let inside = reply.trim().strip_prefix("```").and_then(|it| it.strip_suffix("```"));
    // The first line may name a language.
    inside.map_or(reply, |it| it.split_once('\n').map_or(it, |(_, rest)| rest))
}

/// The documents of a reply in JSON: an array, or an object with an array in it or with a document
/// under each of its keys.
fn json_rows(reply: &str) -> Option<Vec<Value>> {
    if !reply.trim_start().starts_with(['[', '{']) {
        return None;
    }
    match serde_json::from_str(reply).ok()? {
        Value::Array(rows) => Some(rows),
        Value::Object(object) if text_of(&object).is_some() => Some(vec![Value::Object(object)]),
        Value::Object(object) => {
            let list = object.values().find_map(Value::as_array).cloned();
            Some(list.unwrap_or_else(|| object.into_iter().map(|(_, value)| value).collect()))
        }
        _ => None,
    }
}

fn push_json(row: &Value, push: &mut impl FnMut(&str, &str)) {
    match row {
        Value::String(text) => push("", text),
        Value::Object(object) => {
            let title = object.get("title").and_then(Value::as_str).unwrap_or_default();
            push(title, text_of(object).unwrap_or_default());
        }
        _ => {}
    }
}

/// The text of a document, by the names that models give to it.
fn text_of(object: &serde_json::Map<String, Value>) -> Option<&str> {
    ["text", "content", "contents", "snippet", "document", "passage"]
        .iter()
        .find_map(|it| object.get(*it)?.as_str())
}

/// `Doc 1:`, `document 12.`, `**Doc 3:**`, `- Doc:`, `Doc 1(Title: "T (a novel)")`, `Doc 1(Title: T)`; at
/// the start of a line also `Doc 1 - ` and `Doc 1` alone.
static MARKER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)(?:^|[\s*#>\-•\[(])[*#\s]*\bdoc(?:ument)?s?[ \t]*#?[ \t]*(?:\d{1,3})?[ \t]*\]?[*]*[ \t]*",
        r#"(?:\([ \t]*title[ \t]*:[ \t]*(?:"(?P<title>[^\n]*?)"[ \t]*|(?P<bare>[^)\n]*))\)[ \t]*[:.]?"#,
        r"|[:.)](?:[*]+)?)",
        r"|(?im:^[ \t*#>]*doc(?:ument)?[ \t]*#?[ \t]*\d{1,3}[ \t*\]]*(?:$|[-–—][ \t]))"
    ))
    .expect("a tested pattern")
});

/// Marker at the start of a list item.
static BULLET: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*(?:[-*•>#]+\s+|\(?\d{1,3}[.):]\s+)").expect("a tested pattern")
});

/// One line without emphasis around it.
fn clean(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_dress = |ch: char| matches!(ch, '*' | '#' | '>' | '•') || ch.is_whitespace();
    line.trim_matches(is_dress).trim_end_matches(" -").to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pretraining::render_reply;

    #[track_caller]
    fn check(reply: &str, expected: &[&str]) {
        let documents = parse_documents(reply, 3);
        let texts: Vec<&str> = documents.iter().map(|it| it.text.as_str()).collect();
        assert_eq!(texts, expected, "{reply:?}");
    }

    #[test]
    fn reads_documents_in_any_dress() {
        check("Doc 1: a\nDoc 2: b\n", &["a", "b"]);
        check("Doc 1: a\n\nDoc 2:\nb\nc", &["a", "b c"]);
        check("Useful Output:\nDoc 1: a Doc 2: b Doc 3: c Doc 4: d", &["a", "b", "c"]);
        check("doc1: a\nDOCUMENT 12: b", &["a", "b"]);
        check("Doc: a\nDoc: b", &["a", "b"]);
        check("**Doc 1:** a\n**Doc 2**: b\n- Doc 3: c", &["a", "b", "c"]);
        check("Doc 1 : a Doc 2 : b", &["a", "b"]);
        check("Document 1. a\nDocument 2) b", &["a", "b"]);
        check("Doc 1: a\nDoc 2: A\nDoc 3: b", &["a", "b"]);
        check("Doc 1:\nDoc 2: b", &["b"]);
        check("1. a\n2. b", &["a", "b"]);
        check("- a\n* b\n\n• c\nd", &["a", "b", "c"]);
        check("one paragraph, no mark", &["one paragraph, no mark"]);
        check("Doc 1: see the doc about it", &["see the doc about it"]);
        check("Doc 1: born in 1987.\nDoc 2: -5 degrees", &["born in 1987.", "-5 degrees"]);
        check("**Doc 1**\na\n\n**Doc 2**\nb", &["a", "b"]);
        check("Doc 1 - a\nDocument 2 – b - c", &["a", "b - c"]);
        check("[Doc 1]: a\n[Doc 2]: b", &["a", "b"]);
        check("Here are the documents:\n\n1. a\n2. b", &["a", "b"]);
        check("The doc 12 - 3 of them - is gone", &["The doc 12 - 3 of them - is gone"]);
        check("<think>Doc 1: no</think>\nDoc 1: yes", &["yes"]);
        check("<think>Doc 1: no", &[]);
        check("Doc 1: a draft</think>\nDoc 1: yes", &["yes"]);
        check("```\nDoc 1: a\nDoc 2: b\n```", &["a", "b"]);
        check("```json\n[\"a\", {\"text\": \"b\"}]\n```", &["a", "b"]);
        check("{\"documents\": [{\"content\": \"a\"}, 3]}", &["a"]);
        check("{\"Doc 1\": \"a\", \"Doc 2\": \"b\"}", &["a", "b"]);
        check("[not JSON] but text", &["[not JSON] but text"]);
        check("", &[]);
        check("Doc 1: \nDoc 2: ***", &[]);
    }

    #[test]
    fn titles_are_kept() {
        let check = |reply: &str, expected: &[(&str, &str)]| {
            let documents = parse_documents(reply, 5);
            let parts: Vec<_> =
                documents.iter().map(|it| (it.title.as_str(), it.text.as_str())).collect();
            assert_eq!(parts, expected, "{reply:?}");
        };
        check("Doc 1(Title: \"A B\") text\nDoc 2: plain", &[("A B", "text"), ("", "plain")]);
        check("Doc 1(Title: \"Dune (novel)\") text", &[("Dune (novel)", "text")]);
        check(
            "Doc 1(Title: \"The \"B\"\") a Doc 2 (title: C): b",
            &[("The \"B\"", "a"), ("C", "b")],
        );
        check("Doc 1(Title: \"A) text", &[("A", "text")]);
    }

    proptest! {
        #[test]
        fn never_panics_and_respects_k(
            reply in "(Doc|doc|Document|[0-9]|:|\\.|\n| |é|\\*|-|\\(Title: |\\)|a|```|<think>|\\[|\\{|\"){0,40}",
            k in 0..4_usize,
        ) {
            let documents = parse_documents(&reply, k);
            prop_assert!(documents.len() <= k);
            prop_assert!(documents.iter().all(|it| !it.text.trim().is_empty()));
        }

        #[test]
        fn rendered_documents_are_read_back(
            texts in proptest::collection::btree_set("[b-z]{1,8}( [b-z]{1,8}){0,4}", 1..6),
            title in "|[A-Za-z]{1,8}( \\(?[a-z,:]{1,8}\\)?){0,2}",
        ) {
            let documents: Vec<Document> =
                texts.iter().map(|it| Document::new(title.as_str(), it.as_str())).collect();
            prop_assert_eq!(parse_documents(&render_reply(&documents), 9), documents);
        }
    }
}
