//! Odd files as people bring them: fields under other names, what Python and pandas print, texts that
//! were decoded wrongly, archives.

use serde_json::{Value, json};

use super::super::parquet;
use super::super::{Kind, OddFile};
use super::{bad, good, gzip};

/// Files of questions, documents and tables.
pub(super) fn strangers(files: &mut Vec<OddFile>) {
    answers(files);
    questions(files);
    documents(files);
    predictions(files);
    refused(files);
}

fn answers(files: &mut Vec<OddFile>) {
    let mut add = |name: &str, answer: Value, read: Value, notes: &[(&str, usize)]| {
        let row = json!({ "id": "1", "question": "who?", "golden_answers": answer }).to_string();
        files.push(good(Kind::Questions, name, row, json!([["1", "who?", read]]), notes));
    };
    let list: &[(&str, usize)] = &[("list_in_text", 1)];
    let like: &[(&str, usize)] = &[("list_like_text", 1)];
    for (name, text) in [
        ("q_repr_python_2.jsonl", "[u'a', u\"b\"]"),
        ("q_repr_list_call.jsonl", "list(['a', 'b'])"),
        ("q_repr_lines.jsonl", "['a'\n 'b']"),
        ("q_repr_dict.jsonl", "{'target': array(['a', 'b'], dtype=object)}"),
        ("q_repr_set.jsonl", "{'a', 'b'}"),
    ] {
        add(name, text.into(), json!(["a", "b"]), list);
    }
    for (name, text) in [
        ("q_repr_dict_values.jsonl", "dict_values(['a', 'b'])"),
        ("q_repr_deque.jsonl", "deque(['a'])"),
        ("q_repr_tensor.jsonl", "tensor([1, 2])"),
        ("q_repr_timestamp.jsonl", "Timestamp('2020-01-01 00:00:00')"),
        ("q_repr_bytes.jsonl", "b'a'"),
        ("q_repr_bare_tuple.jsonl", "'a', 'b'"),
        ("q_repr_two_lists.jsonl", "['a'], ['b']"),
        ("q_repr_shape.jsonl", "array([], shape=(0,), dtype=object)"),
        ("q_repr_date.jsonl", "[datetime.date(2020, 1, 1)]"),
        ("q_repr_raw.jsonl", "[r'a', 'b']"),
    ] {
        add(name, text.into(), json!([text]), like);
    }
    for (name, text) in [
        ("q_call_in_text.jsonl", "Pokémon (Red)"),
        ("q_quoted_text.jsonl", "\"Heroes\""),
        ("q_apostrophes.jsonl", "'Tis the season"),
        ("q_formula.jsonl", "f(x)"),
        ("q_and.jsonl", "Q&A"),
        ("q_backslash.jsonl", "C:\\users"),
    ] {
        add(name, text.into(), json!([text]), &[]);
    }
    for (name, text) in [
        ("q_escape_in_text.jsonl", "caf\\u00e9"),
        ("q_entity.jsonl", "Simon &amp; Garfunkel"),
        ("q_entity_number.jsonl", "rock &#39;n roll"),
        ("q_wrong_decoding.jsonl", "EspaÃ±a"),
        ("q_wrong_quote.jsonl", "itâ€™s"),
        ("q_replacement.jsonl", "Espa\u{fffd}a"),
    ] {
        add(name, text.into(), json!([text]), &[("damaged_text", 1)]);
    }
    for (name, text) in [("q_letter.jsonl", "A"), ("q_sign.jsonl", "%"), ("q_article.jsonl", "The")]
    {
        add(name, text.into(), json!([text]), &[("nothing_to_match", 1)]);
    }
    for (name, text) in
        [("q_marker_na.jsonl", "NA"), ("q_marker_nat.jsonl", "NaT"), ("q_marker_n_a.jsonl", "n/a")]
    {
        add(name, text.into(), json!([text]), &[("missing_marker", 1)]);
    }
}

fn questions(files: &mut Vec<OddFile>) {
    let mut add = |name: &str, row: Value, read: Value, notes: &[(&str, usize)]| {
        files.push(good(Kind::Questions, name, row.to_string(), json!([read]), notes));
    };
    let differ: &[(&str, usize)] = &[("fields_differ", 1)];
    add(
        "q_two_answers.jsonl",
        json!({"id": "1", "question": "who?", "answer": ["a"], "answers": ["a", "b"]}),
        json!(["1", "who?", ["a"]]),
        differ,
    );
    add(
        "q_same_answers.jsonl",
        json!({"id": "1", "question": "who?", "golden_answers": ["ANN", "b"], "answer": "Ann"}),
        json!(["1", "who?", ["ANN", "b"]]),
        &[],
    );
    add(
        "q_two_cases.jsonl",
        json!({"id": "1", "Question": "who?", "question": "where?", "answer": "a"}),
        json!(["1", "where?", ["a"]]),
        differ,
    );
    let user = |text: &str| json!({"role": "user", "content": text});
    add(
        "q_prompt_turns.jsonl",
        json!({"id": "1", "prompt": [user("who?"), {"role": "assistant", "content": "x"}, user("and when?")], "answer": "a"}),
        json!(["1", "and when?", ["a"]]),
        &[("last_message", 1)],
    );
    let parts = json!([{"type": "text", "text": "who"}, {"type": "text", "text": "?"}]);
    add(
        "q_prompt_parts.jsonl",
        json!({"id": "1", "prompt": [{"role": "user", "content": parts}], "answer": "a"}),
        json!(["1", "who?", ["a"]]),
        &[],
    );
    let two = parquet::write_columns(&[("question", "who?"), ("answer", "a"), ("answer", "b")]);
    let error = "two columns are called `answer`";
    files.push(bad(Kind::Questions, "q_two_columns.parquet", two, error));
    let rows = json!([["q_two_columns_table-1", "who?", ["a"]]]);
    let table = "question,answer,answer\nwho?,a,b\n";
    files.push(good(Kind::Questions, "q_two_columns_table.csv", table, rows, differ));
    for (name, unit) in [("millis", "MILLIS"), ("micros", "MICROS"), ("nanos", "NANOS")] {
        let name = format!("q_time_{name}");
        let rows = json!([[format!("{name}-1"), "when?", ["2020-01-02 03:04:05"]]]);
        let notes = [("time_as_text", 1)];
        let file = parquet::write_time(unit, 1_577_934_245);
        files.push(good(Kind::Questions, &format!("{name}.parquet"), file, rows, &notes));
    }
}

fn documents(files: &mut Vec<OddFile>) {
    let mut add = |name: &str, row: Value, read: Value, notes: &[(&str, usize)]| {
        files.push(good(Kind::Documents, name, row.to_string(), json!([read]), notes));
    };
    for name in ["docid", "doc_id", "pid", "passage_id"] {
        let row = json!({name: "7", "title": "T", "text": "x"});
        add(&format!("d_{name}.jsonl"), row, json!(["7", "T", "x"]), &[]);
    }
    add(
        "d_number_id.jsonl",
        json!({"pid": 7, "passage": "x", "id": null}),
        json!(["7", "", "x"]),
        &[],
    );
    add(
        "d_two_id_fields.jsonl",
        json!({"pid": 7, "id": "a", "text": "x"}),
        json!(["a", "", "x"]),
        &[],
    );
    add("d_passage.jsonl", json!({"id": "1", "passage": "x"}), json!(["1", "", "x"]), &[]);
    add(
        "d_content.jsonl",
        json!({"id": "1", "title": "T", "content": "x"}),
        json!(["1", "T", "x"]),
        &[],
    );
    // A blank field holds nothing that another does not hold.
    let blank = json!({"id": "1", "title": "", "text": " ", "contents": "\"T\"\nx"});
    add("d_blank_fields.jsonl", blank, json!(["1", "T", "x"]), &[]);
    let same = json!({"id": "1", "text": "x", "title": "T", "contents": "T\nx"});
    add("d_two_texts_alike.jsonl", same, json!(["1", "T", "x"]), &[]);
    let other = json!({"id": "1", "text": "x", "contents": "T\ny"});
    add("d_two_texts.jsonl", other, json!(["1", "", "x"]), &[("fields_differ", 1)]);
    let cases = json!({"id": "1", "Text": "x", "text": "y"});
    add("d_two_cases.jsonl", cases, json!(["1", "", "x"]), &[("fields_differ", 1)]);
    let marker = json!({"id": "1", "title": "nan", "text": "x"});
    add("d_missing_marker.jsonl", marker, json!(["1", "nan", "x"]), &[("missing_marker", 1)]);
    let table = "docid\tpassage\n1\tx y\n";
    let rows = json!([["1", "", "x y"]]);
    files.push(good(Kind::Documents, "d_passages.tsv", table, rows, &[]));
}

fn predictions(files: &mut Vec<OddFile>) {
    let mut add = |name: &str, prediction: Value, is_exact: bool, notes: &[(&str, usize)]| {
        let row = json!({"golden_answers": ["Ann"], "prediction": prediction}).to_string();
        let read = json!([[prediction, is_exact]]);
        files.push(good(Kind::Predictions, name, row, read, notes));
    };
    add("p_tags.jsonl", json!("<answer>Ann</answer>"), false, &[("tags_in_prediction", 1)]);
    add("p_marker.jsonl", json!("None"), false, &[("missing_marker", 1)]);
    add("p_printed_list.jsonl", json!("['Ann']"), true, &[("list_like_text", 1)]);
    add("p_blank.jsonl", json!(""), false, &[]);
    add("p_separator_text.jsonl", json!("ann."), true, &[]);
    let nothing: &[(&str, usize)] = &[("nothing_to_match", 1)];
    let row = json!({"golden_answers": ["A"], "prediction": ""}).to_string();
    files.push(good(Kind::Predictions, "p_letter.jsonl", row, json!([["", true]]), nothing));
    let row = json!({"golden_answers": "a<|answer_split|>Ann", "prediction": "Ann"}).to_string();
    files.push(good(Kind::Predictions, "p_separator.jsonl", row, json!([["Ann", true]]), &[]));
    for (name, row, error) in [
        ("p_truth.jsonl", json!({"answer": "a", "prediction": true}), "is a truth value"),
        ("p_object.jsonl", json!({"answer": "a", "prediction": {"text": "a"}}), "is an object"),
        ("p_chat.jsonl", json!({"answer": "a", "transcript": [{"role": "user"}]}), "is a list"),
        ("p_null_answers.jsonl", json!({"answer": null, "prediction": "a"}), "is missing"),
    ] {
        files.push(bad(Kind::Predictions, name, row.to_string(), error));
    }
}

fn refused(files: &mut Vec<OddFile>) {
    let row = "{\"question\":\"who?\",\"answer\":\"Ann\"}\n";
    let tar = tar("q.jsonl", row.as_bytes());
    let twice = gzip(&gzip(row.as_bytes()));
    let refused: &[(&str, &[u8], &str)] = &[
        ("q_archive.jsonl", &tar, "a tar archive"),
        ("q_archive.tar.gz", &gzip(&tar), "a tar archive"),
        ("q_packed_twice.jsonl.gz", &twice, "packed twice"),
        ("q_object_over_lines.jsonl", b"{\n\"question\": \"who?\"}\n", "`jq -c .`"),
        ("q_python_rows.jsonl", b"{'question': 'who?', 'answer': 'a'}\n", "json.dumps"),
        ("q_infinite.jsonl", br#"{"question":"who?","answer":"a","x":NaN}"#, "write null"),
        ("q_comma_rows.jsonl", b"{\"question\":\"who?\",\"answer\":\"a\"},\n", "not a question"),
        (
            "q_frame.json",
            br#"{"question":{"0":"who?"},"answer":{"0":"a"}}"#,
            "`question` is an object",
        ),
    ];
    for (name, contents, error) in refused {
        files.push(bad(Kind::Questions, name, *contents, error));
    }
    for (name, answer, error) in [
        ("q_nested_lists.jsonl", json!([["a"], ["b"]]), "`golden_answers[0]` is a list"),
        ("q_answer_objects.jsonl", json!([{"text": "a"}]), "`golden_answers[0]` is an object"),
        ("q_answer_object.jsonl", json!({"answers": ["a"]}), "`golden_answers` is an object"),
        ("q_list_of_nan.jsonl", json!("[nan]"), "`golden_answers` is empty"),
        ("q_empty_text.jsonl", json!("[]"), "`golden_answers` is empty"),
        ("q_truth_list.jsonl", json!([true]), "`golden_answers[0]` is a truth value"),
    ] {
        let row = json!({ "question": "who?", "golden_answers": answer }).to_string();
        files.push(bad(Kind::Questions, name, row, error));
    }
    let list_id = json!({"id": ["1"], "text": "x"}).to_string();
    files.push(bad(Kind::Documents, "d_list_id.jsonl", list_id, "field `id`"));
    let wrapped = json!({"data": [{"question": "who?", "answer": "a"}]}).to_string();
    files.push(bad(Kind::Questions, "q_wrapped.json", wrapped, "field `question` is missing"));
}

/// A tar archive with one file.
fn tar(name: &str, contents: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{:011o}", contents.len()).as_bytes());
    header[156] = b'0';
    header[257..262].copy_from_slice(b"ustar");
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(contents);
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}
