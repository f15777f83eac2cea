//! Free memory of a GPU, from the driver's management library, which, unlike CUDA, takes no memory
//! on the GPU to say so.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::null_mut;

use libloading::Library;

use super::library::{self, Gpu, function};

/// Memory of a GPU that no process has taken; `None` where the library is missing or does not know
/// the GPU as CUDA does (a part of one under MIG).
pub(crate) fn free_memory(gpu: &Gpu) -> Option<u64> {
    let (_, library) = library::open(&["libnvidia-ml.so.1".to_owned()])?;
    let memory = memory(&library, &gpu.bus)?;
    let is_the_same = memory.total.abs_diff(gpu.bytes) <= gpu.bytes / 8;
    is_the_same.then_some(memory.free.min(gpu.bytes))
}

/// `nvmlMemory_t`, in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

fn memory(library: &Library, bus: &str) -> Option<Memory> {
    type Init = unsafe extern "C" fn() -> c_int;
    type GetDevice = unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int;
    type GetMemory = unsafe extern "C" fn(*mut c_void, *mut Memory) -> c_int;
    let bus = CString::new(bus).ok()?;
    #[expect(unsafe_code, reason = "the library has a C interface")]
    // SAFETY: signatures are those of nvml.h; pointers are to values that outlive the calls, and a
    // handle is used only between a successful init and the shutdown.
    unsafe {
        let (init, get_device, get_memory, shutdown) = (
            function::<Init>(library, c"nvmlInit_v2").ok()?,
            function::<GetDevice>(library, c"nvmlDeviceGetHandleByPciBusId_v2").ok()?,
            function::<GetMemory>(library, c"nvmlDeviceGetMemoryInfo").ok()?,
            function::<Init>(library, c"nvmlShutdown").ok()?,
        );
        if init() != 0 {
            return None;
        }
        let (mut device, mut memory) = (null_mut(), Memory::default());
        let is_known = get_device(bus.as_ptr(), &raw mut device) == 0
            && get_memory(device, &raw mut memory) == 0;
        shutdown();
        is_known.then_some(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_library_knows_no_memory() {
        let (_, library) = library::open(&["libc.so.6".to_owned()]).unwrap();
        assert!(memory(&library, "00000000:01:00.0").is_none());
        assert!(memory(&library, "a\0b").is_none());
    }
}
