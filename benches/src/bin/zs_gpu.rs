//! `zs` and the bench of models in one program, which is what `cargo xtask gpu-pack` packs: a build with
//! CUDA is large, and two of them are twice as large.
//!
//! `zs bench-model …` is the bench; everything else is `zs`.

use std::process::ExitCode;

/// The allocator of `zs`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    zs_train::keep_pages();
    let arguments = std::env::args_os();
    match std::env::args_os().nth(1).is_some_and(|it| it == "bench-model") {
        true => zs_benches::model_speed::main(arguments.skip(1)),
        false => zs_train::Zs::new().run(),
    }
}
