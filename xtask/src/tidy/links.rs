//! Symbolic links in git, which a checkout on Windows turns into files that hold a path.

use std::process::Command;

use cargo_metadata::camino::Utf8Path;

use super::Findings;

/// Checks what git knows of the workspace; a source tree without a repository holds nothing to check.
pub(super) fn check(workspace_root: &Utf8Path, findings: &mut Findings) {
    let listing = Command::new("git")
        .args(["ls-files", "--stage", "-z"])
        .current_dir(workspace_root)
        .output();
    match listing {
        Ok(it) if it.status.success() => {
            findings.errors.extend(problems(&String::from_utf8_lossy(&it.stdout)));
        }
        _ => findings
            .warnings
            .push("no git repository: symbolic links are not looked for".to_owned()),
    }
}

/// The links in a listing of `MODE HASH STAGE\tPATH` entries.
fn problems(listing: &str) -> impl Iterator<Item = String> {
    listing.split('\0').filter(|it| it.starts_with("120000 ")).filter_map(|it| {
        let (_, path) = it.split_once('\t')?;
        Some(format!("{path}: a symbolic link, which breaks on Windows; move the file"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found() {
        let listing =
            "100644 8c2 0\ta/120000 b\x00120000 8c3 0\tpresets/claims\x00100755 8c4 0\tc\x00";
        let found: Vec<String> = problems(listing).collect();
        assert_eq!(
            found,
            ["presets/claims: a symbolic link, which breaks on Windows; move the file"]
        );
    }
}
