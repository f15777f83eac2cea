//! Run files: typed TOML in which every key is known and every value is in range.
//!
//! One file a kind of run; what they share ([`TrainingConfig`], [`TuningConfig`]) is composed again by crates that stand on this one.

mod error;
mod file;
mod futile;
mod inputs;
mod made_up;
mod observe;
mod pretrain;
mod resources;
mod safety;
mod servers;
mod set;
mod sft;
mod source;
mod train;

pub use crate::alarm::AlarmsConfig;
pub use error::RunFileError;
pub use file::{Check, load, load_with, note_renamed_keys, parse, renamed_keys};
pub use futile::futile_settings_of;
pub(crate) use futile::{futile_for_policy, futile_settings};
pub(crate) use made_up::check_group_size;
pub use observe::LoggingConfig;
pub use pretrain::{ModelShape, Phase, PretrainConfig, ProbeConfig};
pub use resources::{CorpusSource, HelperModelsConfig, JudgeConfig};
pub use safety::{CheckpointConfig, FailedSearch, FaultPolicy};
pub use servers::{RolloutPlace, RolloutServers, ServerKind};
pub use set::Assignment;
pub use sft::{
    EarlyStopConfig, EpisodeFiles, RecordedSearches, ReplyContents, SftConfig, SftData,
    TuningConfig, WorldExamples,
};
pub use source::load_engine;
pub use train::{
    CriticConfig, PtxConfig, ScheduleConfig, TrainConfig, TrainingConfig, ValidationConfig,
    ValidationMetric,
};

pub use file::{ensure, resolved};
pub(crate) use train::check_lora;
pub use train::{check_optimizer, no_noise};
