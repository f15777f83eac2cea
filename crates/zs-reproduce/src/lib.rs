//! Reproduction of the `ZeroSearch` paper: the method end to end with one seed (`quick`), every
//! claim over seeds with verdicts (`claims`), the paper's own runs on real weights (`paper`), and a small
//! pretrained model on the user's questions (`real`).
//!
//! ```
//! let claims = zs_reproduce::claims::preset(Default::default(), &zs_trainer::Components::built_in())?;
//! assert!(claims.claims.iter().any(|it| it.id == "curriculum"));
//! # Ok::<(), zs_reproduce::ReproduceError>(())
//! ```

mod arguments;
pub mod claims;
pub mod config;
mod environment;
mod error;
mod job;
mod output;
mod page;
pub mod paper;
pub mod real;

use zs_trainer::RunContext;

pub use self::arguments::{Preset, ReproduceArgs};
pub use self::environment::Environment;
pub use self::error::ReproduceError;

use self::error::Result;

/// Reproduces what the arguments name.
///
/// # Errors
///
/// Fails on a missing base model, an output directory that is not ours, or any failing stage.
pub fn command(args: &ReproduceArgs, context: &RunContext) -> Result<()> {
    args.check()?;
    match args.preset {
        Preset::Quick | Preset::Claims => claims::command(args, context),
        Preset::Paper => paper::command(args, context),
        Preset::Real => real::command(args, context),
    }
}
