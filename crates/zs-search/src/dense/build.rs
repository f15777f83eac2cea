//! Vectors of a corpus on disk, written in shards, so that an interrupted build resumes where it
//! stopped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zs_core::{Document, Embedder, TextRole};
use zs_data::{
    FileError, Note, Rows, create_dir, digest, open_documents, read_json, read_regular, sync_dir,
    write_atomic, write_json,
};

use super::DenseError;
use super::files::{
    MANIFEST, Manifest, ShardEntry, VERSION, VectorPlan, has_shape, npy, shard_name,
};
use crate::corpus_file::{CorpusFile, absolute};

/// The file that a running build holds a lock on.
const LOCK: &str = "lock";
/// The file with the plan of an unfinished build.
const PLAN: &str = "plan.json";
/// Documents that are embedded at once.
const CHUNK: usize = 1024;

/// Embedding of a corpus file into a folder of vectors.
///
/// The corpus is read once, as a stream. A folder holds `vectors-00000.npy` and so on, matrices of f32
/// with one row a document in the order of the corpus, and the manifest `vectors.json` with the digests
/// of model, documents and files. Until all is written, it is named `OUT.partial`. A build that was
/// interrupted is taken up by building again, to the same bytes: finished files are kept, if corpus,
/// model and settings are the same.
///
/// A document is embedded as its title, a line feed and its text, or as its text if it has no title.
///
/// ```
/// use zs_core::{EmbedResult, Embedder, TextRole};
/// use zs_search::EmbeddingBuild;
///
/// #[derive(Debug)]
/// struct Length;
///
/// impl Embedder for Length {
///     fn embed(&self, texts: &[&str], _: TextRole, _: u64) -> Vec<EmbedResult> {
///         texts.iter().map(|it| Ok(vec![it.len() as f32])).collect()
///     }
///
///     fn identity(&self) -> String {
///         "length".to_owned()
///     }
/// }
///
/// let folder = tempfile::tempdir()?;
/// let corpus = folder.path().join("corpus.jsonl");
/// std::fs::write(&corpus, "{\"title\": \"Bamboo\", \"text\": \"A grass.\"}\n")?;
/// let out = folder.path().join("vectors");
/// let build = EmbeddingBuild::new(&corpus, "length".as_ref(), &out);
/// let summary = build.run(&Length, &mut |_| {})?;
/// assert_eq!((summary.num_vectors, summary.dimension), (1, 1));
/// assert!(out.join("vectors-00000.npy").is_file());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct EmbeddingBuild {
    corpus: PathBuf,
    model: PathBuf,
    out: PathBuf,
    shard_size: usize,
}

/// Progress of a build.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmbeddingProgress {
    /// Documents embedded so far.
    pub num_documents: u64,
    /// The part of the corpus that has been read, in [0, 1].
    pub fraction: f64,
}

/// Result of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddingSummary {
    /// Vectors in the folder.
    pub num_vectors: u64,
    /// Of those, how many an earlier build had written already.
    pub num_resumed: u64,
    /// Length of the vectors.
    pub dimension: usize,
    /// Decisions of the reader of the corpus.
    pub notes: Vec<Note>,
}

impl EmbeddingBuild {
    /// A build of the folder `out` from a corpus in any form that
    /// [`read_documents`](zs_data::read_documents) knows; `model` is where queries find the model.
    #[must_use]
    pub fn new(corpus: &Path, model: &Path, out: &Path) -> Self {
        let [corpus, model, out] = [corpus, model, out].map(Path::to_owned);
        Self { corpus, model, out, shard_size: 1 << 14 }
    }

    /// The same with another number of documents a file: what is lost when a build is interrupted.
    #[must_use]
    pub fn with_shard_size(mut self, documents: usize) -> Self {
        self.shard_size = documents.max(1);
        self
    }

    /// Embeds the corpus, or resumes an interrupted build. A folder that the same build has finished is
    /// left as it is.
    ///
    /// # Errors
    ///
    /// Fails when the corpus has a malformed row or none, a document cannot be embedded, `out` holds
    /// something else, another build is under way, what an interrupted build left belongs to another
    /// corpus or model, or a file cannot be written.
    pub fn run(
        &self,
        embedder: &dyn Embedder,
        progress: &mut dyn FnMut(EmbeddingProgress),
    ) -> Result<EmbeddingSummary, DenseError> {
        let plan = self.plan(embedder)?;
        if let Some(summary) = self.finished(&plan)? {
            return Ok(summary);
        }
        let partial = self.out.with_added_extension("partial");
        create_dir(&partial).map_err(FileError::io(&partial, "create the directory"))?;
        let lock = File::create(partial.join(LOCK)).map_err(FileError::io(&partial, "write"))?;
        if lock.try_lock().is_err() {
            return Err(DenseError::Busy { path: partial });
        }
        keep_plan(&plan, &partial)?;
        let (manifest, num_resumed, notes) = self.shards(&plan, &partial, embedder, progress)?;
        write_json(&partial.join(MANIFEST), &manifest)?;
        for name in [PLAN, LOCK] {
            let path = partial.join(name);
            fs::remove_file(&path).map_err(FileError::io(&path, "be removed"))?;
        }
        if self.out.exists() {
            fs::remove_dir(&self.out).map_err(FileError::io(&self.out, "be replaced"))?;
        }
        fs::rename(&partial, &self.out).map_err(FileError::io(&self.out, "be renamed"))?;
        let parent = self.out.parent().filter(|it| !it.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        sync_dir(parent).map_err(FileError::io(parent, "be synced"))?;
        Ok(EmbeddingSummary {
            num_vectors: manifest.num_vectors as u64,
            num_resumed,
            dimension: plan.dimension,
            notes,
        })
    }

    fn plan(&self, embedder: &dyn Embedder) -> Result<VectorPlan, DenseError> {
        let corpus = CorpusFile::of(&self.corpus)
            .map_err(|(_, source)| FileError::io(&self.corpus, "be read")(source))?;
        let probe = embedder.embed(&["dimension"], TextRole::Passage, 0).into_iter().next();
        let probe = probe
            .unwrap_or_else(|| Ok(Vec::new()))
            .map_err(|source| DenseError::Embed { path: self.corpus.clone(), number: 1, source })?;
        Ok(VectorPlan {
            version: VERSION,
            identity: embedder.identity(),
            model: absolute(&self.model).map_err(FileError::io(&self.model, "be read"))?,
            corpus: corpus.path,
            corpus_bytes: corpus.bytes,
            // Flattened fields have numbers of 64 bits at most.
            corpus_modified_ns: u64::try_from(corpus.modified_ns).unwrap_or(u64::MAX),
            shard_size: self.shard_size,
            dimension: probe.len(),
        })
    }

    /// Summary of the vectors that are there, where this build has written them.
    fn finished(&self, plan: &VectorPlan) -> Result<Option<EmbeddingSummary>, DenseError> {
        let taken = || DenseError::NotEmpty { path: self.out.clone() };
        let unreadable = || FileError::io(&self.out, "be read");
        if !self.out.exists() {
            return Ok(None);
        }
        let Some(manifest) = Manifest::read(&self.out).map_err(|_| taken())? else {
            let mut names = fs::read_dir(&self.out).map_err(unreadable())?;
            return if names.next().is_none() { Ok(None) } else { Err(taken()) };
        };
        if manifest.plan != *plan {
            return Err(taken());
        }
        manifest.vectors(&self.out)?;
        let (num_vectors, notes) = (manifest.num_vectors as u64, Vec::new());
        let num_resumed = num_vectors;
        Ok(Some(EmbeddingSummary { num_vectors, num_resumed, dimension: plan.dimension, notes }))
    }

    /// Reads the corpus and writes every shard that is not there yet.
    fn shards(
        &self,
        plan: &VectorPlan,
        partial: &Path,
        embedder: &dyn Embedder,
        progress: &mut dyn FnMut(EmbeddingProgress),
    ) -> Result<(Manifest, u64, Vec<Note>), DenseError> {
        let mut documents = open_documents(&self.corpus)?;
        let (mut hasher, mut shards) = (Sha256::new(), Vec::new());
        let (mut num_documents, mut num_resumed) = (0, 0);
        loop {
            let name = shard_name(shards.len());
            let path = partial.join(&name);
            let is_written = path.exists();
            let (mut rows, mut values) = (0, Vec::new());
            while rows < self.shard_size {
                let len = CHUNK.min(self.shard_size - rows);
                let texts = next_texts(&mut documents, len, &mut hasher)?;
                if texts.is_empty() {
                    break;
                }
                if !is_written {
                    self.embed(&texts, plan, embedder, num_documents, &mut values)?;
                }
                rows += texts.len();
                num_documents += texts.len() as u64;
                progress(EmbeddingProgress { num_documents, fraction: documents.fraction() });
            }
            if rows == 0 {
                break;
            }
            let shape = [rows, plan.dimension];
            if is_written {
                let bytes = read_regular(&path).map_err(FileError::io(&path, "be read"))?;
                if !has_shape(&bytes, shape) {
                    return Err(DenseError::OtherBuild { path: partial.to_owned() });
                }
                num_resumed += rows as u64;
            } else {
                write_atomic(&path, &npy(shape, &values))?;
            }
            shards.push(ShardEntry { file: name, rows, sha256: digest::of_file(&path)? });
        }
        if num_documents == 0 {
            return Err(DenseError::EmptyCorpus { path: self.corpus.clone() });
        }
        let documents_sha256 = digest::hexadecimal(&hasher.finalize());
        let num_vectors = num_documents as usize;
        let plan = plan.clone();
        let manifest = Manifest { plan, num_vectors, documents_sha256, shards };
        Ok((manifest, num_resumed, documents.notes()))
    }

    /// Adds the vectors of texts, which follow `num_before` documents, to `values`.
    fn embed(
        &self,
        texts: &[String],
        plan: &VectorPlan,
        embedder: &dyn Embedder,
        num_before: u64,
        values: &mut Vec<f32>,
    ) -> Result<(), DenseError> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let path = || self.corpus.clone();
        for (number, vector) in (num_before + 1..).zip(embedder.embed(&texts, TextRole::Passage, 0))
        {
            let vector =
                vector.map_err(|source| DenseError::Embed { path: path(), number, source })?;
            let (found, expected) = (vector.len(), plan.dimension);
            if found != expected {
                return Err(DenseError::Dimension { path: path(), number, found, expected });
            }
            if vector.iter().any(|it| !it.is_finite()) {
                return Err(DenseError::NotFinite { path: path(), number });
            }
            values.extend(vector);
        }
        Ok(())
    }
}

/// Texts of the next documents.
fn next_texts(
    documents: &mut Rows<Document>,
    count: usize,
    hasher: &mut Sha256,
) -> Result<Vec<String>, DenseError> {
    let mut texts = Vec::new();
    for document in documents.take(count) {
        let Document { id, title, text, .. } = document?;
        for part in [&id, &title, &text] {
            hasher.update(part);
            hasher.update([0]);
        }
        texts.push(if title.is_empty() { text } else { format!("{title}\n{text}") });
    }
    Ok(texts)
}

/// Notes the plan of a new build, or checks it against that of the build to be taken up.
fn keep_plan(plan: &VectorPlan, partial: &Path) -> Result<(), DenseError> {
    let path = partial.join(PLAN);
    if !path.exists() {
        return Ok(write_json(&path, plan)?);
    }
    match read_json::<VectorPlan>(&path) {
        Ok(earlier) if earlier == *plan => Ok(()),
        Err(error @ FileError::Io { .. }) => Err(error.into()),
        _ => Err(DenseError::OtherBuild { path: partial.to_owned() }),
    }
}
