//! Crates that must compile without a tensor framework.

use std::collections::{BTreeMap, VecDeque};

use anyhow::Context;
use cargo_metadata::{DependencyKind, Metadata};

use super::Findings;

/// Crates whose dependencies reach no tensor crate.
const WITHOUT_TENSORS: [&str; 5] = ["zs-core", "zs-curriculum", "zs-data", "zs-search", "zs-world"];

/// Names of packages that each package depends on.
type Graph = BTreeMap<String, Vec<String>>;

/// Checks the whole tree of dependencies, optional ones included; development dependencies do not
/// count.
pub(super) fn check(metadata: &Metadata, findings: &mut Findings) -> anyhow::Result<()> {
    let path = metadata.workspace_root.join("Cargo.lock");
    let lock = std::fs::read_to_string(&path).with_context(|| format!("{path}: cannot be read"))?;
    let mut graph = graph(&lock).with_context(|| format!("{path}: not a lock file"))?;
    // The lock file does not tell development dependencies of the workspace from others.
    for package in metadata.workspace_packages() {
        let dependencies = package.dependencies.iter();
        let dependencies = dependencies.filter(|it| it.kind != DependencyKind::Development);
        let names = dependencies.map(|it| it.name.clone()).collect();
        graph.insert(package.name.to_string(), names);
    }
    for package in WITHOUT_TENSORS {
        findings.errors.extend(path_to_tensors(&graph, package).map(|path| {
            format!(
                "{package}: must compile without tensors, but reaches them: {}",
                path.join(" > ")
            )
        }));
    }
    Ok(())
}

fn graph(lock: &str) -> anyhow::Result<Graph> {
    let lock: toml::Table = toml::from_str(lock)?;
    let packages = lock.get("package").and_then(toml::Value::as_array).context("no packages")?;
    let mut graph = Graph::new();
    for package in packages {
        let name = package.get("name").and_then(toml::Value::as_str).context("no name")?;
        let dependencies = package.get("dependencies").and_then(toml::Value::as_array);
        // A dependency is a name, with a version where there are several.
        let names = dependencies.into_iter().flatten().filter_map(toml::Value::as_str);
        let names = names.filter_map(|it| it.split(' ').next()).map(str::to_owned);
        graph.entry(name.to_owned()).or_default().extend(names);
    }
    Ok(graph)
}

fn has_tensors(package: &str) -> bool {
    // It multiplies matrices in slices, and brings no type of its own for them.
    if package == "gemmkit" {
        return false;
    }
    ["burn", "candle", "cubecl", "gemm"].iter().any(|it| package.starts_with(it))
        || ["safetensors", "tokenizers"].contains(&package)
}

/// The shortest chain of dependencies from a package to one with tensors.
fn path_to_tensors(graph: &Graph, start: &str) -> Option<Vec<String>> {
    let mut parents: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(package) = queue.pop_front() {
        if has_tensors(package) {
            let chain = std::iter::successors(Some(package), |it| parents.get(it).copied());
            let mut chain: Vec<String> = chain.map(str::to_owned).collect();
            chain.reverse();
            return Some(chain);
        }
        for dependency in graph.get(package).into_iter().flatten() {
            if dependency != start && !parents.contains_key(dependency.as_str()) {
                parents.insert(dependency, package);
                queue.push_back(dependency);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(dependencies: &[(&str, &[&str])], expected: Option<&str>) {
        let mut lock = String::new();
        for (name, names) in dependencies {
            let names: Vec<String> = names.iter().map(|it| format!("\"{it}\"")).collect();
            let names = names.join(", ");
            lock.push_str(&format!("[[package]]\nname = \"{name}\"\ndependencies = [{names}]\n"));
        }
        let found = path_to_tensors(&graph(&lock).unwrap(), "a").map(|it| it.join(" > "));
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn chains_to_tensors_are_found() {
        check(&[("a", &["b", "c"]), ("b", &["a"]), ("c", &[])], None);
        check(&[("a", &["b 1.0.0"]), ("b", &["burn-core"])], Some("a > b > burn-core"));
        check(&[("a", &["b"]), ("b", &["c", "tokenizers"])], Some("a > b > tokenizers"));
        check(&[("a", &["b"]), ("z", &["burn"])], None);
        check(&[("a", &["gemmkit"]), ("gemmkit", &["half"])], None);
        check(&[("a", &["gemmkit"]), ("gemmkit", &["gemm"])], Some("a > gemmkit > gemm"));
    }
}
