//! Which queries are ones, and documents as they were before recording broke them.

use zs_core::{Document, RESERVED_TAGS};

/// Characters of the longest query that a person or policy would mean.
const MAX_QUERY_CHARS: usize = 400;

/// Reasons to refuse a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum MalformedQuery {
    /// It has no letter or digit.
    #[error("query_without_words")]
    WithoutWords,
    /// It holds a tag, or what is left of one: the policy quoted its instructions, or its action was
    /// cut in the middle.
    #[error("query_with_tags")]
    WithTags,
    /// It is longer than any query.
    #[error("query_too_long")]
    TooLong,
    /// It is the placeholder of the policy's prompt.
    #[error("query_is_placeholder")]
    Placeholder,
}

/// A query in one line, or why it is not one.
///
/// ```
/// use zs_simulator::collect::{MalformedQuery, check_query};
///
/// assert_eq!(check_query("  who wrote\nDune "), Ok("who wrote Dune".to_owned()));
/// assert_eq!(check_query("when was it built </search"), Err(MalformedQuery::WithTags));
/// ```
///
/// # Errors
///
/// Fails with the first reason that applies.
pub fn check_query(query: &str) -> Result<String, MalformedQuery> {
    let lower = query.to_lowercase();
    // A tag that was cut off lacks its closing bracket, or its name too.
    let has_tag = RESERVED_TAGS.iter().any(|it| lower.contains(it.trim_end_matches('>')));
    if has_tag || ["</", "<|"].iter().any(|it| lower.contains(it)) {
        return Err(MalformedQuery::WithTags);
    }
    if !query.chars().any(char::is_alphanumeric) {
        return Err(MalformedQuery::WithoutWords);
    }
    let line = query.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > MAX_QUERY_CHARS {
        return Err(MalformedQuery::TooLong);
    }
    if lower.trim() == "query" {
        return Err(MalformedQuery::Placeholder);
    }
    Ok(line)
}

/// Documents as the engine had them: titles freed from what a recorder wrapped around them, pieces
/// that it split off put back, doubled quotation marks made single, empty ones left out.
///
/// R1-Searcher's records cut documents at every closing quotation mark, and have
/// `"Title: T Text:` for titles that held none: a piece without a title of its own, or with a piece
/// of a sentence for one, continues the document before it. Where no document has a title, the
/// engine had none, and nothing is put together.
///
/// ```
/// use zs_core::Document;
/// use zs_simulator::collect::mend_documents;
///
/// let pieces = [
///     Document::new("\"Title: Sean Astin Text:", "Known for \"\"Rudy\"\""),
///     Document::new("", "and the title role of \"\"Kimberly\"\"."),
/// ];
/// let mended = [Document::new("Sean Astin", "Known for \"Rudy\" and the title role of \"Kimberly\".")];
/// assert_eq!(mend_documents(&pieces), mended);
/// ```
#[must_use]
pub fn mend_documents(documents: &[Document]) -> Vec<Document> {
    let has_titles = documents.iter().any(|it| is_title(it.title.trim()));
    let mut mended: Vec<Document> = Vec::new();
    for document in documents {
        let (title, text) = (document.title.trim(), document.text.trim());
        match mended.last_mut() {
            Some(last) if has_titles && !is_title(title) => {
                for piece in [title, text].into_iter().filter(|it| !it.is_empty()) {
                    let is_glued = piece.starts_with([',', '.', ';', ':', ')', '\'']);
                    last.text.push_str(if is_glued { "" } else { " " });
                    last.text.push_str(piece);
                }
            }
            _ => {
                let wrapped = title.strip_prefix("\"Title:").map(|it| it.trim_end_matches("Text:"));
                let title = wrapped.unwrap_or(title).trim();
                let (title, text) = (title.to_owned(), text.to_owned());
                mended.push(Document { title, text, ..document.clone() });
            }
        }
    }
    for document in &mut mended {
        document.title = single_quotes(&document.title);
        document.text = single_quotes(&document.text);
    }
    mended.retain(|it| it.text.chars().any(char::is_alphanumeric));
    mended
}

/// Returns true if a text can be a title and is no fragment of a sentence.
fn is_title(text: &str) -> bool {
    let is_wrapped = text.starts_with("\"Title:");
    let starts_inside = text.starts_with([',', '.', ';', ')']) || text.contains("\"\"");
    text.chars().any(char::is_alphanumeric) && (is_wrapped || !starts_inside)
}

/// Quotation marks that a CSV writer doubled, and the one that it left at the end.
fn single_quotes(text: &str) -> String {
    let mut single = text.to_owned();
    while single.contains("\"\"") {
        single = single.replace("\"\"", "\"");
    }
    if single.matches('"').count() % 2 == 1 && single.ends_with('"') {
        single.pop();
    }
    single.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: Result<&str, MalformedQuery>) {
        assert_eq!(check_query(query), expected.map(str::to_owned), "{query}");
    }

    #[test]
    fn queries_that_are_none_are_told_apart() {
        check("where did bucharest get its name", Ok("where did bucharest get its name"));
        check("a < b", Ok("a < b"));
        check("", Err(MalformedQuery::WithoutWords));
        check(" ?! ", Err(MalformedQuery::WithoutWords));
        check("and </search>. If I want to give", Err(MalformedQuery::WithTags));
        check("Declaration of Independence </SEARCH", Err(MalformedQuery::WithTags));
        check("<search> again", Err(MalformedQuery::WithTags));
        check("Heraclius successor</", Err(MalformedQuery::WithTags));
        check("a <|im_end|>", Err(MalformedQuery::WithTags));
        check(" Query ", Err(MalformedQuery::Placeholder));
        check(&"word ".repeat(100), Err(MalformedQuery::TooLong));
    }

    #[test]
    fn documents_are_put_together_again() {
        let pieces = [
            Document::new("\"Title: Hugo Weaving Text:", "played V in \"\"V for Vendetta\"\""),
            Document::new("", ", Red Skull in \"\"Captain America\"\""),
            Document::new(".", "He lives in Sydney.\""),
            Document::new("Flipper (1996 film)", "A film."),
            Document::new(", and \"\"Gossip Girl\"\".", "It ended."),
            Document::new("Empty", " "),
        ];
        let mended = mend_documents(&pieces);
        let expected = [
            Document::new(
                "Hugo Weaving",
                "played V in \"V for Vendetta\", Red Skull in \"Captain America\". He lives in \
                 Sydney.",
            ),
            Document::new("Flipper (1996 film)", "A film., and \"Gossip Girl\". It ended."),
        ];
        assert_eq!(mended, expected);
        assert_eq!(mend_documents(&mended), mended);
        // Nothing comes before a first piece, so it stands for itself; an engine may have no titles.
        let untitled = [Document::new("", "One."), Document::new("", "Two.")];
        assert_eq!(mend_documents(&untitled), untitled);
    }
}
