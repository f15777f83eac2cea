//! Chat templates of Hugging Face tokenizers.

mod environment;
mod generation_tag;
mod python;
mod source;
mod to_json;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::environment::{NAME, environment};
use crate::special_tokens::TokenizerConfig;

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
/// Renders as transformers does: blocks are trimmed, `{% generation %}` marks nothing, `tojson` writes
/// Python's JSON, `raise_exception` is defined, and Python's string and list methods work.
///
/// `strftime_now` tells a fixed date, 26 July 2024, so that a prompt is the same on every day. It is the
/// date that the templates of Llama 3 fall back to. The field `strftime_now` of `tokenizer_config.json`
/// (`"2026-01-31"`) and [`with_date`](Self::with_date) set another one.
///
/// Templates are untrusted: the work and the output of one rendering are limited.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    tokens: BTreeMap<String, String>,
    date: NaiveDate,
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
    /// The date is not of the form `2026-01-31`.
    #[error("`{date}` is not a date; write it as 2026-01-31")]
    Date {
        /// Text in place of the date.
        date: String,
    },
}

/// Date that `strftime_now` tells.
const DATE: &str = "2024-07-26";

/// Field of `tokenizer_config.json` with another date.
const DATE_FIELD: &str = "strftime_now";

/// Largest source of a template; the longest in use have 20 kB.
const MAX_SOURCE: usize = 1 << 20;

/// Largest expression or statement of a template, its texts not counted. A chain of operations is parsed
/// as deep as it is long, and a deep one overflows the stack.
const MAX_BLOCK: usize = 4096;

/// Largest text that a template may render. No context holds that many tokens.
const MAX_OUTPUT: usize = 32 << 20;

impl ChatTemplate {
    /// Reads the template of a model directory; returns `None` if there is none.
    ///
    /// It is that of `chat_template.jinja`, else of `tokenizer_config.json` (of several, the one named
    /// `default`), else of `chat_template.json`. Special tokens come from `tokenizer_config.json` and
    /// `special_tokens_map.json`. The template is tried on one message of a user.
    ///
    /// # Errors
    ///
    /// Fails, naming the file, on a file that is not JSON, several templates without a default, and a
    /// template that does not parse or cannot render a message of a user.
    pub fn from_dir(dir: &Path) -> Result<Option<Self>, ChatTemplateError> {
        Self::with_config(dir, TokenizerConfig::from_dir(dir)?)
    }

    pub(crate) fn with_config(
        dir: &Path,
        config: TokenizerConfig,
    ) -> Result<Option<Self>, ChatTemplateError> {
        let Some(found) = source::find(dir, &config)? else { return Ok(None) };
        let failed = |error: ChatTemplateError, path: &Path| ChatTemplateError::Read {
            path: path.to_owned(),
            message: error.to_string(),
        };
        let date = match config.fields.get(DATE_FIELD) {
            None | Some(Value::Null) => parse_date(DATE),
            Some(date) => parse_date(date.as_str().unwrap_or(&date.to_string())),
        };
        let date = date.map_err(|it| failed(it, &config.path))?;
        let template = Self::of(found.source, config.tokens, date)
            .and_then(|it| it.render(&[ChatMessage::user("Question: who?")]).map(|_| it));
        template.map(Some).map_err(|it| failed(it, &found.path))
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
        let tokens = [("bos_token", bos_token), ("eos_token", eos_token)];
        let tokens = tokens.map(|(role, token)| (role.to_owned(), token));
        Self::of(source, tokens.into(), parse_date(DATE)?)
    }

    fn of(
        source: String,
        tokens: BTreeMap<String, String>,
        date: NaiveDate,
    ) -> Result<Self, ChatTemplateError> {
        if source.len() > MAX_SOURCE {
            let message = format!("it has more than {} KiB", MAX_SOURCE >> 10);
            return Err(ChatTemplateError::Render { message });
        }
        if source::longest_block(&source) > MAX_BLOCK {
            let message = format!("an expression in it has more than {MAX_BLOCK} characters");
            return Err(ChatTemplateError::Render { message });
        }
        let environment = environment(&source, date).map_err(|it| render_error(&it))?;
        Ok(Self { environment, source, tokens, date })
    }

    /// Template in which `strftime_now` tells `date`, written as `2026-01-31`.
    ///
    /// # Errors
    ///
    /// Fails on a text that is no date.
    pub fn with_date(self, date: &str) -> Result<Self, ChatTemplateError> {
        Self::of(self.source, self.tokens, parse_date(date)?)
    }

    /// Renders a conversation, ending with the generation prompt of the assistant.
    ///
    /// # Errors
    ///
    /// Fails when the template rejects the conversation, or takes too much work or text for it.
    pub fn render(&self, messages: &[ChatMessage]) -> Result<String, ChatTemplateError> {
        let message = |it: &ChatMessage| json!({ "role": it.role, "content": it.content });
        self.render_json(&messages.iter().map(message).collect::<Vec<_>>(), &Map::new())
    }

    /// Renders a conversation of any messages, with variables such as `tools`, `enable_thinking` and
    /// `add_generation_prompt` (true by default).
    ///
    /// # Errors
    ///
    /// Fails like [`render`](Self::render).
    pub fn render_json(
        &self,
        messages: &[Value],
        variables: &Map<String, Value>,
    ) -> Result<String, ChatTemplateError> {
        // As in transformers, a field that is null is left out.
        let message = |it: &Value| match it {
            Value::Object(fields) => {
                let fields = fields.iter().filter(|(_, it)| !it.is_null());
                Value::Object(fields.map(|(name, it)| (name.clone(), it.clone())).collect())
            }
            other => other.clone(),
        };
        let mut context = Map::new();
        for (role, token) in &self.tokens {
            context.insert(role.clone(), token.as_str().into());
        }
        context.insert("messages".to_owned(), messages.iter().map(message).collect());
        context.insert("tools".to_owned(), Value::Null);
        context.insert("documents".to_owned(), Value::Null);
        context.insert("add_generation_prompt".to_owned(), true.into());
        context.extend(variables.iter().map(|(name, it)| (name.clone(), it.clone())));
        let template = self.environment.get_template(NAME).map_err(|it| render_error(&it))?;
        let mut out = LimitedText::default();
        template.render_captured_to(Serde(context), &mut out).map_err(|it| render_error(&it))?;
        String::from_utf8(out.bytes)
            .map_err(|it| ChatTemplateError::Render { message: it.to_string() })
    }

    /// Date that `strftime_now` tells.
    pub(crate) fn date(&self) -> NaiveDate {
        self.date
    }

    /// Special tokens that the template may use, by their roles.
    pub(crate) fn special_tokens(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tokens.iter().map(|(role, token)| (role.as_str(), token.as_str()))
    }

    /// Source text of the template.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

fn parse_date(date: &str) -> Result<NaiveDate, ChatTemplateError> {
    date.parse().map_err(|_| ChatTemplateError::Date { date: date.to_owned() })
}

/// Text that refuses to grow beyond [`MAX_OUTPUT`].
#[derive(Default)]
struct LimitedText {
    bytes: Vec<u8>,
}

impl io::Write for LimitedText {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + part.len() > MAX_OUTPUT {
            let message = format!("the text has more than {} MiB", MAX_OUTPUT >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn render_error(error: &Error) -> ChatTemplateError {
    let message = match error.kind() {
        ErrorKind::OutOfFuel => "it takes more work than any conversation needs".to_owned(),
        _ => match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    };
    ChatTemplateError::Render { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "tokenizer_config.json";
    const TEMPLATE: &str = "chat_template.jinja";

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
