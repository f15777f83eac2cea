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
