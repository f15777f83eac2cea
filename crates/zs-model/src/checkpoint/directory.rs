//! Whole directories, written so that an interruption never leaves half of one.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::SaveError;

/// Writes a directory through `fill`, which gets a fresh sibling that then takes the place of `dir`.
///
/// # Errors
///
/// As `fill`, and when a directory cannot be made or moved; `dir` is then as it was.
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
    clear(&previous).map_err(failed(&previous))
}

fn with_suffix(dir: &Path, suffix: &str) -> PathBuf {
    // Through the components, so that a trailing slash does not put the sibling inside.
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

/// Makes the files of a directory survive a power cut before the directory gets its name.
fn sync(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        std::fs::File::open(entry?.path())?.sync_all()?;
    }
    Ok(())
}
