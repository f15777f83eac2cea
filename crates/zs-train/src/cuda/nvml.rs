//! Free memory of a GPU, from the driver's management library, which, unlike CUDA, takes no memory
//! on the GPU to say so.

use nvml_wrapper::Nvml;

use super::library::Gpu;

/// Memory of a GPU that no process has taken; `None` where the library is missing or does not know
/// the GPU as CUDA does (a part of one under MIG).
pub(crate) fn free_memory(gpu: &Gpu) -> Option<u64> {
    let nvml = Nvml::init().ok()?;
    let memory = nvml.device_by_pci_bus_id(gpu.bus.as_str()).ok()?.memory_info().ok()?;
    let is_the_same = memory.total.abs_diff(gpu.bytes) <= gpu.bytes / 8;
    is_the_same.then_some(memory.free.min(gpu.bytes))
}
