//! The commands that do one thing and end: evaluate, score, search, ask, verify, handle data.

mod ask;
mod data;
mod eval;
mod report_table;
mod score;
mod search;
mod verify;

pub(crate) use ask::ask;
pub(crate) use data::{data_check, data_fetch, data_world};
pub(crate) use eval::eval;
pub(crate) use score::score;
pub(crate) use search::search;
pub(crate) use verify::verify;

pub(crate) use data::{DataCheckArgs, DataFetchArgs};
pub(crate) use eval::EvalArgs;
pub(crate) use score::ScoreArgs;
