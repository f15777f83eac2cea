//! The one place that names a backend: which device a command computes on.

use burn::tensor::Device;

/// The device chosen by the crate's features.
#[cfg(feature = "flex")]
#[must_use]
pub fn select() -> Device {
    Device::flex()
}

#[cfg(not(feature = "flex"))]
compile_error!("zs-train needs a backend: enable the feature `flex`");

/// Threads that work side by side on a CPU; one on an accelerator, which gets one piece at a time.
#[must_use]
pub(crate) fn host_threads() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}
