//! Files and folders of indexes that are being built.

use std::fs;
use std::path::{Path, PathBuf};

use super::Bm25Error;

pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Bm25Error + use<> {
    let path = path.to_owned();
    move |source| Bm25Error::Io { path, source }
}

/// A name beside `path` for what is not finished.
pub(super) fn partial_dir(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

pub(super) fn refuse_taken(dir: &Path) -> Result<(), Bm25Error> {
    if dir.exists() && fs::read_dir(dir).map_err(io(dir))?.next().is_some() {
        return Err(Bm25Error::NotEmpty { path: dir.to_owned() });
    }
    Ok(())
}

/// An empty folder at `dir`, whatever was there.
pub(super) fn clear(dir: &Path) -> Result<(), Bm25Error> {
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(io(dir))?;
    }
    fs::create_dir_all(dir).map_err(io(dir))
}

pub(super) fn move_into_place(from: &Path, to: &Path) -> Result<(), Bm25Error> {
    if to.exists() {
        fs::remove_dir(to).map_err(io(to))?;
    }
    fs::rename(from, to).map_err(io(to))
}
