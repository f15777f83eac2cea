//! The commands that do one thing and end: evaluate, score, index, search, ask, verify, count costs,
//! handle data, warm up.

mod ask;
mod cost;
mod data;
mod doctor;
mod eval;
mod index;
mod report_table;
mod score;
mod search;
mod serve;
mod simulate;
mod train;
mod verify;
mod warm_up;

pub use cost::CostArgs;
pub use doctor::DoctorArgs;
pub use index::{IndexBuildArgs, IndexCommand};
pub use search::SearchArgs;

pub(crate) use ask::ask;
pub(crate) use cost::cost;
pub(crate) use data::{data_check, data_fetch, data_world};
pub(crate) use doctor::doctor;
pub(crate) use eval::eval;
pub(crate) use index::index;
pub(crate) use score::score;
pub(crate) use search::search;
pub use serve::ServeArgs;
pub(crate) use serve::serve;
pub(crate) use simulate::simulate;
pub use simulate::{AuditArgs, CollectArgs, JudgeName, SimulateCommand};
pub(crate) use train::{pretrain, replay, sft, train};
pub(crate) use verify::verify;
pub(crate) use warm_up::{WarmUpArgs, warm_up};

pub(crate) use data::{DataCheckArgs, DataFetchArgs};
pub(crate) use eval::EvalArgs;
pub(crate) use score::ScoreArgs;
