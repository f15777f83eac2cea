//! Keys and values of the tokens of one sequence, and attention of its last tokens over them.

use std::borrow::Cow;
use std::fmt::Debug;

use half::bf16;
use multiversion::multiversion;

use super::elementwise::{exp, largest, reduce, softmax};
use super::packed::widened;
use super::product::{Matrix, MatrixMut, Write, product};
use crate::spans::Heads;

/// Queries per tile during prefill.
const TILE: usize = 32;

/// Keys whose scores are computed together, and multiple of the capacity. Loops of 64 elements become
/// vector instructions; shorter ones are unrolled into scalar ones.
const BLOCK: usize = 64;

/// Query heads of a group that read keys and values together.
const TOGETHER: usize = 4;

/// Elements of a head that are computed together.
const HEAD_PART: usize = 64;

/// Number in which a cache stores keys and values.
pub(crate) trait Stored: Copy + Debug + Default + Send + Sync + 'static {
    /// Rounds a number.
    fn of(value: f32) -> Self;

    /// The number in f32.
    fn widen(self) -> f32;

    /// The numbers in f32.
    fn widen_all(values: &[Self]) -> Cow<'_, [f32]>;
}

impl Stored for f32 {
    fn of(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    fn widen_all(values: &[Self]) -> Cow<'_, [f32]> {
        values.into()
    }
}

impl Stored for bf16 {
    fn of(value: f32) -> Self {
        Self::from_f32(value)
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        widened(self)
    }

    fn widen_all(values: &[Self]) -> Cow<'_, [f32]> {
        values.iter().map(|it| it.widen()).collect()
    }
}

/// Keys and values of one layer. Keys are transposed, so that one query is multiplied with many keys
/// at once.
///
/// # Shapes
///
/// - keys: `[key_width, capacity]`; values: `[len, key_width]`
#[derive(Clone, Debug, Default)]
pub(crate) struct KeysValues<T> {
    keys: Vec<T>,
    values: Vec<T>,
    capacity: usize,
}

impl<T: Stored> KeysValues<T> {
    /// Copy of the first `len` tokens.
    pub(crate) fn first(&self, len: usize) -> Self {
        let width = self.keys.len().checked_div(self.capacity).unwrap_or(0);
        let values = self.values[..width * len].to_vec();
        Self { keys: self.keys.clone(), values, capacity: self.capacity }
    }

    /// Appends keys and values, `[new, width]` each, after `len` tokens.
    pub(crate) fn append(&mut self, keys: &[f32], values: &[f32], width: usize, len: usize) {
        let needed = len + values.len() / width;
        if needed > self.capacity {
            let capacity = needed.max(self.capacity * 3 / 2).next_multiple_of(BLOCK);
            let mut keys = vec![T::default(); width * capacity];
            if len > 0 {
                let old = self.keys.chunks_exact(self.capacity);
                for (new, old) in keys.chunks_exact_mut(capacity).zip(old) {
                    new[..len].copy_from_slice(&old[..len]);
                }
            }
            (self.keys, self.capacity) = (keys, capacity);
        }
        for (offset, token) in keys.chunks_exact(width).enumerate() {
            for (column, key) in self.keys.chunks_exact_mut(self.capacity).zip(token) {
                column[len + offset] = T::of(*key);
            }
        }
        self.values.extend(values.iter().map(|it| T::of(*it)));
    }

    /// [`attend`](Self::attend), for one query after the other if `each_alone`: the result for a token
    /// then does not depend on how many tokens are fed with it.
    pub(crate) fn attend_in(
        &self,
        out: &mut [f32],
        queries: &[f32],
        heads: Heads,
        len: usize,
        each_alone: bool,
    ) {
        if !each_alone {
            return self.attend(out, queries, heads, len);
        }
        let width = heads.query_width();
        let before = len - queries.len() / width;
        let each = queries.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for (at, (query, out)) in each.enumerate() {
            self.attend(out, query, heads, before + at + 1);
        }
    }

    /// Attention of the queries at the end of the first `len` tokens, summed in f32.
    pub(crate) fn attend(&self, out: &mut [f32], queries: &[f32], heads: Heads, len: usize) {
        let Heads { key_value_heads, group, head_dim } = heads;
        let (width, query_width) = (heads.key_width(), heads.query_width());
        let is_single = queries.len() == query_width;
        let mut scores = Vec::new();
        for head in 0..key_value_heads {
            let first = head * head_dim;
            let keys = &self.keys[first * self.capacity..(first + head_dim) * self.capacity];
            let values = &self.values[first..];
            if is_single {
                let keys = Keys { keys, capacity: self.capacity };
                let at = first * group..(first + head_dim) * group;
                let (queries, out) = (&queries[at.clone()], &mut out[at]);
                let together = TOGETHER * head_dim;
                for (queries, out) in queries.chunks(together).zip(out.chunks_mut(together)) {
                    scores.resize(queries.len() / head_dim * len, 0.0);
                    attend_single(out, queries, keys, (values, width), &mut scores);
                }
                continue;
            }
            let keys = T::widen_all(keys);
            let values = T::widen_all(values);
            for head in head * group..(head + 1) * group {
                let new = queries.len() / query_width;
                for start in (0..new).step_by(TILE) {
                    let rows = TILE.min(new - start);
                    let visible: Vec<usize> =
                        (0..rows).map(|it| len - new + start + it + 1).collect();
                    let seen = visible[rows - 1];
                    scores.resize(rows * seen, 0.0);
                    let part = start * query_width + head * head_dim;
                    let queries = Matrix::part(&queries[part..], rows, head_dim, query_width);
                    let keys = Matrix::part(&keys, head_dim, seen, self.capacity);
                    product(MatrixMut::of(&mut scores, seen), queries, keys, Write::Replace);
                    softmax(&mut scores, seen, &visible);
                    let out = MatrixMut::part(&mut out[part..], rows, head_dim, query_width);
                    let values = Matrix::part(&values, seen, head_dim, width);
                    product(out, Matrix::of(&scores, seen), values, Write::Replace);
                }
            }
        }
    }
}

/// Transposed keys of one head, `[head_dim, capacity]`.
#[derive(Clone, Copy)]
struct Keys<'a, T> {
    keys: &'a [T],
    capacity: usize,
}

/// Attention of the queries of one token, one for each of up to [`TOGETHER`] heads with common keys
/// and values; `scores` has one element per head and key.
///
/// Sums run sequentially over keys and elements, so the result does not depend on the rest of the
/// batch.
///
/// # Shapes
///
/// - out, queries: `[heads, head_dim]`; values: rows of `head_dim` elements with a stride
fn attend_single<T: Stored>(
    out: &mut [f32],
    queries: &[f32],
    keys: Keys<'_, T>,
    values: (&[T], usize),
    scores: &mut [f32],
) {
    match queries.len() * keys.capacity / keys.keys.len() {
        1 => attend_heads::<T, 1>(out, queries, keys, values, scores),
        2 => attend_heads::<T, 2>(out, queries, keys, values, scores),
        3 => attend_heads::<T, 3>(out, queries, keys, values, scores),
        _ => attend_heads::<T, TOGETHER>(out, queries, keys, values, scores),
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
fn attend_heads<T: Stored, const H: usize>(
    out: &mut [f32],
    queries: &[f32],
    Keys { keys, capacity }: Keys<'_, T>,
    (values, stride): (&[T], usize),
    scores: &mut [f32],
) {
    let (len, head_dim) = (scores.len() / H, keys.len() / capacity);
    // Scores of a block of keys stay in registers during the loop over the elements of the queries.
    for block in (0..len).step_by(BLOCK) {
        let mut sums = [[0.0_f32; BLOCK]; H];
        for (element, row) in keys.chunks_exact(capacity).enumerate() {
            // The capacity is a multiple of the block size, so every block is complete.
            let row = &row[block..block + BLOCK];
            for (head, sums) in sums.iter_mut().enumerate() {
                let query = queries[head * head_dim + element];
                for (sum, key) in sums.iter_mut().zip(row) {
                    *sum = key.widen().mul_add(query, *sum);
                }
            }
        }
        let count = BLOCK.min(len - block);
        for (scores, sums) in scores.chunks_exact_mut(len).zip(&sums) {
            scores[block..block + count].copy_from_slice(&sums[..count]);
        }
    }
    let mut scales = [0.0; H];
    for (scores, scale) in scores.chunks_exact_mut(len).zip(&mut scales) {
        let max = largest(scores);
        for it in scores.iter_mut() {
            *it = exp(*it - max);
        }
        *scale = 1.0 / reduce(scores, scores, |it, _| it);
    }
    for part in (0..head_dim).step_by(HEAD_PART) {
        let count = HEAD_PART.min(head_dim - part);
        let mut sums = [[0.0_f32; HEAD_PART]; H];
        for (key, values) in values.chunks(stride).take(len).enumerate() {
            let values = &values[part..part + count];
            for (head, sums) in sums.iter_mut().enumerate() {
                let weight = scores[head * len + key];
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = value.widen().mul_add(weight, *sum);
                }
            }
        }
        for (head, sums) in sums.iter().enumerate() {
            let out = &mut out[head * head_dim + part..][..count];
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * scales[head]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_keeps_earlier_keys_and_values() {
        let mut cache = KeysValues::<f32>::default();
        for token in 0..100 {
            let at = token as f32;
            cache.append(&[at, at + 0.25], &[at + 0.5, at + 0.75], 2, token);
        }
        assert!(cache.capacity >= 100);
        for token in 0..100 {
            let at = token as f32;
            assert_eq!((cache.keys[token], cache.keys[cache.capacity + token]), (at, at + 0.25));
            assert_eq!(cache.values[2 * token..2 * token + 2], [at + 0.5, at + 0.75]);
        }
        let first = cache.first(3);
        assert_eq!((first.values.len(), first.keys[2]), (6, 2.0));
    }

    fn numbers(len: usize, salt: f32) -> Vec<f32> {
        (0..len).map(|it| ((it as f32 + salt) * 12.9898).sin()).collect()
    }

    /// Attention of the tokens from `start` on, appended together, against sums in f64.
    #[track_caller]
    fn check<T: Stored>(heads: Heads, len: usize, start: usize) {
        let Heads { key_value_heads, group, head_dim } = heads;
        let (width, query_width) = (heads.key_width(), heads.query_width());
        let (keys, values) = (numbers(len * width, 0.1), numbers(len * width, 0.4));
        let queries = numbers((len - start) * query_width, 0.7);
        let mut cache = KeysValues::<T>::default();
        let mut at = 0;
        for end in [start, len] {
            cache.append(
                &keys[at * width..end * width],
                &values[at * width..end * width],
                width,
                at,
            );
            at = end;
        }
        let mut out = vec![f32::NAN; queries.len()];
        cache.attend(&mut out, &queries, heads, len);
        let stored = |of: &[f32], token: usize, at: usize| -> f64 {
            f64::from(T::of(of[token * width + at]).widen())
        };
        for query in start..len {
            for head in 0..key_value_heads * group {
                let (first, at) = (head / group * head_dim, head * head_dim);
                let row = &queries[(query - start) * query_width + at..][..head_dim];
                let scores: Vec<f64> = (0..=query)
                    .map(|token| {
                        let products = row.iter().enumerate();
                        let products = products
                            .map(|(it, q)| f64::from(*q) * stored(&keys, token, first + it));
                        products.sum::<f64>().exp()
                    })
                    .collect();
                let sum: f64 = scores.iter().sum();
                for element in 0..head_dim {
                    let weighted = scores.iter().enumerate();
                    let expected: f64 = weighted
                        .map(|(token, it)| it * stored(&values, token, first + element))
                        .sum();
                    let found = out[(query - start) * query_width + at + element];
                    let error = (f64::from(found) - expected / sum).abs();
                    assert!(error < 1e-5, "{heads:?} {query} {head} {element}: {error}");
                }
            }
        }
    }

    #[test]
    fn attention_is_that_of_the_stored_numbers() {
        let shapes = [(1, 1, 4), (2, 3, 64), (1, 7, 80), (3, 2, 8)];
        for (key_value_heads, group, head_dim) in shapes {
            let heads = Heads { key_value_heads, group, head_dim };
            for (len, start) in [(1, 0), (70, 69), (45, 3)] {
                check::<f32>(heads, len, start);
                check::<bf16>(heads, len, start);
            }
        }
    }
}
