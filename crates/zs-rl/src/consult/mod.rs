//! Helper models that the policy may ask in the middle of a turn, within a budget.

mod agent;
mod parse;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zs_core::{StreamKey, is_never_closed, without_thoughts};
use zs_model::TokenId;

pub use self::agent::{GeneratorHelper, GeneratorHelperConfig, HelperError, HelperTemplates};
pub use self::parse::parse_consult;

/// Kind of a helper model.
///
/// The policy asks it by writing `<verify> … </verify>`, `<knowledge> … </knowledge>` or
/// `<reasoning> … </reasoning>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HelperKind {
    /// Judges a claim.
    Verify,
    /// Replies with facts from memory.
    Knowledge,
    /// Replies with a chain of reasoning.
    Reasoning,
}

impl HelperKind {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Verify, Self::Knowledge, Self::Reasoning];

    /// Name of the tag around a request, without brackets.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Knowledge => "knowledge",
            Self::Reasoning => "reasoning",
        }
    }

    /// Tag that ends a request to this kind of helper model.
    #[must_use]
    pub fn closing_tag(self) -> &'static str {
        match self {
            Self::Verify => "</verify>",
            Self::Knowledge => "</knowledge>",
            Self::Reasoning => "</reasoning>",
        }
    }
}

/// Request to a helper model.
#[derive(Clone, Copy, Debug)]
pub struct HelperRequest<'a> {
    /// Question of the episode, as shown to the policy; helper models never see the golden answer.
    pub question: &'a str,
    /// Text of the policy's request.
    pub request: &'a str,
    /// Random key of the request; the only source of a helper model's random numbers.
    pub key: StreamKey,
}

/// Reply of a helper model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HelperReply {
    /// Text of the reply. Thoughts before it are not shown to the policy.
    pub text: String,
    /// The sampled tokens of the text, where it is all that a model sampled; empty otherwise.
    pub tokens: Vec<TokenId>,
    /// Their log-probabilities, one a token.
    pub log_probs: Vec<f32>,
}

impl HelperReply {
    /// The reply of an agent without its thoughts, to a prompt that already holds `prefill`. The tokens
    /// of a reply with thoughts are left out, since their log-probabilities depend on the thoughts.
    ///
    /// # Errors
    ///
    /// Fails where nothing but white space is left, and names thoughts that were cut off.
    pub(crate) fn without_thoughts(
        self,
        prefill: &str,
        agent: &'static str,
    ) -> Result<Self, HelperError> {
        let whole = format!("{prefill}{}", self.text);
        let reply = match without_thoughts(&whole) {
            text if text.len() >= self.text.len() => self,
            text => Self { text: text.to_owned(), ..Self::default() },
        };
        match reply.text.trim().is_empty() {
            true if is_never_closed("", &whole) => Err(HelperError::OnlyThoughts { agent }),
            true => Err(HelperError::Empty { agent }),
            false => Ok(reply),
        }
    }
}

/// Helper model, or any other implementation that replies to requests.
///
/// # Implementing
///
/// Returns one reply a request, in their order; one that fails must not fail the others. The same
/// request must give the same reply, whatever else is in the batch.
pub trait HelperModel: Debug + Send + Sync {
    /// Answers every request.
    fn consult_batch(
        &self,
        requests: &[HelperRequest<'_>],
    ) -> Vec<Result<HelperReply, HelperError>>;
}

/// Helper models that the policy may ask, with the limit of requests an episode.
///
/// ```
/// use std::sync::Arc;
///
/// use zs_rl::consult::{
///     HelperError, HelperKind, HelperModel, HelperRegistry, HelperReply, HelperRequest,
/// };
///
/// #[derive(Debug)]
/// struct Oracle;
///
/// impl HelperModel for Oracle {
///     fn consult_batch(
///         &self,
///         requests: &[HelperRequest<'_>],
///     ) -> Vec<Result<HelperReply, HelperError>> {
///         let yes = || HelperReply { text: " Yes.".into(), ..HelperReply::default() };
///         requests.iter().map(|_| Ok(yes())).collect()
///     }
/// }
///
/// let registry = HelperRegistry::new(5).with(HelperKind::Verify, Arc::new(Oracle));
/// assert!(registry.agent(HelperKind::Verify).is_some());
/// assert!(registry.agent(HelperKind::Knowledge).is_none());
/// ```
///
/// # References
///
/// - [AIPO](https://arxiv.org/abs/2605.08401), abstract: verify, knowledge and reasoning agents
/// - [SituatedThinker](https://arxiv.org/abs/2505.19300): a registry with at most 5 calls
#[derive(Clone, Debug, Default)]
pub struct HelperRegistry {
    agents: BTreeMap<HelperKind, Arc<dyn HelperModel>>,
    budget: u32,
}

impl HelperRegistry {
    /// Creates a registry without helper models and with a limit of requests an episode.
    #[must_use]
    pub fn new(budget: u32) -> Self {
        Self { agents: BTreeMap::new(), budget }
    }

    /// Adds a helper model; it replaces the one of the same kind.
    #[must_use]
    pub fn with(mut self, kind: HelperKind, agent: Arc<dyn HelperModel>) -> Self {
        self.agents.insert(kind, agent);
        self
    }

    /// Maximum number of requests an episode; further ones are refused.
    #[must_use]
    pub fn budget(&self) -> u32 {
        self.budget
    }

    /// Helper model of a kind.
    #[must_use]
    pub fn agent(&self, kind: HelperKind) -> Option<&dyn HelperModel> {
        self.agents.get(&kind).map(Arc::as_ref)
    }

    /// Kinds that have a helper model.
    pub fn kinds(&self) -> impl Iterator<Item = HelperKind> {
        self.agents.keys().copied()
    }
}
