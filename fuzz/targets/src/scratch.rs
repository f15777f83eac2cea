//! Folder, servers and models that targets keep between executions.

use std::cell::OnceCell;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use zs_model::LanguageModel;

use crate::replies::Engines;
use crate::serve::Served;

/// Folder in memory where there is one, since some targets write a file an execution.
const MEMORY: &str = "/dev/shm";

/// Place of files, and lazily started servers and models. One thread uses one of them.
#[derive(Default)]
pub struct Scratch {
    folder: OnceCell<TempDir>,
    pub(crate) model: OnceCell<LanguageModel>,
    pub(crate) engines: OnceCell<Engines>,
    pub(crate) served: OnceCell<Served>,
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

impl Scratch {
    /// Folder of its own, which is removed at the end.
    pub(crate) fn folder(&self) -> &Path {
        let create = || match Path::new(MEMORY).is_dir() {
            true => tempfile::tempdir_in(MEMORY),
            false => tempfile::tempdir(),
        };
        self.folder.get_or_init(|| create().expect("a temporary folder")).path()
    }

    /// File in the folder with these bytes, in place of one of the same name.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder().join(name);
        if let Some(parent) = path.parent().filter(|it| !it.is_dir()) {
            fs::create_dir_all(parent).expect("a folder in a temporary folder");
        }
        fs::write(&path, bytes).expect("a file in a temporary folder");
        path
    }
}
