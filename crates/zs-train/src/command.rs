//! The commands of `zs`, each with its arguments.

mod ask;
mod cost;
mod data;
mod doctor;
mod engine;
mod eval;
mod index;
mod inspect;
mod report_table;
mod score;
mod search;
mod serve;
mod simulate;
mod train;
mod verify;
mod warm_up;

pub use ask::AskArgs;
pub use cost::CostArgs;
pub use data::{DataCheckArgs, DataCommand, DataFetchArgs, WorldArgs};
pub use doctor::DoctorArgs;
pub use engine::EngineArgs;
pub use eval::EvalArgs;
pub use index::{IndexBuildArgs, IndexCommand};
pub use inspect::InspectArgs;
pub use score::ScoreArgs;
pub use search::SearchArgs;
pub use serve::ServeArgs;
pub use simulate::{AuditArgs, CollectArgs, JudgeName, SimulateCommand};
pub use train::{ReplayArgs, ResumableArgs, TrainArgs};
pub use verify::VerifyArgs;
pub use warm_up::WarmUpArgs;

pub(crate) use ask::ask;
pub(crate) use cost::cost;
pub(crate) use data::data;
pub(crate) use doctor::doctor;
pub(crate) use eval::eval;
pub(crate) use index::index;
pub(crate) use inspect::inspect;
pub(crate) use score::score;
pub(crate) use search::search;
pub(crate) use serve::serve;
pub(crate) use simulate::simulate;
pub(crate) use train::{pretrain, replay, sft, train};
pub(crate) use verify::verify;
pub(crate) use warm_up::warm_up;
