//! Program functions: small programs that watch the policy's actions and may rewrite one or add to
//! what it is shown next, in training and in evaluation alike.

mod audit;
mod harness;
mod registry;
pub(crate) mod specs;
mod web;

use std::fmt::Debug;

use zs_core::{Action, Document};

pub use self::audit::ProgramStats;
pub use self::harness::{Harness, Review, ReviewState};
pub use self::registry::{
    ProgramFunctionRegistry, builtin, register_program_function, register_program_functions,
};
pub use self::web::{
    AdversarialDistraction, CitationMismatch, Hallucination, InsufficientExploration,
    NegationOversight, OutdatedInformation, RetrievalFailure, TemporalNumeric,
};

use crate::Turn;
pub use crate::trajectory::{ProgramCheck, ProgramOutcome};

/// A program that may step in before an action is carried out.
///
/// [`Harness`] asks every function about every action, in order; each sees the action as those
/// before it left it. A function that fails or panics counts as not activated, and the action stays
/// as it was.
///
/// ```
/// use zs_core::Action;
/// use zs_rl::program::{Harness, Intervention, ProgramContext, ProgramError, ProgramFunction};
///
/// /// Searches are made in lower case.
/// #[derive(Debug)]
/// struct LowerCase;
///
/// impl ProgramFunction for LowerCase {
///     fn id(&self) -> &str {
///         "lower_case"
///     }
///
///     fn should_activate(
///         &self,
///         _context: &ProgramContext<'_>,
///         action: &Action,
///     ) -> Result<bool, ProgramError> {
///         Ok(matches!(action, Action::Search(query) if query.to_lowercase() != *query))
///     }
///
///     fn intervene(
///         &self,
///         _context: &ProgramContext<'_>,
///         action: &Action,
///     ) -> Result<Intervention, ProgramError> {
///         Ok(match action {
///             Action::Search(query) => Intervention::ModifyAction {
///                 action: Action::Search(query.to_lowercase()),
///                 reason: "the index is in lower case".to_owned(),
///             },
///             _ => Intervention::Noop,
///         })
///     }
/// }
///
/// let harness = Harness::new(vec![Box::new(LowerCase)]);
/// assert_eq!(harness.len(), 1);
/// ```
///
/// # References
///
/// - [HASP](https://arxiv.org/abs/2605.17734), section 3
pub trait ProgramFunction: Debug + Send + Sync {
    /// A short name, for the audit log.
    fn id(&self) -> &str;

    /// Tells whether the function intervenes on an action.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong; the function then counts as not activated.
    fn should_activate(
        &self,
        context: &ProgramContext<'_>,
        action: &Action,
    ) -> Result<bool, ProgramError>;

    /// Intervenes on an action.
    ///
    /// # Errors
    ///
    /// As [`should_activate`](Self::should_activate).
    fn intervene(
        &self,
        context: &ProgramContext<'_>,
        action: &Action,
    ) -> Result<Intervention, ProgramError>;

    /// Maximum number of interventions in one episode; further ones are logged and ignored.
    fn max_fires(&self) -> u32 {
        2
    }
}

/// Intervention of a program function on an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intervention {
    /// Nothing after all.
    Noop,
    /// Another action takes its place.
    ModifyAction {
        /// The action; a search with a query, or an answer.
        action: Action,
        /// Reason, for the audit log.
        reason: String,
    },
    /// The policy is told something: after the documents of a search, or in place of the end of the
    /// episode where it answered, once an episode.
    InjectContext {
        /// Message to the policy. Reserved tags in it are neutralised.
        text: String,
        /// Reason, for the audit log.
        reason: String,
    },
}

/// Failure of a program function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProgramError(pub String);

/// View of program functions: the observations and actions of the policy, never a golden answer.
#[derive(Clone, Copy, Debug)]
pub struct ProgramContext<'a> {
    /// The question, as the policy was asked.
    pub question: &'a str,
    /// The turn, from 0.
    pub step: u32,
    /// Turns that the episode may have.
    pub max_steps: u32,
    /// Text that the policy wrote in this turn.
    pub text: &'a str,
    /// The turns before this one.
    pub turns: &'a [Turn],
}

impl<'a> ProgramContext<'a> {
    /// Tells whether a search in this turn would be carried out.
    #[must_use]
    pub fn may_search(&self) -> bool {
        self.step + 1 < self.max_steps
    }

    /// The documents read so far.
    pub fn documents(&self) -> impl Iterator<Item = &'a Document> + use<'a> {
        self.turns.iter().filter_map(|it| it.search.as_ref()).flat_map(|it| &it.documents)
    }

    /// Number of searches carried out so far.
    #[must_use]
    pub fn num_searches(&self) -> usize {
        self.turns.iter().filter(|it| it.search.is_some()).count()
    }
}
