//! Failure to embed a corpus or to open its vectors.

use std::path::PathBuf;

use zs_core::SearchError;
use zs_data::{DataError, FileError};

use crate::Bm25Error;

/// Failure to embed a corpus, or to open a dense index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DenseError {
    /// The corpus could not be read.
    #[error(transparent)]
    Corpus(#[from] DataError),
    /// The documents of the index, or those of its corpus, cannot be read.
    #[error(transparent)]
    Documents(#[from] Bm25Error),
    /// A file could not be written or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is nothing to embed.
    #[error("{path}: the corpus has no documents", path = path.display())]
    EmptyCorpus {
        /// The corpus.
        path: PathBuf,
    },
    /// The folder for new vectors has something else in it.
    #[error(
        "{path}: holds something else than the vectors of this corpus by this model; name a new \
         folder, or remove it",
        path = path.display()
    )]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The remains of an interrupted build belong to another corpus or model.
    #[error(
        "{path}: left by a build of another corpus, of an older state of this one, by another model or \
         with other settings; remove it to start again",
        path = path.display()
    )]
    OtherBuild {
        /// The folder of the interrupted build.
        path: PathBuf,
    },
    /// Another process is writing the same vectors.
    #[error("{path}: another process is writing these vectors", path = path.display())]
    Busy {
        /// The folder of the running build.
        path: PathBuf,
    },
    /// The model has no vector for a document.
    #[error("{path}: document {number} cannot be embedded: {source}", path = path.display())]
    Embed {
        /// The corpus.
        path: PathBuf,
        /// Number of the document, from 1.
        number: u64,
        /// The embedder's error.
        source: SearchError,
    },
    /// The vector of a document has another length than the others.
    #[error(
        "{path}: the vector of document {number} has {found} dimensions, not {expected}; use one model",
        path = path.display()
    )]
    Dimension {
        /// The corpus.
        path: PathBuf,
        /// Number of the document, from 1.
        number: u64,
        /// Its dimensions.
        found: usize,
        /// Dimensions of the others.
        expected: usize,
    },
    /// The vector of a document has a number that is not finite.
    #[error(
        "{path}: the vector of document {number} is not finite; use a model with finite weights",
        path = path.display()
    )]
    NotFinite {
        /// The corpus.
        path: PathBuf,
        /// Number of the document, from 1.
        number: u64,
    },
    /// The folder holds no vectors that this version reads.
    #[error("{path}: no vectors of `zs` ({message}); embed the corpus again", path = path.display())]
    NotVectors {
        /// The folder or file.
        path: PathBuf,
        /// Problem.
        message: String,
    },
    /// The index has no vectors.
    #[error(
        "{path}: the index has no vectors; add them with `zs index build --dense MODEL`",
        path = path.display()
    )]
    NoVectors {
        /// The index.
        path: PathBuf,
    },
    /// A file of vectors is not as it was written.
    #[error("{path}: damaged or cut short; embed the corpus again", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The vectors are not those of the index's documents.
    #[error(
        "{path}: {vectors} vectors for {documents} documents; build the index again",
        path = path.display()
    )]
    Count {
        /// The folder of the vectors.
        path: PathBuf,
        /// Number of vectors.
        vectors: usize,
        /// Number of documents.
        documents: usize,
    },
    /// The model is not the one that the corpus was embedded with.
    #[error(
        "{path}: embedded with another model ({embedded}) than the one that embeds queries ({queries}): \
         set `model` to the model that the index was built with, or build it again",
        path = path.display()
    )]
    OtherModel {
        /// The folder of the vectors.
        path: PathBuf,
        /// Identity of the model of the passages.
        embedded: String,
        /// Identity of the model of the queries.
        queries: String,
    },
    /// The model of the queries has vectors of another length.
    #[error(
        "{path}: vectors have {index} dimensions, those of the model of queries {queries}",
        path = path.display()
    )]
    QueryDimension {
        /// The folder of the vectors.
        path: PathBuf,
        /// Dimensions of the passages.
        index: usize,
        /// Dimensions of the queries.
        queries: usize,
    },
}
