//! From messages to a prompt: the chat template that comes with a model.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `"system"`, `"user"`, `"assistant"` or what else the template knows.
    pub role: String,
    /// The text.
    #[serde(default, deserialize_with = "text_of")]
    pub content: String,
}

/// How a model wants conversations written down.
///
/// Without a template, the prompt is the messages' texts, empty ones left out, with a line break
/// between them: a model that was tuned on bare prompts gets its prompt as the message's text.
#[derive(Clone, Debug, Default)]
pub struct ChatTemplate {
    template: Option<Template>,
}

#[derive(Clone, Debug)]
struct Template {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
}

impl ChatTemplate {
    /// Reads the template of a model directory in Hugging Face layout: `chat_template.jinja`, else
    /// `chat_template` in `tokenizer_config.json`, else none.
    ///
    /// # Errors
    ///
    /// Fails on a file that cannot be read and on a template that does not parse.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer_config.json");
        let config: Json = match path.exists() {
            true => serde_json::from_slice(&std::fs::read(&path)?)
                .with_context(|| format!("{}: not JSON", path.display()))?,
            false => Json::Null,
        };
        let file = dir.join("chat_template.jinja");
        let source = match file.exists() {
            true => Some(
                std::fs::read_to_string(&file)
                    .with_context(|| format!("{}: cannot be read", file.display()))?,
            ),
            false => named_template(&config["chat_template"]),
        };
        let Some(source) = source else { return Ok(Self::default()) };
        // A token is its text, or an object that holds it.
        let token = |name: &str| {
            let value = &config[name];
            value.as_str().or_else(|| value["content"].as_str()).unwrap_or_default().to_owned()
        };
        Self::new(source, token("bos_token"), token("eos_token"))
            .with_context(|| format!("{}: the chat template does not parse", dir.display()))
    }

    /// A template from its text, with the special tokens that it may mention.
    ///
    /// # Errors
    ///
    /// Fails when it does not parse.
    pub fn new(source: String, bos_token: String, eos_token: String) -> Result<Self> {
        let mut environment = Environment::new();
        // As Hugging Face's tokenizers set it; templates rely on it.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
        environment.set_syntax(syntax);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, _> {
            Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned("chat", source)?;
        Ok(Self { template: Some(Template { environment, bos_token, eos_token }) })
    }

    /// Whether the model came with a template. Its prompts carry their special tokens themselves.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.template.is_some()
    }

    /// The prompt that asks for the next message.
    ///
    /// # Errors
    ///
    /// Fails when the template does, e.g. on roles that it refuses.
    pub fn render(&self, messages: &[ChatMessage]) -> Result<String> {
        let Some(Template { environment, bos_token, eos_token }) = &self.template else {
            let texts = messages.iter().map(|it| it.content.as_str()).filter(|it| !it.is_empty());
            return Ok(texts.collect::<Vec<_>>().join("\n"));
        };
        let values = context! {
            messages => Serde(messages),
            add_generation_prompt => true,
            bos_token => bos_token,
            eos_token => eos_token,
        };
        environment
            .get_template("chat")
            .and_then(|it| it.render(values))
            .map_err(|it| anyhow!("the model's chat template refuses these messages: {it}"))
    }
}

/// The template of `chat_template`, which may be a list of named ones.
fn named_template(value: &Json) -> Option<String> {
    let is_default = |it: &&Json| it["name"] == "default";
    let named = || value.as_array()?.iter().find(is_default)?["template"].as_str();
    value.as_str().or_else(named).map(str::to_owned)
}

/// A text, null, or a list of parts of which all are texts.
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
    use super::*;

    /// The shape of the templates that Qwen's and Llama's models come with.
    const CHATML: &str = "{%- if messages[0].role == 'system' %}\n    {{- '<|im_start|>system\\n' + \
        messages[0].content.strip() + '<|im_end|>\\n' }}\n{%- endif %}\n{%- for message in messages \
        %}\n    {%- if message.role == 'tool' %}{{ raise_exception('no tools') }}{%- endif %}\n    \
        {%- if message.role != 'system' %}\n        {{- '<|im_start|>' + message.role + '\\n' + \
        message.content + '<|im_end|>' + '\\n' }}\n    {%- endif %}\n{%- endfor %}\n\
        {%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n";

    fn messages(json: &str) -> Vec<ChatMessage> {
        serde_json::from_str(json).unwrap()
    }

    #[track_caller]
    fn check(template: &ChatTemplate, json: &str, expected: &str) {
        assert_eq!(template.render(&messages(json)).unwrap(), expected, "{json}");
    }

    #[test]
    fn conversations_are_written_as_the_model_knows_them() {
        let directory = tempfile::tempdir().unwrap();
        let config =
            serde_json::json!({ "chat_template": CHATML, "eos_token": {"content": "<e>"} });
        std::fs::write(directory.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let chatml = ChatTemplate::from_dir(directory.path()).unwrap();
        assert!(chatml.is_given());
        check(
            &chatml,
            r#"[{"role":"system","content":" Be brief. "},{"role":"user","content":"Hi"}]"#,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
             <|im_start|>assistant\n",
        );
        let refused = chatml.render(&messages(r#"[{"role":"tool","content":"x"}]"#));
        assert!(refused.unwrap_err().to_string().contains("no tools"));

        std::fs::write(directory.path().join("chat_template.jinja"), "{{ eos_token }}!").unwrap();
        let file = ChatTemplate::from_dir(directory.path()).unwrap();
        check(&file, "[]", "<e>!");
    }

    #[test]
    fn without_a_template_the_text_is_the_prompt() {
        let none = ChatTemplate::from_dir(Path::new("no-such-directory")).unwrap();
        check(
            &none,
            r#"[{"role":"system","content":""},{"role":"user","content":[{"type":"text","text":"Query: a\n"}]}]"#,
            "Query: a\n",
        );
        check(&none, r#"[{"role":"user","content":null},{"role":"user","content":"b"}]"#, "b");
        let image = r#"{"role":"user","content":[{"type":"image_url","image_url":"x"}]}"#;
        assert!(serde_json::from_str::<ChatMessage>(image).is_err());
    }
}
