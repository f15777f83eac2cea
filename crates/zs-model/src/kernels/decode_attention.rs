//! Attention of one new token per row over a KV cache.

use burn::tensor::{DType, FloatDType, Int, Tensor};

use super::attend::attend;

/// Attention of every row's new token over the first `filled` columns of a cache.
///
/// ```text
/// o_h = sum over t < filled of w_ht v_t,   w_h = softmax over t of (q_h . k_t + mask_t)
/// ```
///
/// Scores and sums are f32 for every cache dtype. On an accelerator a single kernel reads each key
/// and value once for all query heads that share it. It stops at column `filled`, which it reads on
/// the device, so the host need not synchronise. Elsewhere all columns are read.
///
/// # Shapes
///
/// - queries: `[rows, key_value_heads, group, 1, head_dim]`, scaled; output: the same, in `dtype`
/// - keys, values: `[rows, key_value_heads, capacity, head_dim]`
/// - mask: `[rows, capacity]`, 0 where a column holds a token of the row,
///   [`MASKED`](super::MASKED) elsewhere, including all columns from `filled` on
/// - filled: `[1]`
///
/// # References
///
/// - [Online normalizer calculation for softmax](https://arxiv.org/abs/1805.02867), algorithm 3:
///   single pass over the cache
pub(crate) fn decode_attention(
    queries: Tensor<5>,
    keys: Tensor<4>,
    values: Tensor<4>,
    mask: Tensor<2>,
    filled: Tensor<1, Int>,
    dtype: DType,
) -> Tensor<5> {
    #[cfg(feature = "accelerator")]
    if !crate::workers::is_host(&queries.device()) && kernel::is_supported(queries.dims()) {
        return kernel::run(queries, keys, values, mask, filled, dtype);
    }
    let _ = filled;
    reference(queries, keys, values, mask).cast(dtype)
}

/// [`decode_attention`] as a composition of tensor operations, over all columns.
pub(super) fn reference(
    queries: Tensor<5>,
    keys: Tensor<4>,
    values: Tensor<4>,
    mask: Tensor<2>,
) -> Tensor<5> {
    let [rows, capacity] = mask.dims();
    let of_cache = |it: Tensor<4>| it.cast(FloatDType::F32);
    attend(queries, of_cache(keys), of_cache(values), mask.reshape([rows, 1, 1, 1, capacity]))
}

#[cfg(feature = "accelerator")]
mod kernel {
    use burn::backend::tensor::{FloatTensor, IntTensor};
    use burn::backend::{Backend, Dispatch, backend_extension};
    use burn::tensor::{DType, Int, Tensor as BurnTensor};
    use burn_cubecl::CubeBackend;
    use burn_cubecl::kernel::into_contiguous;
    use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
    use cubecl::prelude::*;

    /// Units of a cube, for heads that are not wider.
    const UNITS: usize = 128;
    /// Maximum number of query heads per key-value head.
    const MAX_GROUP: usize = 32;
    /// Score of a missing column.
    const MASKED_SCORE: f32 = -1e30;

    /// True if the kernel supports queries of this shape.
    pub(super) fn is_supported([_, _, group, new, head_dim]: [usize; 5]) -> bool {
        new == 1 && group <= MAX_GROUP && head_dim <= 256
    }

    pub(super) fn run(
        queries: BurnTensor<5>,
        keys: BurnTensor<4>,
        values: BurnTensor<4>,
        mask: BurnTensor<2>,
        filled: BurnTensor<1, Int>,
        dtype: DType,
    ) -> BurnTensor<5> {
        BurnTensor::from_dispatch(Dispatch::decode_attention(
            queries.into_dispatch(),
            keys.into_dispatch(),
            values.into_dispatch(),
            mask.into_dispatch(),
            filled.into_dispatch(),
            dtype,
        ))
    }

    #[backend_extension(Cube, Fusion)]
    pub(super) trait DecodeAttention: Backend {
        #[fusion(dtype = *dtype, shape = queries)]
        fn decode_attention(
            queries: FloatTensor<Self>,
            keys: FloatTensor<Self>,
            values: FloatTensor<Self>,
            mask: FloatTensor<Self>,
            filled: IntTensor<Self>,
            dtype: DType,
        ) -> FloatTensor<Self>;
    }

    impl DecodeAttention for CubeBackend {
        fn decode_attention(
            queries: FloatTensor<Self>,
            keys: FloatTensor<Self>,
            values: FloatTensor<Self>,
            mask: FloatTensor<Self>,
            filled: IntTensor<Self>,
            dtype: DType,
        ) -> FloatTensor<Self> {
            let queries = into_contiguous(queries);
            let mask = into_contiguous(mask);
            let filled = into_contiguous(filled);
            // The caches are not made contiguous, since avoiding a copy is the purpose of this
            // kernel. Their last dimension is contiguous by construction.
            let shape = queries.meta.shape().clone();
            let (rows, heads, group, head_dim) = (shape[0], shape[1], shape[2], shape[4]);
            let parts = (UNITS / head_dim).max(1);
            let output = empty_device_contiguous_dtype(
                queries.client.clone(),
                queries.device.clone(),
                shape,
                dtype,
            );
            let mixed = burn::backend::cubecl::dtype_to_storage_type(dtype);
            let cache = burn::backend::cubecl::dtype_to_storage_type(keys.dtype);
            let count = burn::backend::cubecl::dtype_to_storage_type(filled.dtype);
            let vector = [8, 4, 2].into_iter().find(|it| head_dim.is_multiple_of(*it)).unwrap_or(1);
            let vector = vector.min(16 / keys.dtype.size());
            let client = queries.client.clone();
            decode_attention_kernel::launch(
                &client,
                CubeCount::Static(rows as u32, heads as u32, 1),
                CubeDim::new_1d((parts * head_dim) as u32),
                vector,
                queries.into_tensor_arg(),
                keys.into_tensor_arg(),
                values.into_tensor_arg(),
                mask.into_tensor_arg(),
                filled.into_tensor_arg(),
                output.clone().into_tensor_arg(),
                group,
                head_dim,
                parts,
                [cache, count, mixed],
            );
            output
        }
    }

    /// One cube per row and key-value head, which processes tiles of as many columns as it has
    /// units.
    ///
    /// Scores: each unit handles one column of the tile and reads its key once for all query heads.
    /// Sums: each unit handles one element of the head and every n-th column, and reads each value
    /// once for all query heads. In between, the running maximum and sum of the softmax are
    /// updated.
    #[cube(launch)]
    fn decode_attention_kernel<E: Float, I: Numeric, O: Float, N: Size>(
        queries: &Tensor<f32>,
        keys: &Tensor<Vector<E, N>>,
        values: &Tensor<E>,
        mask: &Tensor<f32>,
        filled: &Tensor<I>,
        output: &mut Tensor<O>,
        #[comptime] group: usize,
        #[comptime] head_dim: usize,
        #[comptime] parts: usize,
        #[define(E, I, O)] _types: [ElemType; 3],
    ) {
        let units = comptime!(parts * head_dim);
        // Units that share the scores of one query head.
        let lanes = comptime!((units / group).max(1));
        let row = CUBE_POS_X as usize;
        let head = CUBE_POS_Y as usize;
        let unit = UNIT_POS_X as usize;
        let columns = u32::cast_from(filled[0]) as usize;

        let mut shared_queries = Shared::<[f32]>::new_slice(comptime!(group * head_dim));
        let mut scores = Shared::<[f32]>::new_slice(comptime!(group * units));
        let mut partial = Shared::<[f32]>::new_slice(comptime!(group * lanes));
        let mut max = Shared::<[f32]>::new_slice(group);
        let mut sum = Shared::<[f32]>::new_slice(group);
        let mut factor = Shared::<[f32]>::new_slice(group);

        let first_query = (row * keys.shape(1) + head) * comptime!(group * head_dim);
        let mut at = unit;
        while at < comptime!(group * head_dim) {
            shared_queries[at] = queries[first_query + at];
            at += units;
        }
        at = unit;
        while at < group {
            max[at] = f32::new(MASKED_SCORE);
            sum[at] = f32::new(0.0);
            at += units;
        }
        let mut mixed = Array::<f32>::new(group);
        #[unroll]
        for query in 0..group {
            mixed[query] = f32::new(0.0);
        }
        sync_cube();

        let part = unit / head_dim;
        let number = unit % head_dim;
        let first_key = row * keys.stride(0) + head * keys.stride(1);
        let first_value = row * values.stride(0) + head * values.stride(1);
        let vector = keys.vector_size();
        let mut tile = 0usize.runtime();
        while tile < columns {
            let column = tile + unit;
            let mut column_scores = Array::<f32>::new(group);
            if column < columns {
                let masked = mask[row * mask.stride(0) + column];
                #[unroll]
                for query in 0..group {
                    column_scores[query] = masked;
                }
                let key = (first_key + column * keys.stride(2)) / vector;
                for chunk in 0..comptime!(head_dim / vector) {
                    let numbers = Vector::<f32, N>::cast_from(keys[key + chunk]);
                    #[unroll]
                    for index in 0..vector {
                        let number = numbers.extract(index);
                        #[unroll]
                        for query in 0..group {
                            column_scores[query] +=
                                shared_queries[query * head_dim + chunk * vector + index] * number;
                        }
                    }
                }
            } else {
                #[unroll]
                for query in 0..group {
                    column_scores[query] = f32::new(MASKED_SCORE);
                }
            }
            #[unroll]
            for query in 0..group {
                scores[query * units + unit] = column_scores[query];
            }
            sync_cube();

            // Maximum score of each query head.
            at = unit;
            while at < comptime!(group * lanes) {
                let query = at / lanes;
                let mut largest = f32::new(MASKED_SCORE);
                let mut place = at % lanes;
                while place < units {
                    largest = max_of(largest, scores[query * units + place]);
                    place += lanes;
                }
                partial[at] = largest;
                at += units;
            }
            sync_cube();
            at = unit;
            while at < group {
                let mut largest = max[at];
                for lane in 0..lanes {
                    largest = max_of(largest, partial[at * lanes + lane]);
                }
                factor[at] = (max[at] - largest).exp();
                max[at] = largest;
                at += units;
            }
            sync_cube();

            // Attention weights and their sum.
            at = unit;
            while at < comptime!(group * lanes) {
                let query = at / lanes;
                let mut total = f32::new(0.0);
                let mut place = at % lanes;
                while place < units {
                    let weight = (scores[query * units + place] - max[query]).exp();
                    scores[query * units + place] = weight;
                    total += weight;
                    place += lanes;
                }
                partial[at] = total;
                at += units;
            }
            sync_cube();
            at = unit;
            while at < group {
                let mut total = sum[at] * factor[at];
                for lane in 0..lanes {
                    total += partial[at * lanes + lane];
                }
                sum[at] = total;
                at += units;
            }

            // Weighted sum of values.
            #[unroll]
            for query in 0..group {
                mixed[query] = mixed[query] * factor[query];
            }
            let mut place = part;
            while place < units && tile + place < columns {
                let value = first_value + (tile + place) * values.stride(2) + number;
                let value = f32::cast_from(values[value]);
                #[unroll]
                for query in 0..group {
                    mixed[query] += scores[query * units + place] * value;
                }
                place += parts;
            }
            sync_cube();
            tile += units;
        }

        // Sum of the partial results.
        #[unroll]
        for query in 0..group {
            scores[query * units + unit] = mixed[query];
        }
        sync_cube();
        at = unit;
        while at < comptime!(group * head_dim) {
            let query = at / head_dim;
            let number = at % head_dim;
            let mut total = f32::new(0.0);
            for part in 0..parts {
                total += scores[query * units + part * head_dim + number];
            }
            output[first_query + at] = O::cast_from(total / sum[query]);
            at += units;
        }
    }

    #[cube]
    fn max_of(a: f32, b: f32) -> f32 {
        let mut max = a;
        if b > a {
            max = b;
        }
        max
    }
}
