//! Run directories and the files in them: created whole, never overwritten.

use std::fs::{self, DirEntry, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use zs_data::{FileError, JsonLinesWriter, create_dir, write_atomic};

use crate::run_dir_error::RunDirError;

/// The file by which a process holds a run directory.
const LOCK: &str = ".lock";

/// Build, machine and inputs of a run; written before its run file.
pub(crate) const ENVIRONMENT: &str = "environment.json";

/// The run file of a run, with every default filled in.
pub(crate) const CONFIG: &str = "config.toml";

/// The file that a finished run has and an interrupted one has not.
pub const SUMMARY: &str = "summary.json";

/// A directory that belongs to one run, and to one process at a time.
///
/// ```
/// use zs_trainer::files::RunDir;
///
/// let scratch = tempfile::tempdir().unwrap();
/// let out = scratch.path().join("run");
/// RunDir::create(&out).unwrap().write_text("notes.txt", "mine").unwrap();
/// let refused = RunDir::create(&out).unwrap_err();
/// assert!(refused.to_string().contains("interrupted run"));
/// ```
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held until the last copy goes, at the latest when the process ends.
    _lock: Arc<File>,
}

impl RunDir {
    /// Creates the directory of a new run.
    ///
    /// # Errors
    ///
    /// Fails when anything lies at `path` already, and says whether that is a finished or an
    /// interrupted run.
    pub fn create(path: &Path) -> Result<Self, RunDirError> {
        Self::check_free(path)?;
        create_dir(path).map_err(FileError::io(path, "create the run directory"))?;
        Self::locked(path)
    }

    /// Opens the directory of an interrupted run, to continue it.
    ///
    /// # Errors
    ///
    /// Fails when there is no such directory, or another process is at work in it.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        if !path.is_dir() {
            return Err(RunDirError::Missing { path: path.to_owned() });
        }
        Self::locked(path)
    }

    fn locked(path: &Path) -> Result<Self, RunDirError> {
        let lock = path.join(LOCK);
        let cannot_lock = FileError::io(&lock, "lock");
        // A link or a pipe in its place must not be written through.
        if fs::symlink_metadata(&lock).is_ok_and(|it| !it.is_file()) {
            let error = io::Error::other("it is not a regular file; remove it");
            return Err(cannot_lock(error).into());
        }
        let file = File::create(&lock).map_err(&cannot_lock)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: Arc::new(file) }),
            Err(TryLockError::WouldBlock) => Err(RunDirError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(cannot_lock(error).into()),
        }
    }

    /// Opens a run that may be resumed only while it is not finished.
    ///
    /// # Errors
    ///
    /// Fails when there is no such directory, or the run in it is finished.
    pub fn open_unfinished(path: &Path) -> Result<Self, RunDirError> {
        let run = Self::open(path)?;
        if run.join(SUMMARY).exists() {
            return Err(RunDirError::Finished { path: path.to_owned() });
        }
        Ok(run)
    }

    /// Checks that [`create`](Self::create) would not refuse `path`; called before expensive work.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn check_free(path: &Path) -> Result<(), RunDirError> {
        if !path.exists() {
            return Ok(());
        }
        // A process that ended before its run file was written has left nothing to resume.
        let is_remnant =
            |name: &str| [LOCK, ENVIRONMENT].contains(&name) || name.ends_with(".partial");
        let is_free = |entry: io::Result<DirEntry>| {
            entry.is_ok_and(|it| {
                it.path().is_file() && it.file_name().to_str().is_some_and(is_remnant)
            })
        };
        if path.is_dir() && fs::read_dir(path).is_ok_and(|mut entries| entries.all(is_free)) {
            return Ok(());
        }
        let found = if !path.is_dir() {
            "is a file"
        } else if path.join(SUMMARY).exists() {
            "holds a finished run"
        } else {
            "holds an interrupted run or other files"
        };
        Err(RunDirError::Exists { path: path.to_owned(), found })
    }

    /// Directory of the run.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside the run.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a text file of the run.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be written.
    pub fn write_text(&self, name: &str, text: &str) -> Result<(), FileError> {
        write_atomic(&self.join(name), text.as_bytes())
    }

    /// Writes a value as indented JSON.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be written.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), FileError> {
        zs_data::write_json(&self.join(name), value)
    }

    /// Writes the run's configuration with every default filled in.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be written.
    pub fn write_config(&self, config: &impl Serialize) -> Result<(), RunDirError> {
        Ok(self.write_text(CONFIG, &Self::config_text(config)?)?)
    }

    /// Text that [`write_config`](Self::write_config) writes.
    pub(crate) fn config_text(config: &impl Serialize) -> Result<String, RunDirError> {
        Ok(toml::to_string_pretty(config)?)
    }

    /// Starts a JSON Lines file of the run.
    ///
    /// # Errors
    ///
    /// Fails when the file exists or cannot be created.
    pub fn json_lines(&self, name: &str) -> Result<JsonLinesWriter, FileError> {
        JsonLinesWriter::create(&self.join(name))
    }
}

/// Files below a directory in order, or `path` alone where it is a file.
pub(crate) fn files_below(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(path).sort_by_file_name() {
        let entry = entry.map_err(|error| FileError::io(path, "be listed")(error.into()))?;
        if entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// The directories of a directory, itself included and first, and everything else in it: files, and
/// links wherever they lead.
pub(crate) fn entries_below(dir: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), FileError> {
    let (mut dirs, mut others) = (Vec::new(), Vec::new());
    for entry in walkdir::WalkDir::new(dir).sort_by_file_name() {
        let entry = entry.map_err(|error| FileError::io(dir, "be listed")(error.into()))?;
        let found = if entry.file_type().is_dir() { &mut dirs } else { &mut others };
        found.push(entry.into_path());
    }
    Ok((dirs, others))
}

/// Numbers between `prefix` and `suffix` in the names of a directory, in order; none where there is
/// no directory.
pub(crate) fn numbers_in(dir: &Path, prefix: &str, suffix: &str) -> Result<Vec<usize>, FileError> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let cannot_list = FileError::io(dir, "be listed");
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(&cannot_list)? {
        let name = entry.map_err(&cannot_list)?.file_name();
        let number = name.to_str().and_then(|it| it.strip_prefix(prefix)?.strip_suffix(suffix));
        numbers.extend(number.and_then(|it| it.parse::<usize>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_runs_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("run");
        let run = RunDir::create(&out).unwrap();
        run.write_json("config.json", &1).unwrap();
        let message = RunDir::create(&out).unwrap_err().to_string();
        assert!(message.contains("interrupted run"), "{message}");
        run.write_json(SUMMARY, &1).unwrap();
        let message = RunDir::create(&out).unwrap_err().to_string();
        assert!(message.contains("finished run"), "{message}");
    }

    /// A process may be killed, or its disk be full, before the run file is there.
    #[test]
    fn what_is_left_before_a_run_file_is_no_run() {
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("run");
        for left in [LOCK, "environment.json", "config.toml.partial"] {
            fs::create_dir_all(&out).unwrap();
            fs::write(out.join(left), "{").unwrap();
            drop(RunDir::create(&out).unwrap());
        }
        for other in ["config.toml", "metrics.jsonl", "notes"] {
            fs::write(out.join(other), "").unwrap();
            let message = RunDir::create(&out).unwrap_err().to_string();
            assert!(message.contains("interrupted run"), "{message}");
            fs::remove_file(out.join(other)).unwrap();
        }
        fs::create_dir(out.join("checkpoints.partial")).unwrap();
        assert!(RunDir::create(&out).is_err());
    }

    #[test]
    fn a_run_belongs_to_one_process_at_a_time() {
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("run");
        let run = RunDir::create(&out).unwrap();
        let message = RunDir::open(&out).unwrap_err().to_string();
        assert!(message.contains("another process"), "{message}");
        drop(run);
        RunDir::open(&out).unwrap();
    }
}
