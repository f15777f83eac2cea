//! The commands of `zs`, each with its arguments.

mod ask;
mod audit;
#[cfg(feature = "passages")]
mod corpus;
mod cost;
mod doctor;
mod embed;
mod engine;
mod fraction;
mod index;
mod inspect;
mod sampling;
mod search;
mod serve;
mod train;
mod verify;
mod warm_up;

pub use ask::AskArgs;
pub use audit::RunAuditArgs;
#[cfg(feature = "passages")]
pub use corpus::{CorpusBuildArgs, CorpusCommand};
pub use cost::CostArgs;
pub use doctor::DoctorArgs;
pub use embed::EmbedArgs;
pub use engine::EngineArgs;
pub use index::{IndexBuildArgs, IndexCommand};
pub use inspect::InspectArgs;
pub(crate) use sampling::SamplingArgs;
pub use search::SearchArgs;
pub use serve::ServeArgs;
pub use train::{ReplayArgs, ResumableArgs, SftArgs, TrainArgs};
pub use verify::VerifyArgs;
pub use warm_up::WarmUpArgs;

pub(crate) use ask::ask;
pub(crate) use audit::audit;
#[cfg(feature = "passages")]
pub(crate) use corpus::corpus;
pub(crate) use cost::cost;
pub(crate) use doctor::doctor;
pub(crate) use embed::embed;
pub(crate) use index::index;
pub(crate) use inspect::inspect;
pub(crate) use search::search;
pub(crate) use serve::serve;
pub(crate) use train::{pretrain, replay, sft, train};
pub(crate) use verify::verify;
pub(crate) use warm_up::warm_up;
