//! `zs simulate`: data for tuning a simulation LLM, and whether one is fit to train on.

pub mod audit;
pub mod collect;
mod llm_judge;
mod manifest;
mod rolled;

pub use llm_judge::{LlmJudge, LlmJudgeConfig};
pub use manifest::{Input, Judged, Manifest, Part, Settings};
