//! SHA-256 of what goes in and comes out, in hexadecimal.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{FileError, open_regular};

/// Bytes in hexadecimal.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

/// The digest of some bytes, as bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The digest of some bytes.
///
/// ```
/// assert!(zs_data::digest::of_bytes(b"abc").starts_with("ba7816bf"));
/// ```
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> String {
    hexadecimal(&sha256(bytes))
}

/// The digest of a regular file.
///
/// # Errors
///
/// Fails when it is a pipe or a device, or cannot be read, and names it.
pub fn of_file(path: &Path) -> Result<String, FileError> {
    let mut hasher = Sha256::new();
    let mut file = open_regular(path).map_err(FileError::io(path, "be read"))?;
    std::io::copy(&mut file, &mut HashWriter(&mut hasher))
        .map_err(FileError::io(path, "be read"))?;
    Ok(hexadecimal(&hasher.finalize()))
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
