//! Recall of BM25 in ten languages: each question, asked in other forms of the words than its passage
//! has, finds the passage.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use zs_core::{Document, Question, SearchEngine, SearchRequest};
use zs_search::{Bm25Config, Bm25Engine, Bm25Language};

/// Passages with a question each: title, text and question between tabs.
fn rows(file: &str) -> Vec<(Document, Question)> {
    let row = |line: &str| {
        let [title, text, question] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("not three cells: {line}")
        };
        (Document::new(title, text), Question::new(title, question, [title]))
    };
    file.lines().map(row).collect()
}

/// Fractions of the questions whose passage is the first, and among the first three.
fn recall(rows: &[(Document, Question)], language: Option<Bm25Language>) -> (f64, f64) {
    let documents = rows.iter().map(|it| it.0.clone()).collect();
    let config = Bm25Config { language, ..Bm25Config::default() };
    let engine = Bm25Engine::with_config(documents, config).unwrap();
    let requests: Vec<SearchRequest<'_>> =
        rows.iter().map(|(_, question)| SearchRequest::of(question, 3, 0)).collect();
    let (mut first, mut any) = (0, 0);
    for (result, (_, question)) in engine.search_batch(&requests).into_iter().zip(rows) {
        let found = result.unwrap();
        first += usize::from(found.first().is_some_and(|it| it.title == question.id));
        any += usize::from(found.iter().any(|it| it.title == question.id));
    }
    let count = rows.len() as f64;
    (first as f64 / count, any as f64 / count)
}

macro_rules! passages {
    ($name:literal) => {
        rows(include_str!(concat!("languages/", $name, ".tsv")))
    };
}

#[test]
fn every_language_is_found_in_its_own_analysis() {
    println!("language   own @1   own @3   english @1   english @3");
    let check = |name: &str, rows: Vec<(Document, Question)>, is_chosen: bool, least: f64| {
        let language: Bm25Language = name.parse().unwrap();
        let (first, any) = recall(&rows, Some(language));
        let (english_first, english_any) = recall(&rows, Some(Bm25Language::English));
        println!("{name:<10} {first:.3}    {any:.3}    {english_first:.3}        {english_any:.3}");
        assert!(first >= least && any >= first && first >= english_first, "{name}: {first}");
        if is_chosen {
            assert_eq!(recall(&rows, None), (first, any), "{name}: by script");
            assert!(english_first + 0.1 <= first, "{name}: english has {english_first}");
        }
    };
    check("chinese", passages!("chinese"), true, 0.9);
    check("japanese", passages!("japanese"), true, 0.9);
    check("korean", passages!("korean"), true, 0.9);
    check("thai", passages!("thai"), true, 0.9);
    check("russian", passages!("russian"), true, 0.9);
    check("arabic", passages!("arabic"), true, 0.9);
    check("french", passages!("french"), false, 0.9);
    check("german", passages!("german"), false, 0.9);
    check("spanish", passages!("spanish"), false, 0.9);
    check("turkish", passages!("turkish"), false, 0.9);
}
