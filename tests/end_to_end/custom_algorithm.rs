//! The example of `docs/extending.md`: built and run here, so that CI need not build burn twice.

use std::path::Path;

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
