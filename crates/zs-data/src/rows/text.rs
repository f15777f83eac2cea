//! Plain text of a file: decompressed, without a byte-order mark, with progress.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

const BUFFER_BYTES: usize = 1 << 18;
/// Bytes that are looked at before a format is chosen.
const HEAD_BYTES: u64 = 512;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Beginnings of files that are not read: form and remedy.
const FOREIGN: [(&[u8], &str, &str); 15] = [
    (b"BZh", "packed with bzip2", "unpack it with `bunzip2`"),
    (b"\xFD7zXZ\0", "packed with xz", "unpack it with `unxz`"),
    (b"\x04\x22\x4D\x18", "packed with lz4", "unpack it with `lz4 -d`"),
    (b"7z\xBC\xAF\x27\x1C", "a 7-Zip archive", "unpack it"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "unpack it, or save it as CSV"),
    (b"\x00\x00\xFE\xFF", "text in UTF-32", "convert it with `iconv -f UTF-32 -t UTF-8`"),
    (b"\xFF\xFE", "text in UTF-16", "convert it with `iconv -f UTF-16 -t UTF-8`"),
    (b"\xFE\xFF", "text in UTF-16", "convert it with `iconv -f UTF-16 -t UTF-8`"),
    (b"ARROW1", "an Arrow file", "save it as Parquet or JSON Lines"),
    (b"\xFF\xFF\xFF\xFF", "an Arrow stream", "save it as Parquet or JSON Lines"),
    (b"SQLite format 3", "an SQLite database", "export it as CSV or JSON Lines"),
    (
        b"version https://git-lfs.github.com/spec",
        "a pointer of git LFS instead of the file",
        "fetch the file with `git lfs pull` or `zs data fetch`",
    ),
    (b"<!DOCTYPE html", "a web page", "download the file itself"),
    (GZIP, "packed twice", "unpack it once"),
    (ZSTD, "packed twice", "unpack it once"),
];

/// Name of the format in the header of a tar archive, and its place.
const TAR: (usize, &[u8]) = (257, b"ustar");

/// Bytes of a text, decompressed and without a byte-order mark.
pub(super) type Text = Box<dyn BufRead>;

/// A text whose beginning is known.
pub(super) struct Opened {
    /// First bytes of `text`, up to [`HEAD_BYTES`].
    pub(super) head: Vec<u8>,
    pub(super) text: Text,
    /// True where the file was compressed.
    pub(super) is_packed: bool,
}

/// Decompresses a text and looks at its beginning, however few bytes a read gives.
pub(super) fn open_text(reader: impl Read + 'static) -> Result<Opened> {
    let (head, packed) = with_head(buffered(reader))?;
    let is_packed = head.starts_with(GZIP) || head.starts_with(ZSTD);
    let (mut head, mut text): (_, Text) = if head.starts_with(GZIP) {
        with_head(buffered(MultiGzDecoder::new(packed)))?
    } else if head.starts_with(ZSTD) {
        with_head(buffered(zstd::Decoder::with_buffer(packed)?))?
    } else {
        (head, packed)
    };
    if head.starts_with(BYTE_ORDER_MARK) {
        head.drain(..BYTE_ORDER_MARK.len());
        text.consume(BYTE_ORDER_MARK.len());
    }
    Ok(Opened { head, text, is_packed })
}

/// Form and remedy of a file that no reader takes, by its first bytes.
pub(super) fn foreign(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let start = head.trim_ascii_start();
    let found = FOREIGN.iter().find(|(magic, ..)| {
        head.starts_with(magic)
            || start.get(..magic.len()).is_some_and(|it| it.eq_ignore_ascii_case(magic))
    });
    if let Some((_, form, remedy)) = found {
        return Some((form, remedy));
    }
    if head.get(TAR.0..).is_some_and(|it| it.starts_with(TAR.1)) {
        return Some(("a tar archive", "unpack it with `tar -xf`"));
    }
    // Text of one byte a character has no NUL; in UTF-16 every second byte of ASCII is one.
    let is_wide =
        start.len() >= 4 && (start[0] == 0 && start[2] == 0 || start[1] == 0 && start[3] == 0);
    is_wide.then_some(("text in UTF-16", "convert it with `iconv -f UTF-16 -t UTF-8`"))
}

fn with_head(mut reader: impl BufRead + 'static) -> Result<(Vec<u8>, Text)> {
    let mut head = Vec::new();
    (&mut reader).take(HEAD_BYTES).read_to_end(&mut head)?;
    let text = Cursor::new(head.clone()).chain(reader);
    Ok((head, Box::new(text)))
}

fn buffered<R: Read>(reader: R) -> BufReader<R> {
    BufReader::with_capacity(BUFFER_BYTES, reader)
}

/// The next byte that is no white space, left where it is, and the number of line ends before it.
pub(super) fn peek(text: &mut Text) -> Result<(Option<u8>, usize)> {
    let (mut num_lines, mut last) = (0, 0);
    loop {
        let buffer = text.fill_buf()?;
        if buffer.is_empty() {
            return Ok((None, num_lines));
        }
        let blank = buffer.iter().position(|it| !it.is_ascii_whitespace()).unwrap_or(buffer.len());
        for &byte in &buffer[..blank] {
            // CR and LF are one line end.
            num_lines += usize::from(byte == b'\r' || byte == b'\n' && last != b'\r');
            last = byte;
        }
        let next = buffer.get(blank).copied();
        text.consume(blank);
        if next.is_some() {
            return Ok((next, num_lines));
        }
    }
}

/// Bytes of a file that have been read.
#[derive(Default)]
pub(super) struct Progress {
    read: Arc<AtomicU64>,
    total: u64,
}

impl Progress {
    pub(super) fn fraction(&self) -> f64 {
        (self.read.load(Ordering::Relaxed) as f64 / self.total.max(1) as f64).min(1.0)
    }
}

/// A file and a view of how much of it has been read.
pub(super) fn counted(file: File) -> Result<(Counted, Progress)> {
    let total = file.metadata()?.len();
    let read = Arc::<AtomicU64>::default();
    Ok((Counted { file, read: Arc::clone(&read) }, Progress { read, total }))
}

pub(super) struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.file.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte a read, as a pipe may.
    struct Slow(Cursor<Vec<u8>>);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            self.0.read(&mut buffer[..1])
        }
    }

    #[test]
    fn short_reads_hide_neither_compression_nor_mark() {
        let plain = b"\xEF\xBB\xBF{\"a\": 1}";
        let packed = zstd::encode_all(&plain[..], 1).unwrap();
        for bytes in [plain.to_vec(), packed] {
            let mut opened = open_text(Slow(Cursor::new(bytes))).unwrap();
            let mut text = String::new();
            opened.text.read_to_string(&mut text).unwrap();
            assert_eq!((text.as_str(), &opened.head[..]), ("{\"a\": 1}", text.as_bytes()));
        }
    }

    #[test]
    fn foreign_files_are_known_by_their_first_bytes() {
        let check = |head: &[u8], expected: Option<&str>| {
            assert_eq!(foreign(head).map(|it| it.0), expected, "{head:?}");
        };
        check(b"{\"question\": 1}", None);
        check(b"", None);
        check(b"BZh91AY", Some("packed with bzip2"));
        check(b"\xFF\xFEq\0u\0", Some("text in UTF-16"));
        check(b"q\0u\0e\0s\0", Some("text in UTF-16"));
        check(b"\n<!doctype HTML>", Some("a web page"));
        check(b"PK\x03\x04", Some("a zip archive or an Excel workbook"));
    }
}
