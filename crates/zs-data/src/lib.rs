//! Readers of files that others wrote: corpora of documents in JSON Lines, JSON arrays and Parquet,
//! and JSON Lines of any rows. Errors name file, row and field.
//!
//! - [`read_corpus`], [`for_each_document`]: documents, in memory or one at a time.
//! - [`read_rows`], [`parse_rows`]: JSON Lines.
//! - [`write_atomic`], [`JsonLinesWriter`]: files whole, or line by line; [`digest`]: their SHA-256.
//!
//! **Invariant:** no tensor framework is reached from here.
//!
//! ```
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("corpus.jsonl");
//! std::fs::write(&path, r#"{"id": "a", "title": "Oak", "text": "A tree."}"#)?;
//! let documents = zs_data::read_corpus(&path)?;
//! assert_eq!(documents[0].title, "Oak");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod corpus;
pub mod digest;
mod jsonl;
mod write;

pub use corpus::{CorpusError, Visit, for_each_document, read_corpus};
pub use jsonl::{JsonLinesError, parse_rows, read_rows};
pub use write::{FileError, JsonLinesWriter, read_whole_rows, write_atomic, write_json};
