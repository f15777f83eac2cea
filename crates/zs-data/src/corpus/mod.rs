//! Reading a corpus of documents: JSON Lines, JSON arrays and Parquet, packed or not, one document
//! at a time.

mod json;
mod parquet;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use zs_core::Document;

/// Why a corpus could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// The file cannot be opened, read or unpacked.
    #[error("{path}: cannot be read", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's own error.
        #[source]
        source: std::io::Error,
    },
    /// A row is not UTF-8.
    #[error("{path}, row {row}: not UTF-8", path = path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The row, from 1.
        row: usize,
    },
    /// A row is not a JSON object of the right form.
    #[error("{path}, row {row}: not a document: {source}", path = path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The row, from 1.
        row: usize,
        /// The parser's own error, which names the field.
        #[source]
        source: serde_json::Error,
    },
    /// A row lacks a field.
    #[error("{path}, row {row}: {problem}", path = path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The row, from 1.
        row: usize,
        /// Which field is missing or unusable, and what to write.
        problem: String,
    },
    /// The file is not Parquet, or a part of it cannot be decoded.
    #[error("{path}, after row {row}: not readable as Parquet", path = path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The last row that was read; 0 is none.
        row: usize,
        /// The reader's own error.
        #[source]
        source: ::parquet::errors::ParquetError,
    },
    /// There is no row at all.
    #[error("{path}: no document in it", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a corpus into memory.
///
/// - **Rows**: `{"id", "title", "text"}`, or `{"id", "contents"}` with `"Title"\nText` as contents,
///   the form of Search-R1's Wikipedia dump. Other fields are ignored, `id` may be a number, and a
///   row without text but with a title has the title for its text.
/// - **Files**: JSON Lines, one JSON array of rows (HippoRAG's form), or Parquet with these columns.
///   The first bytes say which it is, not the name; JSON may be packed with gzip.
///
/// # Errors
///
/// Fails at the first row that is malformed, and when there is none.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("corpus.json");
/// std::fs::write(&path, r#"[{"title": "Bamboo", "text": "A grass."}, {"contents": "\"Oak\"\nA tree."}]"#)?;
/// let documents = zs_data::read_corpus(&path)?;
/// assert_eq!((documents[1].title.as_str(), documents[1].text.as_str()), ("Oak", "A tree."));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_corpus(path: &Path) -> Result<Vec<Document>, CorpusError> {
    let mut documents = Vec::new();
    for_each_document(path, &mut |document, _| {
        documents.push(document);
        ControlFlow::Continue(())
    })?;
    if documents.is_empty() {
        return Err(CorpusError::Empty { path: path.to_owned() });
    }
    Ok(documents)
}

/// What is done with a document and the part of the file that has been read, in [0, 1].
pub type Visit<'a> = dyn FnMut(Document, f64) -> ControlFlow<()> + 'a;

/// Shows every document of a corpus, in order, until told to stop; keeps none in memory.
///
/// # Errors
///
/// As [`read_corpus`], but for a corpus without documents.
pub fn for_each_document(path: &Path, visit: &mut Visit<'_>) -> Result<(), CorpusError> {
    let unreadable = |source| CorpusError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let total = file.metadata().map_err(unreadable)?.len();
    let read = Arc::new(AtomicU64::new(0));
    let counted = Counted { file, read: Arc::clone(&read) };
    let mut reader = BufReader::with_capacity(1 << 18, counted);
    let start = reader.fill_buf().map_err(unreadable)?;
    if start.starts_with(b"PAR1") {
        return parquet::for_each_row(path, visit);
    }
    let is_packed = start.starts_with(&[0x1f, 0x8b]);
    let fraction = || (read.load(Ordering::Relaxed) as f64 / total.max(1) as f64).min(1.0);
    let mut show = |document| visit(document, fraction());
    if is_packed {
        let unpacked = MultiGzDecoder::new(reader);
        json::for_each_row(path, BufReader::with_capacity(1 << 18, unpacked), &mut show)
    } else {
        json::for_each_row(path, reader, &mut show)
    }
}

/// A file that says how much of it has been read.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// A row as it stands in a file.
#[derive(Debug, Default, Deserialize)]
struct Row {
    #[serde(default, alias = "_id")]
    id: Option<Id>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    contents: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(i64),
}

impl Row {
    fn into_document(self) -> Result<Document, String> {
        let id = match self.id {
            Some(Id::Text(id)) => id,
            Some(Id::Number(id)) => id.to_string(),
            None => String::new(),
        };
        let (title, text) = match (self.text, self.contents) {
            (Some(text), _) => (String::new(), text),
            (None, Some(contents)) => match contents.split_once('\n') {
                Some((title, text)) => (title.trim().trim_matches('"').to_owned(), text.to_owned()),
                None => (String::new(), contents),
            },
            (None, None) => {
                return Err("no field `text` or `contents`; write {\"id\", \"title\", \"text\"} \
                            or {\"id\", \"contents\"}"
                    .to_owned());
            }
        };
        let title = self.title.unwrap_or(title);
        let text = if text.trim().is_empty() { title.clone() } else { text };
        if text.trim().is_empty() {
            return Err("neither title nor text has anything in it".to_owned());
        }
        Ok(Document { id, title, text, score: None })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(contents: &[u8]) -> Result<Vec<(String, String, String)>, CorpusError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corpus.jsonl");
        std::fs::write(&path, contents).unwrap();
        let documents = read_corpus(&path)?;
        Ok(documents.into_iter().map(|it| (it.id, it.title, it.text)).collect())
    }

    /// The same whether packed or not.
    #[track_caller]
    fn check(contents: &[u8], expected: Result<&[(&str, &str, &str)], &str>) {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(contents).unwrap();
        for contents in [contents.to_vec(), packed.finish().unwrap()] {
            match (read(&contents), expected) {
                (Ok(documents), Ok(rows)) => {
                    let read: Vec<_> = documents
                        .iter()
                        .map(|(id, title, text)| (id.as_str(), title.as_str(), text.as_str()))
                        .collect();
                    assert_eq!(read, rows);
                }
                (Err(error), Err(expected)) => {
                    let message = error.to_string();
                    assert!(message.contains("corpus.jsonl"), "{message}");
                    assert!(message.contains(expected), "{message}");
                }
                (read, expected) => panic!("{read:?} is not {expected:?}"),
            }
        }
    }

    #[test]
    fn reads_both_forms_and_names_what_is_wrong() {
        let rows = b"{\"id\":\"a\",\"title\":\"T\",\"text\":\"x\"}\n\n\
            {\"id\":7,\"contents\":\"\\\"Some Title\\\"\\nBody\\nmore\"}\n{\"contents\":\"plain\"}";
        let read = [("a", "T", "x"), ("7", "Some Title", "Body\nmore"), ("", "", "plain")];
        check(rows, Ok(&read));
        check(b"{\"title\":\"T\",\"text\":\" \"}", Ok(&[("", "T", "T")]));
        check(b"", Err("no document"));
        check(b"\n  \n", Err("no document"));
        check(b"{\"text\":\"x\"}\n{\"id\":\"a\"}\n", Err("row 2: no field `text`"));
        check(b"\n{\"text\":\"x\"}\n{\"text\":\"\"}\n", Err("row 3: neither title nor text"));
        check(b"{\"text\":\"x\"}\n{oops\n", Err("row 2: not a document"));
        check(b"{\"text\":\"x\"}\n\xff\xfe\n", Err("row 2: not UTF-8"));
        let missing = read_corpus(Path::new("no-such-corpus.jsonl")).unwrap_err();
        assert!(missing.to_string().starts_with("no-such-corpus.jsonl"));
    }

    #[test]
    fn reads_arrays() {
        let rows = [("", "T", "x"), ("3", "", "y")];
        check(b"[{\"title\":\"T\",\"text\":\"x\"}, {\"id\":3,\"text\":\"y\"}]", Ok(&rows));
        check(b" \n [\n {\"title\":\"T\",\"text\":\"x\"},{\"id\":3,\"text\":\"y\"}]\n", Ok(&rows));
        check(b"[]", Err("no document"));
        check(b"[{\"text\":\"x\"}, {\"id\":3}]", Err("row 2: no field `text`"));
        check(b"[{\"text\":\"x\"}, 3]", Err("row 2: not a document"));
        check(b"[{\"text\":\"x\"}, {\"text\":\"y\"", Err("row 2: not a document"));
        check(b"[{\"text\":\"x\"}] []", Err("row 2: not a document"));
    }

    #[test]
    fn a_reader_may_stop() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("lines.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\"}\n{oops\n"),
            ("array.json", "[{\"text\":\"a\"},{\"text\":\"b\"},{oops"),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let mut seen = Vec::new();
            for_each_document(&path, &mut |document, fraction| {
                assert!((0.0..=1.0).contains(&fraction));
                seen.push(document.text);
                if seen.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
            assert_eq!(seen, ["a", "b"]);
        }
    }
}
