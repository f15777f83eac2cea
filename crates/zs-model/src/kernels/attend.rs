//! Attention as a composition of tensor operations.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

/// Attention output `softmax(Q K^T + bias) V` of every head: `[rows, key_value_heads, group, new,
/// head_dim]`.
pub(crate) fn attend(
    queries: Tensor<5>,
    keys: Tensor<4>,
    values: Tensor<4>,
    bias: Tensor<5>,
) -> Tensor<5> {
    let [rows, heads, group, new, head_dim] = queries.dims();
    let columns = keys.dims()[2];
    let weights = softmax(attention_scores(queries, keys) + bias, 4);
    let mixed: Tensor<4> = weights.reshape([rows, heads, group * new, columns]).matmul(values);
    mixed.reshape([rows, heads, group, new, head_dim])
}

/// Scores `Q K^T` of every head: `[rows, key_value_heads, group, new, columns]`.
pub(crate) fn attention_scores(queries: Tensor<5>, keys: Tensor<4>) -> Tensor<5> {
    let [rows, heads, group, new, head_dim] = queries.dims();
    let columns = keys.dims()[2];
    let queries: Tensor<4> = queries.reshape([rows, heads, group * new, head_dim]);
    queries.matmul(keys.swap_dims(2, 3)).reshape([rows, heads, group, new, columns])
}
