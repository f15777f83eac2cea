//! Corpora of documents.

pub(crate) mod row;

use std::path::Path;

use zs_core::Document;

use self::row::DocumentRow;
use crate::{DataError, Note, ReadReport, RowReader, Rows};

const COLUMNS: [&str; 11] = [
    "id",
    "_id",
    "title",
    "text",
    "contents",
    "passage",
    "content",
    "docid",
    "doc_id",
    "pid",
    "passage_id",
];

/// Documents of a file, with decisions of the reader.
#[derive(Debug)]
pub struct Corpus {
    /// Documents that are not empty.
    pub documents: Vec<Document>,
    /// Decisions about rows that are not in the plainest form.
    pub notes: Vec<Note>,
}

/// Reads a corpus into memory.
///
/// - **Rows**: `{"id", "title", "text"}`, or `{"id", "contents"}` with `"Title"\nText` as contents,
///   the form of Search-R1's Wikipedia dump ([`Document::split_contents`]); `passage` and `content` are
///   texts too, `docid`, `doc_id`, `pid` and `passage_id` ids. Names may have any case, other fields are
///   ignored, values may be numbers or null. A blank field counts as absent. A row without text but with
///   a title has the title for its text; a row without both is left out.
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
    Ok(read_corpus(path)?.documents)
}

/// Reads a corpus into memory, with the decisions of the reader. See [`read_documents`] for its forms.
///
/// # Errors
///
/// As [`read_documents`].
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("corpus.jsonl");
/// std::fs::write(&path, "{\"title\": \"\", \"text\": \"\"}\n{\"text\": \"A tree.\"}\n")?;
/// let corpus = zs_data::read_corpus(&path)?;
/// assert_eq!((corpus.documents.len(), corpus.notes[0].count), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_corpus(path: &Path) -> Result<Corpus, DataError> {
    let (documents, ReadReport { notes, .. }) = open_documents(path)?.collect_reported(false)?;
    Ok(Corpus { documents, notes })
}

/// Opens a corpus, for reading one document at a time. See [`read_documents`] for its forms.
///
/// # Errors
///
/// As [`RowReader::open`].
pub fn open_documents(path: &Path) -> Result<Rows<Document>, DataError> {
    let rows = RowReader::new("document").with_columns(&COLUMNS).open::<DocumentRow>(path)?;
    Ok(rows.try_filter_map(DocumentRow::into_document))
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
        check("c.jsonl", "{\"title\":null,\"text\":\"\"}\n", Err("holds no document"));
        let odd = "{\"_id\":\"3\",\"title\":\"\",\"text\":\"\"}\n{\"ID\":1,\"_id\":2,\"Title\":1984,\"text\":5}\n";
        check("c.jsonl", odd, Ok(&[("1", "1984", "5")]));
        check(
            "c.jsonl",
            "{\"text\":\"x\"}\n{\"id\":\"a\"}\n",
            Err("row 2: field `text` is missing"),
        );
        check("c.jsonl", "{\"text\":\"x\"}\n{oops\n", Err("row 2: not a document"));
        check(
            "c.jsonl",
            "{\"text\":\"x\"}\n{\"text\":[5]}",
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
