//! Resources of training besides policy, questions and engine: helper models, judge, corpus.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zs_model::ComputeDtype;
use zs_rl::consult::{GeneratorHelperConfig, HelperKind, HelperTemplates};
use zs_rl::judge::JUDGE_PROMPT;

use super::{RunFileError, ensure};
use crate::world::WorldSource;

/// Helper models that the policy may consult.
///
/// ```toml
/// [helper_models]
/// model = "models/qwen2.5-7b-instruct"
/// agents = ["verify", "knowledge"]
/// budget = 5
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelperModelsConfig {
    /// The model directory; one model plays every role.
    pub model: PathBuf,
    /// The roles that are filled.
    #[serde(default = "every_agent")]
    pub agents: Vec<HelperKind>,
    /// Consultations that an episode may make.
    #[serde(default = "default_budget")]
    pub budget: u32,
    /// Sampling of the model.
    #[serde(default)]
    pub sampling: GeneratorHelperConfig,
    /// Data type of its matrix products and of its weights in memory.
    #[serde(default, skip_serializing_if = "ComputeDtype::is_f32")]
    pub compute_dtype: ComputeDtype,
    /// Prompt templates.
    #[serde(default)]
    pub templates: HelperTemplates,
}

fn every_agent() -> Vec<HelperKind> {
    HelperKind::ALL.to_vec()
}

/// `SituatedThinker`'s limit; AIPO's is not published.
fn default_budget() -> u32 {
    5
}

impl HelperModelsConfig {
    pub(crate) fn check(&self, key: &str) -> Result<(), RunFileError> {
        let key = |name: &str| format!("{key}.{name}");
        let GeneratorHelperConfig { temperature, max_new_tokens } = self.sampling;
        ensure(!self.agents.is_empty(), &key("agents"), "at least one role", "empty")?;
        let is_temperature = temperature.is_finite() && temperature >= 0.0;
        ensure(is_temperature, &key("sampling.temperature"), "at least 0", temperature)?;
        ensure(max_new_tokens > 0, &key("sampling.max_new_tokens"), "at least 1", max_new_tokens)
    }
}

/// The model that compares episodes.
///
/// ```toml
/// [judge]
/// model = "models/qwen2.5-7b-instruct"
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeConfig {
    /// Its model directory.
    pub model: PathBuf,
    /// Maximum number of tokens that it writes up to its verdict.
    #[serde(default = "default_verdict_tokens")]
    pub max_new_tokens: usize,
    /// Prompt template over `question`, `a`, `b` and `rubrics`.
    #[serde(default = "default_judge_prompt")]
    pub template: String,
    /// Data type of its matrix products and of its weights in memory.
    #[serde(default, skip_serializing_if = "ComputeDtype::is_f32")]
    pub compute_dtype: ComputeDtype,
}

fn default_verdict_tokens() -> usize {
    256
}

fn default_judge_prompt() -> String {
    JUDGE_PROMPT.to_owned()
}

impl JudgeConfig {
    pub(crate) fn check(&self, key: &str) -> Result<(), RunFileError> {
        let (key, tokens) = (format!("{key}.max_new_tokens"), self.max_new_tokens);
        ensure(tokens > 0, &key, "at least 1", tokens)
            .map_err(|error| error.at("the judge must be able to write"))
    }
}

/// Source of documents.
///
/// ```toml
/// corpus = { kind = "file", path = "corpus.jsonl" }
/// corpus = { kind = "world", world = { seed = 1, split = "train" } }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum CorpusSource {
    /// A corpus in JSON Lines.
    File {
        /// The file.
        path: PathBuf,
    },
    /// The passages of an embedded world.
    World {
        /// The world.
        world: WorldSource,
    },
}
