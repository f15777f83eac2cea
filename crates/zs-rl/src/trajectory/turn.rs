//! Turns of an episode: what the policy wrote, what helper models and the environment answered.

use serde::{Deserialize, Serialize};
use zs_core::{Action, Document, DocumentQuality};
use zs_model::{Completion, TokenId};

use super::Provenance;
use crate::consult::HelperKind;

/// One turn: what the policy model wrote, and what the environment answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Sampled tokens after the last request to a helper model of the turn. They carry loss.
    pub completion: Completion,
    /// The same tokens decoded.
    pub text: String,
    /// The action that was carried out: the one read from [`text`](Self::text), unless a program
    /// function rewrote it (see [`Trajectory::programs`](super::Trajectory::programs)).
    pub action: Action,
    /// Tokens that the environment appended; empty where the episode ended. They carry no loss.
    pub observation: Vec<TokenId>,
    /// The observation as text.
    pub observation_text: String,
    /// The search, where one was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchRecord>,
}

/// Request of the policy to a helper model in the middle of a turn.
///
/// Its tokens precede the turn's [`completion`](Turn::completion): the policy's request up to the
/// closing tag, then the reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consult {
    /// The turn that it belongs to, from 0.
    pub turn: usize,
    /// Kind of the helper model.
    pub agent: HelperKind,
    /// Tokens that the policy sampled for the request, tags included.
    pub completion: Completion,
    /// The same tokens decoded.
    pub text: String,
    /// Text between the tags.
    pub request: String,
    /// The reply, as tokens of the policy's tokenizer.
    pub reply: Vec<TokenId>,
    /// The reply as text.
    pub reply_text: String,
    /// Log-probabilities of the helper model, one a token of the reply; empty where they are not
    /// known.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "zs_core::null_as_nan"
    )]
    pub reply_log_probs: Vec<f32>,
    /// Error of the helper model, where it failed; the reply is then a message of the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Consult {
    /// Provenance of the reply: the helper model, or the environment where the helper model failed.
    #[must_use]
    pub fn reply_provenance(&self) -> Provenance {
        match self.error {
            None => Provenance::Agent(self.agent),
            Some(_) => Provenance::Observation,
        }
    }
}

/// A search that was carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchRecord {
    /// Query as it was sent to the engine.
    pub query: String,
    /// The quality drawn for this query.
    pub quality: DocumentQuality,
    /// Documents that the engine returned; the observation may show fewer.
    pub documents: Vec<Document>,
    /// Error of the engine, where the search failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
