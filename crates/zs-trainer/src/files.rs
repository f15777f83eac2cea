//! Run directories and the files in them: created whole, never overwritten.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use zs_data::{FileError, JsonLinesWriter, create_dir, write_atomic};

/// The file by which a process holds a run directory.
const LOCK: &str = ".lock";

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
    pub fn create(path: &Path) -> Result<Self> {
        Self::check_free(path)?;
        create_dir(path)
            .with_context(|| format!("{}: cannot create the run directory", path.display()))?;
        Self::locked(path)
    }

    /// Opens the directory of an interrupted run, to continue it.
    ///
    /// # Errors
    ///
    /// Fails when there is no such directory, or another process is at work in it.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            bail!("{}: no run directory to resume from", path.display());
        }
        Self::locked(path)
    }

    fn locked(path: &Path) -> Result<Self> {
        let lock = path.join(LOCK);
        let file =
            File::create(&lock).with_context(|| format!("{}: cannot lock", lock.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: Arc::new(file) }),
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "{}: another process uses this run; wait until it ends, or stop it",
                    path.display()
                )
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("{}: cannot lock", lock.display()))
            }
        }
    }

    /// Opens a run that may be resumed only while it is not finished.
    ///
    /// # Errors
    ///
    /// Fails when there is no such directory, or the run in it is finished.
    pub fn open_unfinished(path: &Path) -> Result<Self> {
        let run = Self::open(path)?;
        if run.join(SUMMARY).exists() {
            bail!("{}: the run is finished; there is nothing to resume", path.display());
        }
        Ok(run)
    }

    /// Checks that [`create`](Self::create) would not refuse `path`; called before expensive work.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn check_free(path: &Path) -> Result<()> {
        if !path.exists() {
            return Ok(());
        }
        if path.is_dir() && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()) {
            return Ok(());
        }
        let what = if !path.is_dir() {
            "is a file"
        } else if path.join(SUMMARY).exists() {
            "holds a finished run"
        } else {
            "holds an interrupted run or other files"
        };
        bail!(
            "{}: already exists and {what}; nothing was overwritten: remove it or choose another \
             `out`",
            path.display()
        )
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
    pub fn write_text(&self, name: &str, text: &str) -> Result<()> {
        Ok(write_atomic(&self.join(name), text.as_bytes())?)
    }

    /// Writes a value as indented JSON.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be written.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        Ok(zs_data::write_json(&self.join(name), value)?)
    }

    /// Writes the run's configuration with every default filled in.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be written.
    pub fn write_config(&self, config: &impl Serialize) -> Result<()> {
        self.write_text(CONFIG, &Self::config_text(config)?)
    }

    /// Text that [`write_config`](Self::write_config) writes.
    pub(crate) fn config_text(config: &impl Serialize) -> Result<String> {
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
