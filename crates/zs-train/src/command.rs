//! The commands that do one thing and end: evaluate, search, ask, verify, write data.

mod ask;
mod data;
mod eval;
mod search;
mod serve;
mod simulate;
mod verify;

pub(crate) use ask::ask;
pub(crate) use data::data_world;
pub(crate) use eval::eval;
pub(crate) use search::search;
pub use serve::ServeArgs;
pub(crate) use serve::serve;
pub(crate) use simulate::simulate;
pub use simulate::{AuditArgs, CollectArgs, JudgeName, SimulateCommand};
pub(crate) use verify::verify;
