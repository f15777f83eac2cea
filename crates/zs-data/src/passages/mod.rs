//! Passages of users' documents: text, Markdown, HTML and PDF files and corpora, cut to the length that
//! search engines and policies read, in one file that is a corpus itself.

mod cut;
mod files;
mod read;
mod skip;
mod text;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::skip::SkipReason;

use self::cut::{Passage, num_words, passages};
use self::files::Found;
use self::read::{Format, TextFormat};
use self::text::Place;
use self::write::{Origin, PassageWriter};
use crate::{FileError, Note, digest, open_documents, read_regular};

/// Settings of passages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassageSettings {
    /// Maximum number of words of a passage.
    pub max_words: usize,
}

impl Default for PassageSettings {
    /// 100 words, as the passages of Wikipedia of 2018 have.
    fn default() -> Self {
        Self { max_words: 100 }
    }
}

/// Sources and contents of `passages.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassageManifest {
    /// Version of `zs` that built it.
    pub version: String,
    /// Settings that determine the contents.
    pub settings: PassageSettings,
    /// Inputs, in the order in which they were merged.
    pub inputs: Vec<PassageInput>,
    /// Files that were read, in order.
    pub files: Vec<PassageFile>,
    /// Numbers of files, rows and passages that were left out, by reason; `skipped.jsonl` names each.
    pub skipped: BTreeMap<String, usize>,
    /// Passages.
    pub passages: usize,
    /// Their words.
    pub words: usize,
    /// SHA-256 of `passages.jsonl`.
    pub sha256: String,
}

/// An input: a file, or a folder with all that is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassageInput {
    /// Path.
    pub path: PathBuf,
    /// Its passages.
    pub passages: usize,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassageFile {
    /// Path.
    pub path: PathBuf,
    /// SHA-256.
    pub sha256: String,
    /// Its passages.
    pub passages: usize,
}

/// Progress of a build.
#[derive(Debug)]
pub enum PassageEvent<'a> {
    /// The files are listed.
    Listed {
        /// Their number.
        files: usize,
    },
    /// Something is left out.
    Skipped {
        /// Reason.
        reason: SkipReason,
        /// File, place and details, in one line.
        message: &'a str,
    },
    /// Reader's decisions about the rows of a corpus.
    Noted {
        /// File.
        path: &'a Path,
        /// Decisions.
        notes: &'a [Note],
    },
    /// A file is done.
    Read,
}

/// Errors of building passages.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassageError {
    /// An input that is missing, or a file that cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A limit that no passage can keep.
    #[error("`max_words` must be at least 1")]
    MaxWords,
    /// Nothing could be read.
    #[error("nothing readable in {inputs}; skipped: {skipped}")]
    Nothing {
        /// Inputs.
        inputs: String,
        /// Numbers of skipped files by reason, with remedies.
        skipped: String,
    },
}

/// Reads files and folders, cuts their texts into passages, and writes `passages.jsonl` and
/// `skipped.jsonl` into a directory.
///
/// - **Files**: `.txt`, `.md`, `.html`, `.pdf` and corpora, as
///   [`read_documents`](crate::read_documents) knows them. Folders are read recursively, in sorted order.
/// - **Passages** end at headings, paragraphs or sentences, and within a sentence only where it is longer
///   than the limit. Titles are those of the files, with the headings above. A document of a corpus that
///   is short enough keeps its text and id.
/// - **Ids** of other passages are digests of title and text, so they do not depend on other files.
/// - A passage with the title and text of an earlier one is dropped.
///
/// The same inputs give the same bytes.
///
/// # Errors
///
/// Fails on an input that is missing, when nothing can be read, and where a file is there already or
/// cannot be written. Files and rows that cannot be used are counted and named in `skipped.jsonl`.
///
/// ```
/// use zs_data::passages::{PassageSettings, build_passages};
///
/// let folder = tempfile::tempdir()?;
/// let (input, out) = (folder.path().join("notes.txt"), folder.path().join("out"));
/// std::fs::write(&input, "Bamboo is a grass.")?;
/// std::fs::create_dir(&out)?;
/// let manifest = build_passages(&[input], PassageSettings::default(), &out, &mut |_| {})?;
/// assert_eq!((manifest.passages, manifest.words), (1, 4));
/// assert_eq!(zs_data::read_documents(&out.join("passages.jsonl"))?[0].title, "notes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn build_passages(
    inputs: &[PathBuf],
    settings: PassageSettings,
    out: &Path,
    progress: &mut dyn FnMut(PassageEvent<'_>),
) -> Result<PassageManifest, PassageError> {
    if settings.max_words == 0 {
        return Err(PassageError::MaxWords);
    }
    let found = files::list(inputs, out)?;
    progress(PassageEvent::Listed { files: found.len() });
    let writer = PassageWriter::create(out)?;
    let mut build = Build { settings, writer, files: Vec::new(), progress };
    let mut counts = vec![0; inputs.len()];
    for file in &found {
        let before = build.writer.num_passages();
        build.file(file)?;
        counts[file.input] += build.writer.num_passages() - before;
        (build.progress)(PassageEvent::Read);
    }
    let Build { writer, files, .. } = build;
    if writer.num_passages() == 0 {
        let skipped = writer.discard()?;
        let inputs: Vec<String> = inputs.iter().map(|it| it.display().to_string()).collect();
        return Err(PassageError::Nothing { inputs: inputs.join(", "), skipped });
    }
    let input = |(path, passages): (&PathBuf, usize)| PassageInput { path: path.clone(), passages };
    let inputs = inputs.iter().zip(counts).map(input).collect();
    Ok(writer.finish(settings, inputs, files)?)
}

/// Malformed rows at the beginning of a file after which it is no corpus, such as JSON of another kind.
const MAX_MALFORMED: usize = 100;

/// A build under way.
struct Build<'a> {
    settings: PassageSettings,
    writer: PassageWriter,
    files: Vec<PassageFile>,
    progress: &'a mut dyn FnMut(PassageEvent<'_>),
}

impl Build<'_> {
    fn file(&mut self, file: &Found) -> Result<(), FileError> {
        let path = file.path.as_path();
        if let Some((reason, detail)) = &file.skipped {
            return self.skip(path, None, *reason, detail.as_deref());
        }
        let before = self.writer.num_passages();
        let sha256 = match Format::of(path) {
            None => return self.skip(path, None, SkipReason::UnknownFormat, None),
            Some(Format::Rows) => self.rows(path)?,
            Some(Format::Text(format)) => self.text(path, format)?,
        };
        if let Some(sha256) = sha256 {
            let passages = self.writer.num_passages() - before;
            self.files.push(PassageFile { path: path.to_owned(), sha256, passages });
        }
        Ok(())
    }

    /// Reads a file of text, and returns its digest unless it has none.
    fn text(&mut self, path: &Path, format: TextFormat) -> Result<Option<String>, FileError> {
        let bytes = match read_regular(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.skip(path, None, SkipReason::Unreadable, Some(&error.to_string()))?;
                return Ok(None);
            }
        };
        let text = match read::read(format, &bytes) {
            Ok(text) => text,
            Err((reason, detail)) => {
                self.skip(path, None, reason, detail.as_deref())?;
                return Ok(None);
            }
        };
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        for passage in passages(&text, &name, self.settings.max_words) {
            self.passage(path, None, &passage)?;
        }
        Ok(Some(digest::of_bytes(&bytes)))
    }

    /// Reads a corpus, and returns its digest unless it cannot be opened.
    fn rows(&mut self, path: &Path) -> Result<Option<String>, FileError> {
        let mut rows = match open_documents(path) {
            Ok(rows) => rows,
            Err(error) => {
                self.skip(path, None, SkipReason::Unreadable, Some(&error.to_string()))?;
                return Ok(None);
            }
        };
        // Malformed rows before the first document.
        let mut malformed = Vec::new();
        let mut is_corpus = false;
        while let Some(row) = rows.next() {
            let place = Place::Row(rows.row() as u64);
            let document = match row {
                Ok(document) => document,
                Err(error) => {
                    malformed.push((place, error.to_string()));
                    if is_corpus {
                        self.skip_rows(path, &mut malformed)?;
                    } else if malformed.len() == MAX_MALFORMED {
                        break;
                    }
                    continue;
                }
            };
            is_corpus = true;
            self.skip_rows(path, &mut malformed)?;
            if num_words(&document.text) <= self.settings.max_words {
                let passage = Passage { title: document.title, text: document.text, place };
                self.passage(path, Some(&document.id), &passage)?;
                continue;
            }
            let cut =
                passages(&read::plain(&document.text), &document.title, self.settings.max_words);
            for (number, passage) in (1..).zip(cut) {
                let id = format!("{}-{number}", document.id);
                let id = Some(id).filter(|_| !document.id.is_empty());
                self.passage(path, id.as_deref(), &Passage { place, ..passage })?;
            }
        }
        if let Some((_, first)) = malformed.first() {
            self.skip(path, None, SkipReason::Unreadable, Some(first))?;
            return Ok(None);
        }
        let notes = rows.notes();
        if !notes.is_empty() {
            (self.progress)(PassageEvent::Noted { path, notes: &notes });
        }
        digest::of_file(path).map(Some)
    }

    /// Leaves malformed rows out.
    fn skip_rows(
        &mut self,
        path: &Path,
        malformed: &mut Vec<(Place, String)>,
    ) -> Result<(), FileError> {
        malformed.drain(..).try_for_each(|(place, detail)| {
            self.skip(path, Some(place), SkipReason::UnreadableRow, Some(&detail))
        })
    }

    /// Writes a passage, unless it is there already.
    fn passage(
        &mut self,
        path: &Path,
        id: Option<&str>,
        passage: &Passage,
    ) -> Result<(), FileError> {
        let origin = Origin { path, place: Some(passage.place) };
        match self.writer.push(origin, id, passage)? {
            true => Ok(()),
            false => self.skip(path, Some(passage.place), SkipReason::Duplicate, None),
        }
    }

    fn skip(
        &mut self,
        path: &Path,
        place: Option<Place>,
        reason: SkipReason,
        detail: Option<&str>,
    ) -> Result<(), FileError> {
        let message = self.writer.skip(Origin { path, place }, reason, detail)?;
        (self.progress)(PassageEvent::Skipped { reason, message: &message });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
