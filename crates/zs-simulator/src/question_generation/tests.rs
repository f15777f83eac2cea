use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A model that writes about `NAME lives in CITY.`, knows about Anna without a passage, cannot read about
/// Bo, and fails after a number of prompts.
#[derive(Debug)]
struct Scripted {
    calls: AtomicUsize,
    fails_after: usize,
}

impl ReplyModel for Scripted {
    fn replies(&self, prompts: &[(String, StreamKey)]) -> Vec<Result<String, ReplyError>> {
        let reply = |(prompt, key): &(String, StreamKey)| {
            if self.calls.fetch_add(1, Ordering::SeqCst) >= self.fails_after {
                return Err(ReplyError::Model { message: "it is gone".into() });
            }
            let about = prompt.split("Passage: ").nth(1).unwrap_or_default();
            let (name, city) = about
                .lines()
                .next()
                .unwrap_or_default()
                .split_once(" lives in ")
                .unwrap_or_default();
            let city = city.split_once('.').unwrap_or_default().0;
            if prompt.contains("Write one quiz question") {
                return Ok(match (key.sample, name) {
                    (0, _) => format!("Question: Where does {name} live?\nAnswer: {city}"),
                    _ => format!("Question: Where does {name} live?\nAnswer: the city of {city}"),
                });
            }
            Ok(match (prompt.contains("Anna"), prompt.contains("Bo ")) {
                (true, _) => "Ada".to_owned(),
                (_, true) => "unknown".to_owned(),
                _ if about.is_empty() => "unknown".to_owned(),
                _ => format!("Answer: {city}"),
            })
        };
        prompts.iter().map(reply).collect()
    }
}

fn settings() -> QuestionSettings {
    QuestionSettings {
        max_passages: None,
        min_passage_words: 2,
        per_passage: 2,
        max_answer_words: 3,
        check_with_passage: true,
        check_without_passage: true,
        min_f1: 0.5,
        validation_share: 0.2,
        test_share: 0.2,
        seed: 7,
        templates: QuestionTemplates::default(),
        writer: "scripted".into(),
        checker: "scripted".into(),
    }
}

fn corpus(dir: &Path, names: &[&str]) -> PathBuf {
    let path = dir.join("passages.jsonl");
    let row = |name: &&str| {
        let (id, text) = (format!("id-{name}"), format!("{name} lives in Ada."));
        format!("{}\n", serde_json::json!({ "id": id, "title": name, "text": text }))
    };
    let rows: String = names.iter().map(row).collect();
    std::fs::write(&path, rows + "{\"id\": \"short\", \"text\": \"Oak\"}\n").unwrap();
    path
}

fn make(
    dir: &Path,
    names: &[&str],
    fails_after: usize,
    settings: &QuestionSettings,
) -> (Result<QuestionManifest, GenerationError>, usize) {
    let passages = corpus(dir, names);
    let model = Scripted { calls: AtomicUsize::new(0), fails_after };
    let source = QuestionSource {
        passages: &passages,
        writer: &model,
        checker: &model,
        batch_size: 3,
        inputs: Vec::new(),
    };
    let made = generate_questions(&source, settings, &dir.join("set"), &mut |_| {});
    (made, model.calls.load(Ordering::SeqCst))
}

const NAMES: [&str; 12] =
    ["Anna", "Bo", "Carl", "Dora", "Emil", "Fred", "Gerd", "Hans", "Ida", "Jan", "Karl", "Lena"];

#[test]
fn pairs_are_filtered_counted_and_split_by_passage() {
    let scratch = tempfile::tempdir().unwrap();
    let (made, calls) = make(scratch.path(), &NAMES, usize::MAX, &settings());
    let made = made.unwrap();
    // Two samples of each passage, then answers with a passage, then those without.
    assert_eq!(calls, 24 + 12 + 11);
    let dropped: Vec<_> = made.dropped.iter().collect();
    let expected = [
        ("long_answer", 12),
        ("right_without_passage", 1),
        ("short_passage", 1),
        ("wrong_with_passage", 1),
    ];
    assert_eq!(dropped, expected);
    assert_eq!((made.num_passages, made.num_pairs), (12, 24));
    let mut passages = BTreeSet::new();
    let mut questions = 0;
    for (name, part) in &made.parts {
        let path = scratch.path().join("set").join(name);
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(passages.insert(row["passage_id"].to_string()), "{line}");
            assert_eq!(row["golden_answers"], serde_json::json!(["Ada"]));
            questions += 1;
        }
        assert!(part.questions > 0, "{made:?}");
        assert_eq!(zs_data::read_questions(&path).unwrap().len(), part.questions);
    }
    assert_eq!(questions, 10);
    // What is finished is left as it is.
    let (again, calls) = make(scratch.path(), &NAMES, 0, &settings());
    assert_eq!((again.unwrap(), calls), (made, 0));
    let other = QuestionSettings { seed: 8, ..settings() };
    let message = make(scratch.path(), &NAMES, 0, &other).0.unwrap_err().to_string();
    assert!(message.contains("holds a set of other inputs"), "{message}");
}

#[test]
fn an_interrupted_set_is_continued() {
    let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(whole.path(), &NAMES, usize::MAX, &settings()).0.unwrap();
    let mut total = 0;
    for fails_after in [7, 20, 5, usize::MAX] {
        let (made, calls) = make(cut.path(), &NAMES, fails_after, &settings());
        total += calls.min(fails_after);
        if let Err(error) = made {
            assert!(
                error.to_string().contains("it is gone; what it has written is kept"),
                "{error}"
            );
        }
    }
    assert_eq!(total, 24 + 12 + 11, "nothing is asked twice");
    for name in ["train.jsonl", "validation.jsonl", "test.jsonl", "dropped.jsonl", "pairs.jsonl"] {
        let read =
            |dir: &tempfile::TempDir| std::fs::read(dir.path().join("set").join(name)).unwrap();
        assert!(read(&whole) == read(&cut), "{name}");
    }
}

#[test]
fn a_corpus_without_answerable_questions_is_one_line() {
    let scratch = tempfile::tempdir().unwrap();
    let message = make(scratch.path(), &["Anna", "Bo"], usize::MAX, &settings()).0.unwrap_err();
    assert_eq!(
        message.to_string(),
        "no question for training is left; dropped: long_answer 2, right_without_passage 1, \
         short_passage 1, wrong_with_passage 1"
    );
    let dropped = std::fs::read_to_string(scratch.path().join("set/dropped.jsonl")).unwrap();
    assert_eq!(dropped.lines().count(), 5);
}

#[test]
fn passages_are_drawn_by_the_seed() {
    let scratch = tempfile::tempdir().unwrap();
    let path = corpus(scratch.path(), &NAMES);
    let drawn = |seed| {
        let settings = QuestionSettings { max_passages: Some(4), seed, ..settings() };
        select(&path, &settings).unwrap().into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    assert_eq!((drawn(1), drawn(1).len()), (drawn(1), 4));
    assert_ne!(drawn(1), drawn(2));
}
