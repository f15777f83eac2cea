//! Rewards by name, and the resources that some of them need.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zs_core::Document;
use zs_core::registry::{Registry, RegistryError, Settings, Spec};

use super::{GroupReward, RetrievalReward, Reward, RewardFunction};
use crate::judge::{Comparison, JudgeError, RubricJudge, Verdict};

/// Registry of rewards.
pub type RewardRegistry = Registry<RewardFunction, RewardResources>;

/// Registers a [`Reward`] whose struct is its settings.
///
/// # Errors
///
/// Fails where its name is taken.
pub fn register_reward<R: Reward + Settings>(
    registry: &mut RewardRegistry,
) -> Result<(), RegistryError> {
    registry.register(|it: R, _: &RewardResources, _| Ok(RewardFunction::single(it)))
}

/// Registers a [`RetrievalReward`] whose struct is its settings.
///
/// # Errors
///
/// Fails where its name is taken.
pub fn register_retrieval_reward<R: RetrievalReward + Settings>(
    registry: &mut RewardRegistry,
) -> Result<(), RegistryError> {
    registry.register(|it: R, _: &RewardResources, _| {
        Ok(RewardFunction::default().and_retrieval(1.0, it))
    })
}

/// Registers a [`GroupReward`] whose struct is its settings.
///
/// # Errors
///
/// Fails where its name is taken.
pub fn register_group_reward<R: GroupReward + Settings>(
    registry: &mut RewardRegistry,
) -> Result<(), RegistryError> {
    registry
        .register(|it: R, _: &RewardResources, _| Ok(RewardFunction::default().and_group(1.0, it)))
}

/// Resources that some rewards need besides the episodes.
#[derive(Clone, Debug, Default)]
pub struct RewardResources {
    corpus: Option<Arc<[Document]>>,
    judge: Option<Arc<dyn RubricJudge>>,
    asked: Arc<Asked>,
}

/// Resources that a reward has asked for.
#[derive(Debug, Default)]
struct Asked {
    corpus: AtomicBool,
    judge: AtomicBool,
}

impl RewardResources {
    /// Creates resources: documents in which [`InformationGain`](super::InformationGain) finds the gold ones by title, and a
    /// judge that compares episodes for [`RubricReward`](super::RubricReward).
    #[must_use]
    pub fn new(corpus: Option<Arc<[Document]>>, judge: Option<Arc<dyn RubricJudge>>) -> Self {
        Self { corpus, judge, asked: Arc::default() }
    }

    /// Returns the corpus for the reward `name`.
    ///
    /// # Errors
    ///
    /// Fails where there is none.
    pub fn corpus(&self, name: &'static str) -> Result<&Arc<[Document]>, RewardError> {
        self.asked.corpus.store(true, Ordering::Relaxed);
        let what = "the texts of the gold documents; name their `corpus`";
        self.corpus.as_ref().ok_or(RewardError::Missing { name, what })
    }

    /// Returns the judge for the reward `name`.
    ///
    /// # Errors
    ///
    /// Fails where there is none.
    pub fn judge(&self, name: &'static str) -> Result<&Arc<dyn RubricJudge>, RewardError> {
        self.asked.judge.store(true, Ordering::Relaxed);
        let what = "a model that compares episodes; name a `judge`";
        self.judge.as_ref().ok_or(RewardError::Missing { name, what })
    }
}

/// Resources that a reward needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RewardNeeds {
    /// A corpus.
    pub corpus: bool,
    /// A judge.
    pub judge: bool,
}

/// Finds the resources that a reward asks for, before they are loaded, and checks its settings.
///
/// # Errors
///
/// As building it would with those resources.
pub fn needs(registry: &RewardRegistry, spec: &Spec) -> Result<RewardNeeds, RegistryError> {
    #[derive(Debug)]
    struct Absent;
    impl RubricJudge for Absent {
        fn compare_batch(
            &self,
            _comparisons: &[Comparison<'_>],
        ) -> Vec<Result<Verdict, JudgeError>> {
            Vec::new()
        }
    }
    let resources = RewardResources::new(Some([].into()), Some(Arc::new(Absent)));
    registry.build(spec, &resources)?;
    let Asked { corpus, judge } = resources.asked.as_ref();
    let is_asked = |it: &AtomicBool| it.load(Ordering::Relaxed);
    Ok(RewardNeeds { corpus: is_asked(corpus), judge: is_asked(judge) })
}

/// Failure to build a reward.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RewardError {
    /// Two terms would share a metric key.
    #[error("reward term `{name}` occurs twice; merge both into one weight")]
    Duplicate {
        /// Term.
        name: &'static str,
    },
    /// A resource besides the episodes is missing.
    #[error("reward `{name}` needs {what}")]
    Missing {
        /// Reward.
        name: &'static str,
        /// Resource, and the way to give it.
        what: &'static str,
    },
}
