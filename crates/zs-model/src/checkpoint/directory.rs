//! Atomic replacement of directories.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::SaveError;

/// Replaces `dir` atomically: `fill` writes into a fresh sibling directory, which is then renamed
/// to `dir`.
///
/// # Errors
///
/// Fails when `fill` fails or a directory cannot be created or moved; `dir` is then unchanged.
pub(crate) fn replace_directory(
    dir: &Path,
    fill: impl FnOnce(&Path) -> Result<(), SaveError>,
) -> Result<(), SaveError> {
    let partial = with_suffix(dir, ".partial");
    let previous = with_suffix(dir, ".previous");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SaveError::Write { path, source }
    };
    clear(&partial).map_err(failed(&partial))?;
    std::fs::create_dir_all(&partial).map_err(failed(&partial))?;
    fill(&partial)?;
    sync(&partial).map_err(failed(&partial))?;
    clear(&previous).map_err(failed(&previous))?;
    if dir.exists() {
        std::fs::rename(dir, &previous).map_err(failed(dir))?;
    }
    std::fs::rename(&partial, dir).map_err(failed(dir))?;
    sync_parent(dir).map_err(failed(dir))?;
    clear(&previous).map_err(failed(&previous))
}

fn with_suffix(dir: &Path, suffix: &str) -> PathBuf {
    // Built from path components, so that a trailing slash does not put the sibling inside `dir`.
    let mut name = dir.file_name().unwrap_or(OsStr::new("model")).to_owned();
    name.push(suffix);
    dir.with_file_name(name)
}

fn clear(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Flushes every file of a directory, and the list of them, to disk, so that a power failure after
/// the rename loses nothing.
fn sync(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        std::fs::File::open(entry?.path())?.sync_all()?;
    }
    std::fs::File::open(dir)?.sync_all()
}

/// Flushes the rename itself.
fn sync_parent(dir: &Path) -> std::io::Result<()> {
    let parent = dir.parent().filter(|it| !it.as_os_str().is_empty());
    std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
