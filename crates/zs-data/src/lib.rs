//! Readers for files from elsewhere, and question sources by name: any rows, questions and
//! documents in JSON Lines, JSON arrays, CSV, TSV and Parquet, plain or compressed. Errors name file,
//! row and field.
//!
//! - [`RowReader`], [`Rows`]: rows of any type that serde reads.
//! - [`read_questions`], [`read_question_set`], [`open_questions`]: questions.
//! - [`read_documents`], [`read_corpus`], [`open_documents`]: documents of a corpus.
//! - [`open_episodes`], [`read_queries`]: recorded episodes, lists of queries.
//! - [`open_episode_rows`], [`recorded_transcript`]: whole episodes as text, as chats or with tags.
//! - [`Note`]: a decision of a reader about rows that are not in the plainest form, with its count.
//! - [`QuestionSource`], [`register_question_sources`]: questions of a run file.
//! - `hub`, with the feature of that name: files of the Hugging Face hub.
//! - `passages`, with the feature of that name: passages of text, Markdown, HTML and PDF files.
//! - [`open_regular`], [`read_regular`]: files that other files name.
//! - [`write_atomic`], [`JsonLinesWriter`]: writing files at once, or line by line; [`digest`]: their
//!   SHA-256.
//!
//! **Invariant:** this crate does not depend on a tensor framework, even indirectly.
//!
//! ```
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("corpus.jsonl");
//! std::fs::write(&path, r#"{"id": "a", "title": "Oak", "text": "A tree."}"#)?;
//! let documents = zs_data::read_documents(&path)?;
//! assert_eq!(documents[0].title, "Oak");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod digest;
mod documents;
mod episodes;
mod error;
#[cfg(feature = "hub")]
pub mod hub;
#[cfg(feature = "passages")]
pub mod passages;
mod questions;
mod regular;
mod rows;
mod transcripts;
mod write;

pub use documents::{Corpus, open_documents, read_corpus, read_documents};
pub use episodes::{RecordedEpisode, RecordedTurn, open_episodes, open_queries, read_queries};
pub use error::{DataError, RowError};
pub use questions::{
    DistinctQuestions, Fields, QuestionFile, QuestionSet, QuestionSource, distinct_ids,
    distinct_questions, note_prediction, open_episode_rows, open_question_rows, open_questions,
    read_question_set, read_questions, register_question_sources, scored_question,
};
pub use regular::{open_regular, read_regular, read_regular_text};
pub use rows::notes::{Note, NoteKind, NoteLevel};
pub use rows::{MAX_LINE_BYTES, ReadReport, RowContext, RowReader, Rows, SkippedRows};
pub use transcripts::{Dump, RecordedTranscript, recorded_transcript};
pub use write::{
    FileError, JsonLinesWriter, count_whole_lines, create_dir, read_json, read_whole_rows,
    sync_dir, write_atomic, write_json,
};
