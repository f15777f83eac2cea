//! Odd files of questions in JSON and Parquet.

use ::parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use serde_json::{Value, json};

use super::super::parquet;
use super::super::{Kind, OddFile};
use super::{bad, good, gzip};

const ROW: &str = r#"{"id":"1","question":"who?","answer":"Ann"}"#;
const ROW_2: &str = r#"{"id":"2","question":"when?","answer":"1999"}"#;

/// Files in JSON Lines, arrays, or what is none.
pub(super) fn questions(files: &mut Vec<OddFile>) {
    let mut add = |name: &str, contents: &[u8], rows: Value, notes: &[(&str, usize)]| {
        files.push(good(Kind::Questions, name, contents, rows, notes));
    };
    let one = json!([["1", "who?", ["Ann"]]]);
    let two = json!([["1", "who?", ["Ann"]], ["2", "when?", ["1999"]]]);
    let lines = format!("{ROW}\n{ROW_2}\n");
    // Line ends, marks, compression.
    add("q_plain.jsonl", lines.as_bytes(), two.clone(), &[]);
    add("q_bom.jsonl", format!("\u{feff}{lines}").as_bytes(), two.clone(), &[]);
    add(
        "q_bom_joined.jsonl",
        format!("\u{feff}{ROW}\n\u{feff}{ROW_2}").as_bytes(),
        two.clone(),
        &[],
    );
    add("q_crlf.jsonl", lines.replace('\n', "\r\n").as_bytes(), two.clone(), &[]);
    add("q_cr.jsonl", lines.replace('\n', "\r").as_bytes(), two.clone(), &[]);
    add("q_blank_lines.jsonl", format!("\n \r\n{ROW}\n\n\n{ROW_2}").as_bytes(), two.clone(), &[]);
    add("q_packed_gzip.jsonl", &gzip(lines.as_bytes()), two.clone(), &[]);
    add("q_packed_zstd.jsonl.gz", &zstd(lines.as_bytes()), two.clone(), &[]);
    add("q_not_packed.jsonl.gz", lines.as_bytes(), two.clone(), &[]);
    add("q_packed_bom.jsonl.gz", &gzip(format!("\u{feff}{lines}").as_bytes()), two.clone(), &[]);
    add("q_no_extension", lines.as_bytes(), two.clone(), &[]);
    add("q_array.json", format!("\u{feff}[{ROW},\n{ROW_2}]").as_bytes(), two.clone(), &[]);
    add("q_array.jsonl", format!(" [{ROW}, {ROW_2}] \n").as_bytes(), two.clone(), &[]);
    add("q_json_named_csv.csv", lines.as_bytes(), two.clone(), &[]);
    // Lists inside texts.
    let list = |name: &str, answer: &str| {
        (
            name.to_owned(),
            json!({ "id": "1", "question": "who?", "golden_answers": answer }).to_string(),
        )
    };
    let pair = json!([["1", "who?", ["a", "b"]]]);
    for (name, row) in [
        list("q_list_json.jsonl", r#"["a", "b"]"#),
        list("q_list_python.jsonl", "['a', \"b\"]"),
        list("q_list_tuple.jsonl", "('a', 'b')"),
        list("q_list_numpy.jsonl", "['a' 'b']"),
        list("q_list_numpy_lines.jsonl", "['a'\n 'b']"),
        list("q_list_array.jsonl", "array(['a', 'b'], dtype=object)"),
        list("q_list_array_width.jsonl", "array(['a', 'b'], dtype='<U1')"),
        list("q_list_array_plain.jsonl", "array(['a', 'b'])"),
        list("q_list_scalars.jsonl", "[np.str_('a'), np.str_('b')]"),
        list("q_list_null.jsonl", "['a', 'b']  "),
    ] {
        add(&name, row.as_bytes(), pair.clone(), &[("list_in_text", 1)]);
    }
    let nested = r#"{"id":"1","prompt":"x <b> question: who?","extra_info":"{'index': 4, 'question': 'who?'}","reward_model":"{'style': 'rule', 'ground_truth': {'target': array(['a', 'b'], dtype=object)}}"}"#;
    add("q_verl_in_texts.jsonl", nested.as_bytes(), pair.clone(), &[("list_in_text", 2)]);
    let (name, row) = list("q_list_numbers.jsonl", "[1999, 2.5, None]");
    add(
        &name,
        row.as_bytes(),
        json!([["1", "who?", ["1999", "2.5"]]]),
        &[("list_in_text", 1), ("number_as_text", 1), ("fraction_as_text", 1), ("null_in_list", 1)],
    );
    for (name, answer) in [
        ("q_list_like.jsonl", "[sic]"),
        ("q_list_shortened.jsonl", "['a' ... 'z']"),
        ("q_list_of_lists.jsonl", "[['a'], ['b']]"),
        ("q_list_broken.jsonl", "['a', 'b]"),
    ] {
        let (name, row) = list(name, answer);
        add(&name, row.as_bytes(), json!([["1", "who?", [answer]]]), &[("list_like_text", 1)]);
    }
    let (name, row) = list("q_parentheses.jsonl", "(I Can't Get No) Satisfaction");
    add(&name, row.as_bytes(), json!([["1", "who?", ["(I Can't Get No) Satisfaction"]]]), &[]);
    let (name, row) = list("q_separator.jsonl", "a<|answer_split|>b");
    add(&name, row.as_bytes(), pair.clone(), &[]);
    // Numbers, nulls, other forms of answers.
    add(
        "q_numbers.jsonl",
        br#"{"id":1,"question":1984,"answer":[7]}"#,
        json!([["1", "1984", ["7"]]]),
        &[("number_as_text", 2), ("no_letters", 1)],
    );
    add(
        "q_fraction.jsonl",
        br#"{"id":"1","question":"pi?","answer":3.5}"#,
        json!([["1", "pi?", ["3.5"]]]),
        &[("fraction_as_text", 1)],
    );
    add("q_nulls.jsonl", br#"{"id":null,"_id":"1","question":"who?","golden_answers":null,"answers":["Ann",null],"hops":null,"type":null}"#, one.clone(), &[("null_in_list", 1)]);
    add("q_names.jsonl", br#"{" ID":"1","Question":"who?","ANSWER":"Ann"}"#, one.clone(), &[]);
    add(
        "q_squad.jsonl",
        br#"{"id":"1","question":"who?","answers":{"text":["Ann"],"answer_start":[5]}}"#,
        one.clone(),
        &[],
    );
    add(
        "q_trivia.jsonl",
        br#"{"id":"1","question":"who?","answer":{"value":"a","aliases":["b"],"type":"x"}}"#,
        pair.clone(),
        &[],
    );
    add(
        "q_missing_marker.jsonl",
        br#"{"id":"1","question":"who?","answer":"nan"}"#,
        json!([["1", "who?", ["nan"]]]),
        &[("missing_marker", 1)],
    );
    add(
        "q_two_fields.jsonl",
        br#"{"id":"1","question":"who?","answer":"Ann","extra_info":{"question":"where?"}}"#,
        one.clone(),
        &[("fields_differ", 1)],
    );
    // Prompts.
    let prompt = |text: &str| {
        json!({ "id": "1", "prompt": [{ "role": "user", "content": text }], "answer": "Ann" })
            .to_string()
    };
    let search_r1 = "Answer the given question. You must think. For example, <answer> Beijing </answer>. Question: who?\n";
    add(
        "q_prompt_search_r1.jsonl",
        prompt(search_r1).as_bytes(),
        one.clone(),
        &[("instruction_removed", 1)],
    );
    let other = "Think first. The question is: who?";
    add(
        "q_prompt_whole.jsonl",
        prompt(other).as_bytes(),
        json!([["1", other, ["Ann"]]]),
        &[("whole_prompt", 1)],
    );
    add("q_prompt_plain.jsonl", prompt("who?").as_bytes(), one.clone(), &[]);
    add("q_prompt_text.jsonl", br#"{"id":"1","prompt":"who?","answer":"Ann"}"#, one.clone(), &[]);
    let chat = r#"{"id":"1","prompt":"[{'role': 'user', 'content': 'who?'}]","answer":"Ann"}"#;
    add("q_prompt_in_text.jsonl", chat.as_bytes(), one.clone(), &[("list_in_text", 1)]);
    let tools = r#"{"id":"1","prompt":"p","extra_info":{"tools_kwargs":{"search":{"create_kwargs":{"question":"who?"}}}},"answer":"Ann"}"#;
    add("q_tools.jsonl", tools.as_bytes(), one, &[]);
    // Ids.
    let merged = |ids: [(&str, &str); 4]| {
        ids.map(|(id, set)| {
            json!({ "id": id, "question": "q?", "answer": "a", "data_source": set }).to_string()
        })
        .join("\n")
    };
    let row = |id: &str| json!([id, "q?", ["a"]]);
    add(
        "q_merged.jsonl",
        merged([("0", "nq"), ("1", "nq"), ("0", "hq"), ("1", "hq")]).as_bytes(),
        json!([row("nq:0"), row("nq:1"), row("hq:0"), row("hq:1")]),
        &[("id_by_source", 2)],
    );
    add(
        "q_merged_apart.jsonl",
        merged([("0", "nq"), ("1", "nq"), ("2", "hq"), ("3", "hq")]).as_bytes(),
        json!([row("0"), row("1"), row("2"), row("3")]),
        &[],
    );
    let mut refuse = |name: &str, contents: &[u8], error: &str| {
        files.push(bad(Kind::Questions, name, contents, error));
    };
    refuse(
        "q_repeated_id.jsonl",
        merged([("0", "nq"), ("0", "nq"), ("1", "hq"), ("2", "hq")]).as_bytes(),
        "row 2: field `id` is `0`, as in row 1",
    );
    refuse(
        "q_truth.jsonl",
        br#"{"question":"is it?","answer":true}"#,
        "field `answer` is a truth value",
    );
    refuse(
        "q_too_large.jsonl",
        br#"{"question":"how many?","answer":123456789012345678901234567890}"#,
        "too large to be exact",
    );
    refuse("q_nan.jsonl", br#"{"question":"who?","answer":NaN}"#, "row 1: not a question");
    refuse("q_no_answers.jsonl", br#"{"question":"who?","answer":[]}"#, "field `answer` is empty");
    refuse(
        "q_blank_answer.jsonl",
        br#"{"question":"who?","answer":["a"," "]}"#,
        "field `answer[1]` is empty",
    );
    refuse("q_other_fields.jsonl", br#"{"q":"who?","a":"Ann"}"#, "field `question` is missing");
    refuse(
        "q_pretty.json",
        b"{\n \"question\": \"who?\",\n \"answer\": \"Ann\"\n}\n",
        "row 1: not a question",
    );
    refuse(
        "q_latin1.jsonl",
        b"{\"question\":\"caf\xE9?\",\"answer\":\"a\"}",
        "row 1: the row is not UTF-8",
    );
    refuse("q_utf16.csv", &utf16("question,answer\r\nwho?,Ann\r\n"), "text in UTF-16");
    refuse("q_bzip2.jsonl.bz2", b"BZh91AY&SY", "packed with bzip2");
    refuse("q_xz.jsonl.xz", b"\xFD7zXZ\0\0", "packed with xz");
    refuse("q_lz4.jsonl.lz4", b"\x04\x22\x4D\x18\x60\x40", "packed with lz4");
    refuse("q_7z.jsonl.7z", b"7z\xBC\xAF\x27\x1C\0\x04", "a 7-Zip archive");
    refuse("q_arrow.arrow", b"ARROW1\0\0", "an Arrow file");
    refuse("q_arrow_stream.parquet", b"\xFF\xFF\xFF\xFF\x10\0\0\0", "an Arrow stream");
    refuse("q_sqlite.csv", b"SQLite format 3\0", "an SQLite database");
    refuse("q_utf32.csv", b"\0\0\xFE\xFF\0\0\0q", "text in UTF-32");
    refuse("q_zip.csv", b"PK\x03\x04\x14\0", "zip archive or an Excel workbook");
    refuse(
        "q_lfs.parquet",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "pointer of git LFS",
    );
    refuse("q_page.jsonl", b"<!DOCTYPE html><html></html>", "a web page");
    refuse("q_empty.jsonl", b"", "the file holds no question");
    refuse("q_empty_gzip.jsonl.gz", &gzip(b""), "the file holds no question");
    let packed = gzip(lines.as_bytes());
    refuse("q_cut_short.jsonl.gz", &packed[..packed.len() - 9], "cannot be read");
}

/// Files in Parquet.
pub(super) fn question_columns(files: &mut Vec<OddFile>) {
    let mut add = |name: &str, rows: &[Value], expected: Value, notes: &[(&str, usize)]| {
        files.push(good(Kind::Questions, name, parquet::write(rows), expected, notes));
    };
    let verl = |question: &str, target: Value| {
        json!({
            "data_source": "searchR1_nq",
            "prompt": [
                { "role": "system", "content": "You are helpful." },
                { "role": "user", "content": format!("Think first. The question is: {question}") },
            ],
            "ability": "fact-reasoning",
            "reward_model": { "style": "rule", "ground_truth": { "target": target } },
            "extra_info": { "index": 0, "split": "train", "question": question },
        })
    };
    add(
        "q_verl.parquet",
        &[verl("who?", json!(["a", "b"])), verl("when?", json!(["1999"]))],
        json!([["q_verl-1", "who?", ["a", "b"]], ["q_verl-2", "when?", ["1999"]]]),
        &[],
    );
    add(
        "q_verl_target_in_text.parquet",
        &[verl("who?", json!("['a' 'b']"))],
        json!([["q_verl_target_in_text-1", "who?", ["a", "b"]]]),
        &[("list_in_text", 1)],
    );
    let merged = |set: &str| json!({ "id": "train_0", "question": "who?", "golden_answers": ["a"], "data_source": set });
    add(
        "q_merged.parquet",
        &[merged("nq"), merged("hotpotqa")],
        json!([["nq:train_0", "who?", ["a"]], ["hotpotqa:train_0", "who?", ["a"]]]),
        &[("id_by_source", 1)],
    );
    let numbers = [
        json!({ "ID": 7, "Question": "how many?", "answer": 3 }),
        json!({ "ID": 8, "Question": "how long?", "answer": 4 }),
    ];
    add(
        "q_numbers.parquet",
        &numbers,
        json!([["7", "how many?", ["3"]], ["8", "how long?", ["4"]]]),
        &[("number_as_text", 2)],
    );
    let floats = [
        json!({ "id": "7", "question": "how many?", "answer": 1.5 }),
        json!({ "id": "8", "question": "how long?", "answer": 1999.0 }),
    ];
    add(
        "q_floats.parquet",
        &floats,
        json!([["7", "how many?", ["1.5"]], ["8", "how long?", ["1999.0"]]]),
        &[("fraction_as_text", 2)],
    );
    let nulls = [
        json!({ "id": "1", "question": "who?", "answer": null, "answers": ["a", null] }),
        json!({ "id": "2", "question": "who?", "answer": "b", "answers": null }),
    ];
    add(
        "q_nulls.parquet",
        &nulls,
        json!([["1", "who?", ["a"]], ["2", "who?", ["b"]]]),
        &[("null_in_list", 1)],
    );
    let plain = [json!({ "id": "1", "question": "who?", "answer": "a" })];
    let bytes = parquet::write(&plain);
    let rows = json!([["1", "who?", ["a"]]]);
    let of_rows = [json!({ "id": "1", "question": "who?", "answer": "Ann" })];
    for (name, packing) in [
        ("q_snappy.parquet", Compression::SNAPPY),
        ("q_gzip.parquet", Compression::GZIP(GzipLevel::default())),
        ("q_zstd.parquet", Compression::ZSTD(ZstdLevel::default())),
        ("q_brotli.parquet", Compression::BROTLI(BrotliLevel::default())),
        ("q_lz4.parquet", Compression::LZ4),
        ("q_lz4_raw.parquet", Compression::LZ4_RAW),
    ] {
        let bytes = parquet::write_packed(&of_rows, packing);
        files.push(good(Kind::Questions, name, bytes, json!([["1", "who?", ["Ann"]]]), &[]));
    }
    for (name, bytes) in [
        ("q_parquet_named_jsonl.jsonl", bytes.clone()),
        ("q_parquet_without_extension", bytes.clone()),
        ("q_packed.parquet.gz", gzip(&bytes)),
    ] {
        files.push(good(Kind::Questions, name, bytes, rows.clone(), &[]));
    }
    files.push(bad(
        Kind::Questions,
        "q_half.parquet",
        &bytes[..bytes.len() / 2],
        "not a readable Parquet file",
    ));
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).unwrap()
}

fn utf16(text: &str) -> Vec<u8> {
    std::iter::once(0xFEFF).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}
