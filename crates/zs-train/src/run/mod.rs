//! The three kinds of runs: pre-training, supervised fine-tuning, reinforcement learning.

mod card;
mod collect;
mod metrics;
mod order;
mod packing;
pub mod pretrain;
mod probe;
pub mod rl;
pub mod sft;
mod validation;

pub use metrics::{Metrics, Timings};
pub use order::EpochOrder;
pub use packing::pack;
