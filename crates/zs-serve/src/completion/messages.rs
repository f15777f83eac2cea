//! Messages of a chat request, and their prompt.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use zs_model::{ChatMessage, TextLimit, TokenId, Tokenizer};

use crate::api_error::ApiError;
use crate::json::{Capped, Keys, read_object};

/// Messages of a request, as JSON.
pub(super) type RawMessages = Capped<Box<RawValue>, MAX_MESSAGES>;

/// Maximum number of messages in a request.
const MAX_MESSAGES: usize = 4096;

/// Keys of a message.
const KEYS: Keys = Keys {
    read: &["role", "content"],
    also_read: &[],
    ignored: &["name"],
    neutral: &[("tool_calls", "[]"), ("annotations", "[]"), ("refusal", "null")],
};

/// One message of a conversation, as clients send it.
#[derive(Debug, Deserialize)]
struct RequestMessage {
    role: Option<String>,
    content: Option<Content>,
}

/// Reads the messages of a request.
pub(super) fn read_messages(messages: &RawMessages) -> Result<Vec<ChatMessage>, ApiError> {
    if messages.0.is_empty() {
        return Err(ApiError::field("messages", "`messages` is empty"));
    }
    let read = |(index, json): (usize, &RawValue)| {
        let place = format!("message {index}: ");
        let message: RequestMessage = read_object(json.get().as_bytes(), KEYS, &place)?;
        let missing = || ApiError::body(format!("{place}`role` is missing"));
        Ok(ChatMessage {
            role: message.role.ok_or_else(missing)?,
            content: message.content.map_or_else(String::new, |it| it.0),
        })
    };
    messages.0.iter().map(AsRef::as_ref).enumerate().map(read).collect()
}

/// Encodes messages as a prompt in the model's chat template.
///
/// Without a template, the prompt consists of the non-empty texts of the messages, separated by line
/// breaks, so that a model that was tuned on plain prompts can be sent one as a message.
pub(super) fn encode(
    messages: &[ChatMessage],
    tokenizer: &Tokenizer,
    limit: &TextLimit,
) -> Result<Vec<TokenId>, ApiError> {
    let invalid = |message: String| ApiError::field("messages", message);
    let check = |text: &str| limit.check(text).map_err(|it| invalid(it.to_string()));
    messages.iter().try_for_each(|it| check(&it.content))?;
    let Some(template) = tokenizer.chat_template() else {
        let texts = messages.iter().map(|it| it.content.as_str()).filter(|it| !it.is_empty());
        let text = texts.collect::<Vec<_>>().join("\n");
        check(&text)?;
        return tokenizer.encode_start(&text).map_err(|it| invalid(it.to_string()));
    };
    let text = template.render(messages).map_err(|it| invalid(it.to_string()))?;
    check(&text)?;
    // A chat template writes its special tokens itself.
    tokenizer.encode(&text).map_err(|it| invalid(it.to_string()))
}

/// Text of a message, sent as a text or as a list of texts.
#[derive(Debug)]
struct Content(String);

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts as `content`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Content, E> {
        Ok(Content(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
        #[derive(Deserialize)]
        struct Part {
            #[serde(rename = "type")]
            kind: Option<String>,
            text: Option<String>,
        }
        let mut whole = String::new();
        while let Some(Part { kind, text }) = list.next_element()? {
            let is_text = kind.as_deref().is_none_or(|it| it == "text" || it == "input_text");
            match (is_text, text) {
                (true, Some(text)) => whole.push_str(&text),
                // A part that says that it is a text, and has none.
                (true, None) if kind.is_some() => {}
                _ => return Err(A::Error::custom("`content` must be a text or a list of texts")),
            }
        }
        Ok(Content(whole))
    }
}

#[cfg(test)]
mod tests {
    use zs_model::ChatTemplate;
    use zs_model::testing::byte_tokenizer;

    use super::*;

    fn prompt(json: &str, tokenizer: &Tokenizer) -> Result<String, String> {
        let messages = serde_json::from_str(json).unwrap();
        let limit = TextLimit::new(tokenizer, 1000);
        let tokens = read_messages(&messages).and_then(|it| encode(&it, tokenizer, &limit));
        Ok(tokenizer.decode(&tokens.map_err(|it| it.to_string())?))
    }

    #[track_caller]
    fn check(json: &str, tokenizer: &Tokenizer, expected: &str) {
        assert_eq!(prompt(json, tokenizer).unwrap(), expected, "{json}");
    }

    #[test]
    fn messages_are_rendered_with_the_chat_template() {
        let source = "{% for it in messages %}{% if it.role == 'tool' %}\
            {{ raise_exception('no tools') }}{% endif %}[{{ it.role }} {{ it.content.strip() }}]\
            {% endfor %}";
        let template = ChatTemplate::new(source.to_owned(), String::new(), String::new()).unwrap();
        let tokenizer = byte_tokenizer().with_chat_template(Some(template));
        check(
            r#"[{"role":"system","content":" Be brief. "},{"role":"user","content":"Hi"}]"#,
            &tokenizer,
            "[system Be brief.][user Hi]",
        );
        let error = prompt(r#"[{"role":"tool","content":"x"}]"#, &tokenizer).unwrap_err();
        assert!(error.contains("no tools"), "{error}");
        assert!(prompt("[]", &tokenizer).unwrap_err().contains("`messages` is empty"));
    }

    #[test]
    fn without_a_template_the_texts_are_the_prompt() {
        let tokenizer = byte_tokenizer();
        check(
            r#"[{"role":"system","content":""},{"role":"user","content":[{"type":"text","text":"Query: a\n"}]}]"#,
            &tokenizer,
            "Query: a\n",
        );
        check(r#"[{"role":"user","content":null},{"role":"user","content":"b"}]"#, &tokenizer, "b");
        check(
            r#"[{"role":"user","content":[{"type":"text","text":null}, {"text":"b"}]}]"#,
            &tokenizer,
            "b",
        );
        // As the `openai` client writes the assistant's message that it was sent.
        let own = r#"[{"role":"assistant","content":"c","refusal":null,"annotations":[],"audio":null,
            "function_call":null,"tool_calls":null,"name":"me"}]"#;
        check(own, &tokenizer, "c");
    }

    #[test]
    fn messages_that_cannot_be_read_are_refused_by_number() {
        let refuse = |json: &str, message: &str| {
            let error = prompt(json, &byte_tokenizer()).unwrap_err();
            assert!(error.contains(message), "{json}: {error}");
        };
        let image = r#"[{"role":"user","content":[{"type":"image_url","image_url":"x"}]}]"#;
        refuse(image, "must be a text or a list of texts");
        refuse(r#"[{"role":"user","content":5}]"#, "a list of texts");
        refuse(r#"[{"role":"user"}, {"role":null,"content":"x"}]"#, "message 1: `role` is missing");
        refuse(
            r#"[{"role":"user","tool_calls":[{}]}]"#,
            "message 0: `tool_calls` is not supported",
        );
        refuse(r#"[{"role":"user","reasoning":"x"}]"#, "the key `reasoning` is unknown");
        refuse(&format!(r#"[{{"role":"user","content":"{}"}}]"#, "x".repeat(5001)), "5001 bytes");
    }
}
