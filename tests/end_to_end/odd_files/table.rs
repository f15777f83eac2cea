//! The tables of what is read and refused, on the pages on data and models, each row with its tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::cases;

/// Names in the last column of the tables whose last column is called "test".
fn named(page: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_table = false;
    for line in page.lines() {
        let line = line.replace("\\|", "");
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if !line.starts_with('|') {
            is_table = false;
        } else if cells.last() == Some(&"test") {
            is_table = true;
        } else if is_table && !line.starts_with("| ---") {
            let cell = cells.last().unwrap();
            let before = names.len();
            names.extend(cell.split('`').skip(1).step_by(2).map(str::to_owned));
            assert!(names.len() > before, "no test in {line}");
        }
    }
    names
}

fn functions(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()) {
        if entry.is_dir() {
            functions(&entry, found);
        } else if entry.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&entry).unwrap();
            let name = |it: &str| it.split_once('(').map(|(name, _)| name.to_owned());
            found.extend(text.split("fn ").skip(1).filter_map(name));
        }
    }
}

#[test]
fn every_test_of_the_table_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut known: BTreeSet<String> = cases::all().into_iter().map(|it| it.name).collect();
    functions(&root.join("crates"), &mut known);
    functions(&root.join("tests"), &mut known);
    for (page, least) in [("docs/data.md", 150), ("docs/models.md", 35)] {
        let named = named(&fs::read_to_string(root.join(page)).unwrap());
        assert!(named.len() > least, "{page}: {}", named.len());
        let missing: Vec<&String> = named.iter().filter(|it| !known.contains(*it)).collect();
        assert!(missing.is_empty(), "{page} names {missing:?}");
    }
}
