//! Public question files load whole. They are not part of the project: the test says so and passes
//! where they are absent.

use std::path::{Path, PathBuf};

use zs_core::Question;
use zs_eval::read_questions;

#[expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test says why it checks nothing")]
fn load(name: &str) -> Option<Vec<Question>> {
    let path: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if !path.exists() {
        println!("skipped: no shared/data/{name} beside the workspace");
        return None;
    }
    Some(read_questions(&path).unwrap())
}

#[track_caller]
fn check(name: &str, count: usize, first: (&str, &str, &str), hops: Option<u8>) {
    let Some(questions) = load(name) else { return };
    assert_eq!(questions.len(), count, "{name}");
    let question = &questions[0];
    let (id, text, answer) = first;
    assert_eq!(question.id, id);
    assert!(question.text.starts_with(text), "{}", question.text);
    assert_eq!(question.golden_answers[0], answer);
    assert_eq!(question.hops, hops);
    assert!(questions.iter().all(|it| it.golden_answers.iter().all(|it| !it.trim().is_empty())));
}

#[test]
fn json_lines() {
    check(
        "eval/NQ-open.dev.jsonl",
        3610,
        ("NQ-open.dev-1", "when was the last time anyone was on the moon", "14 December 1972 UTC"),
        None,
    );
    check(
        "eval/bamboogle_test.jsonl",
        125,
        ("test_0", "Who was president of the United States", "james madison"),
        None,
    );
    check(
        "corpora/hotpotqa_dev_981.questions.jsonl",
        981,
        ("5a85b2d95542997b5ce40028", "Who was known by his stage name Aladin", "Eenasul Fateh"),
        Some(2),
    );
    check(
        "corpora/2wiki_785.questions.jsonl",
        785,
        ("2wiki_785.questions-1", "Who is Marie Zéphyrine Of France's", "Marie Leszczyńska"),
        None,
    );
    check(
        "train/hotpot_2wiki_8148.jsonl",
        8148,
        ("hotpot_2wiki_8148-1", "Jonathan Glazer and Robert Rodriguez", "filmmaker"),
        None,
    );
}

#[test]
fn parquet() {
    check(
        "train/nq_5000_searchr1.parquet",
        5000,
        ("train_0", "total number of death row inmates in the us?", "2,718"),
        None,
    );
    check(
        "eval/seven_sets_dev.parquet",
        875,
        ("tq_qg_3477", "Lasting from 1299 to 1922, the Ottoman empire", "türkiye"),
        None,
    );
    check(
        "eval/seven_sets_test.parquet",
        3197,
        (
            "2wiki_db6a0c8c0bdd11eba7f7acde48001122",
            "What is the date of birth of Millicent Leveson-Gower",
            "20 July 1851",
        ),
        None,
    );
}
