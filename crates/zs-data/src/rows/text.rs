//! Plain text of a file: decompressed, without a byte-order mark, with progress.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

const BUFFER_BYTES: usize = 1 << 18;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Bytes of a text, decompressed and without a byte-order mark.
pub(super) type Text = Box<dyn BufRead>;

pub(super) fn buffered<R: Read>(reader: R) -> BufReader<R> {
    BufReader::with_capacity(BUFFER_BYTES, reader)
}

pub(super) fn plain_text(mut packed: BufReader<impl Read + 'static>) -> Result<Text> {
    let start = packed.fill_buf()?;
    let mut text: Text = if start.starts_with(GZIP) {
        Box::new(buffered(MultiGzDecoder::new(packed)))
    } else if start.starts_with(ZSTD) {
        Box::new(buffered(zstd::Decoder::with_buffer(packed)?))
    } else {
        Box::new(packed)
    };
    if text.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
        text.consume(BYTE_ORDER_MARK.len());
    }
    Ok(text)
}

/// The next byte that is no white space, left where it is, and the number of line ends before it.
pub(super) fn peek(text: &mut Text) -> Result<(Option<u8>, usize)> {
    let mut num_lines = 0;
    loop {
        let buffer = text.fill_buf()?;
        if buffer.is_empty() {
            return Ok((None, num_lines));
        }
        let blank = buffer.iter().position(|it| !it.is_ascii_whitespace()).unwrap_or(buffer.len());
        num_lines += buffer[..blank].iter().filter(|it| **it == b'\n').count();
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
pub(super) fn counted(file: File) -> Result<(BufReader<Counted>, Progress)> {
    let total = file.metadata()?.len();
    let read = Arc::<AtomicU64>::default();
    Ok((buffered(Counted { file, read: Arc::clone(&read) }), Progress { read, total }))
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
