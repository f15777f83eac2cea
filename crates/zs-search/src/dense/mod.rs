//! Dense retrieval: vectors of passages, searched exactly by inner product.

mod build;
mod error;
mod exact;
mod files;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zs_core::{
    Document, Embedder, EngineScope, SearchEngine, SearchError, SearchRequest, SearchResult,
    TextRole,
};

pub use self::build::{EmbeddingBuild, EmbeddingProgress, EmbeddingSummary};
pub use self::error::DenseError;
pub(crate) use self::files::MANIFEST;

use self::exact::nearest;
use self::files::Manifest;
use crate::Bm25Engine;

const NAME: &str = "dense";

/// Folder of the vectors inside an index.
pub const VECTORS_DIR: &str = "dense";

/// Passages of an index by the inner products of their vectors with that of the query.
///
/// ```text
/// score(q, d) = v(q) . v(d)
/// ```
///
/// The index is one of `zs index build`, which stores the documents, with the vectors of
/// [`EmbeddingBuild`] in its folder [`VECTORS_DIR`]. All vectors are in memory and all are compared, so
/// that no passage is missed; equal scores keep the order of the documents. The model must be the one
/// that embedded the passages. An empty query finds nothing.
///
/// # References
///
/// - Karpukhin et al. (2020), *Dense Passage Retrieval for Open-Domain Question Answering*, section 3.1
#[derive(Debug)]
pub struct DenseEngine {
    documents: Bm25Engine,
    vectors: Vectors,
    embedder: Arc<dyn Embedder>,
}

/// Matrix of vectors, row by row.
struct Vectors {
    values: Vec<f32>,
    dimension: usize,
}

impl std::fmt::Debug for Vectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vectors").field("dimension", &self.dimension).finish_non_exhaustive()
    }
}

impl DenseEngine {
    /// Opens an index with vectors. Every file is read once, and compared with its digest.
    ///
    /// # Errors
    ///
    /// Fails when the folder holds no index with vectors, a file is damaged, there are more vectors than
    /// documents or fewer, or the passages were embedded by another model.
    pub fn open(index: &Path, embedder: Arc<dyn Embedder>) -> Result<Self, DenseError> {
        let (dir, manifest) = (index.join(VECTORS_DIR), manifest_of(index)?);
        let queries = embedder.identity();
        let embedded = manifest.plan.identity.clone();
        if queries != embedded {
            return Err(DenseError::OtherModel { path: dir, embedded, queries });
        }
        let documents = Bm25Engine::open(index)?;
        let (vectors, num_documents) = (manifest.num_vectors, documents.num_documents());
        if vectors != num_documents {
            return Err(DenseError::Count { path: dir, vectors, documents: num_documents });
        }
        let dimension = manifest.plan.dimension;
        let vectors = Vectors { values: manifest.vectors(&dir)?, dimension };
        Ok(Self { documents, vectors, embedder })
    }

    /// The place of the model that embedded the passages of an index.
    ///
    /// # Errors
    ///
    /// Fails when the index has no vectors, or none of this version.
    pub fn model_of(index: &Path) -> Result<PathBuf, DenseError> {
        Ok(manifest_of(index)?.plan.model)
    }

    /// Vector of a query, if the model has one of the index's length.
    fn checked(&self, vector: Vec<f32>, query: &str) -> Result<Vec<f32>, SearchError> {
        let (index, queries) = (self.vectors.dimension, vector.len());
        match index == queries {
            true => Ok(vector),
            false => {
                let path = VECTORS_DIR.into();
                Err(failed(query, DenseError::QueryDimension { path, index, queries }))
            }
        }
    }

    fn documents(&self, query: &str, found: &[(usize, f32)]) -> SearchResult {
        let document = |(position, score): &(usize, f32)| {
            let found = self.documents.document_at(*position);
            let document = found.map_err(|it| failed(query, it))?;
            Ok(Document { score: Some(*score), ..document })
        };
        found.iter().map(document).collect()
    }
}

fn manifest_of(index: &Path) -> Result<Manifest, DenseError> {
    let manifest = Manifest::read(&index.join(VECTORS_DIR))?;
    manifest.ok_or_else(|| DenseError::NoVectors { path: index.to_owned() })
}

fn failed(query: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SearchError {
    SearchError::Engine { engine: NAME.to_owned(), query: query.to_owned(), source: source.into() }
}

impl SearchEngine for DenseEngine {
    fn name(&self) -> &str {
        NAME
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let asks = |it: &SearchRequest<'_>| it.k > 0 && !it.query.trim().is_empty();
        let asking: Vec<&SearchRequest<'_>> = requests.iter().filter(|it| asks(it)).collect();
        let queries: Vec<&str> = asking.iter().map(|it| it.query).collect();
        let seed = requests.first().map_or(0, |it| it.seed);
        let vectors = self.embedder.embed(&queries, TextRole::Query, seed).into_iter();
        let vectors: Vec<Result<Vec<f32>, SearchError>> = vectors
            .zip(&queries)
            .map(|(vector, query)| vector.and_then(|it| self.checked(it, query)))
            .collect();
        let usable: Vec<&[f32]> = vectors.iter().flatten().map(Vec::as_slice).collect();
        let k = asking.iter().map(|it| it.k).max().unwrap_or(0);
        let mut found =
            nearest(&self.vectors.values, self.vectors.dimension, &usable, k).into_iter();
        let mut answers = vectors.into_iter().zip(asking).map(|(vector, request)| {
            vector?;
            let found = found.next().unwrap_or_default();
            self.documents(request.query, &found[..found.len().min(request.k)])
        });
        let answer = |it: &SearchRequest<'_>| match asks(it) {
            true => answers.next().unwrap_or_else(|| Ok(Vec::new())),
            false => Ok(Vec::new()),
        };
        requests.iter().map(answer).collect()
    }

    fn scope(&self) -> EngineScope {
        EngineScope::Query
    }
}

#[cfg(test)]
mod tests;
