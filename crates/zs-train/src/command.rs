//! The commands that do one thing and end: evaluate, index, search, ask, verify, count costs, write
//! data.

mod ask;
mod cost;
mod data;
mod eval;
mod index;
mod search;
mod serve;
mod simulate;
mod verify;

pub use cost::CostArgs;
pub use index::{IndexBuildArgs, IndexCommand};
pub use search::SearchArgs;

pub(crate) use ask::ask;
pub(crate) use cost::cost;
pub(crate) use data::data_world;
pub(crate) use eval::eval;
pub(crate) use index::index;
pub(crate) use search::search;
pub use serve::ServeArgs;
pub(crate) use serve::serve;
pub(crate) use simulate::simulate;
pub use simulate::{AuditArgs, CollectArgs, JudgeName, SimulateCommand};
pub(crate) use verify::verify;
