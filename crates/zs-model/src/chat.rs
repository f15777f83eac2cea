//! Chat templates: how a tokenizer's model was taught to tell whose turn it is.

use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, context};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who speaks: `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl ChatMessage {
    /// A message of the user.
    #[must_use]
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".to_owned(), content: content.into() }
    }
}

/// A chat template in Hugging Face's form, with the special tokens that it may mention.
///
/// Rendered as transformers renders it: blocks are trimmed, `raise_exception` is there, and Python's
/// methods on texts and lists work. There is no clock (`strftime_now`), so that a prompt is the same
/// every day; templates that ask for one then fall back to their own fixed date.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos_token: String,
    eos_token: String,
}

/// Why a chat template could not be read or rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatTemplateError {
    /// A file is there but cannot be used.
    #[error("{path}: not a usable tokenizer configuration or chat template: {message}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The template failed on a conversation.
    #[error("the chat template cannot be rendered: {message}")]
    Render {
        /// What the template engine said.
        message: String,
    },
}

const NAME: &str = "chat";
const CONFIG: &str = "tokenizer_config.json";
const TEMPLATE: &str = "chat_template.jinja";

impl ChatTemplate {
    /// The template of a model directory: `chat_template.jinja`, else `chat_template` of
    /// `tokenizer_config.json` (of several, the one named `default`). `None` where there is none.
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

    /// A template from its text.
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

    /// A conversation as text, up to where the assistant is to go on.
    ///
    /// # Errors
    ///
    /// Fails where the template refuses the conversation.
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

    /// The special tokens that the template may mention, by their names in `tokenizer_config.json`;
    /// empty where there is none.
    pub(crate) fn special_tokens(&self) -> [(&'static str, &str); 2] {
        [("bos_token", &self.bos_token), ("eos_token", &self.eos_token)]
    }

    /// The template's text.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// The contents of a file; `None` where there is none.
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

/// A token given as text, or as an object with its `content`; empty where there is none.
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
    fn templates_are_found_where_hugging_face_puts_them() {
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
    fn broken_files_are_named() {
        for (name, text) in [(CONFIG, "{"), (TEMPLATE, "{% if %}")] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(name), text).unwrap();
            let message = ChatTemplate::from_dir(dir.path()).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }

    #[test]
    fn templates_may_refuse() {
        let source = "{{ raise_exception('roles must alternate') }}".to_owned();
        let template = ChatTemplate::new(source, String::new(), String::new()).unwrap();
        let message = template.render(&[]).unwrap_err().to_string();
        assert!(message.contains("roles must alternate"), "{message}");
    }
}
