//! Rules about single files: their length, READMEs, crate docs, and no test that is switched off.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cargo_metadata::Package;
use cargo_metadata::camino::Utf8Path;

use super::{Findings, starts_tests, words};

/// Lines before the tests that no file may exceed.
const MAX_LINES: usize = 600;
/// Lines before the tests above which a file is listed.
const MANY_LINES: usize = 400;

/// Checks the files of one package.
pub(super) fn check(
    package: &Package,
    workspace_root: &Utf8Path,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let root = package.manifest_path.parent().context("a manifest lies in a folder")?;
    let readme = root.join("README.md");
    if package.name.as_str() != "xtask" && !readme.exists() {
        findings.errors.push(format!("{}: README.md is missing", package.name));
    }
    for path in rust_files(root.as_std_path())? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.strip_prefix(workspace_root).unwrap_or(&path).display().to_string();
        check_text(&name, &text, findings);
        words::check(&name, &text, findings);
        if path.ends_with("src/lib.rs") && !has_crate_example(&text) {
            findings.errors.push(format!("{name}: the crate docs hold no runnable example"));
        }
    }
    Ok(())
}

/// Every Rust file below a folder, in a fixed order. Folders that hold a package of their own belong
/// to that package.
fn rust_files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                if !path.join("Cargo.toml").exists() && !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|it| it == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn check_text(name: &str, text: &str, findings: &mut Findings) {
    let num_lines = text.lines().take_while(|line| !starts_tests(line)).count();
    if num_lines > MAX_LINES {
        findings.errors.push(format!(
            "{name}: {num_lines} lines before the tests, at most {MAX_LINES}; one idea a file"
        ));
    } else if num_lines > MANY_LINES {
        findings.warnings.push(format!("{name}: {num_lines} lines before the tests"));
    }
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.starts_with("#[ignore") {
            let number = index + 1;
            findings.errors.push(format!("{name}:{number}: a test may not be ignored"));
        }
        if doc_fence(line).is_some_and(|info| info.split([',', ' ']).any(|it| it == "ignore")) {
            let number = index + 1;
            findings.errors.push(format!("{name}:{number}: a doctest may not be ignored"));
        }
    }
}

/// The info string of a code fence in a doc comment.
fn doc_fence(line: &str) -> Option<&str> {
    let doc = line.strip_prefix("//!").or_else(|| line.strip_prefix("///"))?;
    doc.trim_start().strip_prefix("```")
}

/// Tests whether the crate docs hold a fence that rustdoc compiles and runs.
fn has_crate_example(text: &str) -> bool {
    let mut is_open = false;
    for line in text.lines().filter(|it| it.starts_with("//!")) {
        if let Some(info) = doc_fence(line) {
            if !is_open && matches!(info.trim(), "" | "rust") {
                return true;
            }
            is_open = !is_open;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, errors: &[&str], num_warnings: usize) {
        let mut findings = Findings::default();
        check_text("a.rs", text, &mut findings);
        assert_eq!(findings.errors, errors);
        assert_eq!(findings.warnings.len(), num_warnings);
    }

    #[test]
    fn only_code_counts() {
        let code = |lines: usize| "let x = 1;\n".repeat(lines);
        check(&code(400), &[], 0);
        check(&code(401), &[], 1);
        check(&code(601), &["a.rs: 601 lines before the tests, at most 600; one idea a file"], 0);
        check(&format!("{}#[cfg(test)]\n{}", code(400), code(900)), &[], 0);
    }

    #[test]
    fn tests_run() {
        check("x\n    #[ignore]\n", &["a.rs:2: a test may not be ignored"], 0);
        check("#[ignore = \"slow\"]\n", &["a.rs:1: a test may not be ignored"], 0);
        check("/// ```rust,ignore\n", &["a.rs:1: a doctest may not be ignored"], 0);
        check("    //! ```ignore\n", &["a.rs:1: a doctest may not be ignored"], 0);
        check("/// ```no_run\n/// ignore\n", &[], 0);
    }

    #[test]
    fn text_fences_are_no_examples() {
        assert!(has_crate_example("//! A.\n//! ```\n//! f();\n//! ```\n"));
        assert!(has_crate_example("//! ```text\n//! x\n//! ```\n//! ```rust\n//! ```\n"));
        assert!(!has_crate_example("//! ```text\n//! x\n//! ```\n"));
        assert!(!has_crate_example("//! ```toml\n//! ```\n//!\nfn f() {}\n/// ```\n"));
    }
}
