//! Directories of data sets that are made in many steps: a finished set is left as it is, an interrupted
//! one is continued, and nothing else is touched.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zs_data::{FileError, digest, read_json, write_json};

/// The file that a finished set has.
pub(crate) const MANIFEST: &str = "manifest.json";

/// The file that an unfinished set has.
const SETTINGS: &str = "settings.json";

/// Reasons not to write a data set into a directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The directory holds a set that is not this one.
    #[error(
        "{path}: holds a set of other inputs or with other settings; nothing was overwritten: remove \
         it or choose another `out`",
        path = path.display()
    )]
    OtherSet {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds an unfinished set that is not this one.
    #[error(
        "{path}: holds an interrupted set of other inputs or with other settings; remove it or choose \
         another `out`",
        path = path.display()
    )]
    OtherUnfinishedSet {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds something else.
    #[error("{path}: holds other files; choose another `out`", path = path.display())]
    OtherFiles {
        /// The directory.
        path: PathBuf,
    },
    /// A file of a finished set is not what was written.
    #[error("{path}: was changed after it was written; remove the set", path = path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

/// Manifest of a finished set.
pub(crate) trait SetManifest: DeserializeOwned {
    /// Settings and inputs that determine the contents.
    type Settings: Serialize + DeserializeOwned + PartialEq;

    /// Settings of this set.
    fn settings(&self) -> &Self::Settings;

    /// Files of the set, with their SHA-256.
    fn digests(&self) -> Vec<(&str, &str)>;
}

/// Returns the manifest of a finished set with these settings and unchanged files.
pub(crate) fn finished<M: SetManifest>(
    out: &Path,
    settings: &M::Settings,
) -> Result<Option<M>, SetError> {
    let path = out.join(MANIFEST);
    if !path.exists() {
        return Ok(None);
    }
    let manifest: M = read_json(&path)?;
    if manifest.settings() != settings {
        return Err(SetError::OtherSet { path: out.to_owned() });
    }
    for (name, sha256) in manifest.digests() {
        let path = out.join(name);
        if digest::of_file(&path)? != sha256 {
            return Err(SetError::Changed { path });
        }
    }
    Ok(Some(manifest))
}

/// Writes the settings into the directory of an unfinished set, or checks that they are the same.
pub(crate) fn claim<S: Serialize + DeserializeOwned + PartialEq>(
    out: &Path,
    settings: &S,
) -> Result<(), SetError> {
    std::fs::create_dir_all(out).map_err(FileError::io(out, "create"))?;
    let path = out.join(SETTINGS);
    if !path.exists() {
        if std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(SetError::OtherFiles { path: out.to_owned() });
        }
        return Ok(write_json(&path, settings)?);
    }
    if read_json::<S>(&path)? != *settings {
        return Err(SetError::OtherUnfinishedSet { path: out.to_owned() });
    }
    Ok(())
}

/// Rows as JSON Lines; `path` names their file in errors.
pub(crate) fn json_lines(path: &Path, rows: &[impl Serialize]) -> Result<Vec<u8>, FileError> {
    let json_error = |source| FileError::Json { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut bytes, row).map_err(json_error)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}
