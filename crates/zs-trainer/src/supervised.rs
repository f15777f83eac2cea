//! Supervised runs: pre-training from scratch and fine-tuning.

mod card;
mod packing;
pub mod pretrain;
mod probe;
pub mod sft;

pub use packing::pack;
