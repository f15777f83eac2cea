//! The odd files.

mod exchanges;
mod questions;
mod strangers;
mod tables;

use std::io::Write;

use serde_json::{Map, Value, json};

use super::parquet;
use super::{Kind, OddFile};

/// Every odd file.
pub(super) fn all() -> Vec<OddFile> {
    let mut files = Vec::new();
    questions::questions(&mut files);
    tables::tables(&mut files);
    questions::question_columns(&mut files);
    documents(&mut files);
    predictions(&mut files);
    turns_and_queries(&mut files);
    strangers::strangers(&mut files);
    exchanges::requests(&mut files);
    exchanges::replies(&mut files);
    files
}

fn good(
    kind: Kind,
    name: &str,
    contents: impl Into<Vec<u8>>,
    rows: Value,
    notes: &[(&str, usize)],
) -> OddFile {
    let notes: Map<String, Value> =
        notes.iter().map(|(kind, count)| ((*kind).to_owned(), (*count).into())).collect();
    let expected = json!({ "kind": kind.name(), "rows": rows, "notes": notes });
    OddFile { name: name.to_owned(), contents: contents.into(), expected }
}

fn bad(kind: Kind, name: &str, contents: impl Into<Vec<u8>>, error: &str) -> OddFile {
    let expected = json!({ "kind": kind.name(), "error": error });
    OddFile { name: name.to_owned(), contents: contents.into(), expected }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn documents(files: &mut Vec<OddFile>) {
    let mut add = |name: &str, contents: &[u8], rows: Value, notes: &[(&str, usize)]| {
        files.push(good(Kind::Documents, name, contents, rows, notes));
    };
    let row = r#"{"id":"1","title":"T","text":"x"}"#;
    add("d_bom.jsonl", format!("\u{feff}{row}\n").as_bytes(), json!([["1", "T", "x"]]), &[]);
    add(
        "d_cr.jsonl",
        format!("{row}\r{}\r", row.replace('1', "2")).as_bytes(),
        json!([["1", "T", "x"], ["2", "T", "x"]]),
        &[],
    );
    let empty = "{\"_id\":\"3\",\"title\":\"\",\"text\":\"A row.\"}\n{\"_id\":\"31\",\"title\":\"\",\"text\":\"\"}\n{\"_id\":\"56\",\"title\":\"\",\"text\":\"Another.\"}\n";
    let left = json!([["3", "", "A row."], ["56", "", "Another."]]);
    add("d_empty_rows.jsonl", empty.as_bytes(), left.clone(), &[("empty_document", 1)]);
    add("d_empty_rows_packed.jsonl.gz", &gzip(empty.as_bytes()), left, &[("empty_document", 1)]);
    add(
        "d_null_rows.jsonl",
        b"{\"text\":null}\n{\"id\":null,\"title\":null,\"text\":\"x\"}\n",
        json!([["", "", "x"]]),
        &[("empty_document", 1)],
    );
    add("d_title_only.jsonl", br#"{"title":"T","text":" "}"#, json!([["", "T", "T"]]), &[]);
    add(
        "d_numbers.jsonl",
        br#"{"id":7,"title":1984,"text":5}"#,
        json!([["7", "1984", "5"]]),
        &[("number_as_text", 2)],
    );
    add("d_two_ids.jsonl", br#"{"_id":"a","id":"b","text":"x"}"#, json!([["a", "", "x"]]), &[]);
    add("d_names.jsonl", br#"{"ID":"a","Title":"T","TEXT":"x"}"#, json!([["a", "T", "x"]]), &[]);
    let quotes = "{\"id\":\"1\",\"contents\":\"\\\"\\\"Heroes\\\" (album)\\\"\\nAn album.\"}\n{\"id\":\"2\",\"contents\":\"\\\"The \\\"Real\\\"\\\"\\nA film.\"}\n";
    add(
        "d_title_quotes.jsonl",
        quotes.as_bytes(),
        json!([["1", "\"Heroes\" (album)", "An album."], ["2", "The \"Real\"", "A film."]]),
        &[],
    );
    let mixed = "{\"contents\":\"\\\"A\\\"\\nx\"}\n{\"contents\":\"B\\ny\"}\n";
    add(
        "d_title_quotes_mixed.jsonl",
        mixed.as_bytes(),
        json!([["", "A", "x"], ["", "B", "y"]]),
        &[("quoted_title", 1)],
    );
    add(
        "d_bare_titles.jsonl",
        b"{\"contents\":\"A\\nx\"}\n{\"contents\":\"only text\"}\n",
        json!([["", "A", "x"], ["", "", "only text"]]),
        &[],
    );
    add(
        "d_chinese.jsonl",
        "{\"id\":\"1\",\"title\":\"北京\",\"text\":\"北京是中华人民共和国的首都。\"}".as_bytes(),
        json!([["1", "北京", "北京是中华人民共和国的首都。"]]),
        &[],
    );
    // One document in twelve, so the corpus is indexed as English.
    let texts = ["Bamboo is a grass."; 11].into_iter().chain(["北京是中华人民共和国的首都。"]);
    let texts: Vec<&str> = texts.collect();
    let lines: Vec<String> = texts.iter().map(|it| json!({ "text": it }).to_string()).collect();
    add(
        "d_mixed_scripts.jsonl",
        lines.join("\n").as_bytes(),
        texts.iter().map(|it| json!(["", "", it])).collect(),
        &[],
    );
    add("d_array.json", br#"[{"title":"T","text":"x","idx":0}]"#, json!([["", "T", "x"]]), &[]);
    add(
        "d_dpr.tsv",
        b"id\ttext\ttitle\n1\t\"x \"\"y\"\"\"\tT\n2\tz\tU\n",
        json!([["1", "T", "x \"y\""], ["2", "U", "z"]]),
        &[],
    );
    add(
        "d_table.csv",
        b"id,title,text\n1,T,\n2,,x\n3,,\n",
        json!([["1", "T", "T"], ["2", "", "x"]]),
        &[("empty_document", 1)],
    );
    let rows = [
        json!({ "id": 1, "title": "T", "text": "x" }),
        json!({ "id": 2, "title": null, "text": "y" }),
        json!({ "id": 3, "title": null, "text": null }),
    ];
    add(
        "d_columns.parquet",
        &parquet::write(&rows),
        json!([["1", "T", "x"], ["2", "", "y"]]),
        &[("empty_document", 1)],
    );
    let mut refuse = |name: &str, contents: &[u8], error: &str| {
        files.push(bad(Kind::Documents, name, contents, error));
    };
    refuse("d_only_empty.jsonl", br#"{"text":""}"#, "the file holds no document");
    refuse("d_list.jsonl", br#"{"text":["x"]}"#, "row 1: not a document: field `text`");
    refuse(
        "d_half.jsonl",
        b"{\"text\":\"x\"}\n{\"title\":\"T\"}\n",
        "row 2: field `text` is missing",
    );
}

fn predictions(files: &mut Vec<OddFile>) {
    let mut add = |name: &str, contents: &[u8], rows: Value, notes: &[(&str, usize)]| {
        files.push(good(Kind::Predictions, name, contents, rows, notes));
    };
    add("p_json_list.jsonl", br#"{"id":"1","question":"q","possible_answers":"[\"novelist\", \"writer\"]","prediction":"novelist"}"#, json!([["novelist", true]]), &[("list_in_text", 1)]);
    add("p_python_list.jsonl", br#"{"id":"1","question":"q","golden_answers":"['the north', \"the cape's north\"]","prediction":"the north"}"#, json!([["the north", true]]), &[("list_in_text", 1)]);
    add(
        "p_null.jsonl",
        br#"{"golden_answers":["a"],"prediction":null}"#,
        json!([[null, false]]),
        &[],
    );
    add(
        "p_number.jsonl",
        br#"{"golden_answers":1999,"prediction":1999}"#,
        json!([["1999", true]]),
        &[("number_as_text", 1)],
    );
    add(
        "p_names.csv",
        b"Answer,Prediction\nAnn,ann\nBob,\n",
        json!([["ann", true], [null, false]]),
        &[],
    );
    add(
        "p_columns.parquet",
        &parquet::write(&[json!({ "golden_answers": ["a"], "prediction": "A." })]),
        json!([["A.", true]]),
        &[],
    );
    add(
        "p_bom.jsonl",
        "\u{feff}{\"answer\":\"a\",\"prediction\":\"a\"}\r\n".as_bytes(),
        json!([["a", true]]),
        &[],
    );
    add(
        "p_verl.jsonl",
        br#"{"reward_model":{"ground_truth":{"target":["a"]}},"transcript":"<answer>a</answer>"}"#,
        json!([["a", true]]),
        &[],
    );
    let mut refuse = |name: &str, contents: &[u8], error: &str| {
        files.push(bad(Kind::Predictions, name, contents, error));
    };
    refuse("p_list.jsonl", br#"{"answer":"a","prediction":["a"]}"#, "field `prediction` is a list");
    refuse("p_no_answers.jsonl", br#"{"prediction":"a"}"#, "field `golden_answers` is missing");
}

fn turns_and_queries(files: &mut Vec<OddFile>) {
    let turns = r#"[{"query":"x","docs":[{"title":"T","text":"t"},{"text":""}]},{"query":"y","documents":[{"contents":"\"U\"\nu"}]}]"#;
    let read = json!([["q?", ["a"], [["x", ["t"]], ["y", ["u"]]]]]);
    let row = format!(r#"{{"question":"q?","answer":"a","turns":{turns}}}"#);
    let in_text =
        json!({ "question": "q?", "golden_answers": "['a']", "turns": turns }).to_string();
    let table = format!("question,answer,turns\nq?,a,\"{}\"\n", turns.replace('"', "\"\""));
    let columns = parquet::write(&[
        json!({ "question": "q?", "answer": "a", "turns": serde_json::from_str::<Value>(turns).unwrap() }),
    ]);
    for (name, contents, notes) in [
        ("t_plain.jsonl", row.clone().into_bytes(), &[("empty_document", 1)][..]),
        ("t_bom.jsonl", format!("\u{feff}{row}\r\n").into_bytes(), &[("empty_document", 1)]),
        ("t_in_text.jsonl", in_text.into_bytes(), &[("list_in_text", 2), ("empty_document", 1)]),
        ("t_table.csv", table.into_bytes(), &[("list_in_text", 1), ("empty_document", 1)]),
        ("t_columns.parquet", columns, &[("empty_document", 1)]),
    ] {
        files.push(good(Kind::Turns, name, contents, read.clone(), notes));
    }
    let nulls = br#"{"id":null,"question":"q?","golden_answers":null,"turns":[{"query":7,"docs":[{"id":null,"title":null,"text":"t","score":null}]}]}"#;
    files.push(good(
        Kind::Turns,
        "t_nulls.jsonl",
        &nulls[..],
        json!([["q?", [], [["7", ["t"]]]]]),
        &[("number_as_text", 1)],
    ));
    files.push(bad(
        Kind::Turns,
        "t_no_query.jsonl",
        &br#"{"question":"q?","turns":[{"docs":[]}]}"#[..],
        "field `turns[0].query` is empty",
    ));
    files.push(bad(
        Kind::Turns,
        "t_no_list.jsonl",
        &br#"{"question":"q?","turns":"none"}"#[..],
        "field `turns` is a text",
    ));
    let mut add = |name: &str, contents: &[u8], rows: Value, notes: &[(&str, usize)]| {
        files.push(good(Kind::Queries, name, contents, rows, notes));
    };
    add(
        "s_bom.jsonl",
        "\u{feff}{\"query\": \"first row\"}\n".as_bytes(),
        json!(["first row"]),
        &[],
    );
    add("s_number.jsonl", br#"{"query":1984}"#, json!(["1984"]), &[("number_as_text", 1)]);
    add("s_table.csv", b"query\na grass\n", json!(["a grass"]), &[]);
    add("s_packed.jsonl.zst", &gzip(b"{\"query\":\"q\"}\n"), json!(["q"]), &[]);
}
