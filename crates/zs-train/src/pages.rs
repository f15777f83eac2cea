//! Treatment of free memory by the allocator.

/// Keeps freed pages, since training allocates the same buffers repeatedly and the kernel clears
/// every page that it hands out. Equivalent to `MIMALLOC_PURGE_DELAY=-1`.
///
/// For programs whose allocator is mimalloc. Call it once, before another thread starts.
pub fn keep_pages() {
    set_purge_delay(-1);
}

/// Returns freed pages to the system after a second, since a server is idle between requests of very
/// different sizes. For programs that called [`keep_pages`].
pub(crate) fn return_pages() {
    set_purge_delay(1000);
}

/// Sets the milliseconds after which freed pages are returned to the system; with -1, never.
fn set_purge_delay(milliseconds: std::ffi::c_long) {
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    #[expect(unsafe_code, reason = "options of the allocator are set through its C interface")]
    // SAFETY: the option is a number that the allocator reads when it next frees.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, milliseconds);
    }
}
