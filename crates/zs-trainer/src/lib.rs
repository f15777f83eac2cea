//! Training as a library: reinforcement learning with a search engine, supervised fine-tuning and
//! pre-training, with run directories, checkpoints, resume, replay, audits, alarms and callbacks.
//!
//! [`Trainer`] trains a policy from Rust; [`train`] does so from a run file ([`config`]). Observers
//! implement [`Callback`]; devices, console and clock are passed in a [`RunContext`].
//!
//! ```
//! use zs_trainer::Components;
//! use zs_trainer::config::{TrainConfig, parse};
//!
//! let text = r#"
//! seed = 1
//! out = "target/runs/example"
//! policy = "assets/zs-tiny"
//! questions = { kind = "world", world = { seed = 1, split = "train" }, per_hop = 100 }
//! engine = { kind = "bm25", world = { seed = 1, split = "train" } }
//!
//! [training.schedule]
//! steps = 10
//! "#;
//! let config: TrainConfig = parse(text, "example.toml", &Components::built_in())?;
//! assert_eq!(config.training.schedule.steps, 10);
//! assert_eq!(config.training.rollout.max_searches, 5);
//! # Ok::<(), zs_trainer::config::RunFileError>(())
//! ```

pub mod alarm;
mod audit;
mod bm25;
mod callback;
mod callback_error;
mod checkpoint;
mod components;
pub mod config;
mod console;
mod context;
mod device_name;
pub mod engines;
mod environment;
mod error;
pub mod files;
mod interrupt;
mod metrics;
mod order;
pub mod plan;
mod policy_searches;
mod questions;
mod rollouts;
mod run_dir_error;
pub mod servers;
pub mod source;
pub mod supervised;
pub mod teacher;
#[cfg(feature = "testing")]
pub mod testing;
mod times;
pub mod train;
mod trainable;
mod trainer;
pub mod trajectories;
mod unchanged;
pub mod versions;
mod weights;
mod world;

pub use audit::AuditError;
pub use bm25::Bm25Settings;
pub use callback::{Callback, Flow, StepReport};
pub use callback_error::CallbackError;
pub use checkpoint::checkpoint_step;
pub use components::{Components, TrackerRegistry, TrackerSettings};
pub use console::{Console, Progress, QuietConsole};
pub use context::{Devices, GpuMemory, RunContext, SpanSums, host_threads};
pub use device_name::{DeviceName, DeviceNameError};
pub use error::{LoadError, TrainError};
pub use interrupt::Interrupt;
pub use metrics::{Metrics, Timings};
pub use order::EpochOrder;
pub use policy_searches::PolicySearches;
pub use questions::{QuestionRegistry, WorldQuestions};
pub use rollouts::{RecordedGroup, read_rollouts, recorded_steps};
pub use run_dir_error::RunDirError;
pub use times::{RolloutTimes, StepTimes};
pub use trainer::{
    Audit, AuditOptions, Comparison, Difference, StepAudit, Trained, Trainer, TrainerBuilder,
    Validation,
};
pub use world::WorldSource;
