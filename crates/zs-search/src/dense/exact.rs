//! Exact nearest neighbours, by matrix products over blocks of vectors.

use std::cmp::Ordering;

use gemmkit::{MatMut, MatRef, Parallelism};
use rayon::prelude::*;

/// Vectors of one product.
const BLOCK: usize = 1024;

/// Vectors beyond `k` that are scored again: products of another number of queries round differently,
/// and must not decide between vectors that are all but equal.
const SPARE: usize = 16;

/// Positions and scores of the `k` vectors with the largest inner products with each query; the earlier
/// one first where scores are equal.
///
/// Candidates come from matrix products. Their scores are sums in a fixed order, so they do not depend
/// on the other queries.
///
/// # Shapes
///
/// - vectors: `[n, dimension]`; queries: `dimension` numbers each
pub(super) fn nearest(
    vectors: &[f32],
    dimension: usize,
    queries: &[&[f32]],
    k: usize,
) -> Vec<Vec<(usize, f32)>> {
    if queries.is_empty() || k == 0 {
        return vec![Vec::new(); queries.len()];
    }
    let matrix = queries.concat();
    let num_vectors = vectors.len() / dimension;
    let kept = k.saturating_add(SPARE).min(num_vectors);
    let num_parts = rayon::current_num_threads().min(num_vectors.div_ceil(BLOCK)).max(1);
    let rows_per_part = num_vectors.div_ceil(num_parts).next_multiple_of(BLOCK);
    let parts: Vec<Vec<Vec<(usize, f32)>>> = vectors
        .par_chunks(rows_per_part * dimension)
        .enumerate()
        .map(|(part, vectors)| best_of(vectors, dimension, &matrix, part * rows_per_part, kept))
        .collect();
    let best = |(index, query): (usize, &&[f32])| {
        let candidates = parts.iter().flat_map(|it| &it[index]).map(|(position, _)| {
            let vector = &vectors[position * dimension..][..dimension];
            (*position, dot(query, vector))
        });
        let mut candidates: Vec<(usize, f32)> = candidates.collect();
        candidates.sort_by(order);
        candidates.truncate(k);
        candidates
    };
    queries.par_iter().enumerate().map(best).collect()
}

/// The `kept` best of some vectors, the first of which is at position `first`, for each query.
fn best_of(
    vectors: &[f32],
    dimension: usize,
    queries: &[f32],
    first: usize,
    kept: usize,
) -> Vec<Vec<(usize, f32)>> {
    let num_queries = queries.len() / dimension;
    let mut best: Vec<Vec<(usize, f32)>> = vec![Vec::new(); num_queries];
    let mut scores = vec![0.0_f32; num_queries * BLOCK];
    for (block, vectors) in vectors.chunks(BLOCK * dimension).enumerate() {
        let rows = vectors.len() / dimension;
        let scores = &mut scores[..num_queries * rows];
        let stride = dimension as isize;
        let a = MatRef::new(queries, num_queries, dimension, stride, 1);
        let b = MatRef::new(vectors, dimension, rows, 1, stride);
        let out = MatMut::new(&mut *scores, num_queries, rows, rows as isize, 1);
        gemmkit::gemm(1.0, a, b, 0.0, out, Parallelism::Serial);
        for (best, scores) in best.iter_mut().zip(scores.chunks_exact(rows)) {
            let positions = first + block * BLOCK..;
            // The worst that is kept so far, once as many are kept as are wanted.
            let floor = best.get(kept - 1).map_or(f32::NEG_INFINITY, |it| it.1);
            let better = positions.zip(scores.iter().copied()).filter(|it| it.1 > floor);
            best.extend(better);
            best.sort_by(order);
            best.truncate(kept);
        }
    }
    best
}

/// Higher scores first, then earlier positions.
fn order(a: &(usize, f32), b: &(usize, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Inner product, in eight partial sums.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// More vectors than a block, with many equal ones.
        #[test]
        fn the_best_are_those_of_all_scores(
            num_vectors in 1_usize..2500,
            num_queries in 1_usize..4,
            k in 0_usize..9,
        ) {
            const DIMENSION: usize = 5;
            let values = |count: usize, salt: usize| -> Vec<f32> {
                let value = |it: usize| ((it / DIMENSION % 97 * 31 + it % DIMENSION * 7 + salt) % 19) as f32;
                (0..count * DIMENSION).map(value).collect()
            };
            let (vectors, queries) = (values(num_vectors, 0), values(num_queries, 3));
            let queries: Vec<&[f32]> = queries.chunks(DIMENSION).collect();
            let found = nearest(&vectors, DIMENSION, &queries, k);
            for (query, found) in queries.iter().zip(&found) {
                let scores = vectors.chunks(DIMENSION).map(|it| dot(query, it));
                let mut expected: Vec<(usize, f32)> = scores.enumerate().collect();
                expected.sort_by(order);
                expected.truncate(k);
                prop_assert_eq!(found, &expected);
            }
            prop_assert_eq!(&found[..1], &nearest(&vectors, DIMENSION, &queries[..1], k)[..]);
        }
    }
}
