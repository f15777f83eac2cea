//! Implementations of the kernels on slices, for the CPU backend.
//!
//! Element-wise chains (norms, rotation, SwiGLU, softmax, scores) are fused into one pass each and
//! vectorised; attention skips keys after a tile of queries, and nothing is transposed or repeated.

pub(crate) mod attention;
pub(crate) mod cached_attention;
pub(crate) mod elementwise;
pub(crate) mod packed;
pub(crate) mod packed_f32;
pub(crate) mod product;
pub(crate) mod slices;
