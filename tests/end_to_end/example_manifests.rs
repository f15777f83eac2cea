//! The manifests of `examples` name the crates that they use, where these are and in the versions of the
//! workspace. Nothing is resolved, so that no crate has to be downloaded for it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// Manifests of this repository, as far as examples depend on them.
struct Workspace {
    root: PathBuf,
    dependencies: Table,
    /// Features that crates of the workspace turn on in a dependency, as `DEPENDENCY/FEATURE`.
    turned_on: BTreeSet<String>,
}

impl Workspace {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let dependencies = table(&root.join("Cargo.toml"), &["workspace", "dependencies"]);
        let mut turned_on = BTreeSet::new();
        for entry in fs::read_dir(root.join("crates")).unwrap() {
            let features = table(&entry.unwrap().path().join("Cargo.toml"), &["features"]);
            turned_on.extend(features.values().flat_map(strings));
        }
        Self { root, dependencies, turned_on }
    }

    /// Everything that is wrong with the manifest of an example, which lies in `folder`.
    fn problems(&self, folder: &Path, manifest: &str, source: &str) -> Vec<String> {
        let manifest: Table = manifest.parse().unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap();
        let mut problems = Vec::new();
        for name in self.dependencies.keys() {
            let is_used = uses(source, &name.replace('-', "_"));
            match (is_used, dependencies.contains_key(name)) {
                (true, false) => problems.push(format!("{name}: missing")),
                (false, true) => problems.push(format!("{name}: unused")),
                _ => {}
            }
        }
        for (name, dependency) in dependencies {
            let Some(ours) = self.dependencies.get(name) else {
                problems.push(format!("{name}: the workspace does not use it"));
                continue;
            };
            let known: BTreeSet<String> = match dependency.get("path").and_then(Value::as_str) {
                Some(path) => {
                    let path = folder.join(path).join("Cargo.toml");
                    if !path.is_file() || table(&path, &["package"])["name"].as_str() != Some(name)
                    {
                        problems.push(format!("{name}: is not where `path` says"));
                        continue;
                    }
                    table(&path, &["features"]).keys().cloned().collect()
                }
                None if version(dependency) != version(ours) => {
                    problems.push(format!("{name}: not the version of the workspace"));
                    continue;
                }
                None => {
                    let prefix = format!("{name}/");
                    let turned_on = self.turned_on.iter().filter_map(|it| it.strip_prefix(&prefix));
                    turned_on.map(str::to_owned).chain(features(ours)).collect()
                }
            };
            let unknown = features(dependency).into_iter().filter(|it| !known.contains(it));
            problems.extend(unknown.map(|it| format!("{name}: unknown feature `{it}`")));
        }
        problems
    }
}

fn table(path: &Path, keys: &[&str]) -> Table {
    let text = fs::read_to_string(path).unwrap();
    let mut table: Table = text.parse().unwrap();
    for key in keys {
        match table.remove(*key) {
            Some(Value::Table(inner)) => table = inner,
            _ => return Table::new(),
        }
    }
    table
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn features(dependency: &Value) -> Vec<String> {
    dependency.get("features").map(strings).unwrap_or_default()
}

fn version(dependency: &Value) -> Option<&str> {
    dependency.as_str().or_else(|| dependency.get("version")?.as_str())
}

/// Tests whether source code holds a path that starts with a crate.
fn uses(source: &str, name: &str) -> bool {
    let start = format!("{name}::");
    source.match_indices(&start).any(|(at, _)| {
        let before = source[..at].chars().next_back();
        !before.is_some_and(|it| it.is_alphanumeric() || it == '_' || it == ':')
    })
}

#[test]
fn examples_name_what_they_use() {
    let workspace = Workspace::read();
    let mut num_examples = 0;
    for entry in fs::read_dir(workspace.root.join("examples")).unwrap() {
        let folder = entry.unwrap().path();
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let mut source = String::new();
        for entry in fs::read_dir(folder.join("src")).unwrap() {
            source.push_str(&fs::read_to_string(entry.unwrap().path()).unwrap());
        }
        let problems = workspace.problems(&folder, &manifest, &source);
        assert!(problems.is_empty(), "{}: {problems:#?}", folder.display());
        num_examples += 1;
    }
    assert!(num_examples > 0);
}

#[track_caller]
fn check(dependencies: &str, source: &str, expected: &[&str]) {
    let workspace = Workspace::read();
    // As deep as an example.
    let folder = workspace.root.join("tests/end_to_end");
    let manifest = format!("[dependencies]\n{dependencies}");
    assert_eq!(workspace.problems(&folder, &manifest, source), expected);
}

#[test]
fn what_is_wrong_is_found() {
    let zs_rl = "zs-rl = { path = \"../../crates/zs-rl\" }\n";
    check(zs_rl, "use zs_rl::Grpo;", &[]);
    check(zs_rl, "fn main() { zs_rl::f(); zs_core::g(); }", &["zs-core: missing"]);
    check(zs_rl, "use my_zs_rl::Grpo; use self::zs_rl::x;", &["zs-rl: unused"]);
    let elsewhere = "zs-rl = { path = \"../../crates/zs-core\" }\n";
    check(elsewhere, "use zs_rl::Grpo;", &["zs-rl: is not where `path` says"]);
    let unknown = "zs-rl = { path = \"../../crates/zs-rl\", features = [\"flex\", \"fast\"] }\n";
    check(unknown, "use zs_rl::Grpo;", &["zs-rl: unknown feature `fast`"]);
    check("burn = \"0.1\"\n", "use burn::x;", &["burn: not the version of the workspace"]);
    check("fast = \"1\"\n", "", &["fast: the workspace does not use it"]);
}
