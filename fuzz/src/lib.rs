//! Shared parts of the harnesses: folders, servers and models that live as long as the process.

use zs_fuzz::{Scratch, TARGETS};

thread_local! {
    static SCRATCH: Scratch = Scratch::default();
}

/// Runs the target of a name.
///
/// # Panics
///
/// Panics where the target does, and where there is none of this name.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|it| it.name == name).expect("a target of this name");
    SCRATCH.with(|scratch| (target.run)(scratch, bytes));
}
