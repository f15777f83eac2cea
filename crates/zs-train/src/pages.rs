//! Treatment of free memory by the allocator.

/// Keeps freed pages, since training allocates the same buffers repeatedly and the kernel clears
/// every page that it hands out. Equivalent to `MIMALLOC_PURGE_DELAY=-1` and
/// `MIMALLOC_ARENA_RESERVE=4194304`: address space is reserved by 4 GiB, so that buffers of any size
/// come from pages that are kept.
///
/// For programs whose allocator is mimalloc. Call it once, before another thread starts.
pub fn keep_pages() {
    const ARENA_RESERVE: libmimalloc_sys::mi_option_t = 23;
    const RESERVE_KIB: std::ffi::c_long = 4 << 20;
    set(ARENA_RESERVE, RESERVE_KIB);
    set(PURGE_DELAY, -1);
}

/// Returns freed pages to the system after a second, since a server is idle between requests of very
/// different sizes. For programs that called [`keep_pages`].
pub(crate) fn return_pages() {
    set(PURGE_DELAY, 1000);
}

/// Milliseconds after which freed pages are returned to the system; with -1, never.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Sets an option of the allocator.
fn set(option: libmimalloc_sys::mi_option_t, value: std::ffi::c_long) {
    #[expect(unsafe_code, reason = "options of the allocator are set through its C interface")]
    // SAFETY: the options are numbers that the allocator reads when it next frees or reserves.
    unsafe {
        libmimalloc_sys::mi_option_set(option, value);
    }
}
