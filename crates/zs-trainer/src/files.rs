//! Run directories and the files in them: created whole, never overwritten.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// The file by which a process holds a run directory.
const LOCK: &str = ".lock";

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
        fs::create_dir_all(path)
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
        write_atomic(&self.join(name), text.as_bytes())
    }

    /// Writes a value as indented JSON.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be written.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        self.write_text(name, &text)
    }

    /// Writes the run's configuration with every default filled in.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be written.
    pub fn write_config(&self, config: &impl Serialize) -> Result<()> {
        self.write_text("config.toml", &toml::to_string_pretty(config)?)
    }

    /// Starts a JSON Lines file of the run.
    ///
    /// # Errors
    ///
    /// Fails when the file exists or cannot be created.
    pub fn json_lines(&self, name: &str) -> Result<JsonLines> {
        JsonLines::create(&self.join(name))
    }
}

/// Writes a file in one step: readers see the old contents or the new ones, never a part.
///
/// # Errors
///
/// Fails when the file cannot be written.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("{}: cannot create the directory", parent.display()))?;
    }
    fs::write(&partial, bytes)
        .and_then(|()| fs::rename(&partial, path))
        .with_context(|| format!("{}: cannot write", path.display()))
}

/// A JSON Lines file that is written line by line, so an interrupted run keeps what it did.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    /// None where lines are discarded.
    file: Option<BufWriter<File>>,
}

impl JsonLines {
    /// Creates a writer whose lines go nowhere, for runs without a directory.
    #[must_use]
    pub(crate) fn discarding() -> Self {
        Self { path: PathBuf::new(), file: None }
    }

    /// Starts a new file.
    ///
    /// # Errors
    ///
    /// Fails when the file exists or cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        Self::open(path, OpenOptions::new().write(true).create_new(true))
    }

    /// Continues a file, keeping its first `lines` lines; without any to keep it need not exist.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be read or written, or has fewer lines.
    pub fn resume(path: &Path, lines: usize) -> Result<Self> {
        let context = || format!("{}: cannot resume from", path.display());
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && lines == 0 => String::new(),
            text => text.with_context(context)?,
        };
        let whole = text.split_inclusive('\n').filter(|it| it.ends_with('\n'));
        let kept: Vec<&str> = whole.take(lines).collect();
        if kept.len() < lines {
            bail!("{}: has {} lines, but {lines} were written before", context(), kept.len());
        }
        write_atomic(path, kept.concat().as_bytes())?;
        Self::open(path, OpenOptions::new().append(true))
    }

    fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        let file =
            options.open(path).with_context(|| format!("{}: cannot create", path.display()))?;
        Ok(Self { path: path.to_owned(), file: Some(BufWriter::new(file)) })
    }

    /// Writes one line.
    ///
    /// # Errors
    ///
    /// Fails when the value cannot be serialised or the line cannot be written.
    pub fn push(&mut self, value: &impl Serialize) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        serde_json::to_writer(&mut *file, value)
            .map_err(anyhow::Error::from)
            .and_then(|()| Ok(file.write_all(b"\n")?))
            .and_then(|()| Ok(file.flush()?))
            .with_context(|| format!("{}: cannot write", self.path.display()))
    }

    /// Waits until what was written is on the disk, so that not even a power cut takes it back.
    ///
    /// # Errors
    ///
    /// Fails when the system does.
    pub fn sync(&mut self) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        file.get_ref().sync_data().with_context(|| format!("{}: cannot write", self.path.display()))
    }

    /// Writes whole lines that were made elsewhere.
    ///
    /// # Errors
    ///
    /// Fails when they cannot be written.
    pub fn push_bytes(&mut self, lines: &[u8]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(lines)
            .and_then(|()| file.flush())
            .with_context(|| format!("{}: cannot write", self.path.display()))
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

    #[test]
    fn lines_are_resumed_where_the_checkpoint_was() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("metrics.jsonl");
        let mut lines = JsonLines::create(&path).unwrap();
        (0..3).for_each(|it| lines.push(&it).unwrap());
        drop(lines);
        assert!(JsonLines::create(&path).is_err());
        JsonLines::resume(&path, 1).unwrap().push(&9).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "0\n9\n");
        // A line that was cut short does not count.
        fs::write(&path, "0\n9").unwrap();
        let message = JsonLines::resume(&path, 2).unwrap_err().to_string();
        assert!(message.contains("has 1 lines, but 2"), "{message}");
        JsonLines::resume(&scratch.path().join("new.jsonl"), 0).unwrap();
        assert!(JsonLines::resume(&scratch.path().join("lost.jsonl"), 1).is_err());
    }
}
