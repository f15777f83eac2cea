//! Treatment of free memory by the allocator.

/// Keeps freed pages, since training allocates the same buffers repeatedly and the kernel clears
/// every page that it hands out. Equivalent to `MIMALLOC_PURGE_DELAY=-1`.
///
/// For programs whose allocator is mimalloc. Call it once, before another thread starts.
pub fn keep_pages() {
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    #[expect(unsafe_code, reason = "options of the allocator are set through its C interface")]
    // SAFETY: the option is a number that the allocator reads when it next frees.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
    }
}
