//! Errors with their causes as text.

use std::error::Error;

/// Message of an error and of its causes, `what: why`; a cause that the text before it ends with is
/// left out.
///
/// ```
/// let cause = std::io::Error::other("end of file");
/// let error = std::io::Error::other(cause);
/// assert_eq!(zs_core::with_causes(&error), "end of file");
/// ```
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(it) = cause {
        let message = it.to_string();
        if !text.ends_with(&message) {
            text = format!("{text}: {message}");
        }
        cause = it.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Failure {
        text: &'static str,
        source: Option<Box<Failure>>,
    }

    #[test]
    fn a_cause_is_told_once() {
        let check = |texts: &[&'static str], expected: &str| {
            let chain = texts
                .iter()
                .rev()
                .fold(None, |source, text| Some(Box::new(Failure { text, source })));
            assert_eq!(with_causes(&*chain.unwrap()), expected);
        };
        check(&["no row"], "no row");
        check(&["a.jsonl", "end of file"], "a.jsonl: end of file");
        check(&["a.jsonl: end of file", "end of file"], "a.jsonl: end of file");
        check(&["where", "what", "why"], "where: what: why");
    }
}
