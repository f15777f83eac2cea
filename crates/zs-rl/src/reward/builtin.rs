//! Registration of the built-in rewards.

use serde::{Deserialize, Serialize};
use zs_core::registry::{Registry, RegistryError, Settings};

use super::registry::{register_group_reward, register_retrieval_reward, register_reward};
use super::{
    CoverExactMatch, CoverageGain, DefaultAnswer, ExactMatch, F1, Format, InformationGain,
    InvalidAction, Length, OverBudget, Overlong, Redundancy, RetrievalAnswer, RewardFunction,
    RewardRegistry, RewardResources, RewardSum, RubricConfig, RubricReward, SearchR1,
    SearchValueReward, TurnPenalty,
};

/// Registers the built-in rewards.
///
/// # Errors
///
/// Fails where one of their names is taken.
pub fn register_rewards(registry: &mut RewardRegistry) -> Result<(), RegistryError> {
    register_reward::<F1>(registry)?;
    register_reward::<ExactMatch>(registry)?;
    register_reward::<CoverExactMatch>(registry)?;
    register_reward::<DefaultAnswer>(registry)?;
    register_reward::<Format>(registry)?;
    register_reward::<SearchR1>(registry)?;
    register_reward::<SearchValueReward>(registry)?;
    register_reward::<TurnPenalty>(registry)?;
    register_reward::<Overlong>(registry)?;
    register_reward::<OverBudget>(registry)?;
    register_reward::<Redundancy>(registry)?;
    register_reward::<InvalidAction>(registry)?;
    register_retrieval_reward::<CoverageGain>(registry)?;
    register_retrieval_reward::<RetrievalAnswer>(registry)?;
    register_group_reward::<Length>(registry)?;
    registry.register(|_: InformationGainConfig, resources: &RewardResources, _| {
        let reward = InformationGain::new(resources.corpus(InformationGainConfig::KIND)?);
        Ok(RewardFunction::default().and_retrieval(1.0, reward))
    })?;
    registry.register(|it: RubricConfig, resources: &RewardResources, _| {
        let judge = resources.judge(RubricConfig::KIND)?.clone();
        Ok(RewardFunction::default().and_group(1.0, RubricReward::new(judge, it)))
    })?;
    registry.register(|it: RewardSum, resources: &RewardResources, registry| {
        it.build(resources, registry)
    })
}

/// Creates a registry of the built-in rewards.
///
/// ```
/// use zs_core::registry::Spec;
/// use zs_rl::RewardResources;
///
/// let reward = zs_rl::reward::builtin().build(&Spec::named("f1"), &RewardResources::default())?;
/// # let _ = reward;
/// # Ok::<(), zs_core::registry::RegistryError>(())
/// ```
#[must_use]
pub fn builtin() -> RewardRegistry {
    let mut registry = Registry::new("reward");
    let registered = register_rewards(&mut registry);
    debug_assert!(registered.is_ok(), "an empty registry has no name taken");
    registry
}

/// Settings of [`InformationGain`], which has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InformationGainConfig {}

impl Settings for InformationGainConfig {
    const KIND: &'static str = "information_gain";
}
