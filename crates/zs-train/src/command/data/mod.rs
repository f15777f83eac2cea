//! `zs data`: data sets written, checked and fetched.

mod check;
mod fetch;
mod world;

pub(crate) use check::DataCheckArgs;
pub(crate) use fetch::DataFetchArgs;

pub(crate) use check::data_check;
pub(crate) use fetch::data_fetch;
pub(crate) use world::data_world;
