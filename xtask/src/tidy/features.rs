//! Features that nothing explains: each needs a comment above its line in the manifest, or a place in the
//! README.

use std::fs;

use anyhow::Context;
use cargo_metadata::Package;

use super::Findings;

/// Checks the features of one package.
pub(super) fn check(package: &Package, findings: &mut Findings) -> anyhow::Result<()> {
    let path = &package.manifest_path;
    let manifest = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let readme = fs::read_to_string(path.with_file_name("README.md")).unwrap_or_default();
    let names = package.features.keys().map(String::as_str);
    for name in names.filter(|it| *it != "default" && !is_explained(it, &manifest, &readme)) {
        findings.errors.push(format!(
            "{}: the feature `{name}` is explained neither above its line in Cargo.toml nor in the \
             README",
            package.name
        ));
    }
    Ok(())
}

fn is_explained(name: &str, manifest: &str, readme: &str) -> bool {
    let start = format!("{name} = ");
    let lines: Vec<&str> = manifest.lines().collect();
    let is_commented =
        lines.windows(2).any(|it| it[0].starts_with("# ") && it[1].starts_with(&start));
    is_commented || readme.contains(&format!("`{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(manifest: &str, readme: &str, expected: bool) {
        assert_eq!(is_explained("http", manifest, readme), expected, "{manifest} {readme}");
    }

    #[test]
    fn a_comment_or_the_readme_explains() {
        check("[features]\n# Engines.\nhttp = []\n", "", true);
        check("[features]\nhttp = []\n", "Features: `http`.", true);
        check("[features]\nhttp = []\n", "An http server.", false);
        check("[features]\n# Of another.\nother = []\nhttp = []\n", "", false);
    }
}
