//! Prompts that ask for questions and for answers, and parsers of the replies.

use minijinja::{Environment, UndefinedBehavior, context};
use serde::{Deserialize, Serialize};
use zs_core::{Document, neutralize_tags, strip_answer, without_thoughts};

use super::GenerationError;

const WRITE: &str = "write_question";
const ANSWER: &str = "answer_question";

/// Texts of the templates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionTemplates {
    /// Prompt for a question and its answer; variables `title`, `text`, `max_answer_words`.
    pub write: String,
    /// Prompt for the answer to a question; variables `question`, and `title` and `text`, which are empty
    /// where no passage is shown.
    pub answer: String,
}

impl Default for QuestionTemplates {
    fn default() -> Self {
        Self {
            write: include_str!("../../templates/write_question.jinja").to_owned(),
            answer: include_str!("../../templates/answer_question.jinja").to_owned(),
        }
    }
}

/// Templates, compiled and tried once.
pub(super) struct Prompts {
    environment: Environment<'static>,
    max_answer_words: usize,
}

impl Prompts {
    pub(super) fn new(
        templates: &QuestionTemplates,
        max_answer_words: usize,
    ) -> Result<Self, GenerationError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        for (name, source) in [(WRITE, &templates.write), (ANSWER, &templates.answer)] {
            environment.add_template_owned(name, source.clone()).map_err(invalid(name))?;
        }
        let prompts = Self { environment, max_answer_words };
        let document = Document::new("title", "text");
        prompts.write(&document)?;
        prompts.answer("question", Some(&document))?;
        prompts.answer("question", None)?;
        Ok(prompts)
    }

    /// The prompt for a question about a passage. Tags in passages are neutralised, so no text can end
    /// its part of the prompt.
    pub(super) fn write(&self, passage: &Document) -> Result<String, GenerationError> {
        let rendered = self.environment.get_template(WRITE).and_then(|it| {
            it.render(context! {
                title => neutralize_tags(&passage.title),
                text => neutralize_tags(&passage.text),
                max_answer_words => self.max_answer_words,
            })
        });
        rendered.map_err(invalid(WRITE))
    }

    /// The prompt for the answer to a question, with a passage or without.
    pub(super) fn answer(
        &self,
        question: &str,
        passage: Option<&Document>,
    ) -> Result<String, GenerationError> {
        let rendered = self.environment.get_template(ANSWER).and_then(|it| {
            it.render(context! {
                question => neutralize_tags(question),
                title => passage.map(|it| neutralize_tags(&it.title)).unwrap_or_default(),
                text => passage.map(|it| neutralize_tags(&it.text)).unwrap_or_default(),
            })
        });
        rendered.map_err(invalid(ANSWER))
    }
}

fn invalid(name: &'static str) -> impl Fn(minijinja::Error) -> GenerationError {
    move |error| GenerationError::Template { name, message: error.to_string() }
}

/// Reads a question and its answer: a reply of the two lines `Question: …` and `Answer: …`, besides
/// blank ones and thoughts before them.
pub(super) fn parse_pair(reply: &str) -> Option<(String, String)> {
    let mut lines = without_thoughts(reply).lines().map(str::trim).filter(|it| !it.is_empty());
    let question = labelled(lines.next()?, "question")?;
    let answer = strip_answer(labelled(lines.next()?, "answer")?);
    let is_whole = lines.next().is_none();
    let has_words = [question, answer].iter().all(|it| it.chars().any(char::is_alphanumeric));
    (is_whole && has_words).then(|| (question.to_owned(), answer.to_owned()))
}

/// Reads an answer: the last line of a reply that is not blank, with or without `Answer:` before it.
pub(super) fn parse_answer(reply: &str) -> &str {
    let lines = without_thoughts(reply).lines().map(str::trim);
    let last = lines.rev().find(|it| !it.is_empty()).unwrap_or_default();
    strip_answer(labelled(last, "answer").unwrap_or(last))
}

/// Text after a label and a colon, in any case.
fn labelled<'t>(line: &'t str, label: &str) -> Option<&'t str> {
    let (found, text) = line.split_once(':')?;
    found.trim().eq_ignore_ascii_case(label).then(|| text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reply: &str, expected: Option<(&str, &str)>) {
        let pair = parse_pair(reply);
        let pair = pair.as_ref().map(|(question, answer)| (question.as_str(), answer.as_str()));
        assert_eq!(pair, expected, "{reply:?}");
    }

    #[test]
    fn pairs_are_read_strictly() {
        let pair = Some(("Who wrote Dune?", "Frank Herbert"));
        check("Question: Who wrote Dune?\nAnswer: Frank Herbert", pair);
        check(
            "<think>Question: x</think>\n\nquestion: Who wrote Dune?\n\nANSWER: Frank Herbert\n",
            pair,
        );
        check("Question: Who: he or she?\nAnswer: she", Some(("Who: he or she?", "she")));
        check("Here is one.\nQuestion: Who?\nAnswer: a", None);
        check("Question: Who?\nAnswer: a\nQuestion: Which?\nAnswer: b", None);
        check("Question: Who?", None);
        check("Question: ?\nAnswer: a", None);
        check("Question: Who?\nAnswer: ...", None);
        check("", None);
    }

    #[test]
    fn answers_are_read_from_the_last_line() {
        assert_eq!(parse_answer("It says so.\nAnswer: Frank Herbert\n"), "Frank Herbert");
        assert_eq!(parse_answer("<think>x</think> Frank"), "Frank");
        assert_eq!(parse_answer(""), "");
    }

    #[test]
    fn templates_show_what_is_needed() {
        let prompts = Prompts::new(&QuestionTemplates::default(), 8).unwrap();
        let passage = Document::new("Dune", "A novel</s> by Frank Herbert.");
        let prompt = prompts.write(&passage).unwrap();
        assert!(prompt.contains("at most 8 words") && prompt.contains("Title: Dune"), "{prompt}");
        assert!(prompt.contains("A novel‹/s› by"), "{prompt}");
        let shown = prompts.answer("Who?", Some(&passage)).unwrap();
        assert!(shown.contains("Frank") && !shown.contains("unknown"), "{shown}");
        let alone = prompts.answer("Who?", None).unwrap();
        assert!(!alone.contains("Passage") && alone.contains("unknown"), "{alone}");
        let templates = QuestionTemplates { write: "{{ txt }}".into(), ..Default::default() };
        let message = Prompts::new(&templates, 8).err().unwrap().to_string();
        assert!(message.contains("write_question"), "{message}");
    }
}
