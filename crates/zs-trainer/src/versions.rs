//! Sources that this build was made from.

use std::collections::BTreeMap;

/// Value in place of a fact that the build could not find out.
const UNKNOWN: &str = "unknown";

/// The commit, with `-dirty` where files had changed since; `unknown` outside of a repository.
pub fn git_commit() -> String {
    // A build outside of a repository, or without git, sets neither.
    match (option_env!("VERGEN_GIT_SHA").and_then(known), option_env!("VERGEN_GIT_DIRTY")) {
        (None, _) => UNKNOWN.to_owned(),
        (Some(sha), Some("true")) => format!("{sha}-dirty"),
        (Some(sha), _) => sha.to_owned(),
    }
}

/// The versions of the crates that compute, by name.
pub fn crates() -> BTreeMap<String, String> {
    let listed = known(env!("ZS_DEPENDENCIES")).unwrap_or_default();
    let pair = |it: &str| it.split_once(' ').map(|(name, it)| (name.to_owned(), it.to_owned()));
    listed.split(',').filter_map(pair).collect()
}

fn known(fact: &'static str) -> Option<&'static str> {
    (!fact.is_empty() && !fact.starts_with("VERGEN_")).then_some(fact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_knows_what_computes() {
        let crates = crates();
        let names: Vec<&str> = crates.keys().map(String::as_str).collect();
        assert_eq!(names, ["burn", "tantivy", "tokenizers"]);
        assert!(crates["burn"].starts_with("0."), "{crates:?}");
        assert!(!git_commit().contains("VERGEN"));
    }
}
