//! The headers of CUDA, which NVRTC reads when it compiles a kernel.

use std::path::Path;

/// Headers that kernels of burn include, or that those include, and the package on PyPI that has each
/// for CUDA 13.
const HEADERS: [(&str, &str); 7] = [
    ("cuda_fp16.h", "nvidia-cuda-runtime"),
    ("cuda_bf16.h", "nvidia-cuda-runtime"),
    ("cuda_fp8.h", "nvidia-cuda-runtime"),
    ("mma.h", "nvidia-cuda-runtime"),
    ("cooperative_groups.h", "nvidia-cuda-runtime"),
    ("crt/mma.h", "nvidia-cuda-crt"),
    ("cuda/barrier", "nvidia-cuda-cccl"),
];

/// The headers that a CUDA folder lacks, each with the package that has it.
pub(crate) fn missing(cuda: &Path) -> Vec<(&'static str, &'static str)> {
    let include = cuda.join("include");
    let is_there = |header: &str| {
        include.join(header).is_file() || include.join("cccl").join(header).is_file()
    };
    HEADERS.into_iter().filter(|(header, _)| !is_there(header)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn headers_are_looked_for_in_both_folders() {
        let folder = tempfile::tempdir().unwrap();
        let include = folder.path().join("include");
        assert_eq!(missing(folder.path()).len(), HEADERS.len());
        fs::create_dir_all(include.join("crt")).unwrap();
        fs::create_dir_all(include.join("cccl/cuda")).unwrap();
        for (header, _) in HEADERS.iter().filter(|(it, _)| *it != "cuda/barrier") {
            fs::write(include.join(header), "").unwrap();
        }
        assert_eq!(missing(folder.path()), [("cuda/barrier", "nvidia-cuda-cccl")]);
        fs::write(include.join("cccl/cuda/barrier"), "").unwrap();
        assert_eq!(missing(folder.path()), []);
    }
}
