//! The same rows, read alike from every format, and back as they were written.

use std::io::Write;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use zs_core::{Document, Question};
use zs_data::JsonLinesWriter;
use zs_eval::{Protocol, QuestionRecord};

use super::parquet;

/// A text without white space around it, with all that formats use for themselves.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("\"".to_owned()),
        Just("\"\"".to_owned()),
        Just(",".to_owned()),
        Just("\t".to_owned()),
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\r".to_owned()),
        Just("[a]".to_owned()),
        Just("['b']".to_owned()),
        Just("\\n".to_owned()),
        Just("\u{feff}".to_owned()),
        Just("\u{2028}".to_owned()),
        Just("首都".to_owned()),
        "[ -~]{1,6}",
        any::<char>().prop_filter("NUL", |it| *it != '\0').prop_map(String::from),
    ];
    let texts = proptest::collection::vec(part, 1..6).prop_map(|it| it.concat().trim().to_owned());
    texts.prop_filter("blank", |it| !it.is_empty())
}

fn question() -> impl Strategy<Value = Question> {
    let label = || proptest::option::of(text());
    (text(), proptest::collection::vec(text(), 1..4), label(), label(), 0_u8..4).prop_map(
        |(text, golden_answers, data_source, question_type, hops)| Question {
            data_source,
            question_type,
            hops: (hops > 0).then_some(hops),
            ..Question::new("", text, golden_answers)
        },
    )
}

/// A text of a question, or what is none.
fn odd_text() -> impl Strategy<Value = Option<String>> {
    let blank = || Just(Some(" ".to_owned()));
    prop_oneof![4 => text().prop_map(Some), 1 => Just(None), 1 => blank()]
}

/// Golden answers, or what is none.
fn odd_answers() -> impl Strategy<Value = Option<Vec<String>>> {
    let list = |count| proptest::collection::vec(text(), count).prop_map(Some);
    let blank = text().prop_map(|it| Some(vec![it, " ".to_owned()]));
    prop_oneof![4 => list(1..3), 1 => list(0..1), 1 => Just(None), 1 => blank]
}

/// A table in which every cell is in quotes.
fn table(rows: &[Value], delimiter: &str) -> String {
    let names: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    let quoted = |cell: &str| format!("\"{}\"", cell.replace('"', "\"\""));
    let mut text = names.iter().map(|it| quoted(it)).collect::<Vec<_>>().join(delimiter) + "\n";
    for row in rows {
        let cell = |name: &&String| match &row[name.as_str()] {
            Value::Null => String::new(),
            Value::String(text) => quoted(text),
            other => quoted(&other.to_string()),
        };
        text.push_str(&(names.iter().map(cell).collect::<Vec<_>>().join(delimiter) + "\n"));
    }
    text
}

/// Writes rows in every format, plain and packed, and gives the file to `check`.
fn in_every_format(rows: &[Value], mut check: impl FnMut(&Path)) {
    let lines: String = rows.iter().map(|it| format!("{it}\n")).collect();
    let array =
        format!("[{}]", rows.iter().map(ToString::to_string).collect::<Vec<_>>().join(",\n"));
    let folder = tempfile::tempdir().unwrap();
    for (extension, contents) in [
        ("jsonl", lines.into_bytes()),
        ("json", array.into_bytes()),
        ("csv", table(rows, ",").into_bytes()),
        ("tsv", table(rows, "\t").into_bytes()),
        ("parquet", parquet::write(rows)),
    ] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&contents).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(&contents[..], 1).unwrap();
        for (packing, contents) in [("", &contents), (".gz", &gzip), (".zst", &zstd)] {
            let path = folder.path().join(format!("rows.{extension}{packing}"));
            std::fs::write(&path, contents).unwrap();
            check(&path);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn questions_are_read_alike_from_every_format(
        questions in proptest::collection::vec(question(), 1..5),
        has_ids: bool,
    ) {
        let mut expected = questions;
        for (index, question) in expected.iter_mut().enumerate() {
            question.id = format!("{}-{}", if has_ids { "own" } else { "rows" }, index + 1);
        }
        let row = |it: &Question| json!({
            "id": has_ids.then_some(&it.id),
            "question": it.text,
            "golden_answers": it.golden_answers,
            "data_source": it.data_source,
            "type": it.question_type,
            "hops": it.hops,
        });
        let rows: Vec<Value> = expected.iter().map(row).collect();
        in_every_format(&rows, |path| {
            let read = zs_data::read_questions(path).unwrap();
            assert_eq!(read, expected, "{}", path.display());
        });
    }

    #[test]
    fn documents_are_read_alike_from_every_format(
        texts in proptest::collection::vec((text(), text()), 1..5),
    ) {
        let documents = texts.into_iter().enumerate().map(|(index, (title, text))| {
            Document { id: index.to_string(), ..Document::new(title, text) }
        });
        let documents: Vec<Document> = documents.collect();
        let row = |it: &Document| json!({ "id": it.id, "title": it.title, "text": it.text });
        let rows: Vec<Value> = documents.iter().map(row).collect();
        in_every_format(&rows, |path| {
            assert_eq!(zs_data::read_documents(path).unwrap(), documents, "{}", path.display());
        });
    }

    #[test]
    fn episodes_are_read_alike_from_every_format(
        episodes in proptest::collection::vec((text(), text(), text(), text(), text()), 1..4),
    ) {
        let row = |(question, answer, query, title, body): &(String, String, String, String, String)| {
            let documents = json!([{ "title": title, "text": body }]);
            let turns = json!([{ "query": query, "docs": documents }]);
            json!({ "question": question, "golden_answers": [answer], "turns": turns })
        };
        let rows: Vec<Value> = episodes.iter().map(row).collect();
        in_every_format(&rows, |path| {
            let read = zs_data::open_episodes(path).unwrap().collect_all().unwrap();
            let parts = |it: &zs_data::RecordedEpisode| {
                let turn = &it.turns[0];
                let document = &turn.documents[0];
                let answer = it.golden_answers[0].clone();
                let query = turn.query.clone();
                (it.question.clone(), answer, query, document.title.clone(), document.text.clone())
            };
            let read: Vec<_> = read.iter().map(parts).collect();
            assert_eq!(read, episodes, "{}", path.display());
        });
    }

    /// Rows that may be refused: blank, missing and repeated values. Each format leaves out the same
    /// rows, and reads the others alike.
    #[test]
    fn rows_are_read_or_refused_alike_from_every_format(
        rows in proptest::collection::vec((0_u8..5, odd_text(), odd_answers()), 1..5),
    ) {
        let row = |(id, question, answers): &(u8, Option<String>, Option<Vec<String>>)| {
            json!({ "id": format!("i{id}"), "question": question, "golden_answers": answers })
        };
        let rows: Vec<Value> = rows.iter().map(row).collect();
        let mut expected = None;
        in_every_format(&rows, |path| {
            let strict = zs_data::read_questions(path).is_ok();
            let lenient = zs_data::read_question_set(path, true);
            let lenient = lenient.ok().map(|it| (it.questions, it.skipped.count));
            let read = (strict, lenient);
            let expected = expected.get_or_insert_with(|| read.clone());
            assert_eq!(&read, expected, "{} {rows:?}", path.display());
        });
    }

    #[test]
    fn predictions_are_scored_alike_from_every_format(
        predictions in proptest::collection::vec((text(), proptest::option::of(text())), 1..5),
    ) {
        let row = |(answer, prediction): &(String, Option<String>)| {
            json!({ "golden_answers": [answer], "prediction": prediction })
        };
        let rows: Vec<Value> = predictions.iter().map(row).collect();
        in_every_format(&rows, |path| {
            let read = zs_eval::score_predictions(path, &Protocol::strict()).unwrap();
            let read: Vec<_> = read.iter().map(|it| &it.prediction).collect();
            let written: Vec<_> = predictions.iter().map(|it| &it.1).collect();
            assert_eq!(read, written, "{}", path.display());
        });
    }

    #[test]
    fn evaluation_records_come_back_as_they_were_written(
        question in question(),
        (prediction, is_exact, score) in (proptest::option::of(text()), any::<bool>(), 0.0..=1.0_f64),
        (sample, count, recall) in (any::<u32>(), 0..1_000_000_usize, proptest::option::of(0.0..=1.0_f64)),
    ) {
        let record = QuestionRecord {
            id: question.text,
            sample,
            data_source: question.data_source,
            hops: question.hops,
            question_type: question.question_type,
            prediction,
            exact_match: is_exact,
            cover_exact_match: !is_exact,
            f1: score,
            precision: score / 3.0,
            recall: score.sqrt(),
            f1_yes_no: score / 7.0,
            num_tokens: count,
            num_turns: count / 3,
            retrieval_recall: recall,
            truncated: is_exact,
            ..QuestionRecord::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let mut lines = JsonLinesWriter::create(&path).unwrap();
        lines.push(&record).unwrap();
        lines.push(&record).unwrap();
        let read: Vec<QuestionRecord> = zs_data::read_whole_rows(&path).unwrap();
        assert_eq!(read, [record.clone(), record]);
    }

    #[test]
    fn records_come_back_as_they_were_written(
        question in question(),
        query in text(),
        (title, body) in (text(), text()),
        score in proptest::option::of(-1e3_f32..1e3),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let write = |row: Value| std::fs::write(&path, format!("{row}\n")).unwrap();
        let question = Question { id: "1".to_owned(), ..question };
        write(serde_json::to_value(&question).unwrap());
        assert_eq!(zs_data::read_questions(&path).unwrap(), std::slice::from_ref(&question));
        let document = Document { score, ..Document::new(title, body) };
        let record = zs_simulator::tuning::SearchRecord {
            question: question.text.clone(),
            golden_answers: question.golden_answers.clone(),
            query: query.clone(),
            documents: vec![document.clone()],
            hop: question.hops,
            supported: Some(true),
            useful: vec![true],
        };
        write(serde_json::to_value(&record).unwrap());
        assert_eq!(zs_simulator::tuning::read_records(&path).unwrap(), [record]);
        write(json!({
            "question": question.text,
            "golden_answers": question.golden_answers,
            "turns": [{ "query": query, "docs": [document] }],
        }));
        let episode = zs_data::open_episodes(&path).unwrap().next().unwrap().unwrap();
        assert_eq!((&episode.question, &episode.golden_answers), (&question.text, &question.golden_answers));
        let document = Document { score: None, ..document };
        assert_eq!((&episode.turns[0].query, &episode.turns[0].documents), (&query, &vec![document]));
    }
}
