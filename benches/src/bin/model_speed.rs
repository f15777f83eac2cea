//! Speed and memory of a model, against the limits of the machine.

use std::process::ExitCode;

/// The allocator of `zs`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    zs_train::keep_pages();
    zs_benches::model_speed::main(std::env::args_os())
}
