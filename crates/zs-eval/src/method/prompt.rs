//! Prompts that show as many documents as fit the context of a model.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, context};
use zs_core::{Document, Question, render_observation};
use zs_model::{Generator, TokenId};

use crate::EvaluateError;

/// A prompt template of this crate, or a replacement given by the user.
#[derive(Debug)]
pub(crate) struct PromptTemplate {
    environment: Environment<'static>,
    show_titles: bool,
}

impl PromptTemplate {
    /// Parses a template with the variables `question`, `query` and `documents`.
    pub(crate) fn new(source: &str, show_titles: bool) -> Result<Self, EvaluateError> {
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build()?;
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_syntax(syntax);
        environment.add_template_owned(NAME, source.to_owned())?;
        Ok(Self { environment, show_titles })
    }

    /// Renders a prompt that leaves room for `max_new_tokens`, as text and as tokens.
    ///
    /// Documents are dropped from the end until it does. A prompt without documents is returned even
    /// if it is too long, since the question is never cut.
    pub(crate) fn fit(
        &self,
        question: &Question,
        query: &str,
        documents: &[Document],
        generator: &dyn Generator,
        max_new_tokens: usize,
    ) -> Result<(String, Vec<TokenId>), EvaluateError> {
        let template = self.environment.get_template(NAME)?;
        let mut num_shown = documents.len();
        loop {
            let shown = render_observation(&documents[..num_shown], self.show_titles);
            let text = template.render(context! {
                question => question.text.as_str(),
                query => query,
                documents => shown.trim(),
            })?;
            let tokens = generator.tokenizer().encode_prompt(&text)?;
            if num_shown == 0 || tokens.len() + max_new_tokens <= generator.context_length() {
                return Ok((text, tokens));
            }
            num_shown -= 1;
        }
    }
}

/// The name of the only template of an environment.
const NAME: &str = "method";
