//! Spans of packed tokens, and the heads of attention over them.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Number of key-value heads, query heads per key-value head, and width of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    pub(crate) key_value_heads: usize,
    pub(crate) group: usize,
    pub(crate) head_dim: usize,
}

impl Heads {
    /// Width of a token's queries.
    pub(crate) fn query_width(self) -> usize {
        self.key_value_heads * self.group * self.head_dim
    }

    /// Width of a token's keys, and of its values.
    pub(crate) fn key_width(self) -> usize {
        self.key_value_heads * self.head_dim
    }
}

/// Queries of a span of packed tokens. Each attends to all tokens of a prefix, and to the span's own
/// tokens: up to itself in a language model, all of them in an encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpanQueries {
    /// Packed range of the prefix.
    pub(crate) prefix: Range<usize>,
    /// Packed range of the span's own tokens.
    pub(crate) own: Range<usize>,
    /// Range of the span's queries among all queries.
    pub(crate) queries: Range<usize>,
    /// Packed index of each query's token, ascending.
    pub(crate) indices: Vec<usize>,
    /// True if a query attends to no own token after itself.
    pub(crate) is_causal: bool,
}

impl SpanQueries {
    /// The span's own tokens that the query of a token attends to.
    pub(crate) fn visible(&self, token: usize) -> Range<usize> {
        self.own.start..if self.is_causal { token + 1 } else { self.own.end }
    }
}

/// Host integers as a tensor on a device, `[len]`.
pub(crate) fn ints(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}
