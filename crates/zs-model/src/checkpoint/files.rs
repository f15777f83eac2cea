//! Reading of tensors from safetensors files, single or sharded, memory-mapped in chunks.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::{Mmap, MmapOptions};
use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::header::check_names;
use super::{CheckpointError, TensorEntry, transpose_into};
use crate::config::weights_advice;
use crate::model_file;

/// Bytes mapped at a time, so that a large tensor is not held in memory twice.
const CHUNK_BYTES: usize = 64 << 20;

/// Length of the field before a safetensors header that stores the header's length.
const LENGTH_BYTES: usize = 8;

/// Tensors of a checkpoint that have not been taken yet.
pub(crate) struct WeightFiles {
    files: Vec<WeightFile>,
    left: BTreeMap<String, (usize, TensorInfo)>,
    /// File of each tensor, as listed by the index.
    listed: BTreeMap<String, PathBuf>,
    /// Path to report for a missing tensor that the index does not list.
    root: PathBuf,
}

struct WeightFile {
    path: PathBuf,
    file: File,
    /// Offset of the tensor data in the file.
    data_start: usize,
}

impl WeightFiles {
    /// Opens `model.safetensors` or the shards of `model.safetensors.index.json`.
    pub(crate) fn open_model(dir: &Path) -> Result<Self, CheckpointError> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        if single.exists() {
            return Self::open_single(single);
        }
        if !index.exists() {
            let advice = weights_advice(dir);
            return Err(CheckpointError::NoWeights { dir: dir.to_owned(), advice });
        }
        let mut listed: BTreeMap<String, PathBuf> = BTreeMap::new();
        for (tensor, name) in read_index(&index)? {
            // An index of strangers must not reach into other directories.
            if Path::new(&name).file_name() != Some(OsStr::new(&name)) {
                return Err(CheckpointError::ShardName { path: index, name });
            }
            listed.insert(tensor, dir.join(name));
        }
        let paths: BTreeSet<PathBuf> = listed.values().cloned().collect();
        Self::open(paths, listed, index)
    }

    /// Opens one file.
    pub(crate) fn open_single(path: PathBuf) -> Result<Self, CheckpointError> {
        Self::open([path.clone()], BTreeMap::new(), path)
    }

    fn open(
        paths: impl IntoIterator<Item = PathBuf>,
        listed: BTreeMap<String, PathBuf>,
        root: PathBuf,
    ) -> Result<Self, CheckpointError> {
        let mut files: Vec<WeightFile> = Vec::new();
        let mut left: BTreeMap<String, (usize, TensorInfo)> = BTreeMap::new();
        for path in paths {
            let read = |source| CheckpointError::Read { path: path.clone(), source };
            let file = model_file::open(&path).map_err(read)?;
            if file.metadata().map_err(read)?.len() == 0 {
                return Err(format_error(&path, "it is empty".to_owned()));
            }
            // Reads only the header's pages; `read_metadata` checks the header against the file's
            // length.
            let map = map_part(&file, 0, None).map_err(read)?;
            let (header, metadata) = SafeTensors::read_metadata(&map)
                .map_err(|it| format_error(&path, it.to_string()))?;
            check_names(&map[LENGTH_BYTES..LENGTH_BYTES + header])
                .map_err(|it| format_error(&path, it.to_string()))?;
            for (tensor, info) in metadata.tensors() {
                if let Some((first, _)) = left.get(&tensor) {
                    let other = files[*first].path.clone();
                    return Err(CheckpointError::DuplicateTensor { path, other, tensor });
                }
                left.insert(tensor, (files.len(), info.clone()));
            }
            files.push(WeightFile { path, file, data_start: LENGTH_BYTES + header });
        }
        Ok(Self { files, left, listed, root })
    }

    /// File and header entry of a tensor, which has this shape and a dtype that is read.
    fn find(&self, name: &str, shape: &[usize]) -> Result<(usize, &TensorInfo), CheckpointError> {
        let Some((index, info)) = self.left.get(name) else {
            let path = self.listed.get(name).unwrap_or(&self.root).clone();
            return Err(CheckpointError::MissingTensor { path, tensor: name.to_owned() });
        };
        let (path, tensor) = (self.files[*index].path.clone(), name.to_owned());
        if info.shape != shape {
            let (found, expected) = (info.shape.clone(), shape.to_owned());
            return Err(CheckpointError::Shape { path, tensor, found, expected });
        }
        match info.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok((*index, info)),
            dtype => Err(CheckpointError::Dtype { path, tensor, dtype: format!("{dtype:?}") }),
        }
    }

    /// Checks the headers for the tensors of a configuration, so that no memory is allocated for a
    /// model that the files do not hold.
    pub(crate) fn check(
        &self,
        expected: impl Iterator<Item = (String, Vec<usize>)>,
    ) -> Result<(), CheckpointError> {
        for (name, shape) in expected {
            self.find(&name, &shape)?;
        }
        Ok(())
    }

    /// Leaves out a tensor.
    pub(crate) fn skip(&mut self, name: &str) {
        self.left.remove(name);
    }

    /// Reads a tensor, whose values must be finite, and leaves it out.
    pub(crate) fn check_values(&mut self, name: &str) -> Result<(), CheckpointError> {
        let Some((_, info)) = self.left.get(name) else { return Ok(()) };
        let shape = info.shape.clone();
        let entry = TensorEntry { name: name.to_owned(), shape, transposed: false };
        self.take(&entry).map(drop)
    }

    /// Reads a tensor in the module's layout. Each tensor can be taken once.
    pub(crate) fn take(&mut self, entry: &TensorEntry) -> Result<Vec<f32>, CheckpointError> {
        let (index, info) = self.find(&entry.name, &entry.shape)?;
        let (file, info) = (&self.files[index], info.clone());
        let values = match info.dtype {
            Dtype::F16 => file.read(&info, entry, |it| f16::from_le_bytes(it).to_f32()),
            Dtype::BF16 => file.read(&info, entry, |it| bf16::from_le_bytes(it).to_f32()),
            _ => file.read(&info, entry, f32::from_le_bytes),
        }?;
        if let Some(position) = values.iter().position(|it| !it.is_finite()) {
            let value = values[position];
            let position = match entry.transposed {
                // The values are in the module's layout.
                true => {
                    let rows = entry.shape[0];
                    (position % rows) * (entry.len() / rows) + position / rows
                }
                false => position,
            };
            let (path, tensor) = (file.path.clone(), entry.name.clone());
            return Err(CheckpointError::NotFinite { path, tensor, position, value });
        }
        self.left.remove(&entry.name);
        Ok(values)
    }

    /// Returns true where two tensors have the same dtype, shape and bytes.
    pub(crate) fn are_equal(&self, first: &str, second: &str) -> Result<bool, CheckpointError> {
        let (Some((file, info)), Some((other_file, other))) =
            (self.left.get(first), self.left.get(second))
        else {
            return Ok(false);
        };
        if info.shape != other.shape || info.dtype != other.dtype {
            return Ok(false);
        }
        let part = |file: usize, info: &TensorInfo, at: usize, len: usize| {
            let file = &self.files[file];
            map_part(&file.file, file.data_start + info.data_offsets.0 + at, Some(len))
                .map_err(|source| CheckpointError::Read { path: file.path.clone(), source })
        };
        let total = info.data_offsets.1 - info.data_offsets.0;
        for at in (0..total).step_by(CHUNK_BYTES) {
            let len = CHUNK_BYTES.min(total - at);
            if *part(*file, info, at, len)? != *part(*other_file, other, at, len)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// File of a tensor that was not taken yet.
    pub(crate) fn path_of(&self, name: &str) -> Option<&Path> {
        self.left.get(name).map(|(file, _)| self.files[*file].path.as_path())
    }

    /// Number of values of each dtype.
    pub(crate) fn num_values(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (_, info) in self.left.values() {
            *counts.entry(info.dtype.to_string()).or_default() +=
                info.shape.iter().product::<usize>();
        }
        counts
    }

    /// Fails if a tensor was not taken, unless it may be ignored.
    pub(crate) fn finish(self, ignored: impl Fn(&str) -> bool) -> Result<(), CheckpointError> {
        match self.left.into_iter().find(|(name, _)| !ignored(name)) {
            Some((tensor, (file, _))) => {
                let path = self.files[file].path.clone();
                Err(CheckpointError::ExtraTensor { path, tensor })
            }
            None => Ok(()),
        }
    }
}

impl WeightFile {
    /// Values of a tensor whose elements take `N` bytes.
    fn read<const N: usize>(
        &self,
        info: &TensorInfo,
        entry: &TensorEntry,
        decode: impl Fn([u8; N]) -> f32,
    ) -> Result<Vec<f32>, CheckpointError> {
        let mut values = vec![0.0_f32; entry.len()];
        let rows = entry.shape.first().copied().unwrap_or(1);
        let columns = entry.len() / rows.max(1);
        let rows_per_chunk = (CHUNK_BYTES / (columns * N).max(1)).max(1);
        for first_row in (0..rows).step_by(rows_per_chunk) {
            let num_rows = rows_per_chunk.min(rows - first_row);
            let start = self.data_start + info.data_offsets.0 + first_row * columns * N;
            let map = map_part(&self.file, start, Some(num_rows * columns * N))
                .map_err(|source| CheckpointError::Read { path: self.path.clone(), source })?;
            let elements = map.as_chunks::<N>().0;
            if entry.transposed {
                let value = |at: usize| decode(elements[at]);
                transpose_into(&mut values, rows, first_row, columns, num_rows, value);
            } else {
                let out = &mut values[first_row * columns..][..elements.len()];
                out.iter_mut().zip(elements).for_each(|(out, it)| *out = decode(*it));
            }
        }
        Ok(values)
    }
}

/// File name of each tensor according to an index.
fn read_index(index: &Path) -> Result<BTreeMap<String, String>, CheckpointError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = model_file::read_text(index)
        .map_err(|source| CheckpointError::Read { path: index.to_owned(), source })?;
    let index: Index = serde_json::from_str(&text)
        .map_err(|source| CheckpointError::Index { path: index.to_owned(), source })?;
    Ok(index.weight_map)
}

/// Maps a whole file.
pub(crate) fn map_file(path: &Path) -> std::io::Result<Mmap> {
    map_part(&model_file::open(path)?, 0, None)
}

#[expect(unsafe_code, reason = "mapping a file is unsafe; weights are read once, at loading")]
fn map_part(file: &File, start: usize, len: Option<usize>) -> std::io::Result<Mmap> {
    let mut options = MmapOptions::new();
    options.offset(start as u64);
    if let Some(len) = len {
        options.len(len);
    }
    // SAFETY: the map is read-only and private to the loader. A file that another process cuts short
    // meanwhile would fault, as with every loader of mapped weights; our own writers replace files
    // by renaming and never change them in place.
    unsafe { options.map(file) }
}

pub(crate) fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, CheckpointError> {
    SafeTensors::deserialize(bytes).map_err(|it| format_error(path, it.to_string()))
}

fn format_error(path: &Path, message: String) -> CheckpointError {
    CheckpointError::Format { path: path.to_owned(), message }
}

/// Little-endian values of a float tensor as f32; `None` for other types.
pub(crate) fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let pairs = || bytes.as_chunks::<2>().0.iter();
    match dtype {
        Dtype::F32 => {
            Some(bytes.as_chunks::<4>().0.iter().map(|it| f32::from_le_bytes(*it)).collect())
        }
        Dtype::F16 => Some(pairs().map(|it| f16::from_le_bytes(*it).to_f32()).collect()),
        Dtype::BF16 => Some(pairs().map(|it| bf16::from_le_bytes(*it).to_f32()).collect()),
        _ => None,
    }
}
