//! Every target survives its corpus and some mutations of it.

use std::fs;
use std::path::Path;

use zs_fuzz::{Mutator, Scratch, TARGETS, read_corpus};

/// Mutated inputs of each target.
const EXECUTIONS: u64 = 30;

#[test]
fn targets_survive_their_corpora() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let scratch = Scratch::default();
    for target in TARGETS {
        let corpus = read_corpus(&corpora.join(target.name)).unwrap();
        assert!(!corpus.is_empty(), "{} has no corpus", target.name);
        let end = corpus.len() as u64 + EXECUTIONS;
        let mutator = Mutator::new(corpus, 0);
        (0..end).for_each(|it| (target.run)(&scratch, &mutator.input(it)));
    }
}

/// Each target has its program for libFuzzer, and each corpus its target.
#[test]
fn targets_corpora_and_harnesses_agree() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut expected: Vec<&str> = TARGETS.iter().map(|it| it.name).collect();
    expected.sort_unstable();
    let names = |below: &str, suffix: &str| {
        let entries = fs::read_dir(folder.join(below)).unwrap();
        let mut names: Vec<String> = entries
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .map(|it| it.strip_suffix(suffix).unwrap().to_owned())
            .collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names("corpus", ""), expected);
    assert_eq!(names("fuzz_targets", ".rs"), expected);
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for name in expected {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "Cargo.toml has no {name}");
    }
}
