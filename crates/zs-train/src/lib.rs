//! The command `zs`: run files in, runs out. It composes the crates below it and holds what only a
//! command line needs.
//!
//! ```
//! use clap::Parser;
//! use zs_train::cli::Cli;
//!
//! let cli = Cli::parse_from(["zs", "--quiet", "train", "run.toml", "--dry-run"]);
//! assert!(cli.quiet);
//! ```

pub mod cli;
mod command;
mod cuda;
pub mod device;
mod pages;
mod session;
pub mod simulate;

pub use pages::keep_pages;
