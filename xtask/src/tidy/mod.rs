//! The rules that rustc and clippy cannot check.

mod edges;
mod files;
mod tensors;

use std::process::ExitCode;

use anyhow::{Context, bail};
use cargo_metadata::{Metadata, MetadataCommand};

/// What tidy found.
#[derive(Debug, Default)]
struct Findings {
    /// Rules that are broken.
    errors: Vec<String>,
    /// What is allowed, but should not grow.
    warnings: Vec<String>,
}

/// Checks the workspace and reports on the console.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    check_workspace().map(|()| ExitCode::SUCCESS)
}

/// Checks the workspace; fails with every broken rule.
pub(crate) fn check_workspace() -> anyhow::Result<()> {
    let metadata = MetadataCommand::new().no_deps().exec().context("cannot read the workspace")?;
    let findings = findings(&metadata)?;
    for warning in &findings.warnings {
        eprintln!("warning: {warning}");
    }
    if findings.errors.is_empty() {
        return Ok(());
    }
    bail!("the workspace is not tidy:\n  {}", findings.errors.join("\n  "))
}

fn findings(metadata: &Metadata) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    for package in metadata.workspace_packages() {
        edges::check(package, &mut findings);
        files::check(package, &metadata.workspace_root, &mut findings)?;
    }
    tensors::check(metadata, &mut findings)?;
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let metadata = MetadataCommand::new().no_deps().exec().unwrap();
        let findings = findings(&metadata).unwrap();
        assert!(findings.errors.is_empty(), "{:#?}", findings.errors);
    }
}
