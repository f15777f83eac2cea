//! Devices that a command computes on: the one place that names a backend.

use std::path::PathBuf;

use burn::tensor::Device;
use clap::Args;

use zs_trainer::{DeviceName, Devices, GpuMemory};

pub use crate::device_error::DeviceError;

#[cfg(not(any(feature = "flex", feature = "cuda")))]
compile_error!("zs-train needs a backend: enable the feature `flex` or `cuda`");

/// Device options of every command.
#[derive(Clone, Debug, Default, Args)]
pub struct DeviceArgs {
    /// Device to compute on: `cpu`, `cuda` or `cuda:1`. Several, e.g. `0,1,2,3` (GPUs) or `cpu,cpu`,
    /// share sampling and training (data parallel), and the first keeps weights and optimiser state. The
    /// default is the GPU `cuda:0` if zs is built with CUDA, else the CPU.
    #[arg(
        long,
        visible_alias = "devices",
        global = true,
        env = "ZS_DEVICE",
        value_delimiter = ',',
        value_name = "DEVICE"
    )]
    pub device: Vec<DeviceName>,
    /// Device of the simulation LLM of a search engine, e.g. `cuda:1`; by default the first device of
    /// the policy.
    #[arg(long, global = true, env = "ZS_SIMULATOR_DEVICE", value_name = "DEVICE")]
    pub simulator_device: Option<DeviceName>,
    /// Cache directory of compiled and tuned GPU kernels; `zs/kernels` in the user's cache directory by
    /// default.
    #[arg(long, global = true, env = "ZS_KERNEL_CACHE", value_name = "DIR")]
    pub kernel_cache: Option<PathBuf>,
}

impl DeviceArgs {
    /// Opens the chosen devices.
    ///
    /// # Errors
    ///
    /// Fails, and says what to do, where this build has no backend for one or the machine lacks
    /// something.
    pub fn open(&self) -> Result<Devices, DeviceError> {
        let named = |name: DeviceName| Ok((name, self.open_one(name)?));
        let policy = self.names().into_iter().map(named).collect::<Result<_, DeviceError>>()?;
        let devices = Devices::new(policy).with_gpu_memory(gpu_memory);
        match self.simulator_device {
            Some(name) => {
                let opened = self.open_one(name);
                let device = opened.map_err(|it| DeviceError::Simulator(Box::new(it)))?;
                Ok(devices.with_simulator(name, device))
            }
            None => Ok(devices),
        }
    }

    /// Names of the chosen devices, at least one.
    #[must_use]
    pub fn names(&self) -> Vec<DeviceName> {
        match self.device.is_empty() {
            true => vec![DeviceName::DEFAULT],
            false => self.device.clone(),
        }
    }

    /// Folder of compiled and tuned kernels.
    pub(crate) fn kernel_cache(&self) -> PathBuf {
        self.kernel_cache.clone().unwrap_or_else(crate::cuda::default_kernel_cache)
    }

    fn open_one(&self, name: DeviceName) -> Result<Device, DeviceError> {
        match name {
            DeviceName::Cpu => cpu(),
            DeviceName::Cuda(index) => cuda(index, self),
        }
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
fn cuda(index: usize, arguments: &DeviceArgs) -> Result<Device, DeviceError> {
    crate::cuda::make_ready(index, &arguments.kernel_cache())?;
    Ok(Device::cuda(index))
}

#[cfg(not(feature = "cuda"))]
fn cuda(index: usize, _: &DeviceArgs) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt { name: DeviceName::Cuda(index), feature: "cuda" })
}

/// Memory of a GPU that is there.
fn gpu_memory(index: usize) -> Option<GpuMemory> {
    let gpu = crate::cuda::Survey::once().gpus.get(index)?;
    Some(GpuMemory { total: gpu.bytes, free: crate::cuda::free_memory(gpu) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(feature = "flex", not(feature = "cuda")))]
    fn a_build_names_the_feature_that_it_lacks() {
        let open = |device: Vec<DeviceName>| DeviceArgs { device, ..DeviceArgs::default() }.open();
        assert_eq!(open(vec![DeviceName::Cpu]).unwrap().first(), &Device::flex());
        let error = open(vec![DeviceName::Cuda(1)]).unwrap_err().to_string();
        assert!(error.starts_with("--device cuda:1: this zs was built without it"), "{error}");
        assert!(error.contains("--features cuda"), "{error}");
    }

    #[test]
    fn something_is_chosen_by_default() {
        let arguments = DeviceArgs::default();
        assert_eq!(arguments.names(), [DeviceName::DEFAULT]);
        let cache = arguments.kernel_cache();
        assert!(cache.ends_with("zs/kernels") || std::env::var("ZS_KERNEL_CACHE").is_ok());
    }
}
