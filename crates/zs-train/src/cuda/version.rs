//! Versions as CUDA counts them.

use std::fmt;

/// A version of CUDA: what a driver supports, or what a compiler compiles for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CudaVersion {
    pub(crate) major: i32,
    pub(crate) minor: i32,
}

impl CudaVersion {
    /// The oldest that is supported.
    pub(crate) const OLDEST: Self = Self { major: 12, minor: 0 };

    /// From `1000 major + 10 minor`, the number that drivers answer with.
    pub(crate) fn of_number(number: i32) -> Self {
        Self { major: number / 1000, minor: number % 1000 / 10 }
    }
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_drivers_are_read() {
        for (number, text) in [(12_000, "12.0"), (12_080, "12.8"), (13_010, "13.1")] {
            assert_eq!(CudaVersion::of_number(number).to_string(), text);
        }
        assert!(CudaVersion::of_number(11_080) < CudaVersion::OLDEST);
        assert!(CudaVersion::of_number(12_090) < CudaVersion::of_number(13_000));
    }
}
