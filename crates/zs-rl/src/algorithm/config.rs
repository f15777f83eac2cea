//! Which algorithm to use.

use serde::{Deserialize, Serialize};

use super::{
    AipoStyle, AipoStyleConfig, Algorithm, AlgorithmError, Cispo, CispoConfig, Dapo, DapoConfig,
    DrGrpo, DrGrpoConfig, Gigpo, GigpoConfig, Grpo, GrpoConfig, Gspo, GspoConfig, Ppo, PpoConfig,
    Reinforce, ReinforceConfig, ReinforcePlusPlus, ReinforcePlusPlusConfig, Rloo, RlooConfig,
    SquaredRegret, SquaredRegretConfig,
};

/// Which algorithm to use, and its settings.
///
/// ```
/// use zs_rl::AlgorithmConfig;
///
/// let json = r#"{"kind":"grpo","kl_coef":0.0,"clip":{"high":0.28}}"#;
/// let config: AlgorithmConfig = serde_json::from_str(json).unwrap();
/// assert_eq!(config.build().unwrap().name(), "grpo");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum AlgorithmConfig {
    /// [`Reinforce`].
    Reinforce(ReinforceConfig),
    /// [`ReinforcePlusPlus`].
    ReinforcePlusPlus(ReinforcePlusPlusConfig),
    /// [`Rloo`].
    Rloo(RlooConfig),
    /// [`Grpo`].
    Grpo(GrpoConfig),
    /// [`DrGrpo`].
    DrGrpo(DrGrpoConfig),
    /// [`Dapo`].
    Dapo(DapoConfig),
    /// [`Gspo`].
    Gspo(GspoConfig),
    /// [`Cispo`].
    Cispo(CispoConfig),
    /// [`Ppo`].
    Ppo(PpoConfig),
    /// [`Gigpo`].
    Gigpo(GigpoConfig),
    /// [`SquaredRegret`].
    SquaredRegret(SquaredRegretConfig),
    /// [`AipoStyle`].
    AipoStyle(AipoStyleConfig),
}

/// The paper's default algorithm.
impl Default for AlgorithmConfig {
    fn default() -> Self {
        Self::Reinforce(ReinforceConfig::default())
    }
}

impl AlgorithmConfig {
    /// The algorithm that this describes.
    ///
    /// # Errors
    ///
    /// Fails on a setting out of range.
    pub fn build(&self) -> Result<Box<dyn Algorithm>, AlgorithmError> {
        Ok(match self {
            Self::Reinforce(config) => Box::new(Reinforce::new(config)?),
            Self::ReinforcePlusPlus(config) => Box::new(ReinforcePlusPlus::new(config)?),
            Self::Rloo(config) => Box::new(Rloo::new(config)?),
            Self::Grpo(config) => Box::new(Grpo::new(config)?),
            Self::DrGrpo(config) => Box::new(DrGrpo::new(config)?),
            Self::Dapo(config) => Box::new(Dapo::new(config)?),
            Self::Gspo(config) => Box::new(Gspo::new(config)?),
            Self::Cispo(config) => Box::new(Cispo::new(config)?),
            Self::Ppo(config) => Box::new(Ppo::new(config)?),
            Self::Gigpo(config) => Box::new(Gigpo::new(config)?),
            Self::SquaredRegret(config) => Box::new(SquaredRegret::new(config)?),
            Self::AipoStyle(config) => Box::new(AipoStyle::new(config)?),
        })
    }
}
