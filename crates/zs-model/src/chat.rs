//! Chat templates of Hugging Face tokenizers.

use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, context};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Role of the speaker: `system`, `user` or `assistant`.
    pub role: String,
    /// Text of the message.
    pub content: String,
}

impl ChatMessage {
    /// User message.
    #[must_use]
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".to_owned(), content: content.into() }
    }
}

/// Chat template in Hugging Face's format, with the special tokens that it may use.
///
/// Renders as transformers does: blocks are trimmed, `raise_exception` is defined, and Python's
/// string and list methods work. `strftime_now` is not defined, so a prompt does not depend on the
/// date; templates that test for it fall back to their own fixed date.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos_token: String,
    eos_token: String,
}

/// Error while reading or rendering a chat template.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatTemplateError {
    /// The file exists but is not usable.
    #[error("{path}: not a usable tokenizer configuration or chat template: {message}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Description of the defect.
        message: String,
    },
    /// The template failed on a conversation.
    #[error("the chat template cannot be rendered: {message}")]
    Render {
        /// Message of the template engine.
        message: String,
    },
}

const NAME: &str = "chat";
const CONFIG: &str = "tokenizer_config.json";
const TEMPLATE: &str = "chat_template.jinja";

impl ChatTemplate {
    /// Reads the template of a model directory: `chat_template.jinja`, else `chat_template` in
    /// `tokenizer_config.json` (of several, the one named `default`). Returns `None` if there is
    /// none.
    ///
    /// # Errors
    ///
    /// Fails, naming the file, on a configuration that is not JSON and a template that does not parse.
    pub fn from_dir(dir: &Path) -> Result<Option<Self>, ChatTemplateError> {
        let config_path = dir.join(CONFIG);
        let config = match read(&config_path)? {
            Some(text) => serde_json::from_str(&text).map_err(|it| ChatTemplateError::Read {
                path: config_path.clone(),
                message: it.to_string(),
            })?,
            None => Value::Null,
        };
        let template_path = dir.join(TEMPLATE);
        let (path, source) = match (read(&template_path)?, configured(&config)) {
            (Some(source), _) => (template_path, source),
            (None, Some(source)) => (config_path, source),
            (None, None) => return Ok(None),
        };
        let token = |name: &str| special_token(&config, name);
        Self::new(source, token("bos_token"), token("eos_token"))
            .map(Some)
            .map_err(|error| ChatTemplateError::Read { path, message: error.to_string() })
    }

    /// Parses a template.
    ///
    /// # Errors
    ///
    /// Fails on a text that does not parse.
    pub fn new(
        source: String,
        bos_token: String,
        eos_token: String,
    ) -> Result<Self, ChatTemplateError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|it| render_error(&it))?);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(NAME, source.clone()).map_err(|it| render_error(&it))?;
        Ok(Self { environment, source, bos_token, eos_token })
    }

    /// Renders a conversation, ending with the generation prompt of the assistant.
    ///
    /// # Errors
    ///
    /// Fails when the template rejects the conversation.
    pub fn render(&self, messages: &[ChatMessage]) -> Result<String, ChatTemplateError> {
        let template = self.environment.get_template(NAME).map_err(|it| render_error(&it))?;
        let messages: Vec<minijinja::Value> = messages
            .iter()
            .map(|it| context! { role => it.role.as_str(), content => it.content.as_str() })
            .collect();
        template
            .render(context! {
                messages => messages,
                add_generation_prompt => true,
                bos_token => self.bos_token.as_str(),
                eos_token => self.eos_token.as_str(),
            })
            .map_err(|it| render_error(&it))
    }

    /// Special tokens that the template may use, by their names in `tokenizer_config.json`; empty
    /// if not configured.
    pub(crate) fn special_tokens(&self) -> [(&'static str, &str); 2] {
        [("bos_token", &self.bos_token), ("eos_token", &self.eos_token)]
    }

    /// Source text of the template.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// Reads a file; returns `None` if it does not exist.
fn read(path: &Path) -> Result<Option<String>, ChatTemplateError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(ChatTemplateError::Read { path: path.to_owned(), message: error.to_string() })
        }
    }
}

fn configured(config: &Value) -> Option<String> {
    let template = match config.get("chat_template")? {
        Value::Array(named) => named
            .iter()
            .find(|it| it.get("name").is_some_and(|name| name == "default"))?
            .get("template")?,
        one => one,
    };
    template.as_str().map(str::to_owned)
}

/// Special token given as a string or as an object with a `content` field; empty if absent.
fn special_token(config: &Value, name: &str) -> String {
    let token = config.get(name);
    let text = token.and_then(|it| it.as_str().or_else(|| it.get("content")?.as_str()));
    text.unwrap_or_default().to_owned()
}

fn render_error(error: &Error) -> ChatTemplateError {
    ChatTemplateError::Render { message: format!("{error:#}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(files: &[(&str, &str)], expected: Option<&str>) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let template = ChatTemplate::from_dir(dir.path()).unwrap();
        let rendered = template.map(|it| it.render(&[ChatMessage::user(" hi ")]).unwrap());
        assert_eq!(rendered.as_deref(), expected);
    }

    #[test]
    fn reads_the_template_from_each_hugging_face_location() {
        check(&[], None);
        check(&[(CONFIG, r#"{"bos_token": "<s>"}"#)], None);
        let inline = r#"{"bos_token": {"content": "<s>"}, "chat_template":
            "{{ bos_token }}{% for m in messages %}\n  {% if m['role'] == 'user' %}\n[{{ m.content.strip() }}]{% endif %}\n{% endfor %}"}"#;
        check(&[(CONFIG, inline)], Some("<s>[hi]"));
        check(
            &[(CONFIG, inline), (TEMPLATE, "own {{ messages[0]['content'] }}")],
            Some("own  hi "),
        );
        let named = r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
        check(&[(CONFIG, named)], Some("d"));
        check(
            &[(TEMPLATE, "{% if tools %}t{% endif %}{% if add_generation_prompt %}>{% endif %}")],
            Some(">"),
        );
    }

    #[test]
    fn errors_name_the_broken_file() {
        for (name, text) in [(CONFIG, "{"), (TEMPLATE, "{% if %}")] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(name), text).unwrap();
            let message = ChatTemplate::from_dir(dir.path()).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }

    #[test]
    fn reports_a_template_that_raises_an_exception() {
        let source = "{{ raise_exception('roles must alternate') }}".to_owned();
        let template = ChatTemplate::new(source, String::new(), String::new()).unwrap();
        let message = template.render(&[]).unwrap_err().to_string();
        assert!(message.contains("roles must alternate"), "{message}");
    }
}
