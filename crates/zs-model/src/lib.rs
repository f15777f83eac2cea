//! Language models on burn: Hugging Face checkpoints, generation, log-probabilities, optimisers.
//!
//! [`LanguageModel`] is a loaded model directory. It samples through [`Generator`], in multi-turn
//! sessions that keep their KV cache. Its network trains through [`PolicyModel`] and [`Optimizer`].
//! [`TextEncoder`] turns texts into vectors. [`verify()`] compares a model directory with the results of a reference implementation.
//!
//! **Invariant:** this crate knows nothing about search, questions or rewards, and chooses no
//! device except the thread count of a CPU. A model that is given several devices holds a replica
//! on each.
//!
//! ```
//! use burn::module::Module;
//! use burn::tensor::Device;
//! use zs_core::StreamKey;
//! use zs_model::testing::{byte_tokenizer, tiny_config};
//! use zs_model::{
//!     Generator, LanguageModel, Optimizer, OptimizerConfig, SamplingParams, TokenRow,
//!     supervised_step,
//! };
//!
//! let model = LanguageModel::initialize(tiny_config(), byte_tokenizer(), 1, &Device::default());
//!
//! // Train on one sentence ...
//! let tokens = model.tokenizer().encode("abababab")?;
//! let mut loss_mask = vec![true; tokens.len()];
//! loss_mask[0] = false;
//! let rows = [TokenRow { tokens, loss_mask }];
//! let config = OptimizerConfig { learning_rate: 0.02, ..OptimizerConfig::default() };
//! let mut network = model.network().clone().train();
//! let mut optimizer = Optimizer::new(&config, &network);
//! for _ in 0..20 {
//!     (network, _) = supervised_step(network, &mut optimizer, &rows, 1024);
//! }
//!
//! // ... and continue its beginning.
//! let trained = model.with_network(&network);
//! let params = SamplingParams { temperature: 0.0, max_new_tokens: 4, ..SamplingParams::default() };
//! let prompt = (trained.tokenizer().encode("ab")?, StreamKey::new(0));
//! let completion = trained.generate(&[prompt], &params)?.remove(0);
//! assert_eq!(trained.tokenizer().decode(&completion.tokens), "abab");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod canary;
mod card;
mod chat;
mod checkpoint;
mod compute_dtype;
mod config;
#[cfg(feature = "flex")]
mod cpu;
mod device_health;
mod digest;
mod encoder;
mod generate;
mod gguf;
mod gradient_sum;
mod kernels;
mod language_model;
mod lora;
mod model_file;
mod network;
mod optim;
mod policy;
mod provenance;
mod replicas;
mod sampling_model;
mod scoring;
mod spans;
mod special_tokens;
mod supervised;
pub mod testing;
mod text_limit;
mod text_stream;
mod token;
mod tokenizer;
mod value;
mod verify;
mod warm_up;
mod weight_difference;
mod workers;

pub use batch::micro_batches;
pub use canary::{CanaryFailed, canary};
pub use card::ModelCard;
pub use chat::{ChatMessage, ChatTemplate, ChatTemplateError};
pub use checkpoint::{CheckpointError, SaveError, SaveOptions, WeightDtype};
pub use compute_dtype::{ComputeDtype, vector_units};
pub use config::{Architecture, ConfigError, Llama3RopeScaling, ModelConfig};
pub use device_health::{DeviceFailed, DeviceHealth};
pub use digest::weights_digest;
pub use encoder::{EncoderError, TextEncoder};
pub use generate::{
    Completion, CompletionRules, DecodeGraphStats, GenerateError, Generator, IsCancelled,
    SampledTokens, SampledTokensError, SamplingParams, SequenceRequest, Session, StopReason,
};
pub use gguf::{GgufError, ImportOptions, ImportedModel, import_gguf};
pub use language_model::LanguageModel;
pub use lora::{AdapterError, LoraError};
pub use network::{CausalLm, LoraConfig, MemoryConfig};
pub use optim::{
    Optimizer, OptimizerConfig, OptimizerKind, OptimizerStateError, Schedule, StepStats,
    accumulate_gradients, accumulate_value_gradients,
};
pub use policy::{PolicyModel, TokenRow, TokenScores, ValueModel};
pub use provenance::Provenance;
pub use replicas::map_replicas;
pub use sampling_model::SamplingModel;
pub use supervised::{SupervisedStats, supervised_loss, supervised_step, teacher_forced_matches};
pub use text_limit::{TextLimit, TextLimitError};
pub use text_stream::TextStream;
pub use token::TokenId;
pub use tokenizer::{Tokenizer, TokenizerError};
pub use value::ValueNetwork;
pub use verify::{
    Check, DirectoryCheck, DirectoryState, VerifyError, VerifyReport, WeightCheck, verify,
    verify_directory, write_golden,
};
pub use warm_up::WarmUpShape;
pub use weight_difference::{DifferentValue, WeightDifference, compare_weights};
pub use workers::{concurrent_micro_batches, on_secondary_stream};
