//! Folder of vectors: NumPy files, each with the rows of a part of the corpus, and a manifest.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zs_data::{FileError, digest, read_json, read_regular};

use super::DenseError;

/// File with the manifest of a folder of vectors.
pub(crate) const MANIFEST: &str = "vectors.json";

/// Corpus, model and settings of a folder of vectors; only a build with the same plan resumes another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VectorPlan {
    /// Version of the format.
    pub(super) version: u32,
    /// Identity of the model.
    pub(super) identity: String,
    /// Place of the model.
    pub(super) model: PathBuf,
    /// The corpus, and its state.
    pub(super) corpus: PathBuf,
    pub(super) corpus_bytes: u64,
    pub(super) corpus_modified_ns: u64,
    /// Rows of each file but the last.
    pub(super) shard_size: usize,
    /// Length of the vectors.
    pub(super) dimension: usize,
}

/// Manifest of a folder of vectors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    #[serde(flatten)]
    pub(super) plan: VectorPlan,
    pub(super) num_vectors: usize,
    /// SHA-256 of ids, titles and texts of the documents, in their order, each ended by a zero byte.
    pub(super) documents_sha256: String,
    pub(super) shards: Vec<ShardEntry>,
}

/// One file of vectors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShardEntry {
    pub(super) file: String,
    pub(super) rows: usize,
    pub(super) sha256: String,
}

/// Name of a file of vectors.
pub(super) fn shard_name(number: usize) -> String {
    format!("vectors-{number:05}.npy")
}

impl Manifest {
    /// Reads the manifest of a folder; `None` where it has none.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, DenseError> {
        let path = dir.join(MANIFEST);
        if !path.exists() {
            return Ok(None);
        }
        match read_json::<Self>(&path) {
            Err(FileError::Json { source, .. }) => {
                Err(DenseError::NotVectors { path, message: source.to_string() })
            }
            manifest => Ok(Some(manifest?)),
        }
    }

    /// Reads the vectors row by row, after a comparison of every file with its digest.
    ///
    /// # Shapes
    ///
    /// - output: `[num_vectors, dimension]`
    pub(super) fn vectors(&self, dir: &Path) -> Result<Vec<f32>, DenseError> {
        let dimension = self.plan.dimension;
        let not_vectors = |message: &str| DenseError::NotVectors {
            path: dir.join(MANIFEST),
            message: message.to_owned(),
        };
        if self.plan.version != VERSION || dimension == 0 {
            return Err(not_vectors("written by another version"));
        }
        let mut vectors = Vec::new();
        for (number, shard) in self.shards.iter().enumerate() {
            // A manifest of strangers must not reach into other directories.
            if shard.file != shard_name(number) {
                return Err(not_vectors("its files have other names"));
            }
            let path = dir.join(&shard.file);
            let bytes = read_regular(&path).map_err(FileError::io(&path, "be read"))?;
            let values = values(&bytes, [shard.rows, dimension]);
            let Some(values) = values.filter(|_| digest::of_bytes(&bytes) == shard.sha256) else {
                return Err(DenseError::Damaged { path });
            };
            vectors.extend(values.iter().map(|it| f32::from_le_bytes(*it)));
        }
        if vectors.len() / dimension != self.num_vectors {
            return Err(not_vectors("its files have another number of rows"));
        }
        Ok(vectors)
    }
}

/// Version of the format.
pub(super) const VERSION: u32 = 1;

/// Bytes of a NumPy file of format 1.0 with a matrix of f32, row by row.
pub(super) fn npy([rows, columns]: [usize; 2], values: &[f32]) -> Vec<u8> {
    let mut bytes = header([rows, columns]);
    bytes.extend(values.iter().flat_map(|it| it.to_le_bytes()));
    bytes
}

/// Values of a file that [`npy`] wrote for this shape.
fn values(bytes: &[u8], shape: [usize; 2]) -> Option<&[[u8; 4]]> {
    let (values, rest) = bytes.strip_prefix(&header(shape)[..])?.as_chunks::<4>();
    (rest.is_empty() && Some(values.len()) == shape[0].checked_mul(shape[1])).then_some(values)
}

/// Tests whether a file has this shape, going by its header and its length.
pub(super) fn has_shape(bytes: &[u8], shape: [usize; 2]) -> bool {
    values(bytes, shape).is_some()
}

fn header([rows, columns]: [usize; 2]) -> Vec<u8> {
    /// Magic bytes, version and length.
    const START: usize = 10;
    let shape =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // NumPy wants the values at a multiple of 64 bytes, and a line feed before them.
    let len = (START + shape.len() + 1).next_multiple_of(64) - START;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((len as u16).to_le_bytes());
    bytes.extend(format!("{shape:<width$}\n", width = len - 1).bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_those_of_numpy() {
        let bytes = npy([2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, -0.5]);
        assert_eq!(bytes.len(), 128 + 24);
        assert!(bytes.starts_with(b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', "));
        assert_eq!(&bytes[126..132], b" \n\0\0\0\0");
        assert_eq!(values(&bytes, [2, 3]).unwrap()[5], (-0.5_f32).to_le_bytes());
        for shape in [[3, 2], [2, 4], [0, 0]] {
            assert!(!has_shape(&bytes, shape));
        }
        assert!(!has_shape(&bytes[..150], [2, 3]) && !has_shape(&bytes[..148], [2, 3]));
    }
}
