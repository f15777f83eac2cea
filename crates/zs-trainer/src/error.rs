//! Errors of training: of what a run loads, and of the run itself.

use std::path::PathBuf;

use zs_core::registry::{BoxedError, RegistryError};
use zs_data::{DataError, FileError};
use zs_eval::EvaluateError;
use zs_model::{
    CheckpointError, ConfigError, DeviceFailed, EncoderError, LoraError, SaveError, TokenizerError,
};
use zs_rl::consult::HelperError;
use zs_rl::judge::JudgeError;
use zs_rl::{RolloutError, UpdateError};
use zs_search::{Bm25Error, JournalError};
use zs_simulator::TemplateError;
use zs_simulator::pretraining::ExampleError;

use crate::callback_error::CallbackError;
use crate::config::RunFileError;
use crate::run_dir_error::RunDirError;
use crate::servers::ServersError;
use crate::teacher::TeacherError;

/// Failure to load a model, questions, documents or training rows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A model directory that does not exist.
    #[error("{dir}: no such model directory")]
    NoModel {
        /// Model directory.
        dir: PathBuf,
    },
    /// A model that cannot be loaded.
    #[error("model {dir}")]
    Model {
        /// Model directory.
        dir: PathBuf,
        /// Error of the checkpoint.
        source: Box<CheckpointError>,
    },
    /// An encoder that cannot be loaded.
    #[error("model {dir}")]
    Encoder {
        /// Model directory.
        dir: PathBuf,
        /// Error of its files.
        source: Box<EncoderError>,
    },
    /// A model whose shape cannot be read.
    #[error(transparent)]
    ModelConfig(#[from] ConfigError),
    /// A tokenizer without a token that training needs.
    #[error("{tokenizer} has no token `{token}`")]
    MissingToken {
        /// File of the tokenizer.
        tokenizer: PathBuf,
        /// Token.
        token: String,
    },
    /// A model without a token that ends completions.
    #[error("the model's config.json has no `eos_token_id`, which ends completions; add it")]
    NoEndToken,
    /// A component that cannot be built.
    #[error(transparent)]
    Component(#[from] RegistryError),
    /// Questions that their source cannot give.
    #[error(transparent)]
    Questions(BoxedError),
    /// A file of rows that cannot be read.
    #[error(transparent)]
    Rows(#[from] DataError),
    /// Documents that cannot be indexed.
    #[error("{path}")]
    Index {
        /// File of the documents.
        path: PathBuf,
        /// Error of the index.
        source: Bm25Error,
    },
    /// A helper model that cannot be used.
    #[error(transparent)]
    HelperModel(#[from] HelperError),
    /// A judge that cannot be used.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// A prompt template that cannot be used.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Training text that cannot be made.
    #[error(transparent)]
    Example(#[from] ExampleError),
    /// The thread that makes training text has ended.
    #[error("no more examples")]
    NoExamples(#[from] std::sync::mpsc::RecvError),
    /// A text that cannot be encoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// An example that is longer than the model's context.
    #[error(
        "an example has {tokens} tokens, which exceeds the model's context of {context}; set \
         `data.num_documents` lower or use a model with a longer context"
    )]
    TooLong {
        /// Tokens of the example.
        tokens: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// Episodes that cannot be imitated.
    #[error(
        "{count} of {total} episodes cannot be used; correct them, or set `data.skip_bad_rows = true` to \
         train without them"
    )]
    UnusableEpisodes {
        /// Episodes that cannot be used.
        count: usize,
        /// All episodes.
        total: usize,
    },
    /// An error in the contents of a file.
    #[error("{path}")]
    In {
        /// File.
        path: PathBuf,
        /// Error.
        source: Box<Self>,
    },
}

/// Failure of a training run.
///
/// An error of a step is an [`AtStep`](Self::AtStep); [`cause`](Self::cause) is what went wrong in
/// it:
///
/// ```
/// use zs_rl::UpdateError;
/// use zs_trainer::{CallbackError, TrainError};
///
/// fn advice(error: &TrainError) -> &'static str {
///     match error.cause() {
///         TrainError::NonFiniteLoss { .. } => "lower the learning rate",
///         TrainError::Update(UpdateError::NotFinite { .. }) => "mend the algorithm",
///         TrainError::Callback(CallbackError::Panicked { .. }) => "mend the callback",
///         _ => "read the message",
///     }
/// }
///
/// let error = TrainError::NonFiniteLoss { step: 3, loss: f64::NAN };
/// assert_eq!(advice(&error), "lower the learning rate");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A trainer without questions.
    #[error("a trainer needs questions; give some with `questions`")]
    NoQuestions,
    /// No row of fine-tuning has a completion.
    #[error("no row has a completion to learn; add rows with completions to `data`")]
    NoCompletions,
    /// Early stopping without rows to measure the validation loss on.
    #[error("`tuning.early_stop` needs validation rows; add some to `data` or remove `early_stop`")]
    NoValidationRows,
    /// Settings that cannot be used.
    #[error(transparent)]
    Settings(#[from] RunFileError),
    /// A component that cannot be built.
    #[error(transparent)]
    Component(#[from] RegistryError),
    /// Something that the run reads and that cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Adapters that the model has no place for.
    #[error("lora")]
    Lora(#[from] LoraError),
    /// The directory of the run cannot be used.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// A directory without the run file of a training run.
    #[error("{path}: not the directory of a training run")]
    NotATrainingRun {
        /// Directory.
        path: PathBuf,
        /// Error of the run file.
        source: RunFileError,
    },
    /// A step that the run does not have.
    #[error("{path}: has steps 1 to {num_steps}, not {step}")]
    NoSuchStep {
        /// Directory of the run.
        path: PathBuf,
        /// Steps of the run.
        num_steps: usize,
        /// Step that was asked for.
        step: usize,
    },
    /// Episodes cannot be played.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// The policy cannot be validated.
    #[error("validation")]
    Validation(#[from] EvaluateError),
    /// The update failed, as where an algorithm returns advantages that nobody can learn from.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The teacher cannot be used, or gives no usable log-probabilities.
    #[error(transparent)]
    Teacher(#[from] TeacherError),
    /// The servers that the policy is sampled on cannot be used.
    #[error(transparent)]
    Servers(#[from] ServersError),
    /// The loss of supervised training is infinite or not a number.
    #[error("step {step}: the loss is {loss}; lower the learning rate")]
    NonFiniteLoss {
        /// Step.
        step: usize,
        /// Loss.
        loss: f64,
    },
    /// The weights were lost in an earlier update.
    #[error("an earlier update has failed")]
    LostWeights,
    /// Too many searches of a step failed.
    #[error(
        "{failed} of {searches} searches failed, more than `training.faults.max_failure_rate` = \
         {limit} allows, and nothing was learned from them; the first: {first}"
    )]
    FailedSearches {
        /// Searches that failed.
        failed: usize,
        /// Searches of the step.
        searches: usize,
        /// Accepted share.
        limit: f64,
        /// Error of the first of them.
        first: String,
    },
    /// Too many steps in a row were skipped.
    #[error(
        "`{metric}` is {value}, and {steps} steps in a row were skipped for such a reason (their \
         episodes are recorded); lower the learning rate, or look for rewards that are not finite"
    )]
    SkippedSteps {
        /// Metric that is not finite.
        metric: &'static str,
        /// Its value.
        value: f64,
        /// Steps that were skipped.
        steps: usize,
    },
    /// Journal of spending that cannot be written or read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A device lost what it was to compute.
    #[error(transparent)]
    Device(#[from] DeviceFailed),
    /// A panic inside a step.
    #[error("{message}")]
    Panicked {
        /// Message of the panic, as [`caught`](zs_core::caught) gives it.
        message: String,
    },
    /// A callback failed or panicked.
    #[error(transparent)]
    Callback(#[from] CallbackError),
    /// An error of a step; the steps before it are saved where the run has a directory.
    #[error("step {step}{}", resumes(run.as_ref(), from.as_ref()))]
    AtStep {
        /// Step, from 1.
        step: usize,
        /// Directory of the run.
        run: Option<PathBuf>,
        /// Name of the newest checkpoint whose weights are not in doubt, where those of later ones
        /// are.
        from: Option<String>,
        /// Error.
        source: Box<Self>,
    },
    /// After an error of a step, the steps before it could not be saved.
    #[error("step {step}: {error}; the steps before it could not be saved")]
    NotSaved {
        /// The step that failed.
        step: usize,
        /// Its error, with causes.
        error: String,
        /// Error of saving.
        source: Box<RunDirError>,
    },
}

fn resumes(run: Option<&PathBuf>, from: Option<&String>) -> String {
    match (run.map(|it| it.display()), from) {
        (None, _) => String::new(),
        (Some(run), None) => format!("; `zs train --resume {run}` resumes the run"),
        (Some(run), Some(name)) => format!(
            "; `zs train --resume {run} --resume-from {name}` resumes the run before its weights went \
             wrong, with `--set KEY=VALUE` for a setting that is to change"
        ),
    }
}

impl TrainError {
    /// Error itself, without the step that it belongs to.
    #[must_use]
    pub fn cause(&self) -> &Self {
        match self {
            Self::AtStep { source, .. } => source.cause(),
            error => error,
        }
    }
}

impl From<FileError> for TrainError {
    fn from(error: FileError) -> Self {
        RunDirError::from(error).into()
    }
}

impl From<SaveError> for TrainError {
    fn from(error: SaveError) -> Self {
        RunDirError::from(error).into()
    }
}
