//! Replies of OpenAI-compatible servers, as they are: with nulls, parts in place of a text, counts with a
//! fraction, errors with the status of a success.

use serde::Deserialize;
use serde_json::Value;

/// Reply of `/chat/completions` or `/completions`.
#[derive(Debug, PartialEq)]
pub(crate) struct Reply {
    /// Text of the first choice; empty where a model produced only reasoning, or refused.
    pub(crate) text: String,
    /// True if the text was truncated at the token limit.
    pub(crate) is_cut: bool,
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: u64,
    /// Tokens of the text.
    pub(crate) completion_tokens: u64,
}

#[derive(Debug, Deserialize)]
struct Response {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Value,
    /// Error, in whichever field a server puts it.
    #[serde(default)]
    error: Value,
    #[serde(default)]
    message: Value,
    #[serde(default)]
    detail: Value,
}

#[derive(Debug, Deserialize)]
struct Choice {
    /// Reply of a chat.
    #[serde(default)]
    message: Option<Message>,
    /// Reply of a plain completion.
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    finish_reason: Value,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    content: Value,
}

/// Reads a reply; `is_chat` tells the form of its choices.
///
/// # Errors
///
/// Fails with what is wrong, the server's own message where it sends one.
pub(crate) fn read_reply(text: &str, is_chat: bool) -> Result<Reply, String> {
    let response: Response =
        serde_json::from_str(text).map_err(|error| format!("not a completion: {error}"))?;
    let choice = match response.choices {
        Some(choices) => choices.into_iter().next().ok_or("it has no choice")?,
        None => {
            let Response { error, message, detail, .. } = response;
            let said = [&error["message"], &error, &message, &detail].into_iter();
            let said = said.filter(|it| !it.is_null()).map(shown).next();
            return Err(said.map_or_else(
                || "not a completion: it has no `choices`".to_owned(),
                |it| format!("the server says: {it}"),
            ));
        }
    };
    let text = match is_chat {
        true => text_of(choice.message.ok_or("its choice has no `message`")?.content)?,
        false => choice.text.ok_or("its choice has no `text`")?,
    };
    Ok(Reply {
        text,
        is_cut: choice.finish_reason == "length",
        prompt_tokens: count(&response.usage, "prompt_tokens"),
        completion_tokens: count(&response.usage, "completion_tokens"),
    })
}

/// Text of a message: a text, null, or a list of parts, of which those that are texts are joined.
fn text_of(content: Value) -> Result<String, String> {
    let part = |it: &Value| match (it["type"].as_str(), &it["text"]) {
        (Some("text" | "output_text"), Value::String(text)) => Some(text.clone()),
        // Parts of thoughts.
        (Some(_), _) => Some(String::new()),
        (None, _) => None,
    };
    let text = match content {
        Value::String(text) => Some(text),
        Value::Null => Some(String::new()),
        Value::Array(parts) => parts.iter().map(part).collect(),
        _ => None,
    };
    text.ok_or_else(|| "its `content` is neither a text nor a list of parts".to_owned())
}

/// A count that may be null or written with a fraction; anything else counts nothing, since a reply is
/// worth more than the count of its tokens.
fn count(usage: &Value, key: &str) -> u64 {
    let value = &usage[key];
    let fraction = || value.as_f64().filter(|it| *it < 1e15).map(|it| it as u64);
    value.as_u64().or_else(fraction).unwrap_or(0)
}

/// A message, shortened.
fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Result<&str, &str>) {
        let read = read_reply(json, true).map(|it| it.text);
        match (read, expected) {
            (Ok(text), Ok(expected)) => assert_eq!(text, expected, "{json}"),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (read, _) => panic!("{json}: {read:?}"),
        }
    }

    #[test]
    fn texts_and_errors_of_any_server() {
        let said =
            |content: &str| format!(r#"{{"choices":[{{"message":{{"content":{content}}}}}]}}"#);
        check(&said(r#""a""#), Ok("a"));
        check(&said("null"), Ok(""));
        check(&said(r#"[{"type":"text","text":"a"},{"type":"text","text":"b"}]"#), Ok("ab"));
        check(
            &said(r#"[{"type":"thinking","thinking":[]},{"type":"output_text","text":"a"}]"#),
            Ok("a"),
        );
        check(&said("[]"), Ok(""));
        check(&said("5"), Err("neither a text nor a list"));
        check(&said(r#"["a"]"#), Err("neither a text nor a list"));
        check(
            r#"{"choices":[{"message":{"reasoning_content":"x"},"finish_reason":null}]}"#,
            Ok(""),
        );
        check(r#"{"error":{"message":"busy","code":429}}"#, Err("the server says: busy"));
        check(r#"{"error":"busy"}"#, Err("the server says: busy"));
        check(r#"{"error":{"code":7}}"#, Err(r#"the server says: {"code":7}"#));
        check(r#"{"object":"error","message":"too long","choices":null}"#, Err("too long"));
        check(r#"{"detail":"Not Found"}"#, Err("Not Found"));
        check("{}", Err("no `choices`"));
        check(r#"{"choices":[]}"#, Err("no choice"));
        check(r#"{"choices":[{"message":null}]}"#, Err("no `message`"));
        check("[]", Err("not a completion"));
    }
}
