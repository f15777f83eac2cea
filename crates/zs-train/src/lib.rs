//! The command `zs`, and the same command with components of one's own.
//!
//! A program that adds an algorithm, a reward, a curriculum, a search engine, a source of questions or
//! a tracker registers it and runs: every command, run file, resume and replay then knows it by name.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
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
//! fn main() -> ExitCode {
//!     Zs::new().curriculum::<SecondHalf>().run()
//! }
//! ```

pub mod cli;
mod command;
mod cuda;
pub mod device;
mod device_error;
mod pages;
mod session;
pub mod simulate;
mod zs;

pub use pages::keep_pages;
pub use zs::Zs;
