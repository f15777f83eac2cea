//! Names of devices: `cpu`, `cuda`, `cuda:1`, or the number of a GPU alone.

use std::fmt;
use std::str::FromStr;

/// A device by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// The CPU, all cores of it.
    Cpu,
    /// An NVIDIA GPU, by its number from 0 among those that are visible to the process.
    Cuda(usize),
}

/// Text that is no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a device; use cpu, cuda, cuda:1, or several, such as 0,1,2,3")]
pub struct DeviceNameError(String);

impl DeviceName {
    /// Default device.
    pub const DEFAULT: Self = if cfg!(feature = "cuda") { Self::Cuda(0) } else { Self::Cpu };
}

impl FromStr for DeviceName {
    type Err = DeviceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |it: &str| it.parse().map_err(|_| DeviceNameError(text.to_owned()));
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            None => number(text).map(Self::Cuda),
            Some(("cuda", index)) => number(index).map(Self::Cuda),
            Some(_) => Err(DeviceNameError(text.to_owned())),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<DeviceName>) {
        assert_eq!(text.parse().ok(), expected, "{text}");
    }

    #[test]
    fn names_are_read() {
        check("cpu", Some(DeviceName::Cpu));
        check("cuda", Some(DeviceName::Cuda(0)));
        check("cuda:3", Some(DeviceName::Cuda(3)));
        check("2", Some(DeviceName::Cuda(2)));
        for text in ["", "gpu", "cuda:", "cuda:x", "cpu:0", "-1", "cuda:-1"] {
            check(text, None);
        }
    }

    #[test]
    fn names_are_written_as_they_are_read() {
        for name in [DeviceName::Cpu, DeviceName::Cuda(0), DeviceName::Cuda(7)] {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
    }
}
