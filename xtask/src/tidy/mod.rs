//! The rules that rustc and clippy cannot check.

mod allowed;
mod edges;
mod features;
mod files;
mod links;
mod modules;
mod packaged;
mod paths;
mod reads;
mod source;
mod state;
mod tensors;
mod unsafe_code;
mod words;

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context, bail};
use cargo_metadata::{Metadata, MetadataCommand, Package, TargetKind};

/// Outcome of the checks.
#[derive(Debug, Default)]
struct Findings {
    /// Rules that are broken.
    errors: Vec<String>,
    /// Findings that are allowed, but should not grow.
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
    let mut unsafe_counts = BTreeMap::new();
    for package in metadata.workspace_packages() {
        edges::check(package, &mut findings);
        features::check(package, &mut findings)?;
        files::check(package, &metadata.workspace_root, &mut findings)?;
        check_sources(package, metadata, &mut unsafe_counts, &mut findings)?;
    }
    let architecture = fs::read_to_string(metadata.workspace_root.join("ARCHITECTURE.md"))
        .context("cannot read ARCHITECTURE.md")?;
    unsafe_code::check(&unsafe_counts, &architecture, &mut findings);
    links::check(&metadata.workspace_root, &mut findings);
    tensors::check(metadata, &mut findings)?;
    Ok(findings)
}

/// Checks the parsed sources of a package: of its library and programs, not of tests and benches.
fn check_sources(
    package: &Package,
    metadata: &Metadata,
    unsafe_counts: &mut BTreeMap<String, usize>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let is_checked = |it: &TargetKind| matches!(it, TargetKind::Lib | TargetKind::Bin);
    let workspace_root = metadata.workspace_root.as_std_path();
    let targets = package.targets.iter().filter(|it| it.kind.iter().any(is_checked));
    let targets = targets
        .map(|it| source::read(it.src_path.as_std_path(), workspace_root))
        .collect::<anyhow::Result<Vec<_>>>()?;
    modules::check(&package.name, &targets, findings);
    state::check(&package.name, targets.iter().flatten(), findings);
    unsafe_code::count(targets.iter().flatten(), unsafe_counts);
    if package.publish.as_deref() != Some(&[]) {
        let folder = package.manifest_path.parent().context("a manifest lies in a folder")?;
        let folder = folder.strip_prefix(&metadata.workspace_root).unwrap_or(folder);
        packaged::check(folder.as_std_path(), targets.iter().flatten(), findings);
        reads::check(targets.iter().flatten(), findings);
    }
    Ok(())
}

/// Tests whether a line begins the tests of a file.
fn starts_tests(line: &str) -> bool {
    line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test")
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
