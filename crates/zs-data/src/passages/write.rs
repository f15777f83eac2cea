//! Files of passages: those that are kept, and what was left out.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::cut::{Passage, num_words};
use super::text::Place;
use super::{PassageFile, PassageInput, PassageManifest, PassageSettings, SkipReason};
use crate::{FileError, JsonLinesWriter, digest};

/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

/// Bytes of a digest that an id shows.
const ID_BYTES: usize = 10;

/// File, and place in it.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) path: &'a Path,
    pub(super) place: Option<Place>,
}

/// A row of `passages.jsonl`.
#[derive(Serialize)]
struct PassageRow<'a> {
    id: &'a str,
    title: &'a str,
    text: &'a str,
    source: String,
    place: Place,
}

/// A row of `skipped.jsonl`.
#[derive(Serialize)]
struct SkippedRow<'a> {
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

/// A JSON Lines file of many rows.
struct Lines {
    path: PathBuf,
    writer: JsonLinesWriter,
    buffer: Vec<u8>,
}

impl Lines {
    fn create(path: PathBuf) -> Result<Self, FileError> {
        let writer = JsonLinesWriter::create(&path)?;
        Ok(Self { path, writer, buffer: Vec::new() })
    }

    fn push(&mut self, row: &impl Serialize) -> Result<(), FileError> {
        let json_error = |source| FileError::Json { path: self.path.clone(), source };
        serde_json::to_writer(&mut self.buffer, row).map_err(json_error)?;
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), FileError> {
        self.writer.push_bytes(&std::mem::take(&mut self.buffer))
    }

    fn finish(mut self) -> Result<PathBuf, FileError> {
        self.flush()?;
        self.writer.sync()?;
        Ok(self.path)
    }
}

/// Files of passages that are being written.
pub(super) struct PassageWriter {
    kept: Lines,
    left_out: Lines,
    skipped: BTreeMap<SkipReason, usize>,
    num_passages: usize,
    num_words: usize,
    /// Digests of title and text, and of ids.
    seen: HashSet<[u8; 16]>,
    ids: HashSet<[u8; 16]>,
}

impl PassageWriter {
    pub(super) fn create(out: &Path) -> Result<Self, FileError> {
        Ok(Self {
            kept: Lines::create(out.join("passages.jsonl"))?,
            left_out: Lines::create(out.join("skipped.jsonl"))?,
            skipped: BTreeMap::new(),
            num_passages: 0,
            num_words: 0,
            seen: HashSet::new(),
            ids: HashSet::new(),
        })
    }

    pub(super) fn num_passages(&self) -> usize {
        self.num_passages
    }

    /// Writes a passage; false where its title and text were written before. The given id is kept,
    /// unless an earlier passage has it.
    pub(super) fn push(
        &mut self,
        origin: Origin<'_>,
        id: Option<&str>,
        passage: &Passage,
    ) -> Result<bool, FileError> {
        let Passage { title, text, place } = passage;
        let content = digest::sha256(format!("{title}\0{text}").as_bytes());
        if !self.seen.insert(short(&content)) {
            return Ok(false);
        }
        let own = digest::hexadecimal(&content[..ID_BYTES]);
        let given = id.filter(|it| !it.trim().is_empty());
        let given = given.filter(|it| self.ids.insert(short(&digest::sha256(it.as_bytes()))));
        let id = given.unwrap_or(&own);
        let source = origin.path.display().to_string();
        self.kept.push(&PassageRow { id, title, text, source, place: *place })?;
        self.num_passages += 1;
        self.num_words += num_words(text);
        Ok(true)
    }

    /// Counts what is left out, and returns a line about it.
    pub(super) fn skip(
        &mut self,
        origin: Origin<'_>,
        reason: SkipReason,
        detail: Option<&str>,
    ) -> Result<String, FileError> {
        *self.skipped.entry(reason).or_default() += 1;
        let (source, place) = (origin.path.display().to_string(), origin.place);
        let at = place.map_or_else(String::new, |it| format!(", {it}"));
        let said = detail.map_or_else(String::new, |it| format!(" ({it})"));
        let message = format!("{source}{at}: skipped, {reason}{said}; {}", reason.remedy());
        self.left_out.push(&SkippedRow { source, place, reason: reason.to_string(), detail })?;
        Ok(message)
    }

    /// Removes the files, and returns the reasons with remedies.
    pub(super) fn discard(self) -> Result<String, FileError> {
        let reasons: Vec<String> = self
            .skipped
            .iter()
            .map(|(reason, count)| format!("{count} {reason} ({})", reason.remedy()))
            .collect();
        for lines in [self.kept, self.left_out] {
            let path = lines.finish()?;
            std::fs::remove_file(&path).map_err(FileError::io(&path, "remove"))?;
        }
        match reasons.is_empty() {
            true => Ok("nothing, it holds no file".to_owned()),
            false => Ok(reasons.join(", ")),
        }
    }

    /// Finishes the files.
    pub(super) fn finish(
        self,
        settings: PassageSettings,
        inputs: Vec<PassageInput>,
        files: Vec<PassageFile>,
    ) -> Result<PassageManifest, FileError> {
        self.left_out.finish()?;
        let kept = self.kept.finish()?;
        let skipped = self.skipped.iter().map(|(reason, count)| (reason.to_string(), *count));
        Ok(PassageManifest {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settings,
            inputs,
            files,
            skipped: skipped.collect(),
            passages: self.num_passages,
            words: self.num_words,
            sha256: digest::of_file(&kept)?,
        })
    }
}

fn short(digest: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|it| digest[it])
}
