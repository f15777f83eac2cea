//! Messages of a chat request, and their prompt.

use serde::Deserialize;
use zs_model::{ChatMessage, TokenId, Tokenizer};

use crate::api_error::ApiError;

/// One message of a conversation, as clients send it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RequestMessage {
    role: String,
    #[serde(default, deserialize_with = "text_of")]
    content: String,
}

/// Encodes messages as a prompt in the model's chat template.
///
/// Without a template, the prompt consists of the non-empty texts of the messages, separated by line
/// breaks, so that a model that was tuned on plain prompts can be sent one as a message.
pub(super) fn encode(
    messages: &[RequestMessage],
    tokenizer: &Tokenizer,
) -> Result<Vec<TokenId>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::field("messages", "`messages` is empty"));
    }
    let invalid = |message: String| ApiError::field("messages", message);
    let Some(template) = tokenizer.chat_template() else {
        let texts = messages.iter().map(|it| it.content.as_str()).filter(|it| !it.is_empty());
        let text = texts.collect::<Vec<_>>().join("\n");
        return tokenizer.encode_start(&text).map_err(|it| invalid(it.to_string()));
    };
    let message =
        |it: &RequestMessage| ChatMessage { role: it.role.clone(), content: it.content.clone() };
    let messages: Vec<ChatMessage> = messages.iter().map(message).collect();
    let text = template.render(&messages).map_err(|it| invalid(it.to_string()))?;
    // A chat template writes its special tokens itself.
    tokenizer.encode(&text).map_err(|it| invalid(it.to_string()))
}

/// Deserializes a text, null, or a list of text parts.
fn text_of<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Content {
        Text(Option<String>),
        Parts(Vec<Part>),
    }
    #[derive(Deserialize)]
    struct Part {
        text: String,
    }
    let content = Content::deserialize(deserializer)
        .map_err(|_| serde::de::Error::custom("`content` must be a text or a list of texts"))?;
    Ok(match content {
        Content::Text(text) => text.unwrap_or_default(),
        Content::Parts(parts) => parts.into_iter().map(|it| it.text).collect(),
    })
}

#[cfg(test)]
mod tests {
    use zs_model::ChatTemplate;
    use zs_model::testing::byte_tokenizer;

    use super::*;

    fn prompt(json: &str, tokenizer: &Tokenizer) -> Result<String, String> {
        let messages: Vec<RequestMessage> = serde_json::from_str(json).unwrap();
        let tokens = encode(&messages, tokenizer).map_err(|it| format!("{it:?}"))?;
        Ok(tokenizer.decode(&tokens))
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
        let image = r#"{"role":"user","content":[{"type":"image_url","image_url":"x"}]}"#;
        assert!(serde_json::from_str::<RequestMessage>(image).is_err());
    }
}
