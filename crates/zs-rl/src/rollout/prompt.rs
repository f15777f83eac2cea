//! The prompt of an episode.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, context};
use zs_core::Question;

use super::RolloutError;

/// A prompt template that is known to parse and to mention the question.
#[derive(Debug)]
pub(crate) struct PromptTemplate {
    environment: Environment<'static>,
}

const NAME: &str = "prompt";

impl PromptTemplate {
    /// Parses a template.
    pub(crate) fn new(source: &str) -> Result<Self, RolloutError> {
        let refuse = |message| RolloutError::Config { field: "prompt_template", message };
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        environment.set_syntax(syntax.map_err(|it| refuse(it.to_string()))?);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|it| refuse(format!("does not parse: {it}")))?;
        let mentions_question = environment
            .get_template(NAME)
            .is_ok_and(|it| it.undeclared_variables(false).contains("question"));
        if !mentions_question {
            return Err(refuse("never mentions `{{ question }}`".to_owned()));
        }
        Ok(Self { environment })
    }

    pub(crate) fn render(&self, question: &Question) -> Result<String, RolloutError> {
        self.environment
            .get_template(NAME)
            .and_then(|it| it.render(context! { question => question.text.as_str() }))
            .map_err(|it| RolloutError::Template {
                question_id: question.id.clone(),
                message: it.to_string(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ZEROSEARCH_PROMPT;

    #[test]
    fn renders_the_question_and_keeps_line_ends() {
        let question = Question::new("q", "is 1 < 2 & \"so\"?", ["yes"]);
        let template = PromptTemplate::new("Q: {{ question }}\n").unwrap();
        assert_eq!(template.render(&question).unwrap(), "Q: is 1 < 2 & \"so\"?\n");
        let paper = PromptTemplate::new(ZEROSEARCH_PROMPT).unwrap();
        let prompt = paper.render(&question).unwrap();
        assert!(prompt.starts_with("Answer the given question. You must"), "{prompt}");
        assert!(prompt.ends_with("Beijing </answer>. Question: is 1 < 2 & \"so\"?\n"), "{prompt}");
    }

    #[track_caller]
    fn check_refused(template: &str, expected: &str) {
        let message = PromptTemplate::new(template).unwrap_err().to_string();
        assert!(message.contains("`prompt_template`") && message.contains(expected), "{message}");
    }

    #[test]
    fn broken_templates_are_refused() {
        check_refused("{{ question", "does not parse");
        check_refused("Q: {question}", "never mentions");
    }

    #[test]
    fn unknown_variables_name_the_question() {
        let template = PromptTemplate::new("{{ question }} {{ persona }}").unwrap();
        let error = template.render(&Question::new("q7", "?", ["a"])).unwrap_err();
        assert!(error.to_string().contains("`q7`"), "{error}");
    }
}
