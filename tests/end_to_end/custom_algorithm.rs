//! The example of `docs/extending.md`: built and run here, so that CI need not build burn twice.

use std::fs;
use std::path::Path;
use std::process::Command;

#[path = "../../examples/custom_algorithm/src/main.rs"]
#[expect(dead_code, reason = "its `main` is for those who run it")]
#[expect(unreachable_pub, clippy::print_stdout, reason = "it is a program of its own")]
mod example;

#[test]
fn it_trains_the_shipped_model() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/zs-tiny");
    let rewards = example::train(&model, 3).unwrap();
    assert_eq!(rewards.len(), 3);
    assert!(rewards.iter().all(|it| it.is_finite()), "{rewards:?}");
    assert!(rewards.iter().any(|it| *it != 0.0), "{rewards:?}: nothing to learn from");
    // Step 1 is that of the shipped model; training must have changed what follows.
    assert_eq!(example::train(&model, 1).unwrap(), rewards[..1]);
}

#[test]
fn it_is_short() {
    let source = include_str!("../../examples/custom_algorithm/src/main.rs");
    assert!(source.lines().count() < 100, "{} lines", source.lines().count());
}

/// Every line that the page shows of it is in it, in that order, but for indentation.
#[test]
fn the_page_shows_it() {
    let source = include_str!("../../examples/custom_algorithm/src/main.rs");
    let page = include_str!("../../docs/extending.md");
    let blocks: Vec<&str> = page
        .split("```rust\n")
        .skip(1)
        .filter_map(|it| it.split("```").next())
        .filter(|it| !it.contains("and_group"))
        .collect();
    assert_eq!(blocks.len(), 4);
    for block in blocks {
        let mut rest = source.lines();
        for line in block.lines().map(str::trim) {
            let is_there = rest.any(|it| it.trim() == line);
            assert!(is_there, "docs/extending.md shows what the example has not: {line}");
        }
    }
}

/// Its manifest resolves against the crates of this repository, offline, with the versions of the
/// workspace's lock file.
#[test]
fn its_manifest_resolves() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let manifest = fs::read_to_string(root.join("examples/custom_algorithm/Cargo.toml")).unwrap();
    let crates = format!("\"{}/crates/", root.display());
    fs::write(scratch.path().join("Cargo.toml"), manifest.replace("\"../../crates/", &crates))
        .unwrap();
    fs::create_dir(scratch.path().join("src")).unwrap();
    fs::write(scratch.path().join("src/main.rs"), "fn main() {}").unwrap();
    fs::copy(root.join("Cargo.lock"), scratch.path().join("Cargo.lock")).unwrap();
    let output = Command::new(env!("CARGO"))
        .current_dir(scratch.path())
        .args(["tree", "--offline", "--depth", "1", "--prefix", "none"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = tree.lines().filter_map(|it| it.split(' ').next()).collect();
    assert_eq!(names, ["custom-algorithm", "burn", "zs-core", "zs-model", "zs-rl", "zs-simulator"]);
}
