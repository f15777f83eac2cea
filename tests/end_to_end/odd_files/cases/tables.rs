//! Odd tables of questions.

use serde_json::json;

use super::super::{Kind, OddFile};
use super::{bad, good};

/// Files in CSV and TSV.
pub(super) fn tables(files: &mut Vec<OddFile>) {
    let mut add = |name: &str, contents: &str, rows: &[(&str, &str)], notes: &[(&str, usize)]| {
        let stem = name.split('.').next().unwrap();
        let row = |(index, (text, answer)): (usize, &(&str, &str))| {
            json!([format!("{stem}-{}", index + 1), text, [answer]])
        };
        let rows = rows.iter().enumerate().map(row).collect();
        files.push(good(Kind::Questions, name, contents, rows, notes));
    };
    let two = [("who?", "Ann"), ("when?", "1999")];
    add("q_plain.csv", "question,answer\nwho?,Ann\nwhen?,1999\n", &two, &[]);
    add("q_plain.tsv", "question\tanswer\nwho?\tAnn\nwhen?\t1999\n", &two, &[]);
    add("q_bom.csv", "\u{feff}Question,Answer\r\nwho?,Ann\r\nwhen?,1999\r\n", &two, &[]);
    add("q_cr.csv", "question,answer\rwho?,Ann\rwhen?,1999\r", &two, &[]);
    add("q_semicolons.csv", "question;answer\nwho?;Ann\nwhen?;1999\n", &two, &[]);
    add("q_tabs.csv", "question\tanswer\nwho?\tAnn\nwhen?\t1999\n", &two, &[]);
    add("q_commas.tsv", "question,answer\nwho?,Ann\nwhen?,1999\n", &two, &[]);
    add("q_table_without_extension", "question,answer\nwho?,Ann\nwhen?,1999\n", &two, &[]);
    add("q_headerless.tsv", "who?\tAnn\nwhen?\t1999\n", &two, &[("no_header", 1)]);
    add(
        "q_all_quoted.tsv",
        "\"question\"\t\"answer\"\n\"who?\"\t\"Ann\"\n\"when?\"\t\"1999\"\n",
        &two,
        &[],
    );
    add("q_more_columns.csv", ",question,answer,\n0,who?,Ann,\n1,when?,1999,\n", &two, &[]);
    add(
        "q_quotes_text.tsv",
        "question\tanswer\nwhere is dun head\tthe north\n\"Who said that\tHamlet\ncapital of orvany\tPort Asel\nshe said \"no\tx\nlast one\ty\n",
        &[
            ("where is dun head", "the north"),
            ("\"Who said that", "Hamlet"),
            ("capital of orvany", "Port Asel"),
            ("she said \"no", "x"),
            ("last one", "y"),
        ],
        &[("quote_as_text", 1)],
    );
    add(
        "q_quotes_text.csv",
        "question,answer\n\"Heroes\" by whom?,\"Bowie\" D.\n",
        &[("\"Heroes\" by whom?", "\"Bowie\" D.")],
        &[("quote_as_text", 2)],
    );
    add(
        "q_quotes_unclear.tsv",
        "question\tanswer\nwho sang it?\t\"Heroes\"\n",
        &[("who sang it?", "\"Heroes\"")],
        &[("quoted_cell", 1)],
    );
    add(
        "q_quotes_clear.csv",
        "question,answer\nwho sang it?,\"Heroes\"\n\"a, b?\",c\n",
        &[("who sang it?", "Heroes"), ("a, b?", "c")],
        &[],
    );
    add(
        "q_quotes_doubled.tsv",
        "question\tanswer\n\"a \"\"b\"\"?\"\tc\n\"d?\"\te\n",
        &[("a \"b\"?", "c"), ("d?", "e")],
        &[],
    );
    add("q_line_in_cell.csv", "question,answer\n\"a\nb?\",c\n", &[("a\nb?", "c")], &[]);
    let list = json!([["q_popqa-1", "who?", ["a", "b"]]]);
    files.push(good(
        Kind::Questions,
        "q_popqa.tsv",
        "question\tpossible_answers\nwho?\t\"[\"\"a\"\", \"\"b\"\"]\"\n",
        list,
        &[("list_in_text", 1)],
    ));
    let list = json!([["q_dpr-1", "who, when?", ["a", "b's"]]]);
    files.push(good(
        Kind::Questions,
        "q_dpr.csv",
        "who, when?\t['a', \"b's\"]\n",
        list,
        &[("list_in_text", 1), ("no_header", 1)],
    ));
    let mut refuse = |name: &str, contents: &str, error: &str| {
        files.push(bad(Kind::Questions, name, contents, error));
    };
    refuse(
        "q_comma_in_cell.csv",
        "question,answer\nwho, when?,Ann\nwhen?,1999\n",
        "row 2: not a CSV or TSV record: it has 3 cells",
    );
    refuse(
        "q_headerless_three.tsv",
        "1\twho?\tAnn\n",
        "row 1: not a CSV or TSV record: the first line has 3 cells",
    );
    refuse(
        "q_blank_cell.csv",
        "question,answer\nwho?,\n",
        "row 2: field `golden_answers` is missing",
    );
    refuse("q_header_only.csv", "question,answer\n", "the file holds no question");
    refuse(
        "q_text_behind_quote.csv",
        "question,answer\n\"a\"x,b,c\n",
        "there is text behind a closing quote",
    );
    refuse("q_unknown", "PK question answer", "unknown format");
}
