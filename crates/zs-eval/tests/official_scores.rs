//! Scores of random Unicode answers against those of the official scripts, as re-implemented in
//! `interop/official_scores.py` (`golden 1 400`, Python 3.11) in the language that they are written
//! in.

use serde_json::Value;
use zs_core::Question;
use zs_eval::{Protocol, QuestionRecord};

const GOLDEN: &str = include_str!("interop/golden_scores.jsonl");

#[test]
fn agree_on_random_text() {
    let mut num_partial = 0;
    for line in GOLDEN.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let answers: Vec<String> = serde_json::from_value(row["golden_answers"].clone()).unwrap();
        let question = Question::new("q", "?", answers);
        let prediction = row["prediction"].as_str().map(str::to_owned);
        let record = QuestionRecord::of_prediction(&question, prediction, &Protocol::strict());
        let record = serde_json::to_value(record).unwrap();
        for name in ["exact_match", "cover_exact_match"] {
            assert_eq!(record[name], row[name], "{name} of {line}");
        }
        for name in ["f1", "precision", "recall", "f1_yes_no", "precision_yes_no", "recall_yes_no"]
        {
            let (actual, expected) = (record[name].as_f64().unwrap(), row[name].as_f64().unwrap());
            assert!((actual - expected).abs() < 1e-12, "{name}: {actual} of {line}");
            num_partial += usize::from(expected > 0.0 && expected < 1.0);
        }
    }
    assert!(num_partial > 200, "the table must hold what is partly right: {num_partial}");
}
