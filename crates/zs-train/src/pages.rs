//! Treatment of free memory by the allocator.

/// Keeps freed pages: training asks for the same buffers again and again, and the kernel clears
/// every page that it hands out. The same as `MIMALLOC_PURGE_DELAY=-1`.
///
/// For programs whose allocator is mimalloc; to be called once, before there is another thread.
pub fn keep_pages() {
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    #[expect(unsafe_code, reason = "options of the allocator are set through its C interface")]
    // SAFETY: the option is a number that the allocator reads when it next frees.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
    }
}
