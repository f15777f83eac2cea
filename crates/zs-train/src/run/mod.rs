//! The three kinds of runs: pre-training, supervised fine-tuning, reinforcement learning.

mod card;
mod collect;
mod environment;
mod faults;
mod keeper;
mod learner;
mod log;
mod metrics;
mod observe;
mod order;
mod packing;
pub mod pretrain;
mod probe;
pub mod replay;
pub mod rl;
pub mod rollouts;
pub mod sft;
pub mod train;
mod trainable;
mod validation;
mod weights;

pub use metrics::{Metrics, Timings};
pub use observe::Observe;
pub use order::EpochOrder;
pub use packing::pack;

use trainable::trainable;
