//! Ways to answer a question with one model: by prompt alone, with documents, or as it was trained.

mod reading;
mod retrieved;

use std::fmt;
use std::str::FromStr;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior};
use serde::{Deserialize, Serialize};
use zs_rl::RolloutConfig;

pub(crate) use reading::ReadingEngine;
pub(crate) use retrieved::Retrieved;

/// How a model is asked.
///
/// | method | prompt | turns |
/// |---|---|---|
/// | `direct` | answer | one |
/// | `cot` | reason, then answer | one |
/// | `rag` | answer from the documents found with the question | one |
/// | `rag-agent` | search as you see fit, then answer | several |
/// | `search-o1` | the same; the model itself first reads what is found and passes on what helps | several |
/// | `r1` | reason in `<think>`, then answer | one |
/// | `trained` | the prompt that the policy was trained with | several |
///
/// Every prompt is a template file in `templates/` and can be replaced.
///
/// # References
///
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588), section 4.2, the baselines; no code or prompt of
///   them was released, so the wording is ours
/// - [Search-o1](https://arxiv.org/abs/2501.05366), reason-in-documents
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Method {
    /// Answer.
    Direct,
    /// Reason, then answer.
    Cot,
    /// Answer from documents found with the question.
    Rag,
    /// Search as you see fit, by prompt alone.
    RagAgent,
    /// Search as you see fit; what is found is read in a step of its own.
    SearchO1,
    /// Reason in `<think>`, then answer.
    R1,
    /// As the policy was trained.
    #[default]
    Trained,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 7] = [
        Self::Direct,
        Self::Cot,
        Self::Rag,
        Self::RagAgent,
        Self::SearchO1,
        Self::R1,
        Self::Trained,
    ];

    /// The name on the command line and in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Cot => "cot",
            Self::Rag => "rag",
            Self::RagAgent => "rag-agent",
            Self::SearchO1 => "search-o1",
            Self::R1 => "r1",
            Self::Trained => "trained",
        }
    }

    /// Whether it needs a search engine.
    #[must_use]
    pub fn searches(self) -> bool {
        !matches!(self, Self::Direct | Self::Cot | Self::R1)
    }

    /// The template of its prompt; that of a trained policy is whatever it was trained with.
    #[must_use]
    pub fn template(self) -> Option<&'static str> {
        match self {
            Self::Direct => Some(include_str!("../../templates/direct.jinja")),
            Self::Cot => Some(include_str!("../../templates/cot.jinja")),
            Self::Rag => Some(include_str!("../../templates/rag.jinja")),
            Self::RagAgent => Some(include_str!("../../templates/rag_agent.jinja")),
            Self::SearchO1 => Some(include_str!("../../templates/search_o1.jinja")),
            Self::R1 => Some(include_str!("../../templates/r1.jinja")),
            Self::Trained => None,
        }
    }

    /// How its episodes are played: `config` with the method's prompt and, where there is nothing to
    /// search in between, a single turn.
    #[must_use]
    pub fn rollout(self, config: RolloutConfig) -> RolloutConfig {
        let max_searches = match self {
            Self::Direct | Self::Cot | Self::Rag | Self::R1 => 0,
            Self::RagAgent | Self::SearchO1 | Self::Trained => config.max_searches,
        };
        let prompt_template = match self.template() {
            Some(template) => template.to_owned(),
            None => config.prompt_template.clone(),
        };
        RolloutConfig { max_searches, prompt_template, ..config }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|it| it.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("`{name}` is no method; there are {names}")
        })
    }
}

/// A template of this crate, or one that stands in for it.
pub(crate) fn template(source: &str) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build()?);
    environment.add_template_owned(TEMPLATE, source.to_owned())?;
    Ok(environment)
}

/// The name of the one template of an environment.
pub(crate) const TEMPLATE: &str = "method";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prompt_is_a_valid_rollout() {
        for method in Method::ALL {
            assert_eq!(method.name().parse::<Method>().unwrap(), method);
            let rollout = method.rollout(RolloutConfig::default());
            rollout.validate().unwrap();
            let is_single =
                matches!(method, Method::Direct | Method::Cot | Method::Rag | Method::R1);
            assert_eq!(rollout.max_searches == 0, is_single, "{method}");
        }
        assert!("zero-shot".parse::<Method>().unwrap_err().contains("rag-agent"));
    }
}
