//! Shared libraries: by which names they are looked for, and what they say about themselves.

use std::ffi::{CStr, c_char, c_int};

use libloading::{Library, Symbol};

use super::version::CudaVersion;

/// The names that burn's backend (cudarc) tries for a library on Linux, in its order.
pub(crate) fn names(library: &str) -> Vec<String> {
    let versions = ["", ".13", ".12", ".11", ".10", ".9", ".1"];
    versions.iter().map(|version| format!("lib{library}.so{version}")).collect()
}

/// The first of some names under which a library can be opened, and the library.
pub(crate) fn open(names: &[String]) -> Option<(String, Library)> {
    names.iter().find_map(|name| {
        #[expect(unsafe_code, reason = "libraries of the driver are opened by their C names")]
        // SAFETY: these are libraries of NVIDIA, whose initialisers ask nothing of who opens them.
        let library = unsafe { Library::new(name) };
        Some((name.clone(), library.ok()?))
    })
}

/// Answers of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Driver {
    pub(crate) version: CudaVersion,
    pub(crate) gpus: Vec<Gpu>,
}

/// A GPU that the driver knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gpu {
    pub(crate) name: String,
    /// Memory.
    pub(crate) bytes: u64,
    /// PCI bus address, e.g. `0000:01:00.0`; empty where the driver does not say.
    pub(crate) bus: String,
}

/// Starts the driver and asks it for its version and its GPUs.
///
/// # Errors
///
/// Fails with what the driver answers, e.g. that it is older than the kernel's part of it.
pub(crate) fn driver(library: &Library) -> Result<Driver, String> {
    type Init = unsafe extern "C" fn(c_int) -> c_int;
    type GetNumber = unsafe extern "C" fn(*mut c_int) -> c_int;
    type GetName = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
    type GetMemory = unsafe extern "C" fn(*mut usize, c_int) -> c_int;
    type GetBus = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
    let (mut version, mut count) = (0, 0);
    #[expect(unsafe_code, reason = "the driver has a C interface")]
    // SAFETY: signatures are those of cuda.h; pointers are to numbers and buffers that outlive the
    // calls, and a name is cut to its buffer and ends with a zero byte.
    unsafe {
        let (init, get_version, get_count, get_name, get_memory, get_bus) = (
            function::<Init>(library, c"cuInit")?,
            function::<GetNumber>(library, c"cuDriverGetVersion")?,
            function::<GetNumber>(library, c"cuDeviceGetCount")?,
            function::<GetName>(library, c"cuDeviceGetName")?,
            function::<GetMemory>(library, c"cuDeviceTotalMem_v2")?,
            function::<GetBus>(library, c"cuDeviceGetPCIBusId")?,
        );
        answered("cuInit", init(0))?;
        answered("cuDriverGetVersion", get_version(&raw mut version))?;
        answered("cuDeviceGetCount", get_count(&raw mut count))?;
        // A device is known by its number.
        let gpu = |index: c_int| {
            let (mut name, mut bytes) = ([0 as c_char; 128], 0);
            answered("cuDeviceGetName", get_name(name.as_mut_ptr(), 127, index))?;
            answered("cuDeviceTotalMem", get_memory(&raw mut bytes, index))?;
            let mut bus = [0 as c_char; 64];
            if get_bus(bus.as_mut_ptr(), 63, index) != 0 {
                bus[0] = 0;
            }
            let text = |it: &[c_char]| CStr::from_ptr(it.as_ptr()).to_string_lossy().into_owned();
            Ok(Gpu { name: text(&name), bytes: bytes as u64, bus: text(&bus) })
        };
        let gpus = (0..count).map(gpu).collect::<Result<_, String>>()?;
        Ok(Driver { version: CudaVersion::of_number(version), gpus })
    }
}

/// The version of the compiler library.
///
/// # Errors
///
/// Fails where it does not answer.
pub(crate) fn nvrtc_version(library: &Library) -> Result<CudaVersion, String> {
    type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
    let mut version = CudaVersion { major: 0, minor: 0 };
    #[expect(unsafe_code, reason = "NVRTC has a C interface")]
    // SAFETY: the signature is that of nvrtc.h, and both numbers outlive the call.
    unsafe {
        let get = function::<Version>(library, c"nvrtcVersion")?;
        answered("nvrtcVersion", get(&raw mut version.major, &raw mut version.minor))?;
    }
    Ok(version)
}

/// A function of a library.
#[expect(
    unsafe_code,
    reason = "a symbol has the type that its header says, which the caller knows"
)]
// SAFETY: the caller names the type that the library's header gives the function.
pub(super) unsafe fn function<'a, F>(
    library: &'a Library,
    name: &CStr,
) -> Result<Symbol<'a, F>, String> {
    // SAFETY: as above.
    unsafe { library.get(name) }.map_err(|_| format!("has no {}", name.to_string_lossy()))
}

fn answered(call: &str, code: c_int) -> Result<(), String> {
    match code {
        0 => Ok(()),
        // CUDA_ERROR_NO_DEVICE
        100 => Err("finds no GPU".to_owned()),
        // CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
        803 => Err("is of another version than the kernel's part of the driver".to_owned()),
        _ => Err(format!("answers {call} with error {code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_backend() {
        assert_eq!(names("nvrtc")[..3], ["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"]);
        // What NCCL's packages install is not among them.
        assert!(!names("nccl").contains(&"libnccl.so.2".to_owned()));
        assert!(names("cuda").contains(&"libcuda.so.1".to_owned()));
    }

    #[test]
    fn a_library_that_is_no_driver_says_so() {
        assert!(open(&names("there-is-no-such-library")).is_none());
        // The C library is always there, and has none of these functions.
        let (_, library) = open(&["libc.so.6".to_owned()]).unwrap();
        assert!(driver(&library).unwrap_err().contains("cuInit"));
        assert!(nvrtc_version(&library).unwrap_err().contains("nvrtcVersion"));
        assert_eq!(answered("cuInit", 0), Ok(()));
        assert_eq!(answered("cuInit", 100), Err("finds no GPU".to_owned()));
        assert_eq!(answered("cuInit", 999), Err("answers cuInit with error 999".to_owned()));
    }
}
