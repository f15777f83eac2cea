//! Reading of the small files of a model directory, which are untrusted.

use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

use std::fs::File;

/// Largest file that is read as a whole. The largest `tokenizer.json` in use have 40 MB.
const MAX_BYTES: u64 = 512 << 20;

/// First bytes of a file that Git LFS has not fetched.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Opens a regular file, or a link to one, that is no Git LFS pointer.
///
/// A pipe or a device would block, or never end.
pub(crate) fn open(path: &Path) -> Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut file = File::open(path)?;
    let mut start = Vec::new();
    Read::by_ref(&mut file).take(LFS_POINTER.len() as u64).read_to_end(&mut start)?;
    if start == LFS_POINTER {
        let message = "it is a Git LFS pointer in place of the file; run `git lfs pull`";
        return Err(Error::new(ErrorKind::InvalidData, message));
    }
    std::io::Seek::rewind(&mut file)?;
    Ok(file)
}

/// Reads a regular file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!("it has more than {} MiB", MAX_BYTES >> 20);
        return Err(Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// Reads a regular file as text.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|it| Error::new(ErrorKind::InvalidData, format!("it is not UTF-8 text: {it}")))
}

/// Reads a regular file as text; returns `None` if it does not exist.
pub(crate) fn read_optional(path: &Path) -> Result<Option<String>> {
    match read_text(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &Path, expected: &str) {
        let message = read_text(path).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn only_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        check(dir.path(), "not a regular file");
        std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
            .unwrap();
        check(&path, "git lfs pull");
        std::fs::write(&path, b"\xff").unwrap();
        check(&path, "not UTF-8");
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(read_optional(&path).unwrap().as_deref(), Some("{}"));
        assert_eq!(read_optional(&dir.path().join("none")).unwrap(), None);
        #[cfg(unix)]
        {
            let pipe = dir.path().join("pipe");
            assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            check(&pipe, "not a regular file");
            let link = dir.path().join("link");
            std::os::unix::fs::symlink(&path, &link).unwrap();
            assert_eq!(read_text(&link).unwrap(), "{}");
        }
    }
}
