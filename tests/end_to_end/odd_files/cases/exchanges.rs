//! Odd requests to `zs serve`, and odd replies of servers that `zs` asks.

use serde_json::{Value, json};

use super::super::{Kind, OddFile};
use super::{bad, good};

/// A name without ending, the contents, and the rows or the error.
type Case<'a> = (&'a str, &'a [u8], Result<Value, &'a str>);

fn add(files: &mut Vec<OddFile>, kind: Kind, prefix: &str, cases: &[Case<'_>]) {
    assert!(cases.len() >= 12 || kind.is_request(), "{prefix}");
    for (name, contents, expected) in cases {
        let name = format!("{prefix}_{name}.json");
        files.push(match expected {
            Ok(rows) => good(kind, &name, *contents, rows.clone(), &[]),
            Err(error) => bad(kind, &name, *contents, error),
        });
    }
}

pub(super) fn requests(files: &mut Vec<OddFile>) {
    let cases: &[Case<'_>] = &[
        ("plain", br#"{"prompt":"abcdef"}"#, Ok(json!(["abcdef"]))),
        (
            "nulls",
            br#"{"prompt":"abc","max_tokens":null,"stop":null,"seed":null,"stream_options":null,"nobody":null}"#,
            Ok(json!(["abc"])),
        ),
        ("unknown_key", br#"{"prompt":"abc","min_tokens":1}"#, Err("the key `min_tokens` is")),
        ("neutral_keys", br#"{"prompt":"abc","best_of":1.0,"tools":[]}"#, Ok(json!(["abc"]))),
        (
            "vllm_defaults",
            br#"{"prompt":"abc","top_k":0,"min_p":0,"repetition_penalty":1.0,"use_beam_search":false}"#,
            Ok(json!(["abc"])),
        ),
        ("ignore_eos", br#"{"prompt":"a","ignore_eos":true}"#, Err("the key `ignore_eos` is")),
        ("stop_ids", br#"{"prompt":"a","stop_token_ids":[5]}"#, Err("the key `stop_token_ids` is")),
        (
            "stream_options",
            br#"{"prompt":"abc","stream_options":{"include_usage":null,"include_obfuscation":false,"continuous_usage_stats":false}}"#,
            Ok(json!(["abc"])),
        ),
        (
            "unknown_stream_option",
            br#"{"prompt":"a","stream_options":{"include_usage":true,"every":3}}"#,
            Err("`stream_options`: the key `every` is unknown"),
        ),
        (
            "usage_in_chunks",
            br#"{"prompt":"a","stream_options":{"continuous_usage_stats":true}}"#,
            Err("`continuous_usage_stats` is not supported"),
        ),
        ("stop_text", br#"{"prompt":"abcdef","stop":"d"}"#, Ok(json!(["abc"]))),
        ("stop_list", br#"{"prompt":"abcdef","stop":["e","c"]}"#, Ok(json!(["ab"]))),
        ("stop_nothing", br#"{"prompt":"abc","stop":[]}"#, Ok(json!(["abc"]))),
        ("stop_null", br#"{"prompt":"abc","stop":[null]}"#, Err("invalid type: null")),
        ("stop_empty", br#"{"prompt":"abc","stop":""}"#, Err("stops of 1 to 256 bytes")),
        ("no_tokens", br#"{"prompt":"abc","max_tokens":0}"#, Err("`max_tokens` must be")),
        ("seed_text", br#"{"prompt":"abc","seed":"7"}"#, Err("`seed`: invalid type")),
        (
            "temperature_text",
            br#"{"prompt":"abc","temperature":"0"}"#,
            Err("`temperature`: invalid type"),
        ),
        ("best_of", br#"{"prompt":"abc","best_of":2}"#, Err("`best_of` is not supported")),
        (
            "float_counts",
            br#"{"prompt":"abcdef","max_tokens":3.0,"n":2e0,"seed":7.0}"#,
            Ok(json!(["abc", "abc"])),
        ),
        ("fraction", br#"{"prompt":"a","max_tokens":2.5}"#, Err("`max_tokens`: 2.5 is not a count")),
        ("text_count", br#"{"prompt":"a","max_tokens":"3"}"#, Err("`max_tokens`: invalid type")),
        ("truth_count", br#"{"prompt":"a","n":true}"#, Err("`n`: invalid type: boolean")),
        ("negative", br#"{"prompt":"a","n":-1}"#, Err("`n`: -1 is not a count")),
        ("huge_count", br#"{"prompt":"a","max_tokens":1e300}"#, Err("`max_tokens`: 1e+300 is")),
        ("huge_seed", br#"{"prompt":"a","seed":18446744073709551616}"#, Err("is not a count")),
        ("out_of_range", br#"{"prompt":"a","temperature":1e999}"#, Err("number out of range")),
        ("cut_short", br#"{"prompt":"abc"#, Err("EOF while parsing a string")),
        ("empty", b"", Err("EOF while parsing")),
        ("bom", "\u{feff}{\"prompt\":\"abc\"}".as_bytes(), Ok(json!(["abc"]))),
        ("repeated_key", br#"{"prompt":"a","prompt":"b"}"#, Err("duplicate field `prompt`")),
        ("latin1", b"{\"prompt\":\"caf\xe9\"}", Err("invalid unicode code point")),
        ("half_character", br#"{"prompt":"\ud800"}"#, Err("of hex escape")),
        ("list", b"[]", Err("expected an object")),
        ("nan", br#"{"prompt":"a","temperature":NaN}"#, Err("expected value")),
        ("two_values", br#"{"prompt":"a"} {"prompt":"b"}"#, Err("trailing characters")),
        ("empty_prompts", br#"{"prompt":[]}"#, Err("send between 1 and 256 prompts, not 0")),
        ("empty_tokens", br#"{"prompt":[[]]}"#, Err("the prompt is empty")),
        ("mixed_prompts", br#"{"prompt":["a",[1]]}"#, Err("items of two kinds")),
    ];
    assert!(cases.len() >= 12);
    add(files, Kind::Completion, "request_completion", cases);
    let cases: &[Case<'_>] = &[
        (
            "parts",
            br#"{"messages":[{"role":"user","content":null},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":null}],"tool_calls":null}]}"#,
            Ok(json!(["a"])),
        ),
        (
            "clients",
            br#"{"messages":[{"role":"developer","content":"a","name":"b"},{"role":"assistant","content":"c","refusal":null,"annotations":[],"audio":null,"tool_calls":[]},{"role":"user","content":[{"text":"d"}]}],"tools":[],"function_call":"none","modalities":["text"],"n":1,"logprobs":false,"response_format":{"type":"text"},"parallel_tool_calls":true,"add_generation_prompt":true}"#,
            Ok(json!(["a\nc\nd"])),
        ),
        (
            "completion_tokens",
            br#"{"messages":[{"role":"user","content":"abcdef"}],"max_tokens":5,"max_completion_tokens":2}"#,
            Ok(json!(["ab"])),
        ),
        (
            "tools",
            br#"{"messages":[{"role":"user","content":"a"}],"tools":[{"type":"function"}]}"#,
            Err("`tools` is not supported"),
        ),
        (
            "tool_choice",
            br#"{"messages":[{"role":"user","content":"a"}],"tool_choice":"required"}"#,
            Err("the key `tool_choice` is"),
        ),
        (
            "json_mode",
            br#"{"messages":[{"role":"user","content":"a"}],"response_format":{"type":"json_object"}}"#,
            Err("`response_format` is not supported"),
        ),
        (
            "reasoning_effort",
            br#"{"messages":[{"role":"user","content":"a"}],"reasoning_effort":"low"}"#,
            Err("the key `reasoning_effort` is"),
        ),
        (
            "image",
            br#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}"#,
            Err("must be a text or a list of texts"),
        ),
        (
            "thoughts",
            br#"{"messages":[{"role":"assistant","content":"a","reasoning_content":"b"}]}"#,
            Err("message 0: the key `reasoning_content`"),
        ),
        ("text_messages", br#"{"messages":"a"}"#, Err("expected a list")),
        (
            "prompt",
            br#"{"messages":[{"role":"user","content":"a"}],"prompt":"a"}"#,
            Err("the key `prompt` is"),
        ),
        ("no_message", br#"{"messages":[]}"#, Err("`messages` is empty")),
        ("empty_message", br#"{"messages":[{}]}"#, Err("message 0: `role` is missing")),
        ("nested", br#"{"messages":[[]]}"#, Err("message 0: invalid type: sequence")),
        (
            "number",
            br#"{"messages":[{"role":"user","content":5}]}"#,
            Err("message 0: `content`: invalid type"),
        ),
        (
            "unknown_key",
            br#"{"messages":[{"role":"user","content":"a","prefix":true}]}"#,
            Err("message 0: the key `prefix`"),
        ),
    ];
    add(files, Kind::Chat, "request_chat", cases);
    let cases: &[Case<'_>] = &[
        (
            "float_count",
            br#"{"queries":["a","b"],"topk":2.0}"#,
            Ok(json!([["x", "y"], ["x", "y"]])),
        ),
        ("nulls", br#"{"query":"a","top_k":null,"queries":null}"#, Ok(json!([["x", "y", "z"]]))),
        ("fraction", br#"{"query":"a","top_k":1.5}"#, Err("`top_k`: 1.5 is not a count")),
        (
            "two_counts",
            br#"{"queries":["a"],"topk":1,"top_k":2}"#,
            Err("`topk` is 1 and `top_k` is 2"),
        ),
        ("same_counts", br#"{"queries":["a"],"topk":1,"top_k":1}"#, Ok(json!([["x"]]))),
        ("both_forms", br#"{"queries":["a"],"query":"b"}"#, Err("send either `queries`")),
        ("text_queries", br#"{"queries":"a"}"#, Err("expected a list")),
        (
            "list_query",
            br#"{"query":["a","b"]}"#,
            Err("query 0: it is neither a text nor an object"),
        ),
        ("number_query", br#"{"queries":[5]}"#, Err("query 0: it is neither a text nor an object")),
        ("no_documents", br#"{"queries":["a"],"topk":0}"#, Err("`topk` must be between 1 and")),
        ("text_count", br#"{"queries":["a"],"topk":"3"}"#, Err("`topk`: invalid type")),
        ("nothing", b"{}", Err("send either `queries`")),
        ("no_queries", br#"{"queries":[]}"#, Ok(json!([]))),
        (
            "null_query",
            br#"{"queries":[null]}"#,
            Err("query 0: it is neither a text nor an object"),
        ),
        ("nested", br#"{"queries":[[]]}"#, Err("query 0: it is neither a text nor an object")),
        ("empty_query", br#"{"queries":["a",{}]}"#, Err("query 1: `query` is missing")),
        ("harmless_key", br#"{"query":"a","top_k":1,"user":{"id":[[]]}}"#, Ok(json!([["x"]]))),
        (
            "null_answer",
            br#"{"queries":[{"query":"a","golden_answers":[null]}]}"#,
            Err("query 0: `golden_answers[0]`: invalid type: null"),
        ),
        ("unknown_key", br#"{"queries":[{"query":"a","k":3}]}"#, Err("query 0: the key `k`")),
    ];
    add(files, Kind::Retrieval, "request_retrieval", cases);
}

pub(super) fn replies(files: &mut Vec<OddFile>) {
    retriever(files);
    completions(files);
    web(files);
}

fn retriever(files: &mut Vec<OddFile>) {
    let alone = || Ok(json!([[["T", "x"]], "failed"]));
    let both = || Ok(json!([[["T", "x"]], [["U", "y"]]]));
    const X: &str = r#"[{"document":{"id":1,"contents":"\"T\"\nx"},"score":1}]"#;
    let with = |second: &str| format!(r#"{{"result":[{X},{second}]}}"#).into_bytes();
    let cut_short = &with("[]")[..20];
    add(
        files,
        Kind::RetrieverReply,
        "reply_retriever",
        &[
            ("plain", &with(r#"[{"title":"U","text":"y"}]"#), both()),
            (
                "nulls",
                &with(
                    r#"[{"document":null,"title":"U","text":null,"contents":"y","id":null,"score":null}]"#,
                ),
                Ok(json!([[["T", "x"]], [["", "y"]]])),
            ),
            ("unknown_keys", &with(r#"[{"title":"U","text":"y","a":{"b":[]}}]"#), both()),
            ("float_id", &with(r#"[{"id":7.0,"title":"U","text":"y","score":"0.5"}]"#), both()),
            (
                "numbers",
                &with(r#"[{"title":1984,"text":7}]"#),
                Ok(json!([[["T", "x"]], [["1984", "7"]]])),
            ),
            ("wrong_type", &with(r#"[{"contents":["y"]}]"#), alone()),
            ("null_document", &with("[null]"), alone()),
            ("object", &with(r#"{"error":"index out of range"}"#), alone()),
            ("huge_number", &with(r#"[{"title":"U","text":"y","score":1e999}]"#), alone()),
            ("half_character", &with(r#"[{"title":"U","text":"\ud800"}]"#), alone()),
            ("nested", &with("[[]]"), alone()),
            ("nothing", &with("[]"), Ok(json!([[["T", "x"]], []]))),
            ("repeated_key", &with(r#"[{"title":"U","text":"z","text":"y"}]"#), both()),
            ("repeated_result", br#"{"result":[],"result":[]}"#, Err("duplicate field `result`")),
            ("one_result", br#"{"result":[[]]}"#, Err("1 results for 2 queries")),
            ("null", br#"{"result":null}"#, Err("not {\"result\"")),
            ("cut_short", cut_short, Err("EOF while parsing")),
            ("bom", &["\u{feff}".as_bytes(), &with("[]")].concat(), Ok(json!([[["T", "x"]], []]))),
            ("latin1", b"{\"result\":[[\"caf\xe9\"],[]]}", Err("it is not UTF-8")),
            ("nan", &with(r#"[{"text":"y","score":NaN}]"#), Err("expected value")),
            ("page", b"<html>busy</html>", Err("not {\"result\"")),
        ],
    );
}

fn completions(files: &mut Vec<OddFile>) {
    let said = |content: &str, rest: &str| {
        format!(r#"{{"choices":[{{"message":{{"content":{content}}}}}]{rest}}}"#).into_bytes()
    };
    let plain = said(r#""Doc 1: x""#, "");
    let one = || Ok(json!([[["", "x"]]]));
    add(
        files,
        Kind::CompletionReply,
        "reply_completion",
        &[
            ("plain", &plain, one()),
            (
                "nulls",
                br#"{"id":null,"choices":[{"message":{"role":null,"content":"Doc 1: x","tool_calls":null},"text":null,"finish_reason":null}],"usage":null,"error":null}"#,
                one(),
            ),
            ("unknown_keys", &said(r#""Doc 1: x""#, r#","a":{"b":[[]]}"#), one()),
            (
                "float_counts",
                &said(r#""Doc 1: x""#, r#","usage":{"prompt_tokens":3.0,"completion_tokens":"2"}"#),
                one(),
            ),
            ("odd_usage", &said(r#""Doc 1: x""#, r#","usage":[]"#), one()),
            ("huge_number", &said(r#""Doc 1: x""#, r#","created":1e999"#), one()),
            ("thoughts", &said(r#""<think>Doc 1: draft</think>\nDoc 1: x""#, ""), one()),
            ("thoughts_opened", &said(r#""Doc 1: draft\n</think>\nDoc 1: x""#, ""), one()),
            ("thoughts_only", &said(r#""<think>Doc 1: draft""#, ""), Err("no document found")),
            ("null_content", &said("null", ""), Err("no document found")),
            ("list_content", &said(r#"["Doc 1: x"]"#, ""), Err("neither a text nor a list of parts")),
            ("number_content", &said("5", ""), Err("neither a text nor a list of parts")),
            (
                "parts",
                &said(r#"[{"type":"thinking","thinking":[]},{"type":"text","text":"Doc 1: x"}]"#, ""),
                one(),
            ),
            (
                "reasoning",
                br#"{"choices":[{"message":{"content":"Doc 1: x","reasoning_content":"Doc 1: draft"},"finish_reason":null}]}"#,
                one(),
            ),
            (
                "reasoning_only",
                br#"{"choices":[{"message":{"content":null,"reasoning_content":"Doc 1: draft"},"finish_reason":"length"}]}"#,
                Err("no document found"),
            ),
            ("detail", br#"{"detail":"Not Found"}"#, Err("the server says: Not Found")),
            (
                "vllm_error",
                br#"{"object":"error","message":"too long"}"#,
                Err("the server says: too long"),
            ),
            ("error_text", br#"{"error":"busy"}"#, Err("the server says: busy")),
            ("null_message", br#"{"choices":[{"message":null}]}"#, Err("its choice has no `message`")),
            ("no_choice", br#"{"choices":[]}"#, Err("it has no choice")),
            ("empty_choice", br#"{"choices":[{}]}"#, Err("its choice has no `message`")),
            ("null_choices", br#"{"choices":null}"#, Err("it has no `choices`")),
            ("error", br#"{"error":{"message":"busy"}}"#, Err("the server says: busy")),
            ("repeated_key", br#"{"choices":[],"choices":[]}"#, Err("duplicate field `choices`")),
            ("cut_short", &plain[..plain.len() - 5], Err("EOF while parsing")),
            ("bom", &["\u{feff}".as_bytes(), &plain].concat(), one()),
            ("half_character", &said(r#""Doc 1: \ud800""#, ""), Err("of hex escape")),
            ("latin1", b"{\"choices\":[{\"message\":{\"content\":\"caf\xe9\"}}]}", Err("not UTF-8")),
        ],
    );
}

fn web(files: &mut Vec<OddFile>) {
    let row = r#"{"title":"T","url":"u","content":"x"}"#;
    let found = |results: &str| format!(r#"{{"results":{results}}}"#).into_bytes();
    let plain = found(&format!("[{row}]"));
    let one = || Ok(json!([[["T", "x"]]]));
    add(
        files,
        Kind::WebReply,
        "reply_web",
        &[
            ("plain", &plain, one()),
            (
                "nulls",
                format!(r#"{{"error":null,"results":[null,{{"title":null,"url":null,"content":"y"}},{row}]}}"#).as_bytes(),
                Ok(json!([[["", "y"], ["T", "x"]]])),
            ),
            ("unknown_keys", format!(r#"{{"a":{{"b":[[]]}},"results":[{row}]}}"#).as_bytes(), one()),
            (
                "numbers",
                &found(r#"[{"title":1984,"content":2.5}]"#),
                Ok(json!([[["1984", "2.5"]]])),
            ),
            ("nothing", &found("[]"), Ok(json!([[]]))),
            ("empty_result", &found("[{}]"), Ok(json!([[]]))),
            ("object", &found("{}"), Err("its results are no list: {}")),
            ("text", &found(r#""x""#), Err("its results are no list")),
            ("nested", &found("[[]]"), Err("a result is no object: []")),
            ("text_result", &found(r#"["x"]"#), Err("a result is no object")),
            ("null", &found("null"), Err("it has no `results`")),
            ("empty_object", b"{}", Err("it has no `results`")),
            ("list", b"[]", Err("it is no object: []")),
            ("no_value", b"null", Err("it is no object: null")),
            ("error", br#"{"error":{"message":"no credit"}}"#, Err("no credit")),
            ("repeated_key", format!(r#"{{"results":[],"results":[{row}]}}"#).as_bytes(), one()),
            ("cut_short", &plain[..plain.len() - 4], Err("not JSON: EOF")),
            ("bom", &["\u{feff}".as_bytes(), &plain].concat(), one()),
            ("huge_number", br#"{"results":[],"number_of_results":1e999}"#, Err("out of range")),
            ("latin1", b"{\"results\":[{\"title\":\"caf\xe9\"}]}", Err("it is not UTF-8")),
        ],
    );
}
