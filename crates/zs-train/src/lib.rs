//! The command `zs`, and the same command with added components.
//!
//! A program that adds an algorithm, a reward, a curriculum, a search engine, a source of questions or
//! a tracker registers it and runs; all commands and run files, and resume and replay, then know it by
//! name.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use zs_core::registry::Settings;
//! use zs_curriculum::{Curriculum, Progress};
//! use zs_train::Zs;
//!
//! /// Noisy documents in the second half only.
//! #[derive(Debug, Serialize, Deserialize)]
//! struct SecondHalf {
//!     probability: f64,
//! }
//!
//! impl Settings for SecondHalf {
//!     const KIND: &'static str = "second_half";
//! }
//!
//! impl Curriculum for SecondHalf {
//!     fn noise_probability(&self, progress: Progress<'_>) -> f64 {
//!         if progress.fraction() < 0.5 { 0.0 } else { self.probability }
//!     }
//! }
//!
//! let zs = Zs::new().curriculum::<SecondHalf>();
//! // In `main`: `zs.run()`, which reads arguments and returns an exit code.
//! let components = zs.components()?;
//! assert!(components.curricula.kinds().any(|it| it == "second_half"));
//! # Ok::<(), zs_core::registry::RegistryError>(())
//! ```

pub mod cli;
mod command;
mod cuda;
mod data;
pub mod device;
mod device_error;
mod eval;
mod model;
mod pages;
mod report_table;
mod runners;
mod session;
mod simulate;
mod zs;

/// Names that a program with components of its own uses.
pub mod prelude {
    pub use zs_core::registry::Settings;
    pub use zs_core::{Document, SearchEngine, SearchRequest, SearchResult, YesNoRule, f1};
    pub use zs_curriculum::{Curriculum, Progress};
    pub use zs_model::TokenScores;
    pub use zs_rl::{
        Advantages, Algorithm, EpisodeView, LossOutput, PolicyBatch, Requirements, Reward,
        RewardOutput, RolloutBatch,
    };
    pub use zs_search::{EngineContext, EngineSettings};
    pub use zs_trainer::{Callback, Flow, StepReport, TrackerSettings};

    pub use crate::Zs;
}

pub use pages::keep_pages;
pub use zs::Zs;
