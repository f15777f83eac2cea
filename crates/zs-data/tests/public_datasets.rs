//! Public question files load whole. They are not part of the project: the test says so and passes
//! where they are absent.

use std::path::{Path, PathBuf};

use zs_core::Question;
use zs_data::{open_questions, read_documents, read_questions};

#[expect(clippy::unwrap_used, reason = "tests fail by panicking")]
fn load(name: &str) -> Option<Vec<Question>> {
    Some(read_questions(&path(name)?).unwrap())
}

#[expect(clippy::print_stdout, reason = "a test says why it checks nothing")]
fn path(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if !path.exists() {
        println!("skipped: no shared/data/{name} beside the workspace");
        return None;
    }
    Some(path)
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

#[test]
fn sets_are_told_apart() {
    let Some(questions) = load("eval/seven_sets_test.parquet") else { return };
    let mut sets = std::collections::BTreeMap::new();
    for question in questions {
        *sets.entry(question.data_source).or_insert(0) += 1;
    }
    let mut counts: Vec<i32> = sets.into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [125, 512, 512, 512, 512, 512, 512]);
}

#[test]
fn recorded_turns_stream() {
    for (name, rows) in [("searchr1", 5_375), ("r1searcher", 1_750)] {
        let Some(path) = path(&format!("turns/{name}_recorded_turns.jsonl.gz")) else { return };
        let questions: Result<Vec<Question>, _> = open_questions(&path).unwrap().collect();
        assert_eq!(questions.unwrap().len(), rows, "{name}");
    }
}

#[test]
fn corpora() {
    for (name, documents, title) in [
        ("hotpotqa_dev_981.passages.jsonl.gz", 4_830, "The Newcomers (film)"),
        ("2wiki_785.corpus.json.gz", 6_119, "Teutberga"),
        ("wiki18_9648.passages.jsonl.gz", 9_648, "Citibank"),
    ] {
        let Some(path) = path(&format!("corpora/{name}")) else { return };
        let read = read_documents(&path).unwrap();
        assert_eq!((read.len(), &read[0].title[..]), (documents, title), "{name}");
    }
}
