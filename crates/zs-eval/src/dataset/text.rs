//! Text files, unpacked on the way.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::DatasetError;

/// Bytes of a text file, unpacked and without a byte-order mark.
pub(super) type Text = Box<dyn BufRead>;

/// Opens a text file.
pub(super) fn open(path: &Path, is_gzipped: bool) -> Result<Text, DatasetError> {
    let unreadable = |source| DatasetError::Read { path: path.to_owned(), source };
    let file = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut text: Text = match is_gzipped {
        true => Box::new(BufReader::new(MultiGzDecoder::new(file))),
        false => Box::new(file),
    };
    if text.fill_buf().map_err(unreadable)?.starts_with(b"\xEF\xBB\xBF") {
        text.consume(3);
    }
    Ok(text)
}
