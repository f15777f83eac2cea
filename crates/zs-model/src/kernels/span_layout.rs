//! Spans of packed tokens on a device.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::spans::{SpanQueries, ints};

/// Spans on a device, with what accelerators need to compute on rectangles: row `s` of a rectangle
/// holds the queries or the keys of span `s`, padded on the right.
#[derive(Clone, Debug)]
pub(crate) struct SpanLayout {
    pub(super) spans: Arc<Vec<SpanQueries>>,
    /// Query of each place of `[spans, queries]`.
    pub(super) query_index: Tensor<1, Int>,
    /// Place of each query in `[spans, queries]`.
    pub(super) query_place: Tensor<1, Int>,
    /// Token of each place of `[spans, keys]`.
    pub(super) key_index: Tensor<1, Int>,
    /// Number of keys that each place of `[spans, queries]` attends to, less one half.
    pub(super) visible: Tensor<1>,
    pub(super) shape: Rectangle,
}

/// Width of the rectangles of queries and keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rectangle {
    pub(super) queries: usize,
    pub(super) keys: usize,
}

impl SpanLayout {
    pub(crate) fn new(spans: Vec<SpanQueries>, device: &Device) -> Self {
        // The CPU kernel reads the spans themselves.
        Self::of(spans, !crate::workers::is_host(device), device)
    }

    #[cfg(test)]
    pub(super) fn with_rectangles(spans: Vec<SpanQueries>, device: &Device) -> Self {
        Self::of(spans, true, device)
    }

    fn of(spans: Vec<SpanQueries>, has_rectangles: bool, device: &Device) -> Self {
        let len = |it: &SpanQueries| it.prefix.len() + it.own.len();
        let shape = Rectangle {
            queries: spans.iter().map(|it| it.queries.len()).max().unwrap_or(0),
            keys: spans.iter().map(len).max().unwrap_or(0),
        };
        let (mut query_index, mut key_index, mut visible) = (Vec::new(), Vec::new(), Vec::new());
        let mut query_place = vec![0; spans.iter().map(|it| it.queries.len()).sum()];
        let filled = if has_rectangles { &spans[..] } else { &[] };
        for (row, span) in filled.iter().enumerate() {
            for (at, (query, token)) in span.queries.clone().zip(&span.indices).enumerate() {
                query_index.push(query as i32);
                query_place[query] = (row * shape.queries + at) as i32;
                visible.push((span.prefix.len() + span.visible(*token).len()) as f32 - 0.5);
            }
            query_index.resize((row + 1) * shape.queries, 0);
            visible.resize((row + 1) * shape.queries, 0.5);
            key_index.extend(span.prefix.clone().chain(span.own.clone()).map(|it| it as i32));
            key_index.resize((row + 1) * shape.keys, 0);
        }
        let ints = |values: Vec<i32>| ints(values, device);
        let visible = TensorData::new(visible, [query_index.len()]);
        Self {
            query_index: ints(query_index),
            query_place: ints(query_place),
            key_index: ints(key_index),
            visible: Tensor::from_data(visible, device),
            spans: Arc::new(spans),
            shape,
        }
    }
}
