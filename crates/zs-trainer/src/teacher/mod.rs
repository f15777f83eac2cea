//! Teachers that a policy is distilled from: a model in this process, or one on a server.

mod reply;
mod server;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zs_core::registry::{BoxedError, Registry, Settings};
use zs_model::{Generator, LanguageModel};
use zs_rl::TrajectoryGroup;
use zs_search::Ledger;
use zs_search::http::HttpError;

pub use self::reply::TeacherApi;
pub use self::server::{ServerTeacher, TeacherServer};

/// Teachers by name.
pub type TeacherRegistry = Registry<Teacher, TeacherContext>;

/// Loader and ledger that teachers are given besides their settings.
pub struct TeacherContext {
    load: Box<LoadModel>,
    ledger: Arc<Ledger>,
}

type LoadModel = dyn Fn(&Path) -> Result<LanguageModel, BoxedError> + Send + Sync;

impl TeacherContext {
    /// A loader of model directories, which knows the devices, and the ledger of the calls of servers.
    #[must_use]
    pub fn new(
        load: impl Fn(&Path) -> Result<LanguageModel, BoxedError> + Send + Sync + 'static,
        ledger: Arc<Ledger>,
    ) -> Self {
        Self { load: Box::new(load), ledger }
    }
}

impl fmt::Debug for TeacherContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TeacherContext").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

/// Teacher that a policy is distilled from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Teacher {
    /// A model in this process, which scores the batch in the update.
    Model(Box<LanguageModel>),
    /// A model on servers, which score the episodes of a step after they were played. Its
    /// log-probabilities are recorded with the episodes.
    Server(Arc<TeacherServer>),
    /// The log-probabilities of a record, where a step is computed again: no server is asked.
    Recorded,
}

/// A teacher that cannot be used, or has given no usable log-probabilities.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TeacherError {
    /// Distillation without a teacher.
    #[error("`training.update.distillation` needs a teacher; add the table `teacher`")]
    Missing,
    /// A teacher that nothing is learned from.
    #[error(
        "`teacher` is given, but `training.update.distillation` is not; add the table or remove `teacher`"
    )]
    Unused,
    /// A teacher whose tokens are not the policy's.
    #[error(
        "the teacher has another tokenizer than the policy: token {token} is {theirs} there and {ours} \
         here; choose a teacher with the policy's tokenizer"
    )]
    OtherTokenizer {
        /// Token.
        token: usize,
        /// Its text in the teacher's vocabulary, or the word that it has none.
        theirs: String,
        /// Its text in the policy's vocabulary, or the word that it has none.
        ours: String,
    },
    /// A teacher whose output layer has no place for tokens of the policy.
    #[error(
        "the teacher has {theirs} logits and the policy {ours}: tokens of the policy may be missing; \
         choose a teacher with the policy's vocabulary"
    )]
    SmallerVocabulary {
        /// Logits of the teacher.
        theirs: usize,
        /// Logits of the policy.
        ours: usize,
    },
    /// An episode that exceeds the teacher's context.
    #[error(
        "an episode has {tokens} tokens, which exceeds the teacher's context of {context}; shorten \
         episodes (`training.rollout`) or choose a teacher with a longer context"
    )]
    TooLong {
        /// Tokens of the episode.
        tokens: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// A server that cannot be used or asked.
    #[error("teacher: {0}")]
    Server(#[from] HttpError),
}

/// Settings of `local`: a model in this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalTeacher {
    /// Model directory.
    pub model: PathBuf,
}

impl Settings for LocalTeacher {
    const KIND: &'static str = "local";

    fn inputs(&self) -> Vec<PathBuf> {
        vec![self.model.clone()]
    }
}

/// Creates a registry of `local` and `server`.
#[must_use]
pub(crate) fn teachers() -> TeacherRegistry {
    let mut registry = Registry::new("teacher");
    let open = |it: LocalTeacher, context: &TeacherContext, _: &TeacherRegistry| {
        Ok(Teacher::Model(Box::new((context.load)(&it.model)?)))
    };
    let registered = registry.register(open).and_then(|()| {
        registry.register(|it: ServerTeacher, context: &TeacherContext, _| {
            let server = TeacherServer::new(it, Arc::clone(&context.ledger))?;
            Ok(Teacher::Server(Arc::new(server)))
        })
    });
    debug_assert!(registered.is_ok(), "an empty registry has no name taken");
    registry
}

impl Teacher {
    /// Checks that the teacher's tokens are the policy's; a server is asked once.
    ///
    /// # Errors
    ///
    /// Fails where they are not, naming the first token that differs, and when a server cannot be
    /// asked.
    pub fn check(&self, policy: &LanguageModel) -> Result<(), TeacherError> {
        match self {
            Self::Recorded => Ok(()),
            Self::Server(server) => server.check(policy),
            Self::Model(model) => check_vocabulary(model, policy),
        }
    }

    /// Log-probabilities of the episodes' tokens, one row a trajectory, from servers; `None` where the
    /// update computes them.
    ///
    /// # Errors
    ///
    /// Fails on an episode that exceeds the context of a model in this process, and when a server gives
    /// no usable reply.
    pub(crate) fn log_probs(
        &self,
        groups: &[TrajectoryGroup],
        policy: &LanguageModel,
    ) -> Result<Option<Vec<Vec<f32>>>, TeacherError> {
        let episodes = || groups.iter().flat_map(|it| &it.trajectories);
        match self {
            Self::Recorded => Ok(None),
            Self::Server(server) => {
                let rows: Vec<_> = episodes().map(|it| it.trajectory.tokens()).collect();
                server.score(&rows, policy.tokenizer()).map(Some)
            }
            Self::Model(model) => {
                let context = model.context_length();
                let longest = episodes().map(|it| it.trajectory.num_tokens()).max();
                match longest.filter(|it| *it > context) {
                    Some(tokens) => Err(TeacherError::TooLong { tokens, context }),
                    None => Ok(None),
                }
            }
        }
    }
}

/// Compares the vocabularies of two models, token by token.
fn check_vocabulary(teacher: &LanguageModel, policy: &LanguageModel) -> Result<(), TeacherError> {
    let (theirs, ours) = (teacher.tokenizer(), policy.tokenizer());
    let tokens = 0..theirs.vocab_size().max(ours.vocab_size()) as u32;
    let texts = tokens.map(|it| (it, theirs.token_text(it), ours.token_text(it)));
    let named = |it: Option<String>| it.map_or("missing".to_owned(), |it| format!("{it:?}"));
    if let Some((token, theirs, ours)) = { texts }.find(|(_, theirs, ours)| theirs != ours) {
        let (token, theirs, ours) = (token as usize, named(theirs), named(ours));
        return Err(TeacherError::OtherTokenizer { token, theirs, ours });
    }
    let (theirs, ours) = (teacher.config().vocab_size, policy.config().vocab_size);
    match theirs < ours {
        true => Err(TeacherError::SmallerVocabulary { theirs, ours }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
