//! Run files of `zs reproduce`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zs_simulator::SimulatedConfig;
use zs_world::WorldPreset;

use zs_trainer::Components;
use zs_trainer::config::{
    Check, RunFileError, TrainingConfig, TuningConfig, WorldExamples, ensure,
};

/// The whole main job in one file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReproduceConfig {
    /// The name in the report.
    pub preset: String,
    /// Seed of the whole job.
    pub seed: u64,
    /// Directory of the report.
    pub out: PathBuf,
    /// Model directory of the base model.
    pub base: PathBuf,
    /// The worlds and how many questions are drawn from each.
    pub worlds: ReproduceWorlds,
    /// Tuning data of the simulation LLM.
    pub data: WorldExamples,
    /// Its tuning.
    pub tuning: TuningConfig,
    /// Its prompts and sampling.
    pub simulator: SimulatedConfig,
    /// Its audit.
    pub audit: AuditConfig,
    /// Training of the policy, on either engine; the curriculum acts on the simulated one alone.
    pub training: TrainingConfig,
    /// Evaluation of policies.
    pub evaluation: EvaluationConfig,
}

/// The worlds of the job. All three have the seed `first_seed + seed`, one a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReproduceWorlds {
    /// Preset of the worlds, easy unless told otherwise.
    #[serde(default, skip_serializing_if = "WorldPreset::is_easy")]
    pub world: WorldPreset,
    /// Added to the seed, so that these worlds are none of pre-training or tuning.
    pub first_seed: u64,
    /// Training questions of each kind.
    pub train_per_hop: usize,
    /// Validation questions of each kind.
    pub validation_per_hop: usize,
    /// Test questions of each kind.
    pub test_per_hop: usize,
}

/// Audit of the simulation LLM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    /// Queries of each kind, about the validation world.
    pub per_kind: usize,
}

/// Evaluation of policies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Episodes that are played together; changes memory and speed only.
    pub batch_size: usize,
    /// Evaluates policies on the simulation LLM too.
    #[serde(default)]
    pub on_simulator: bool,
    /// Price of 1,000 searches at a provider.
    pub dollars_per_1000_searches: f64,
}

impl Check for ReproduceConfig {
    fn resolve(&mut self, components: &Components) -> Result<(), RunFileError> {
        self.training.resolve(components)
    }

    fn check(&self, components: &Components) -> Result<(), RunFileError> {
        let counts = [
            ("worlds.train_per_hop", self.worlds.train_per_hop),
            ("worlds.validation_per_hop", self.worlds.validation_per_hop),
            ("worlds.test_per_hop", self.worlds.test_per_hop),
            ("audit.per_kind", self.audit.per_kind),
            ("evaluation.batch_size", self.evaluation.batch_size),
            ("simulator.batch_size", self.simulator.batch_size),
            ("simulator.max_new_tokens", self.simulator.max_new_tokens),
        ];
        for (key, value) in counts {
            ensure(value > 0, key, "at least 1", value)?;
        }
        let (world, tuned_on) = (self.worlds.world, self.data.world);
        let expected = format!("that of the job, `{}`", world.word());
        ensure(tuned_on == world, "data.world", &expected, tuned_on.word())?;
        let price = self.evaluation.dollars_per_1000_searches;
        let is_price = price.is_finite() && price >= 0.0;
        ensure(is_price, "evaluation.dollars_per_1000_searches", "at least 0", price)?;
        self.data.check(components)?;
        self.tuning.check(components)?;
        self.training.check(components)
    }
}
