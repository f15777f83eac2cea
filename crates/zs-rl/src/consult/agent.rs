//! Helper model that is a language model with a prompt.

use std::fmt::Debug;
use std::sync::Arc;

use minijinja::{Environment, UndefinedBehavior, context};
use serde::{Deserialize, Serialize};
use zs_model::{Completion, GenerateError, Generator, SamplingParams, TokenizerError};

use super::{HelperKind, HelperModel, HelperReply, HelperRequest};

/// Prompts of the helper models: minijinja templates over `question` and `request`.
///
/// The wording is ours; AIPO's prompts are not published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HelperTemplates {
    /// For [`HelperKind::Verify`].
    pub verify: String,
    /// For [`HelperKind::Knowledge`].
    pub knowledge: String,
    /// For [`HelperKind::Reasoning`].
    pub reasoning: String,
}

impl Default for HelperTemplates {
    fn default() -> Self {
        Self {
            verify: include_str!("../../templates/consult_verify.jinja").to_owned(),
            knowledge: include_str!("../../templates/consult_knowledge.jinja").to_owned(),
            reasoning: include_str!("../../templates/consult_reasoning.jinja").to_owned(),
        }
    }
}

impl HelperTemplates {
    /// Template of a kind.
    #[must_use]
    pub fn of(&self, kind: HelperKind) -> &str {
        match kind {
            HelperKind::Verify => &self.verify,
            HelperKind::Knowledge => &self.knowledge,
            HelperKind::Reasoning => &self.reasoning,
        }
    }
}

/// Sampling settings of a helper model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GeneratorHelperConfig {
    /// Softmax temperature; 0 is greedy.
    pub temperature: f32,
    /// Tokens of a reply at most.
    pub max_new_tokens: usize,
}

impl Default for GeneratorHelperConfig {
    fn default() -> Self {
        Self { temperature: 0.0, max_new_tokens: 128 }
    }
}

/// Errors of creating or asking a helper model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HelperError {
    /// The template does not parse, or cannot be rendered.
    #[error("the template of agent `{agent}` {message}")]
    Template {
        /// The role.
        agent: &'static str,
        /// Message of the template engine.
        message: String,
    },
    /// The prompt leaves no room for a reply.
    #[error(
        "the prompt of agent `{agent}` has {num_tokens} tokens; its model holds {context_length}"
    )]
    PromptTooLong {
        /// The role.
        agent: &'static str,
        /// Tokens of the prompt.
        num_tokens: usize,
        /// Tokens that the model holds.
        context_length: usize,
    },
    /// The reply of the helper model is empty.
    #[error("agent `{agent}` gave an empty reply")]
    Empty {
        /// The role.
        agent: &'static str,
    },
    /// The reply of the helper model is a thinking block that was cut off.
    #[error(
        "the reply of agent `{agent}` ends before its thoughts do; set its `max_new_tokens` higher, or \
         use a chat template that opens no `<think>`"
    )]
    OnlyThoughts {
        /// The role.
        agent: &'static str,
    },
    /// A text could not be encoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model failed.
    #[error("the model of agent `{agent}` failed: {message}")]
    Generate {
        /// The role.
        agent: &'static str,
        /// Message of the model.
        message: String,
    },
    /// A helper model of another kind failed.
    #[error("{0}")]
    Other(String),
}

/// Helper model that is a language model.
#[derive(Debug)]
pub struct GeneratorHelper {
    kind: HelperKind,
    generator: Arc<dyn Generator>,
    environment: Environment<'static>,
    config: GeneratorHelperConfig,
}

const NAME: &str = "agent";

impl GeneratorHelper {
    /// A model that is prompted with a template.
    ///
    /// # Errors
    ///
    /// Fails on a template that does not parse or never mentions `request`.
    pub fn new(
        kind: HelperKind,
        generator: Arc<dyn Generator>,
        template: &str,
        config: GeneratorHelperConfig,
    ) -> Result<Self, HelperError> {
        let agent = kind.tag();
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_template_owned(NAME, template.to_owned()).map_err(|it| {
            HelperError::Template { agent, message: format!("does not parse: {it}") }
        })?;
        let mentions_request = environment
            .get_template(NAME)
            .is_ok_and(|it| it.undeclared_variables(false).contains("request"));
        if !mentions_request {
            let message = "never mentions `{{ request }}`".to_owned();
            return Err(HelperError::Template { agent, message });
        }
        Ok(Self { kind, generator, environment, config })
    }

    fn prompt(&self, request: &HelperRequest<'_>) -> Result<Vec<u32>, HelperError> {
        let agent = self.kind.tag();
        let text = self
            .environment
            .get_template(NAME)
            .and_then(|it| {
                it.render(context! { question => request.question, request => request.request })
            })
            .map_err(|it| HelperError::Template { agent, message: it.to_string() })?;
        let prompt = self.generator.tokenizer().encode_prompt(&text)?;
        let (num_tokens, context_length) = (prompt.len(), self.generator.context_length());
        match num_tokens < context_length {
            true => Ok(prompt),
            false => Err(HelperError::PromptTooLong { agent, num_tokens, context_length }),
        }
    }
}

impl HelperModel for GeneratorHelper {
    fn consult_batch(
        &self,
        requests: &[HelperRequest<'_>],
    ) -> Vec<Result<HelperReply, HelperError>> {
        let agent = self.kind.tag();
        let params = SamplingParams {
            temperature: self.config.temperature,
            max_new_tokens: self.config.max_new_tokens,
            ..SamplingParams::default()
        };
        let prompts: Vec<Result<Vec<u32>, HelperError>> =
            requests.iter().map(|it| self.prompt(it)).collect();
        let usable: Vec<_> = prompts
            .iter()
            .zip(requests)
            .filter_map(|(prompt, request)| Some((prompt.as_ref().ok()?.clone(), request.key)))
            .collect();
        let generated = match usable.is_empty() {
            true => Ok(Vec::new()),
            false => self.generator.generate(&usable, &params),
        };
        let mut generated = match generated {
            Ok(completions) => Ok(completions.into_iter()),
            Err(error) => Err(message_of(&error)),
        };
        let reply = |prompt: Result<Vec<u32>, HelperError>| {
            let prompt = prompt?;
            let completion = match &mut generated {
                Ok(completions) => completions.next(),
                Err(message) => {
                    return Err(HelperError::Generate { agent, message: message.clone() });
                }
            };
            let completion = completion.ok_or(HelperError::Empty { agent })?;
            let tokenizer = self.generator.tokenizer();
            let Completion { tokens, log_probs, .. } = completion;
            let reply = HelperReply { text: tokenizer.decode(&tokens), tokens, log_probs };
            reply.without_thoughts(&tokenizer.prefill(&prompt), agent)
        };
        prompts.into_iter().map(reply).collect()
    }
}

fn message_of(error: &GenerateError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use zs_core::StreamKey;
    use zs_model::ChatTemplate;
    use zs_model::testing::ScriptedGenerator;

    use super::*;

    fn agent(template: &str, context_length: usize) -> Result<GeneratorHelper, HelperError> {
        let script = |text: &str, _| match text.split("claim: ").nth(1) {
            Some("silence") => String::new(),
            claim => format!(" {} holds", claim.unwrap_or("nothing")),
        };
        let generator = ScriptedGenerator::new(script).with_context_length(context_length);
        let config = GeneratorHelperConfig::default();
        GeneratorHelper::new(HelperKind::Verify, Arc::new(generator), template, config)
    }

    #[test]
    fn each_request_has_its_own_fate() {
        let agent = agent("{{ question }} claim: {{ request }}", 40).unwrap();
        let request = |request| HelperRequest { question: "q?", request, key: StreamKey::new(1) };
        let long = "x".repeat(60);
        let replies = agent.consult_batch(&[
            request("water"),
            request("silence"),
            request(&long),
            request("fire"),
        ]);
        let texts: Vec<Result<&str, String>> = replies
            .iter()
            .map(|it| it.as_ref().map(|it| it.text.as_str()).map_err(ToString::to_string))
            .collect();
        assert_eq!(texts[0], Ok(" water holds"));
        assert_eq!(texts[1], Err("agent `verify` gave an empty reply".to_owned()));
        assert!(texts[2].as_ref().unwrap_err().contains("has 70 tokens"), "{texts:?}");
        assert_eq!(texts[3], Ok(" fire holds"));
        let reply = replies[0].as_ref().unwrap();
        assert_eq!(reply.tokens.len(), reply.log_probs.len());
        assert!(agent.consult_batch(&[]).is_empty());
    }

    /// Checks the shown text of a reply to a prompt that ends with `opened`, and its known tokens.
    #[track_caller]
    fn check_thoughts(opened: &str, reply: &'static str, shown: Option<&str>, num_known: usize) {
        let source = format!("{{{{ messages[0].content }}}}<|assistant|>{{{{ {opened:?} }}}}");
        let chat = ChatTemplate::new(source, String::new(), String::new()).unwrap();
        let generator = ScriptedGenerator::new(|_, _| reply.to_owned()).with_chat_template(chat);
        let config = GeneratorHelperConfig::default();
        let agent = Arc::new(generator);
        let agent = GeneratorHelper::new(HelperKind::Verify, agent, "{{ request }}", config);
        let request = HelperRequest { question: "q?", request: "a", key: StreamKey::new(1) };
        let reply = agent.unwrap().consult_batch(&[request]).remove(0).ok();
        let found = reply.as_ref().map(|it| (it.text.as_str(), it.tokens.len()));
        assert_eq!(found, shown.map(|it| (it, num_known)), "{opened:?}");
    }

    #[test]
    fn thoughts_are_no_part_of_a_reply() {
        check_thoughts("", "<think>no</think>yes", Some("yes"), 0);
        check_thoughts("<think>\n", "no</think>yes", Some("yes"), 0);
        check_thoughts("<think>\n", "no, yes", None, 0);
        // The prompt holds all thoughts, so the tokens of the reply are known, its end included.
        check_thoughts("<think>\n\n</think>\n\n", "yes", Some("yes"), 4);
        check_thoughts("", "yes", Some("yes"), 4);
    }

    #[test]
    fn broken_templates_are_refused() {
        for (template, expected) in
            [("{{ request", "does not parse"), ("Say yes.", "never mentions")]
        {
            let message = agent(template, 99).unwrap_err().to_string();
            assert!(message.contains("agent `verify`") && message.contains(expected), "{message}");
        }
        for kind in HelperKind::ALL {
            let generator = Arc::new(ScriptedGenerator::new(|_, _| String::new()));
            let templates = HelperTemplates::default();
            GeneratorHelper::new(
                kind,
                generator,
                templates.of(kind),
                GeneratorHelperConfig::default(),
            )
            .unwrap();
        }
    }
}
