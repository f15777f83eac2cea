//! Files that are written whole, or line by line, and read again to continue them.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{DataError, RowReader, read_regular};

/// Failure to write or continue a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system refuses.
    #[error("{path}: cannot {action}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Attempt, e.g. `write`.
        action: &'static str,
        /// The system's own error.
        #[source]
        source: std::io::Error,
    },
    /// A value has no JSON form, or a file is not the JSON of one.
    #[error("{path}: not the expected JSON", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's own error.
        #[source]
        source: serde_json::Error,
    },
    /// A file that is to be continued was cut short.
    #[error(
        "{path}: cannot resume: has {found} lines, but {expected} were written before",
        path = path.display()
    )]
    Lines {
        /// The file.
        path: PathBuf,
        /// Whole lines in it.
        found: usize,
        /// Lines that should be in it.
        expected: usize,
    },
}

impl FileError {
    /// Returns what makes the error of a path and an action out of the system's.
    pub fn io(path: &Path, action: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), action, source }
    }
}

/// Writes a file in one step: readers see the old contents or the new ones, never a part, not even
/// after a power cut. Makes the directory where there is none.
///
/// # Errors
///
/// Fails when the file cannot be written.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("new/notes.txt");
/// zs_data::write_atomic(&path, b"mine")?;
/// assert_eq!(std::fs::read(&path)?, b"mine");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let parent = parent_of(path);
    create_dir(parent).map_err(FileError::io(parent, "create the directory"))?;
    let write = || {
        // A link or a pipe of that name must not be written through.
        if let Err(error) = fs::remove_file(&partial)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = File::create_new(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    let written = write();
    if written.is_err() {
        // What is left of it must not fill the disk further.
        let _ = fs::remove_file(&partial);
    }
    written.and_then(|()| sync_dir(parent)).map_err(FileError::io(path, "write"))
}

/// Waits until the names in a directory are on the disk: files that were created, renamed or removed.
///
/// # Errors
///
/// Fails when the directory cannot be opened or synced.
pub fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates a directory and those above it, and waits until they are on the disk.
///
/// # Errors
///
/// Fails when one cannot be created or synced.
pub fn create_dir(dir: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|it| !it.exists()).collect();
    fs::create_dir_all(dir)?;
    missing.into_iter().try_for_each(|it| sync_dir(parent_of(it)))
}

fn parent_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Writes a value as indented JSON, in one step.
///
/// # Errors
///
/// Fails when the value cannot be serialised or the file cannot be written.
pub fn write_json(path: &Path, value: &(impl Serialize + ?Sized)) -> Result<(), FileError> {
    let json_error = |source| FileError::Json { path: path.to_owned(), source };
    let mut bytes = serde_json::to_vec_pretty(value).map_err(json_error)?;
    bytes.push(b'\n');
    write_atomic(path, &bytes)
}

/// Reads the value of a JSON file.
///
/// # Errors
///
/// Fails when the file is no regular one, cannot be read or is not the JSON of such a value.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, FileError> {
    let bytes = read_regular(path).map_err(FileError::io(path, "be read"))?;
    let json_error = |source| FileError::Json { path: path.to_owned(), source };
    serde_json::from_slice(&bytes).map_err(json_error)
}

/// Reads the rows that a [`JsonLinesWriter`] has written: a last line that was cut short is passed
/// over, and a file that is not there has no rows.
///
/// # Errors
///
/// Fails when the file cannot be read, and at the first whole line that is no row.
pub fn read_whole_rows<T: DeserializeOwned + 'static>(path: &Path) -> Result<Vec<T>, DataError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    RowReader::new("row").with_finished_lines().open(path)?.collect()
}

/// A JSON Lines file that is written line by line, so an interrupted run keeps what it did.
///
/// ```
/// use zs_data::JsonLinesWriter;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("rows.jsonl");
/// let mut lines = JsonLinesWriter::create(&path)?;
/// (0..3).try_for_each(|it| lines.push(&it))?;
/// JsonLinesWriter::resume(&path, 1)?.push(&9)?;
/// assert_eq!(std::fs::read_to_string(&path)?, "0\n9\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct JsonLinesWriter {
    path: PathBuf,
    /// None where lines are discarded.
    file: Option<BufWriter<File>>,
}

impl JsonLinesWriter {
    /// Creates a writer whose lines go nowhere, for runs without a directory.
    #[must_use]
    pub fn discarding() -> Self {
        Self { path: PathBuf::new(), file: None }
    }

    /// Starts a new file.
    ///
    /// # Errors
    ///
    /// Fails when the file exists or cannot be created.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        Self::open(path, OpenOptions::new().write(true).create_new(true))
    }

    /// Continues a file, keeping its first `lines` lines; without any to keep it need not exist.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be read or written, or has fewer lines.
    pub fn resume(path: &Path, lines: usize) -> Result<Self, FileError> {
        let (kept, found) = first_lines(path, lines)?;
        if found < lines {
            return Err(FileError::Lines { path: path.to_owned(), found, expected: lines });
        }
        write_atomic(path, &kept)?;
        Self::open(path, OpenOptions::new().append(true))
    }

    /// [`resume`](Self::resume) of a file that nothing depends on: lines that were lost are replaced
    /// by `missing`, which is given their index.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be read or written, or a value cannot be serialised.
    pub fn resume_mended<T: Serialize>(
        path: &Path,
        lines: usize,
        missing: impl Fn(usize) -> T,
    ) -> Result<Self, FileError> {
        let found = first_lines(path, lines)?.1;
        let mut file = Self::resume(path, found)?;
        (found..lines).try_for_each(|it| file.push(&missing(it)))?;
        Ok(file)
    }

    fn open(path: &Path, options: &OpenOptions) -> Result<Self, FileError> {
        let file = options.open(path).map_err(FileError::io(path, "create"))?;
        Ok(Self { path: path.to_owned(), file: Some(BufWriter::new(file)) })
    }

    /// Writes one line.
    ///
    /// # Errors
    ///
    /// Fails when the value cannot be serialised or the line cannot be written.
    pub fn push(&mut self, value: &impl Serialize) -> Result<(), FileError> {
        let line = serde_json::to_vec(value).map_err(std::io::Error::from);
        let mut line = line.map_err(FileError::io(&self.path, "write"))?;
        line.push(b'\n');
        self.push_bytes(&line)
    }

    /// Writes whole lines that were made elsewhere.
    ///
    /// # Errors
    ///
    /// Fails when they cannot be written.
    pub fn push_bytes(&mut self, lines: &[u8]) -> Result<(), FileError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = file.write_all(lines).and_then(|()| file.flush());
        written.map_err(FileError::io(&self.path, "write"))
    }

    /// Waits until what was written is on the disk, so that not even a power cut takes it back.
    ///
    /// # Errors
    ///
    /// Fails when the system does.
    pub fn sync(&mut self) -> Result<(), FileError> {
        let Some(file) = &self.file else { return Ok(()) };
        file.get_ref().sync_data().map_err(FileError::io(&self.path, "write"))
    }
}

/// The first whole lines of a file, at most so many, and their number; none where there is no file.
fn first_lines(path: &Path, lines: usize) -> Result<(Vec<u8>, usize), FileError> {
    let mut bytes = match read_regular(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        bytes => bytes.map_err(FileError::io(path, "resume from"))?,
    };
    // What a power cut leaves need not be text.
    let is_whole =
        |it: &&[u8]| it.ends_with(b"\n") && !it.contains(&0) && std::str::from_utf8(it).is_ok();
    let whole = bytes.split_inclusive(|it| *it == b'\n').take_while(is_whole).take(lines);
    let (found, len) = whole.fold((0, 0), |(found, len), it| (found + 1, len + it.len()));
    bytes.truncate(len);
    Ok((bytes, found))
}

/// Number of whole lines of a file; 0 where there is no file.
///
/// # Errors
///
/// Fails when the file cannot be read.
pub fn count_whole_lines(path: &Path) -> Result<usize, FileError> {
    Ok(first_lines(path, usize::MAX)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a/b/file.txt");
        write_atomic(&path, b"1").unwrap();
        write_atomic(&path, b"2").unwrap();
        // A directory cannot be replaced by a file.
        let taken = scratch.path().join("a");
        let message = write_atomic(&taken, b"3").unwrap_err().to_string();
        assert!(message.contains("cannot write"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"2");
        let left: Vec<_> = fs::read_dir(scratch.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    /// In directories of strangers, a link or a pipe may lie where something is about to be written.
    #[test]
    #[cfg(unix)]
    fn nothing_is_written_or_read_through_links_and_pipes() {
        let scratch = tempfile::tempdir().unwrap();
        let (path, mine) = (scratch.path().join("file"), scratch.path().join("mine"));
        fs::write(&mine, "mine").unwrap();
        std::os::unix::fs::symlink(&mine, scratch.path().join("file.partial")).unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());

        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        for message in [
            zs_core::with_causes(&JsonLinesWriter::resume(&path, 0).unwrap_err()),
            zs_core::with_causes(&count_whole_lines(&path).unwrap_err()),
            zs_core::with_causes(&read_json::<u8>(&path).unwrap_err()),
            zs_core::with_causes(&read_whole_rows::<u8>(&path).unwrap_err()),
            zs_core::with_causes(&crate::digest::of_file(&path).unwrap_err()),
        ] {
            assert!(message.contains("not a regular file"), "{message}");
        }
    }

    #[test]
    fn lines_are_resumed_where_the_checkpoint_was() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("metrics.jsonl");
        let mut lines = JsonLinesWriter::create(&path).unwrap();
        (0..3).for_each(|it| lines.push(&it).unwrap());
        drop(lines);
        assert!(JsonLinesWriter::create(&path).is_err());
        JsonLinesWriter::resume(&path, 1).unwrap().push(&9).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "0\n9\n");
        // A line that was cut short does not count.
        fs::write(&path, "0\n9").unwrap();
        assert_eq!(read_whole_rows::<u8>(&path).unwrap(), [0]);
        let message = JsonLinesWriter::resume(&path, 2).unwrap_err().to_string();
        assert!(message.contains("has 1 lines, but 2"), "{message}");
        JsonLinesWriter::resume(&scratch.path().join("new.jsonl"), 0).unwrap();
        let lost = scratch.path().join("lost.jsonl");
        assert!(JsonLinesWriter::resume(&lost, 1).is_err());
        assert!(read_whole_rows::<u8>(&lost).unwrap().is_empty());
        // Where nothing depends on a line, it is replaced.
        fs::write(&path, "0\n1\n2").unwrap();
        JsonLinesWriter::resume_mended(&path, 4, |it| 10 * it).unwrap().push(&9).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "0\n1\n20\n30\n9\n");
        JsonLinesWriter::resume_mended(&path, 1, |it| it).unwrap();
        assert_eq!(
            (fs::read_to_string(&path).unwrap().as_str(), count_whole_lines(&path).unwrap()),
            ("0\n", 1)
        );
        fs::remove_file(&path).unwrap();
        JsonLinesWriter::resume_mended(&path, 2, |it| it).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "0\n1\n");
        // What a power cut leaves is no line.
        fs::write(&path, b"0\n\xff\n\0\n").unwrap();
        assert_eq!(count_whole_lines(&path).unwrap(), 1);
        fs::write(&path, "0\nx\n1\n").unwrap();
        let message = read_whole_rows::<u8>(&path).unwrap_err().to_string();
        assert!(message.contains("metrics.jsonl, row 2"), "{message}");
    }
}
