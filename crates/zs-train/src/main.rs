//! The `zs` command; everything happens in the library, so that tests can call it.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_pages();
    zs_train::cli::main()
}

/// Keeps freed pages: training asks for the same buffers again and again, and the kernel clears
/// every page that it hands out. The same as `MIMALLOC_PURGE_DELAY=-1`.
fn keep_pages() {
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    #[expect(unsafe_code, reason = "options of the allocator are set through its C interface")]
    // SAFETY: called once, before there is another thread.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
    }
}
