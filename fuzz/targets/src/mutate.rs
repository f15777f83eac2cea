//! Inputs from a corpus: input number `n` of a seed is a function of the two and of the corpus.

use std::fs;
use std::io;
use std::path::Path;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use zs_core::{Domain, StreamKey};

/// Bytes of an input at most.
const MAX_BYTES: usize = 64 << 10;

/// Pieces that readers find hard.
const PIECES: &[&str] = &[
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "-0.0",
    "NaN",
    "Infinity",
    "18446744073709551615",
    "9223372036854775808",
    "340282366920938463463374607431768211456",
    "[]",
    "{}",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\"\"",
    ",",
    ":",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "\u{feff}",
    "\u{2028}",
    "\u{202e}",
    "İ",
    "ß",
    "é",
    "東",
    "👩‍🚀",
    "<search>",
    "</search>",
    "<answer>",
    "</answer>",
    "<think>",
    "</think>",
    "<information>",
    "</information>",
    "{{",
    "}}",
    "{%",
    "%}",
    "{% for i in range(999999999) %}",
    "Doc 1:",
    "../",
    "/dev/zero",
    "\u{1b}[2J",
    "Content-Length: 99999999999\r\n",
    "Transfer-Encoding: chunked\r\n",
    "ffffffffffffffff\r\n",
];

/// Numbers that sizes and offsets are replaced by.
const SIZES: [u64; 8] = [0, 1, 0x7f, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];

/// Makes inputs of a corpus.
#[derive(Debug)]
pub struct Mutator {
    corpus: Vec<Vec<u8>>,
    seed: u64,
}

impl Mutator {
    /// Creates a mutator; an empty corpus is one of an empty input.
    #[must_use]
    pub fn new(mut corpus: Vec<Vec<u8>>, seed: u64) -> Self {
        if corpus.is_empty() {
            corpus.push(Vec::new());
        }
        Self { corpus, seed }
    }

    /// Input of a number. The first are those of the corpus, as they are.
    #[must_use]
    pub fn input(&self, number: u64) -> Vec<u8> {
        if let Some(whole) = usize::try_from(number).ok().and_then(|it| self.corpus.get(it)) {
            return whole.clone();
        }
        let key = StreamKey { step: number, ..StreamKey::new(self.seed) };
        let mut rng = key.rng(Domain::Corpus);
        let mut bytes = self.entry(&mut rng).to_owned();
        let num_changes = 1 << rng.random_range(0..5_u32);
        for _ in 0..rng.random_range(1..=num_changes) {
            self.change(&mut bytes, &mut rng);
            bytes.truncate(MAX_BYTES);
        }
        bytes
    }

    fn entry(&self, rng: &mut ChaCha8Rng) -> &[u8] {
        &self.corpus[rng.random_range(0..self.corpus.len())]
    }

    fn change(&self, bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
        let at = rng.random_range(0..=bytes.len());
        let most = 1 << rng.random_range(0..10_u32);
        let end = rng.random_range(at..=bytes.len().min(at + most));
        match rng.random_range(0..10_u32) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.random_range(0..8_u32);
                }
            }
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = rng.random();
                }
            }
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = PIECES[rng.random_range(0..PIECES.len())];
                let end = if rng.random() { at } else { end };
                bytes.splice(at..end, piece.bytes());
            }
            4 => {
                // The same again and again: long runs, deep nesting.
                let times = 1 << rng.random_range(0..12_u32);
                let room = MAX_BYTES.saturating_sub(bytes.len()) / (end - at).max(1);
                let repeated = bytes[at..end].repeat(times.min(room));
                bytes.splice(at..at, repeated);
            }
            5 => {
                let other = self.entry(rng);
                let from = rng.random_range(0..=other.len());
                let to = rng.random_range(from..=other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            6 => {
                let size =
                    SIZES[rng.random_range(0..SIZES.len())].wrapping_add(rng.random_range(0..3));
                let width = 1 << rng.random_range(0..4_u32);
                let end = bytes.len().min(at + width);
                bytes.splice(at..end, size.to_le_bytes().into_iter().take(width));
            }
            7 => number(bytes, at, rng),
            8 => bytes.truncate(at),
            _ => {
                let moved: Vec<u8> = bytes.drain(at..end).collect();
                let to = rng.random_range(0..=bytes.len());
                bytes.splice(to..to, moved);
            }
        }
    }
}

/// Puts another number in place of the first one written in digits from `at` on.
fn number(bytes: &mut Vec<u8>, at: usize, rng: &mut ChaCha8Rng) {
    let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|it| at + it) else {
        return;
    };
    let len = bytes[start..].iter().take_while(|it| it.is_ascii_digit()).count();
    let text = match rng.random_range(0..4_u32) {
        0 => format!("-{}", rng.random_range(0..1000_u32)),
        1 => format!("{}e{}", rng.random_range(0..10_u32), rng.random_range(0..400_u32)),
        2 => format!("{}.5", rng.random_range(0..10_u32)),
        _ => SIZES[rng.random_range(0..SIZES.len())].to_string(),
    };
    bytes.splice(start..start + len, text.bytes());
}

/// Files of a corpus, in the order of their names.
///
/// # Errors
///
/// Fails when the folder or a file cannot be read.
pub fn read_corpus(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut paths: Vec<_> =
        fs::read_dir(folder)?.map(|it| Ok(it?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    paths.iter().map(fs::read).collect()
}
