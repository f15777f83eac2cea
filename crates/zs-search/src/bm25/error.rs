//! Failure to build or open an index.

use std::path::PathBuf;

use tantivy::TantivyError;

use zs_data::{DataError, FileError};

use super::Bm25Language;

/// Failure to build or open an index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Bm25Error {
    /// There is nothing to search.
    #[error("the corpus has no documents")]
    EmptyCorpus,
    /// The corpus could not be read.
    #[error(transparent)]
    Corpus(#[from] DataError),
    /// The folder for a new index has something in it.
    #[error("{path}: not empty; name a new folder for the index", path = path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The remains of an interrupted build belong to another corpus or other settings.
    #[error(
        "{path}: left by a build of another corpus, of an older state of this one, or with other \
         settings; remove it to start again",
        path = path.display()
    )]
    OtherBuild {
        /// The folder of the interrupted build.
        path: PathBuf,
    },
    /// Another process is building the same index.
    #[error("{path}: another process is building this index", path = path.display())]
    Busy {
        /// The folder of the running build.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{path}: could not be written or read", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's own error.
        #[source]
        source: std::io::Error,
    },
    /// The folder holds no index that this version can search.
    #[error("{path}: not an index of `zs` ({message}); build it again", path = path.display())]
    NotAnIndex {
        /// The folder.
        path: PathBuf,
        /// Problem.
        message: String,
    },
    /// The index has another language than the settings.
    #[error(
        "the index is in the language `{found}`, not `{asked}`; remove `language`, or build the index \
         again"
    )]
    OtherLanguage {
        /// Language of the settings.
        asked: Bm25Language,
        /// Language of the index.
        found: Bm25Language,
    },
    /// A file of the index is not as it was written.
    #[error("{path}: damaged; build the index again", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A file of the index could not be digested.
    #[error(transparent)]
    Digest(#[from] FileError),
    /// tantivy failed.
    #[error("{place}: indexing failed")]
    Index {
        /// The folder, or that the index is in memory.
        place: String,
        /// tantivy's own error.
        #[source]
        source: TantivyError,
    },
}
