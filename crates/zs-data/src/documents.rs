//! Corpora of documents.

use std::path::Path;

use serde::Deserialize;
use zs_core::Document;

use crate::{DataError, RowError, RowReader, Rows};

const COLUMNS: [&str; 5] = ["id", "_id", "title", "text", "contents"];

/// Reads a corpus into memory.
///
/// - **Rows**: `{"id", "title", "text"}`, or `{"id", "contents"}` with `"Title"\nText` as contents,
///   the form of Search-R1's Wikipedia dump. Other fields are ignored, `id` may be a number, and a
///   row without text but with a title has the title for its text.
/// - **Files**: all that [`RowReader`] reads: JSON Lines, one JSON array of rows (`HippoRAG`), tables
///   (DPR), Parquet.
///
/// # Errors
///
/// Fails at the first row that is malformed, and when there is none.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("corpus.json");
/// std::fs::write(&path, r#"[{"title": "Bamboo", "text": "A grass."}, {"contents": "\"Oak\"\nA tree."}]"#)?;
/// let documents = zs_data::read_documents(&path)?;
/// assert_eq!((documents[1].title.as_str(), documents[1].text.as_str()), ("Oak", "A tree."));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_documents(path: &Path) -> Result<Vec<Document>, DataError> {
    open_documents(path)?.collect_all()
}

/// Opens a corpus, for reading one document at a time. See [`read_documents`] for its forms.
///
/// # Errors
///
/// As [`RowReader::open`].
pub fn open_documents(path: &Path) -> Result<Rows<Document>, DataError> {
    let rows = RowReader::new("document").with_columns(&COLUMNS).open::<DocumentRow>(path)?;
    Ok(rows.try_map(|row, _| row.into_document()))
}

/// A row as it stands in a file.
#[derive(Debug, Deserialize)]
struct DocumentRow {
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

impl DocumentRow {
    fn into_document(self) -> Result<Document, RowError> {
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
                return Err(RowError::Missing { field: "text", alternatives: "contents" });
            }
        };
        let title = self.title.unwrap_or(title);
        let text = if text.trim().is_empty() { title.clone() } else { text };
        if text.trim().is_empty() {
            return Err(RowError::Empty { field: "text".to_owned() });
        }
        Ok(Document { id, title, text, score: None })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(name: &str, contents: &[u8]) -> Result<Vec<(String, String, String)>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        let documents = read_documents(&path)?;
        Ok(documents.into_iter().map(|it| (it.id, it.title, it.text)).collect())
    }

    /// The same whether compressed or not, and whatever the name says of that.
    #[track_caller]
    fn check(name: &str, contents: &str, expected: Result<&[(&str, &str, &str)], &str>) {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(contents.as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(contents.as_bytes(), 1).unwrap();
        for contents in [contents.as_bytes(), &gzip, &zstd] {
            match (read(name, contents), expected) {
                (Ok(documents), Ok(rows)) => {
                    let read: Vec<_> = documents
                        .iter()
                        .map(|(id, title, text)| (id.as_str(), title.as_str(), text.as_str()))
                        .collect();
                    assert_eq!(read, rows);
                }
                (Err(error), Err(expected)) => {
                    let message = error.to_string();
                    assert!(message.contains(name), "{message}");
                    assert!(message.contains(expected), "{message}");
                }
                (read, expected) => panic!("{read:?} is not {expected:?}"),
            }
        }
    }

    #[test]
    fn reads_every_form_and_names_what_is_wrong() {
        let rows = "\u{feff}{\"id\":\"a\",\"title\":\"T\",\"text\":\"x\"}\r\n\n\
            {\"id\":7,\"contents\":\"\\\"Some Title\\\"\\nBody\\nmore\"}\n{\"contents\":\"plain\"}";
        let expected = [("a", "T", "x"), ("7", "Some Title", "Body\nmore"), ("", "", "plain")];
        for name in ["c.jsonl", "c.jsonl.gz", "c.json", "corpus"] {
            check(name, rows, Ok(&expected));
        }
        let array = "[{\"title\":\"T\",\"text\":\"x\"}, {\"id\":3,\"text\":\"y\"}]\n";
        for name in ["c.json", "c.jsonl.zst", "corpus.dump"] {
            check(name, array, Ok(&[("", "T", "x"), ("3", "", "y")]));
        }
        // DPR's passages, whose header calls the column of a question something else.
        let table = "id\ttext\ttitle\n1\t\"x \"\"y\"\"\"\tT\n";
        check("c.tsv", table, Ok(&[("1", "T", "x \"y\"")]));
        check("c.jsonl", "{\"title\":\"T\",\"text\":\" \"}", Ok(&[("", "T", "T")]));
        check("c.jsonl", "", Err("holds no document"));
        check("c.json", "\n  \n", Err("holds no document"));
        check("c.json", "[]", Err("holds no document"));
        check(
            "c.jsonl",
            "{\"text\":\"x\"}\n{\"id\":\"a\"}\n",
            Err("row 2: field `text` is missing"),
        );
        check(
            "c.json",
            "\n{\"text\":\"x\"}\n{\"text\":\"\"}\n",
            Err("row 3: field `text` is empty"),
        );
        check("c.jsonl", "{\"text\":\"x\"}\n{oops\n", Err("row 2: not a document"));
        check(
            "c.jsonl",
            "{\"text\":\"x\"}\n{\"text\":5}",
            Err("row 2: not a document: field `text`"),
        );
        check("c.json", "[{\"text\":\"x\"}, 3]", Err("row 2: not a document"));
        check("c.json", "[{\"text\":\"x\"}, {\"text\":\"y\"", Err("row 2: the file ends"));
        check("c.json", "[{\"text\":\"x\"}] []", Err("row 2: there is text after the array"));
        let not_utf8 = read("c.jsonl", b"{\"text\":\"x\"}\n\xff\xfe\n").unwrap_err().to_string();
        assert!(not_utf8.ends_with("row 2: the row is not UTF-8; convert the file"), "{not_utf8}");
        let missing = read_documents(Path::new("no-such-corpus.jsonl")).unwrap_err();
        assert!(missing.to_string().starts_with("no-such-corpus.jsonl: cannot be read"));
    }

    #[test]
    fn progress_grows_with_the_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corpus.jsonl");
        let text = "{\"text\":\"a\"}\n".repeat(50_000);
        std::fs::write(&path, text).unwrap();
        let mut documents = open_documents(&path).unwrap();
        assert!(documents.next().unwrap().is_ok());
        let start = documents.fraction();
        assert_eq!(documents.by_ref().count(), 49_999);
        assert!(start < 0.5 && documents.fraction() == 1.0, "{start} {}", documents.fraction());
    }
}
