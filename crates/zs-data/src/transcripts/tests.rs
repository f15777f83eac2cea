//! Episodes of other programs, and what is wrong with some.

use crate::{RecordedTranscript, open_episode_rows, recorded_transcript};

fn read(row: &str) -> Result<RecordedTranscript, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("e.jsonl");
    std::fs::write(&path, row.replace('\n', " ")).unwrap();
    let (stem, rows) = open_episode_rows(&path).unwrap();
    let read =
        rows.try_filter_map(move |row, context| recorded_transcript(row, context, &stem).map(Some));
    read.map(|it| it.map_err(|error| error.to_string())).next().unwrap()
}

#[track_caller]
fn check(row: &str, question: &str, turns: &[(&str, &str)]) {
    let episode = read(row).unwrap();
    assert_eq!(episode.question.text, question);
    let strip = |it: &str| {
        let inner =
            it.strip_prefix("<information>").and_then(|it| it.strip_suffix("</information>"));
        inner.unwrap_or(it).to_owned()
    };
    let read: Vec<(String, String)> = episode
        .transcript
        .turns
        .iter()
        .map(|it| (it.text.clone(), strip(&it.observation)))
        .collect();
    let expected: Vec<(String, String)> =
        turns.iter().map(|(text, result)| ((*text).to_owned(), (*result).to_owned())).collect();
    assert_eq!(read, expected, "{row}");
}

#[track_caller]
fn check_refused(row: &str, expected: &str) {
    let message = read(row).unwrap_err();
    assert!(message.contains("e.jsonl, row 1: ") && message.contains(expected), "{message}");
    assert!(!message.contains('\n'));
}

#[test]
fn chats_with_tags() {
    check(
        r#"{"messages":[
            {"role":"system","content":"You search."},
            {"role":"user","content":"Question: who?"},
            {"role":"assistant","content":"<think>a</think> <search>q</search><|im_end|>"},
            {"role":"user","content":"\n<information>Doc 1: d</information>\n"},
            {"role":"assistant","content":[{"type":"text","text":"<answer>x</answer>"}]}]}"#,
        "who?",
        &[("<think>a</think> <search>q</search>", "Doc 1: d"), ("<answer>x</answer>", "")],
    );
    // A whole episode in one message.
    check(
        r#"{"question":"who?","messages":[{"role":"user","content":"Long prompt."},
            {"role":"assistant","content":"<search>q</search>\n\n<information>d</information>\n\n<answer>x</answer>"}]}"#,
        "who?",
        &[("<search>q</search>", "d"), ("<answer>x</answer>", "")],
    );
}

#[test]
fn chats_with_calls() {
    check(
        r#"{"id":7,"golden_answers":["x"],"messages":[
            {"role":"user","content":"who?"},
            {"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[
                {"type":"function","function":{"name":"search","arguments":"{\"query\": \"q\"}"}}]},
            {"role":"tool","content":"<tool_response>[{\"text\":\"d\"}]</tool_response>"},
            {"role":"assistant","content":"<tool_call>{\"name\":\"search\",\"arguments\":{\"query_list\":[\"r\"]}}</tool_call>"},
            {"role":"tool","content":"e"},
            {"role":"assistant","content":"x"}]}"#,
        "who?",
        &[
            ("<think>\nhm\n</think>\n<search> q </search>", r#"[{"text":"d"}]"#),
            ("<search> r </search>", "e"),
            ("<answer> x </answer>", ""),
        ],
    );
    check(
        r#"{"conversations":[
            {"from":"human","value":"who?"},
            {"from":"gpt","value":"Let me look."},
            {"from":"function_call","value":"{\"name\":\"search\",\"arguments\":{\"query\":\"q\"}}"},
            {"from":"observation","value":"d"},
            {"from":"gpt","value":"<think>so</think> x"}]}"#,
        "who?",
        &[
            ("Let me look.\n<search> q </search>", "d"),
            ("<think>so</think>\n\n<answer> x </answer>", ""),
        ],
    );
}

#[test]
fn texts_with_tags() {
    let episode = "<think>a</think><search>q</search>\\n\\n<information>Doc 1: d\\n</information>\\n\\n<answer>x</answer>";
    let turns = [("<think>a</think><search>q</search>", "Doc 1: d\n"), ("<answer>x</answer>", "")];
    let prompt =
        "Answer the given question. For example, <answer> Beijing </answer>. Question: who?\\n";
    check(&format!(r#"{{"question":"who?","response":"{episode}<|im_end|>"}}"#), "who?", &turns);
    check(&format!(r#"{{"text":"{prompt}{episode}"}}"#), "who?", &turns);
    check(&format!(r#"{{"input":"{prompt}","output":"{episode}"}}"#), "who?", &turns);
    check(
        &format!(
            r#"{{"sequences_str":"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{episode}"}}"#
        ),
        "who?",
        &turns,
    );
    let read = read(&format!(r#"{{"question":"who?","answer":"x","text":"{episode}"}}"#)).unwrap();
    assert_eq!(
        (read.question.id.as_str(), &read.question.golden_answers[..]),
        ("e-1", &["x".to_owned()][..])
    );
}

#[test]
fn what_is_no_episode_is_named() {
    let chat = |messages: &str| {
        format!(r#"{{"messages":[{{"role":"user","content":"who?"}},{messages}]}}"#)
    };
    let refused = |messages: &str, expected: &str| check_refused(&chat(messages), expected);
    refused(
        r#"{"role":"critic","content":"x"}"#,
        "`messages[1]` has the role `critic`; known are system, user, assistant and tool",
    );
    refused(
        r#"{"role":"tool","content":"x"}"#,
        "`messages[1]` is the result of a tool, and no search comes before it",
    );
    refused(
        r#"{"role":"assistant","content":"<answer>x</answer>"},{"role":"tool","content":"x"}"#,
        "`messages[2]` is the result of a tool",
    );
    refused(r#"{"role":"user","content":"and?"}"#, "`messages[1]` is a second question");
    refused(
        r#"{"role":"assistant","tool_calls":[{"function":{"name":"open","arguments":{"url":"u"}}}]}"#,
        "`messages[1]` calls `open` without one `query`",
    );
    refused(r#"{"role":"assistant","tool_calls":[{},{}]}"#, "`messages[1]` has 2 calls");
    refused(r#"{"role":"assistant","content":"<tool_call>{"}"#, "`messages[1]` must end with one");
    refused(
        r#"{"role":"assistant","content":"<tool_call>{</tool_call>"}"#,
        "`messages[1]` is a call that is not JSON",
    );
    refused(
        r#"{"role":"assistant","content":"<search>q</search>"},{"role":"assistant","content":"<answer>x</answer>"}"#,
        "turn 1: the search has no result",
    );
    refused(r#"{"content":"x"}"#, "`messages[1]` has neither `role` nor `from`");
    refused(r#"{"role":"assistant","content":5}"#, "field `messages[1].content` is a number");
    refused("5", "field `messages[1]` is a number; it must be an object");
    let text = |text: &str| format!(r#"{{"question":"who?","text":"{text}"}}"#);
    check_refused(
        &text("<search>q</search><information>d<answer>x</answer>"),
        "turn 1: `<information>` is never closed",
    );
    check_refused(
        &text("hm<information>d</information><answer>x</answer>"),
        "turn 1: the result of a search follows text that does not search",
    );
    check_refused(
        &text("<search>q <information>d</information><answer>x</answer>"),
        "turn 1: `<search>` is never closed",
    );
    check_refused(r#"{"question":"who?"}"#, "field `messages` is missing");
    check_refused(r#"{"prompt":"p","completion":"c"}"#, "`data.kind = \"file\"`");
    check_refused(r#"{"text":"<answer>x</answer>"}"#, "field `question` is missing");
    check_refused(r#"{"messages":5}"#, "field `messages` is a number; it must be a list");
}
