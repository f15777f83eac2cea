//! Failure to open a device.

use std::path::PathBuf;

use zs_trainer::DeviceName;

/// Failure to open a device.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The build has no backend for it.
    #[error(
        "--device {name}: this zs was built without it; build with `--features {feature}`, or name \
         another device"
    )]
    NotBuilt {
        /// Device that was asked for.
        name: DeviceName,
        /// The cargo feature that has it.
        feature: &'static str,
    },
    /// Something that CUDA needs is missing.
    #[error(
        "--device {name}: {problem}; {advice} (`zs doctor` shows details; `--device cpu` needs no GPU)"
    )]
    Unusable {
        /// Device that was asked for.
        name: DeviceName,
        /// Missing part.
        problem: String,
        /// Remedy.
        advice: String,
    },
    /// There are fewer GPUs.
    #[error("--device {name}: this machine has {count} GPUs, numbered from cuda:0")]
    NoSuchGpu {
        /// Device that was asked for.
        name: DeviceName,
        /// Number of GPUs.
        count: usize,
    },
    /// The device of the simulation LLM cannot be opened.
    #[error("the simulation LLM (--simulator-device): {0}")]
    Simulator(Box<DeviceError>),
    /// A device that computes something else than it should.
    #[error("--device {name}: {problem}")]
    Untrusted {
        /// Device.
        name: DeviceName,
        /// Wrong result, or failed thread.
        problem: String,
    },
    /// The folder of kernels cannot be used.
    #[error("--kernel-cache {path}: {message}")]
    KernelCache {
        /// The folder.
        path: PathBuf,
        /// Reason.
        message: String,
    },
}
