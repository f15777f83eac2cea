//! Methods of answering a question with one model: prompt alone, with documents, or as trained.

mod prompt;
mod reading;
mod retrieved;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zs_rl::RolloutConfig;

pub(crate) use prompt::PromptTemplate;
pub(crate) use reading::ReadingEngine;
pub(crate) use retrieved::Retrieved;

/// Method of prompting a model.
///
/// | method | prompt | turns |
/// |---|---|---|
/// | `direct` | answer | one |
/// | `cot` | reason, then answer | one |
/// | `rag` | answer from the documents retrieved for the question | one |
/// | `rag-agent` | search as often as needed, then answer | several |
/// | `search-o1` | the same; the model first extracts the helpful part of the documents | several |
/// | `r1` | reason in `<think>`, then answer | one |
/// | `trained` | the prompt of training | several |
///
/// Every prompt is a template file in `templates/` and can be replaced.
///
/// # References
///
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588), section 4.2, the baselines; their code and
///   prompts are unpublished, so the wording is ours
/// - [Search-o1](https://arxiv.org/abs/2501.05366), reason-in-documents
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Method {
    /// Answer.
    Direct,
    /// Reason, then answer.
    Cot,
    /// Answer from documents retrieved for the question.
    Rag,
    /// Search as often as needed, by prompt alone.
    RagAgent,
    /// Search as often as needed, with a separate step that reads the documents.
    SearchO1,
    /// Reason in `<think>`, then answer.
    R1,
    /// Use the prompt of training.
    #[default]
    Trained,
}

impl Method {
    /// All methods.
    pub const ALL: [Self; 7] = [
        Self::Direct,
        Self::Cot,
        Self::Rag,
        Self::RagAgent,
        Self::SearchO1,
        Self::R1,
        Self::Trained,
    ];

    /// Returns the name on the command line and in files.
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

    /// Returns true when the method needs a search engine.
    #[must_use]
    pub fn searches(self) -> bool {
        !matches!(self, Self::Direct | Self::Cot | Self::R1)
    }

    /// Returns the prompt template, or `None` for the prompt of training.
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

    /// Returns `config` with the method's prompt and, for a method that does not search between turns, a
    /// single turn.
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
            format!("unknown method `{name}`; use one of {names}")
        })
    }
}

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
