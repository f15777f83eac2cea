//! State of a corpus file, by which a build knows that it resumes with the same one.

use std::io;
use std::path::{Path, PathBuf};
use std::{fs, path};

/// State of a corpus file.
pub(crate) struct CorpusFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) modified_ns: u128,
}

impl CorpusFile {
    /// Reads the state of a file; an error comes with the path that it is about.
    pub(crate) fn of(path: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let path = absolute(path).map_err(|it| (path.to_owned(), it))?;
        let state = fs::metadata(&path).and_then(|it| Ok((it.len(), it.modified()?)));
        let (bytes, modified) = state.map_err(|it| (path.clone(), it))?;
        let age = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(Self { path, bytes, modified_ns: age.as_nanos() })
    }
}

/// Absolute form of a path, which need not have a place in the file system: a pipe has none.
pub(crate) fn absolute(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path).or_else(|_| path::absolute(path))
}
