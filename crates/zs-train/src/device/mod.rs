//! The one place that names a backend: which devices a command computes on.
//!
//! What `--device` says holds for the whole process: kernels are cached in one folder, and burn's
//! settings are made once, before there is a tensor.

mod name;

use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use burn::tensor::Device;
use clap::Args;

pub use name::{DeviceName, DeviceNameError};

#[cfg(not(any(feature = "flex", feature = "cuda")))]
compile_error!("zs-train needs a backend: enable the feature `flex` or `cuda`");

/// Options of every command: what it computes on.
#[derive(Clone, Debug, Default, Args)]
pub struct DeviceArgs {
    /// Compute on this: `cpu`, `cuda` or `cuda:1`. Several, e.g. `0,1,2,3` (GPUs) or `cpu,cpu`, share
    /// sampling and training, and the first keeps weights and optimiser. By default the GPU `cuda:0`
    /// where zs is built with CUDA, else the CPU.
    #[arg(
        long,
        visible_alias = "devices",
        global = true,
        env = "ZS_DEVICE",
        value_delimiter = ',',
        value_name = "DEVICE"
    )]
    pub device: Vec<DeviceName>,
    /// Run the simulation LLM of a search engine on this, e.g. `cuda:1`, beside the devices of the
    /// policy. By default it is on the first of those.
    #[arg(long, global = true, env = "ZS_SIMULATOR_DEVICE", value_name = "DEVICE")]
    pub simulator_device: Option<DeviceName>,
    /// The folder of compiled and tuned GPU kernels; `zs/kernels` in the user's cache by default.
    #[arg(long, global = true, env = "ZS_KERNEL_CACHE", value_name = "DIR")]
    pub kernel_cache: Option<PathBuf>,
}

/// Why a device cannot be computed on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The build has no backend for it.
    #[error(
        "--device {name}: this zs is built without it; build with `--features {feature}`, or name \
         another device"
    )]
    NotBuilt {
        /// What was asked for.
        name: DeviceName,
        /// The cargo feature that has it.
        feature: &'static str,
    },
    /// Something that CUDA needs is missing.
    #[error(
        "--device {name}: {problem}; {advice} (`zs doctor` says more; `--device cpu` goes without)"
    )]
    Unusable {
        /// What was asked for.
        name: DeviceName,
        /// What is missing.
        problem: String,
        /// What to do about it.
        advice: String,
    },
    /// There are fewer GPUs.
    #[error("--device {name}: this machine has {count} GPUs, from cuda:0 on")]
    NoSuchGpu {
        /// What was asked for.
        name: DeviceName,
        /// How many there are.
        count: usize,
    },
    /// The folder of kernels cannot be used.
    #[error("--kernel-cache {path}: {message}", path = path.display())]
    KernelCache {
        /// The folder.
        path: PathBuf,
        /// Why not.
        message: String,
    },
}

/// What was chosen for this process; empty before.
static CHOSEN: RwLock<DeviceArgs> =
    RwLock::new(DeviceArgs { device: Vec::new(), simulator_device: None, kernel_cache: None });

/// Chooses devices for the rest of the process. Whether they are there is seen when they are needed.
pub fn choose(args: &DeviceArgs) {
    *CHOSEN.write().unwrap_or_else(PoisonError::into_inner) = args.clone();
}

/// The device that a command computes on; the first, where several were named.
///
/// # Errors
///
/// Fails, and says what to do, where this build has no backend for it or the machine lacks something.
pub fn select() -> Result<Device, DeviceError> {
    open(first_name())
}

/// All devices that were named.
///
/// # Errors
///
/// As [`select`].
pub fn select_all() -> Result<Vec<Device>, DeviceError> {
    names().into_iter().map(open).collect()
}

/// The name of the device that a command computes on.
#[must_use]
pub fn first_name() -> DeviceName {
    names().into_iter().next().unwrap_or(DeviceName::DEFAULT)
}

/// The device of a simulation LLM: one of its own where that was chosen, else `shared`.
///
/// # Errors
///
/// As [`select`].
pub fn select_simulator(shared: &Device) -> Result<Device, DeviceError> {
    own_simulator_name().map_or_else(|| Ok(shared.clone()), open)
}

/// The name of the device of the simulation LLM where that is not the first of the others.
pub(crate) fn own_simulator_name() -> Option<DeviceName> {
    let chosen = CHOSEN.read().unwrap_or_else(PoisonError::into_inner).simulator_device;
    chosen.filter(|it| *it != first_name())
}

/// The names of the chosen devices, at least one.
pub(crate) fn names() -> Vec<DeviceName> {
    let chosen = CHOSEN.read().unwrap_or_else(PoisonError::into_inner);
    match chosen.device.is_empty() {
        true => vec![DeviceName::DEFAULT],
        false => chosen.device.clone(),
    }
}

/// The folder of compiled and tuned kernels.
pub(crate) fn kernel_cache() -> PathBuf {
    let chosen = CHOSEN.read().unwrap_or_else(PoisonError::into_inner);
    chosen.kernel_cache.clone().unwrap_or_else(crate::cuda::default_kernel_cache)
}

fn open(name: DeviceName) -> Result<Device, DeviceError> {
    match name {
        DeviceName::Cpu => cpu(),
        DeviceName::Cuda(index) => cuda(index),
    }
}

#[cfg(feature = "flex")]
fn cpu() -> Result<Device, DeviceError> {
    Ok(Device::flex())
}

#[cfg(not(feature = "flex"))]
fn cpu() -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt { name: DeviceName::Cpu, feature: "flex" })
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device, DeviceError> {
    crate::cuda::make_ready(index)?;
    Ok(Device::cuda(index))
}

#[cfg(not(feature = "cuda"))]
fn cuda(index: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt { name: DeviceName::Cuda(index), feature: "cuda" })
}

/// Pieces of work that the first chosen device computes side by side: one a thread of a CPU; an
/// accelerator gets one at a time.
#[must_use]
pub fn workers() -> usize {
    if on_cpu() { host_threads() } else { 1 }
}

/// Memory of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GpuMemory {
    pub(crate) total: u64,
    /// What no process has taken, where that can be asked.
    pub(crate) free: Option<u64>,
}

/// Memory of a device where that is a GPU that is there.
pub(crate) fn memory_of(name: DeviceName) -> Option<GpuMemory> {
    let DeviceName::Cuda(index) = name else { return None };
    let gpu = crate::cuda::Survey::once().gpus.get(index)?;
    Some(GpuMemory { total: gpu.bytes, free: crate::cuda::free_memory(gpu) })
}

/// Whether the first chosen device is the CPU.
#[must_use]
pub fn on_cpu() -> bool {
    first_name() == DeviceName::Cpu
}

/// Threads of the CPU.
#[must_use]
pub(crate) fn host_threads() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(feature = "flex", not(feature = "cuda")))]
    fn a_build_says_what_it_lacks() {
        assert_eq!(open(DeviceName::Cpu), Ok(Device::flex()));
        let error = open(DeviceName::Cuda(1)).unwrap_err().to_string();
        assert!(error.starts_with("--device cuda:1: this zs is built without it"), "{error}");
        assert!(error.contains("--features cuda"), "{error}");
    }

    #[test]
    fn something_is_chosen_by_default() {
        assert_eq!(names(), [DeviceName::DEFAULT]);
        assert_eq!(own_simulator_name(), None);
        assert!(kernel_cache().ends_with("zs/kernels") || std::env::var("ZS_KERNEL_CACHE").is_ok());
    }
}
