//! The `zs` command: pre-training, tuning, reinforcement learning and evaluation, from run files.
//!
//! Everything below this crate is a pure function of inputs and seeds; this crate alone reads run
//! files, writes files, talks to a terminal and names a backend ([`device`]).
//!
//! ```text
//! run file -> config -> source (questions, engine, model) -> run::{pretrain, sft, rl} -> run directory
//! ```
//!
//! ```
//! use zs_train::config::{Check, TrainConfig, parse};
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
//! let config: TrainConfig = parse(text, "example.toml")?;
//! assert_eq!(config.training.schedule.steps, 10);
//! assert_eq!(config.training.rollout.max_searches, 5);
//! # Ok::<(), anyhow::Error>(())
//! ```

pub mod alarm;
mod checkpoint;
pub mod cli;
mod command;
pub mod config;
pub mod console;
mod cuda;
mod dashboard;
pub mod device;
mod digest;
pub mod engines;
pub mod files;
mod inspect;
pub mod interrupt;
mod pages;
mod plan;
mod plot;
pub mod reproduce;
pub mod run;
pub mod simulate;
pub mod source;
mod tensorboard;
mod trace;
mod versions;

pub use pages::keep_pages;
