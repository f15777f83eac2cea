//! Folders in which CUDA may lie: the one that burn's backend takes its headers from, and packages
//! of Python that bring the same files.

use std::path::{Path, PathBuf};

/// Folders that are looked into.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// The environment variable `CUDA_PATH`.
    pub(crate) cuda_path: Option<PathBuf>,
    /// Folders that are tried without it, in order.
    pub(crate) usual: Vec<PathBuf>,
    /// Folders of Python environments, which hold `lib/pythonX.Y/site-packages`.
    pub(crate) pythons: Vec<PathBuf>,
}

impl Places {
    /// Places of this machine.
    pub(crate) fn of_machine() -> Self {
        let variable = |name| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
        let mut usual: Vec<PathBuf> = vec!["/usr/local/cuda".into(), "/opt/cuda".into()];
        // A compiler in the system's folder means that the headers are there too.
        usual.extend(Path::new("/usr/bin/nvcc").exists().then(|| "/usr".into()));
        let home = std::env::home_dir().map(|it| it.join(".local"));
        let pythons = [variable("VIRTUAL_ENV"), variable("CONDA_PREFIX"), home];
        let system = ["/usr/local", "/usr", "/opt/conda"].map(PathBuf::from);
        let pythons = pythons.into_iter().flatten().chain(system).collect();
        Self { cuda_path: variable("CUDA_PATH"), usual, pythons }
    }

    /// The folder whose `include` burn's backend reads.
    pub(crate) fn cuda(&self) -> Option<PathBuf> {
        self.cuda_path.clone().or_else(|| self.usual.iter().find(|it| it.exists()).cloned())
    }

    /// Folders of NVIDIA's packages for Python, e.g. `…/site-packages/nvidia/cu13`, sorted.
    pub(crate) fn packages(&self) -> Vec<PathBuf> {
        let of_python = |python: &PathBuf| -> Vec<PathBuf> {
            let versions = folders(&python.join("lib")).into_iter().filter(|it| {
                it.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python"))
            });
            let sites =
                versions.flat_map(|it| [it.join("site-packages"), it.join("dist-packages")]);
            sites.flat_map(|it| folders(&it.join("nvidia"))).collect()
        };
        self.pythons.iter().flat_map(of_python).collect()
    }

    /// The folder of a package that holds a library `libNAME.so…`.
    pub(crate) fn package_with_library(&self, name: &str) -> Option<PathBuf> {
        let start = format!("lib{name}.so");
        let has = |lib: &PathBuf| files(lib).iter().any(|file| file.starts_with(&start));
        self.packages().into_iter().map(|it| it.join("lib")).find(has)
    }
}

/// The folders in a folder, sorted; none where it cannot be read.
fn folders(of: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        entries(of).map(|it| it.path()).filter(|it| it.is_dir()).collect();
    found.sort();
    found
}

/// The names in a folder; none where it cannot be read.
fn files(of: &Path) -> Vec<String> {
    entries(of).map(|it| it.file_name().to_string_lossy().into_owned()).collect()
}

fn entries(of: &Path) -> impl Iterator<Item = std::fs::DirEntry> {
    std::fs::read_dir(of).into_iter().flatten().flatten()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_variable_comes_first_even_where_it_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places {
            usual: vec![folder.path().join("absent"), folder.path().to_owned()],
            ..Places::default()
        };
        assert_eq!(places.cuda(), Some(folder.path().to_owned()));
        let set = Places { cuda_path: Some("/no/such".into()), ..places };
        assert_eq!(set.cuda(), Some("/no/such".into()));
        assert_eq!(Places::default().cuda(), None);
    }

    #[test]
    fn packages_of_python_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let nvidia = folder.path().join("lib/python3.12/site-packages/nvidia");
        let lib = nvidia.join("cu13/lib");
        fs::create_dir_all(&lib).unwrap();
        fs::create_dir_all(nvidia.join("nccl/lib")).unwrap();
        fs::write(lib.join("libnvrtc.so.13"), "").unwrap();
        let places = Places { pythons: vec![folder.path().to_owned()], ..Places::default() };
        assert_eq!(places.packages(), [nvidia.join("cu13"), nvidia.join("nccl")]);
        assert_eq!(places.package_with_library("nvrtc"), Some(lib));
        assert_eq!(places.package_with_library("nccl"), None);
    }
}
