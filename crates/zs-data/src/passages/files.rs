//! Files of inputs: those that are named, and those in folders, in sorted order.

use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::{PassageError, SkipReason};
use crate::FileError;

/// A file of an input, or a reason to leave it out.
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Index of the input.
    pub(super) input: usize,
    pub(super) skipped: Option<(SkipReason, Option<String>)>,
}

/// Lists the files of inputs, without those in `out`.
pub(super) fn list(inputs: &[PathBuf], out: &Path) -> Result<Vec<Found>, PassageError> {
    let out = out.canonicalize().map_err(FileError::io(out, "be read"))?;
    let mut found = Vec::new();
    for (input, path) in inputs.iter().enumerate() {
        let metadata = std::fs::metadata(path).map_err(FileError::io(path, "be read"))?;
        if !metadata.is_dir() {
            found.push(Found { path: path.clone(), input, skipped: None });
            continue;
        }
        let mut entries = WalkDir::new(path).sort_by_file_name().into_iter();
        while let Some(entry) = entries.next() {
            let skip = |path: &Path, reason, detail| Found {
                path: path.to_owned(),
                input,
                skipped: Some((reason, detail)),
            };
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let place = error.path().unwrap_or(path).to_owned();
                    found.push(skip(&place, SkipReason::Unreadable, Some(error.to_string())));
                    continue;
                }
            };
            let is_dir = entry.file_type().is_dir();
            if is_dir && entry.path().canonicalize().is_ok_and(|it| it == out) {
                entries.skip_current_dir();
            } else if is_hidden(&entry) {
                found.push(skip(entry.path(), SkipReason::Hidden, None));
                if is_dir {
                    entries.skip_current_dir();
                }
            } else if entry.path_is_symlink() && entry.depth() > 0 {
                found.push(skip(entry.path(), SkipReason::Link, None));
            } else if !is_dir {
                found.push(Found { path: entry.into_path(), input, skipped: None });
            }
        }
    }
    Ok(found)
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.')
}
