//! The Content-Security-Policy of pages that hold everything they need.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zs_data::digest;

/// Policy of a page with these scripts and styles, for a `meta` element ahead of them.
///
/// Nothing is loaded and nothing is sent: not a script, style, picture, font, frame or form. Of what is
/// inside the page only these elements count, by the SHA-256 of the text between their tags; attributes
/// with scripts or styles do not. So markup in the text of a document or a model would do nothing,
/// should it ever come into the page unescaped.
///
/// ```
/// let policy = zs_observe::content_policy(&[], &["p { color: red }"]);
/// assert!(policy.starts_with("default-src 'none'; ") && policy.contains("style-src 'sha256-"));
/// ```
#[must_use]
pub fn content_policy(scripts: &[&str], styles: &[&str]) -> String {
    let sources = |texts: &[&str]| match texts {
        [] => "'none'".to_owned(),
        texts => {
            let hash = |it: &&str| STANDARD.encode(digest::sha256(it.as_bytes()));
            let hashes = texts.iter().map(|it| format!("'sha256-{}'", hash(it)));
            hashes.collect::<Vec<_>>().join(" ")
        }
    };
    format!(
        "default-src 'none'; script-src {}; style-src {}; base-uri 'none'; form-action 'none'",
        sources(scripts),
        sources(styles)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_named_by_their_hashes() {
        // The example of CSP level 2, section 7.17.1: `sha256-` of this script.
        let script = "alert('Hello, world.');";
        assert_eq!(
            content_policy(&[script], &[]),
            "default-src 'none'; script-src 'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='; \
             style-src 'none'; base-uri 'none'; form-action 'none'"
        );
    }
}
