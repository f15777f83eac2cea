//! The `zs` command; everything happens in the library, so that tests can call it.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    zs_train::keep_pages();
    zs_train::Zs::new().run()
}
