//! A GGUF file that is open: metadata by key, tensors by name, values in the layout of the file.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use gguf_rs_lib::GGUFError;
use gguf_rs_lib::format::constants::{GGUF_MAX_METADATA_DECODED_SIZE, GGUF_MAX_METADATA_SIZE};
use gguf_rs_lib::format::{GGUFHeader, GGUFTensorType, Metadata, MetadataValue, TensorInfo};
use memmap2::Mmap;

use super::GgufError;
use super::blocks::{SUPPORTED, dequantize};
use crate::checkpoint::map_file;

const FETCH_AGAIN: &str = "fetch it again";
/// Remedy where a tensor's type has no decoder.
const OTHER_TYPE: &str =
    "use a file of F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q5_K or Q6_K tensors";

/// Memory-mapped file whose metadata and tensor directory have been checked against its length.
pub(super) struct GgufFile {
    path: PathBuf,
    map: Mmap,
    metadata: BTreeMap<String, MetadataValue>,
    tensors: BTreeMap<String, GgufTensor>,
}

/// Entry of the tensor directory.
#[derive(Clone, Debug)]
pub(super) struct GgufTensor {
    /// Type of the blocks.
    pub(super) kind: GGUFTensorType,
    /// Shape in row-major order, the reverse of the file's.
    pub(super) shape: Vec<usize>,
    /// First byte in the file.
    start: usize,
    /// Number of bytes in the file.
    bytes: usize,
}

impl GgufFile {
    /// Opens a file. Nothing is allocated by a size that the file states before that size has been
    /// compared with the length of the file or a fixed limit.
    pub(super) fn open(path: &Path) -> Result<Self, GgufError> {
        let read = |source| GgufError::Read { path: path.to_owned(), source };
        if path.is_dir() {
            let problem = "it is a directory";
            return Err(GgufError::container(path, problem, "name the .gguf file in it"));
        }
        let map = map_file(path).map_err(read)?;
        let damaged = |error| container_error(path, &error);
        let mut cursor = Cursor::new(&map[..]);
        let header = GGUFHeader::read_from(&mut cursor).map_err(damaged)?;
        header.validate_comprehensive().map_err(damaged)?;
        let limits = (GGUF_MAX_METADATA_SIZE, GGUF_MAX_METADATA_DECODED_SIZE);
        let count = header.metadata_kv_count;
        let metadata = Metadata::read_from_with_limits(&mut cursor, count, limits.0, limits.1)
            .map_err(damaged)?;
        let alignment = metadata.tensor_alignment().map_err(damaged)?;
        let mut infos = Vec::new();
        for _ in 0..header.tensor_count {
            let start = cursor.position() as usize;
            infos.push(TensorInfo::read_from(&mut cursor).map_err(|error| match error {
                GGUFError::Io(_) | GGUFError::UnexpectedEof => container_error(path, &error),
                error => {
                    let name = tensor_name(&map[start..]);
                    GgufError::tensor(path, name, format!("cannot be read: {error}"), OTHER_TYPE)
                }
            })?);
        }
        let data_start = (cursor.position() as usize).next_multiple_of(alignment);
        let metadata = metadata.data.into_iter().collect();
        let mut file = Self { path: path.to_owned(), map, metadata, tensors: BTreeMap::new() };
        file.refuse_parts()?;
        for info in infos {
            let tensor = file.checked(&info, data_start, alignment)?;
            if file.tensors.insert(info.name.clone(), tensor).is_some() {
                return Err(GgufError::tensor(path, info.name, "occurs twice", FETCH_AGAIN));
            }
        }
        Ok(file)
    }

    /// Compares an entry of the tensor directory with the length of the file.
    fn checked(
        &self,
        info: &TensorInfo,
        data_start: usize,
        alignment: usize,
    ) -> Result<GgufTensor, GgufError> {
        let error = |problem: String, remedy| {
            Err(GgufError::tensor(&self.path, info.name.clone(), problem, remedy))
        };
        let kind = match GGUFTensorType::from_u32(info.tensor_type) {
            Ok(kind) if SUPPORTED.contains(&kind) => kind,
            Ok(kind) => return error(format!("holds {}", kind.name()), OTHER_TYPE),
            Err(_) => return error(format!("holds type {}", info.tensor_type), OTHER_TYPE),
        };
        // `TensorInfo::read_from` has checked that the number of values fits into 64 bits, and rows
        // consist of whole blocks.
        let bytes = kind.checked_calculate_size(info.element_count());
        let range = bytes.and_then(|bytes| {
            let start = usize::try_from(info.offset).ok()?.checked_add(data_start)?;
            let bytes = usize::try_from(bytes).ok()?;
            Some((start, bytes, start.checked_add(bytes)?))
        });
        let Some((start, bytes, end)) = range else {
            return error("states a size beyond any file".to_owned(), FETCH_AGAIN);
        };
        if end > self.map.len() {
            let length = self.map.len();
            let problem = format!("ends at byte {end}, but the file has {length} bytes");
            return error(problem, "it was cut short: fetch it again");
        }
        if !info.offset.is_multiple_of(alignment as u64) {
            return error(format!("is not aligned to {alignment} bytes"), FETCH_AGAIN);
        }
        // The product of the dimensions fits, but with a zero among them a single one need not.
        let shape: Result<Vec<usize>, _> =
            info.dimensions.iter().rev().map(|&it| usize::try_from(it)).collect();
        match shape {
            Ok(shape) => Ok(GgufTensor { kind, shape, start, bytes }),
            Err(_) => error("states a size beyond any file".to_owned(), FETCH_AGAIN),
        }
    }

    /// Refuses one of several files that together hold a model.
    fn refuse_parts(&self) -> Result<(), GgufError> {
        let parts = self.optional_integer("split.count")?.unwrap_or(1);
        if parts > 1 {
            let problem = format!("= {parts}: the model is split over several files");
            let remedy = "join them with `llama-gguf-split --merge`";
            return Err(GgufError::metadata(&self.path, "split.count", problem, remedy));
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn tensors(&self) -> &BTreeMap<String, GgufTensor> {
        &self.tensors
    }

    /// Values of a tensor.
    pub(super) fn values(&self, tensor: &GgufTensor) -> Vec<f32> {
        dequantize(tensor.kind, &self.map[tensor.start..][..tensor.bytes])
    }

    /// Text of a field, which must be there.
    pub(super) fn text(&self, key: &str) -> Result<&str, GgufError> {
        self.optional_text(key)?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn optional_text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.field(key, "a text", |it| match it {
            MetadataValue::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Non-negative integer of a field.
    pub(super) fn optional_integer(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.field(key, "a non-negative integer", |it| {
            it.as_u64().or_else(|| it.as_i64().and_then(|it| it.try_into().ok()))
        })
    }

    /// Decimal number of a field. Files hold f32; the shortest decimal that rounds to it is meant.
    pub(super) fn optional_number(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.field(key, "a number", |it| match it {
            MetadataValue::F32(value) => value.to_string().parse().ok(),
            MetadataValue::F64(value) => Some(*value),
            it => it.as_u64().map(|it| it as f64).or_else(|| it.as_i64().map(|it| it as f64)),
        })
    }

    pub(super) fn optional_flag(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.field(key, "a truth value", MetadataValue::as_bool)
    }

    /// Elements of an array, each converted by `element`.
    pub(super) fn optional_array<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        element: impl Fn(&'a MetadataValue) -> Option<T>,
    ) -> Result<Option<Vec<T>>, GgufError> {
        self.field(key, expected, |it| match it {
            MetadataValue::Array(array) => array.values.iter().map(&element).collect(),
            _ => None,
        })
    }

    /// Value of a field, converted by `convert`, which returns `None` on the wrong type.
    fn field<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl FnOnce(&'a MetadataValue) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        let wrong = || {
            let problem = format!("is not {expected}");
            GgufError::metadata(&self.path, key, problem, "convert the model again")
        };
        convert(value).map(Some).ok_or_else(wrong)
    }

    pub(super) fn missing(&self, key: &str) -> GgufError {
        GgufError::metadata(&self.path, key, "is missing", "convert the model again")
    }
}

/// Name at the start of an entry of the tensor directory, as far as it can be read.
fn tensor_name(entry: &[u8]) -> String {
    let name = entry.split_first_chunk::<8>().and_then(|(length, rest)| {
        rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?.min(64))
    });
    String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
}

/// Error of the container's reader, with a remedy.
fn container_error(path: &Path, error: &GGUFError) -> GgufError {
    match error {
        GGUFError::InvalidMagic { .. } => {
            let problem = "it does not begin with `GGUF`";
            GgufError::container(path, problem, "name a .gguf file")
        }
        GGUFError::UnsupportedVersion(version) => {
            let problem = format!("it has version {version}, not 3");
            let remedy = "convert the model again with a present version of llama.cpp";
            GgufError::container(path, problem, remedy)
        }
        GGUFError::Io(_) | GGUFError::UnexpectedEof => {
            GgufError::container(path, "it was cut short", FETCH_AGAIN)
        }
        error => GgufError::container(path, error.to_string(), FETCH_AGAIN),
    }
}
