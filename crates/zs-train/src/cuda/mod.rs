//! Requirements of a build with CUDA: checks of the machine, with a remedy for each failure.
//!
//! The driver, the compiler library NVRTC and NCCL are opened when a GPU is first used, so that one
//! binary runs with and without them. Here they are looked for beforehand, as burn's backend will look
//! for them, since it ends the process where it finds nothing.

mod cache;
mod headers;
mod library;
mod nvml;
mod places;
mod survey;
mod version;

pub(crate) use cache::default_kernel_cache;
pub(crate) use nvml::free_memory;
pub(crate) use survey::Survey;

/// Looks for everything that a GPU needs and sets up the cache of kernels, once per process.
///
/// # Errors
///
/// Fails with the first thing that is missing.
#[cfg(feature = "cuda")]
pub(crate) fn make_ready(
    index: usize,
    kernel_cache: &std::path::Path,
) -> Result<(), crate::device_error::DeviceError> {
    use zs_trainer::DeviceName;

    use crate::device_error::DeviceError;

    let name = DeviceName::Cuda(index);
    let survey = Survey::once();
    if let Some(missing) = survey.findings.iter().find(|it| it.is_needed && !it.is_good) {
        let (problem, advice) =
            (format!("{} {}", missing.what, missing.found), missing.advice.clone());
        return Err(DeviceError::Unusable { name, problem, advice });
    }
    if index >= survey.gpus.len() {
        return Err(DeviceError::NoSuchGpu { name, count: survey.gpus.len() });
    }
    cache::install(kernel_cache)
}
