//! The three kinds of runs: pre-training, supervised fine-tuning, reinforcement learning.

mod card;
mod collect;
mod log;
mod metrics;
mod order;
mod packing;
pub mod pretrain;
mod probe;
pub mod rl;
pub mod sft;
mod trainable;
pub(crate) mod validation;

pub use metrics::{Metrics, Timings};
pub use order::EpochOrder;
pub use packing::pack;

use trainable::trainable;
