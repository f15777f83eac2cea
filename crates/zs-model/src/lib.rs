//! Language models on burn: Hugging Face checkpoints, generation, log-probabilities, optimisers.

mod batch;
mod checkpoint;
mod config;
mod generate;
mod language_model;
mod network;
mod optim;
mod policy;
mod supervised;
pub mod testing;
mod tokenizer;
mod verify;

pub use batch::micro_batches;
pub use checkpoint::{CheckpointError, SaveError};
pub use config::{Architecture, ConfigError, Llama3RopeScaling, ModelConfig};
pub use generate::{
    Completion, GenerateError, Generator, SamplingParams, SequenceRequest, Session, StopReason,
    TokenId,
};
pub use language_model::LanguageModel;
pub use network::CausalLm;
pub use optim::{
    Optimizer, OptimizerConfig, OptimizerKind, Schedule, StepStats, accumulate_gradients,
};
pub use policy::{PolicyModel, TokenRow, TokenScores};
pub use supervised::{SupervisedStats, supervised_loss, supervised_step, teacher_forced_matches};
pub use tokenizer::{Tokenizer, TokenizerError};
pub use verify::{Check, VerifyError, VerifyReport, verify};
