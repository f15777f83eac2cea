//! The memory that a run may take: of the chosen GPU, or of the machine.

use std::fmt;

use sysinfo::System;

use super::control_group::memory_of_groups;
use super::gib;
use crate::context::Devices;
use crate::device_name::DeviceName;

/// Available memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Available {
    pub(crate) bytes: u64,
    pub(crate) kind: Kind,
}

/// Kind of memory, and the knowledge of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The machine's that is free.
    Machine,
    /// A GPU's that is free.
    Free(DeviceName),
    /// All that a GPU has, where it cannot be asked what is free.
    Total(DeviceName),
}

impl Available {
    /// Memory of a device: of the GPU where it is one that is there, else of the machine.
    pub(crate) fn on(name: DeviceName, devices: &Devices) -> Self {
        match devices.memory_of(name) {
            Some(memory) => Self::of_gpu(name, memory.total, memory.free),
            None => Self { bytes: memory_of_machine().1, kind: Kind::Machine },
        }
    }

    fn of_gpu(name: DeviceName, total: u64, free: Option<u64>) -> Self {
        match free {
            Some(bytes) => Self { bytes, kind: Kind::Free(name) },
            None => Self { bytes: total, kind: Kind::Total(name) },
        }
    }
}

/// A clause, e.g. `71.2 GiB is free on cuda:0`.
impl fmt::Display for Available {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = gib(self.bytes);
        match self.kind {
            Kind::Machine => write!(f, "{bytes} is free"),
            Kind::Free(name) => write!(f, "{bytes} is free on {name}"),
            Kind::Total(name) => {
                write!(f, "{name} has {bytes} (its free memory is unknown)")
            }
        }
    }
}

/// The memory that there is, and how much of it is free; no more than the control groups allow. The
/// page cache is free.
#[must_use]
pub fn memory_of_machine() -> (u64, u64) {
    let mut system = System::new();
    system.refresh_memory();
    let (total, free) = (system.total_memory(), system.available_memory());
    match memory_of_groups() {
        Some(group) => (total.min(group.limit), free.min(group.free)),
        None => (total, free),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(available: &Available, expected: &str) {
        assert_eq!(available.to_string(), expected);
    }

    /// The kernel's own number, which no more than processes that begin or end in between change.
    #[test]
    #[cfg(target_os = "linux")]
    fn free_memory_is_what_the_kernel_calls_available() {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let line = text.lines().find_map(|it| it.strip_prefix("MemAvailable:")).unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        let available = match memory_of_groups() {
            Some(group) => group.free.min(kib << 10),
            None => kib << 10,
        };
        let free = memory_of_machine().1;
        assert!(free.abs_diff(available) < available / 4, "{free} is not about {available}");
    }

    #[test]
    fn what_is_compared_with_is_said() {
        let gpu = DeviceName::Cuda(1);
        check(&Available::of_gpu(gpu, 80 << 30, Some(71 << 30)), "71.0 GiB is free on cuda:1");
        check(
            &Available::of_gpu(gpu, 80 << 30, None),
            "cuda:1 has 80.0 GiB (its free memory is unknown)",
        );
        check(&Available { bytes: 2 << 30, kind: Kind::Machine }, "2.0 GiB is free");
    }
}
