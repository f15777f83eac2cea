//! Opening of files that other files or directories name, and that may come from strangers.
//!
//! Every file of a run directory, a checkpoint, an index or a manifest is opened here, so that none
//! of them can be a pipe that never answers or a device that never ends. Files that a user names may
//! be pipes: [`RowReader::open`](crate::RowReader::open).

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// Largest file that is read as a whole.
const MAX_BYTES: u64 = 1 << 30;

/// Opens a regular file, or a link to one.
///
/// # Errors
///
/// Fails on a directory, a pipe or a device, and where the file cannot be opened.
///
/// ```
/// let error = zs_data::open_regular(".".as_ref()).unwrap_err();
/// assert!(error.to_string().starts_with("it is not a regular file"));
/// ```
pub fn open_regular(path: &Path) -> Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        let problem = "it is not a regular file; put a copy of its contents there";
        return Err(Error::new(ErrorKind::InvalidInput, problem));
    }
    File::open(path)
}

/// Reads a regular file of at most 1 GiB.
///
/// # Errors
///
/// As [`open_regular`], and on a larger file.
pub fn read_regular(path: &Path) -> Result<Vec<u8>> {
    read_limited(path, MAX_BYTES)
}

/// [`read_regular`] of a text.
///
/// # Errors
///
/// As [`read_regular`], and on bytes that are not UTF-8.
pub fn read_regular_text(path: &Path) -> Result<String> {
    String::from_utf8(read_regular(path)?)
        .map_err(|it| Error::new(ErrorKind::InvalidData, format!("it is not UTF-8 text: {it}")))
}

fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = open_regular(path)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let problem = format!("it has more than {limit} bytes");
        return Err(Error::new(ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: std::fmt::Debug>(read: Result<T>, expected: &str) {
        let message = read.unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn regular_files_alone_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        check(read_regular(dir.path()), "not a regular file");
        std::fs::write(&path, b"\xff").unwrap();
        check(read_regular_text(&path), "not UTF-8");
        std::fs::write(&path, "text").unwrap();
        check(read_limited(&path, 3), "more than 3 bytes");
        assert_eq!(read_limited(&path, 4).unwrap(), b"text");
        #[cfg(unix)]
        {
            let pipe = dir.path().join("pipe");
            assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            check(open_regular(&pipe), "not a regular file");
            check(open_regular("/dev/zero".as_ref()), "not a regular file");
            let link = dir.path().join("link");
            std::os::unix::fs::symlink(&path, &link).unwrap();
            assert_eq!(read_regular_text(&link).unwrap(), "text");
        }
    }
}
