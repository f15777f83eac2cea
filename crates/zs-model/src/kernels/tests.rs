//! Equality of each operation with burn's tensors and autodiff, on the CPU and on the accelerator
//! of the build.

use burn::tensor::activation::silu;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

use super::MASKED;
use super::{
    NewHeads, SpanLayout, add_norm, attention, decode_attention, matmul_dtype, product, rms_norm,
    rotate, swiglu, token_scores, token_scores_backward,
};
use crate::ComputeDtype;
use crate::spans::{Heads, SpanQueries};

fn devices() -> Vec<Device> {
    vec![
        Device::flex(),
        #[cfg(feature = "cuda")]
        Device::cuda(0),
        #[cfg(feature = "wgpu")]
        Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
    ]
}

/// Deterministic values between -1 and 1 that look random.
fn numbers(len: usize, salt: f32) -> Vec<f32> {
    (0..len).map(|it| ((it as f32 + salt) * 12.9898).sin()).collect()
}

fn tensor<const D: usize>(shape: [usize; D], salt: f32, device: &Device) -> Tensor<D> {
    let values = numbers(shape.iter().product(), salt);
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Result of a function of two tensors, and its gradients for a non-uniform upstream gradient.
fn pulled<const D: usize, const E: usize>(
    device: &Device,
    shapes: ([usize; D], [usize; E]),
    function: &dyn Fn(Tensor<D>, Tensor<E>) -> Tensor<D>,
) -> [Vec<f32>; 3] {
    let device = device.clone().autodiff();
    let first = tensor(shapes.0, 0.3, &device).require_grad();
    let second = tensor(shapes.1, 0.8, &device).require_grad();
    let output = function(first.clone(), second.clone());
    let upstream = tensor(output.dims(), 0.5, &device);
    let mut grads = (output.clone() * upstream).sum().backward();
    let first_grads = first.grad_remove(&mut grads).map(Tensor::into_data);
    let second_grads = second.grad_remove(&mut grads).map(Tensor::into_data);
    let list = |it: Option<TensorData>| -> Vec<f32> {
        it.map_or_else(Vec::new, |it| it.iter::<f32>().collect())
    };
    [list(Some(output.into_data())), list(first_grads), list(second_grads)]
}

#[track_caller]
fn close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    assert!(!found.is_empty(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < tolerance * b.abs().max(1.0), "{what}: {a}, not {b}");
    }
}

#[track_caller]
fn check<const D: usize, const E: usize>(
    shapes: ([usize; D], [usize; E]),
    ours: &dyn Fn(Tensor<D>, Tensor<E>) -> Tensor<D>,
    reference: &dyn Fn(Tensor<D>, Tensor<E>) -> Tensor<D>,
) {
    let expected = pulled(&Device::flex(), shapes, reference);
    for device in devices() {
        let found = pulled(&device, shapes, ours);
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            close(found, expected, 2e-5, &format!("{at} of {shapes:?} on {device:?}"));
        }
    }
}

#[test]
fn rms_norm_equals_burns() {
    for shape in [[1, 1], [3, 5], [7, 64], [2, 300]] {
        check(
            (shape, [shape[1]]),
            &|x: Tensor<2>, weight: Tensor<1>| rms_norm(x, weight, 1e-3),
            &|x, weight| {
                let mean = x.clone().square().mean_dim(1);
                x * (mean + 1e-3).sqrt().recip() * weight.unsqueeze()
            },
        );
    }
}

/// Weights stored as they are and transposed.
#[test]
fn product_equals_burns() {
    for [n, k, m] in [[1, 1, 1], [3, 4, 5], [33, 40, 70]] {
        for transposed in [false, true] {
            let weight = if transposed { [m, k] } else { [k, m] };
            check(
                ([n, k], weight),
                &|x: Tensor<2>, weight| product(x, weight, transposed, ComputeDtype::F32),
                &|x, weight| x.matmul(if transposed { weight.transpose() } else { weight }),
            );
        }
    }
}

#[test]
fn swiglu_equals_burns() {
    for shape in [[1, 1], [5, 33]] {
        check((shape, shape), &|a, b: Tensor<2>| swiglu(a * 6.0, b), &|a, b| silu(a * 6.0) * b);
    }
}

/// Angles shared by all rows, and angles of each row.
#[test]
fn rotation_equals_complex_multiplication() {
    let [rows, new, heads, half] = [2, 3, 2, 4];
    for own in [1, rows] {
        let angle = |device: &Device| tensor([own, new, 1, half], 0.1, device) * 3.0;
        let rotated = |x: Tensor<4>| {
            let angle = angle(&x.device());
            rotate(x, angle.clone().cos(), angle.sin(), 0.25)
        };
        let reference = |x: Tensor<4>| {
            let angle = angle(&x.device());
            let (cos, sin) = (angle.clone().cos(), angle.sin());
            let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
            let real = a.clone() * cos.clone() - b.clone() * sin.clone();
            Tensor::cat(vec![real, b * cos + a * sin], 3) * 0.25
        };
        let shape = [rows, new, heads, 2 * half];
        // The second argument adds a term with gradient 1.
        check(
            (shape, shape),
            &|x: Tensor<4>, y: Tensor<4>| rotated(x) + y,
            &|x: Tensor<4>, y: Tensor<4>| reference(x) + y,
        );
    }
}

/// Product with a square left matrix, so that the result has the shape of the right one.
#[test]
fn bf16_matmul_equals_the_product_of_rounded_inputs() {
    let round = |it: Tensor<2>| it.cast(FloatDType::BF16).cast(FloatDType::F32);
    let (x, weight) = (tensor([5, 7], 0.2, &Device::flex()), tensor([7, 3], 0.4, &Device::flex()));
    let expected = round(x.clone()).matmul(round(weight.clone())).into_data();
    let expected: Vec<f32> = expected.iter::<f32>().collect();
    let found = product(x, weight, false, ComputeDtype::Bf16).into_data();
    close(&found.iter::<f32>().collect::<Vec<_>>(), &expected, 1e-6, "flex");
    // An accelerator without bfloat16 multiplies in f32, which is closer to the exact result.
    for device in devices() {
        let (x, weight) = (tensor([5, 7], 0.2, &device), tensor([7, 3], 0.4, &device));
        let found = product(x, weight, false, ComputeDtype::Bf16).into_data();
        let found: Vec<f32> = found.iter::<f32>().collect();
        close(&found, &expected, 2e-2, &format!("{device:?}"));
    }
}

fn list<const D: usize>(it: Tensor<D>) -> Vec<f32> {
    it.cast(FloatDType::F32).into_data().iter::<f32>().collect()
}

/// Result dtypes with their tolerances: rounding may differ for values between two representable
/// ones.
fn types(device: &Device) -> Vec<(DType, f32)> {
    let mut types = vec![(DType::F32, 2e-5)];
    if matmul_dtype(device) == DType::BF16 {
        types.push((DType::BF16, 1e-2));
    }
    types
}

#[test]
fn add_norm_equals_addition_and_norm() {
    for shape in [[1, 1], [3, 5], [7, 64], [2, 300], [3, 896]] {
        let on = |device: &Device| {
            let (x, delta) = (tensor(shape, 0.3, device), tensor(shape, 0.8, device));
            (x, delta, tensor([shape[1]], 0.1, device))
        };
        let (x, delta, weight) = on(&Device::flex());
        let (sum, normed) = super::add_norm::reference(x, delta, weight, 1e-3, DType::F32);
        let expected = [list(sum), list(normed)];
        for device in devices() {
            for (dtype, tolerance) in types(&device) {
                let (x, delta, weight) = on(&device);
                let (sum, normed) = add_norm(x, delta, weight, 1e-3, dtype);
                assert_eq!((sum.dtype(), normed.dtype()), (DType::F32, dtype));
                let what = format!("{shape:?} in {dtype:?} on {device:?}");
                close(&list(sum), &expected[0], 1e-6, &what);
                close(&list(normed), &expected[1], tolerance, &what);
            }
        }
    }
}

/// New heads with and without biases and norms, written to shared and unshared caches.
#[track_caller]
fn check_new_heads([rows, heads, group, head_dim]: [usize; 4], has_biases: bool, has_norms: bool) {
    let (capacity, column) = (5, 3);
    let caches = |device: &Device, dtype: DType| {
        let shape = [rows, heads, capacity, head_dim];
        [tensor(shape, 0.2, device).cast(dtype), tensor(shape, 0.7, device).cast(dtype)]
    };
    let on = |device: &Device| {
        let widths = [heads * group * head_dim, heads * head_dim, heads * head_dim];
        let [queries, keys, values] = widths.map(|it| tensor([rows, it], it as f32, device));
        let angle = tensor([rows, 1, 1, head_dim / 2], 0.1, device) * 3.0;
        NewHeads {
            queries,
            keys,
            values,
            biases: has_biases.then(|| widths.map(|it| tensor([it], 0.4, device))),
            norms: has_norms.then(|| [0.5, 0.9].map(|it| tensor([head_dim], it, device))),
            eps: 1e-3,
            cos: angle.clone().cos(),
            sin: angle.sin(),
            column: Tensor::from_ints([column], device),
        }
    };
    let cpu = Device::flex();
    for device in devices() {
        for (dtype, tolerance) in types(&device) {
            for is_shared in [false, true] {
                let what = format!("{rows} {heads} {group} {head_dim} {dtype:?} on {device:?}");
                let (queries, expected) = on(&cpu).place_reference(caches(&cpu, dtype));
                let given = caches(&device, dtype);
                let held = is_shared.then(|| given.clone());
                let (found_queries, found) = on(&device).place(given);
                assert_eq!(found_queries.dims(), [rows, heads, group, 1, head_dim], "{what}");
                close(&list(found_queries), &list(queries), 2e-5, &what);
                for (found, expected) in found.into_iter().zip(expected) {
                    assert_eq!(found.dtype(), dtype, "{what}");
                    close(&list(found), &list(expected), tolerance, &what);
                }
                // Other holders of the caches see no change.
                for (held, before) in held.into_iter().flatten().zip(caches(&cpu, dtype)) {
                    assert_eq!(list(held), list(before), "{what}");
                }
            }
        }
    }
}

#[test]
fn new_heads_equal_the_reference() {
    check_new_heads([1, 1, 1, 2], false, false);
    check_new_heads([3, 2, 7, 64], true, false);
    check_new_heads([2, 2, 2, 128], false, true);
    check_new_heads([2, 1, 3, 160], true, true);
    check_new_heads([5, 3, 1, 10], false, false);
}

/// Batched products equal the products of the single matrices.
#[test]
fn batched_bf16_matmul_equals_single_products() {
    for device in devices() {
        let (x, weight) = (tensor([2, 3, 5, 7], 0.2, &device), tensor([2, 3, 7, 4], 0.4, &device));
        let found = product(x.clone(), weight.clone(), false, ComputeDtype::Bf16);
        assert_eq!((found.dims(), found.dtype()), ([2, 3, 5, 4], DType::F32));
        for (row, head) in [(0, 0), (1, 2)] {
            let one = |it: &Tensor<4>| -> Tensor<2> {
                let [_, _, n, m] = it.dims();
                it.clone().slice([row..row + 1, head..head + 1]).reshape([n, m])
            };
            let expected = list(product(one(&x), one(&weight), false, ComputeDtype::Bf16));
            close(&list(one(&found)), &expected, 1e-5, &format!("{row} {head} on {device:?}"));
        }
    }
}

/// Attention of one token per row over partly filled, partly masked caches.
#[track_caller]
fn check_decode(shape: [usize; 5], capacity: usize, filled: usize) {
    let [rows, heads, _, _, head_dim] = shape;
    let mask: Vec<f32> = (0..rows)
        .flat_map(|row| {
            (0..capacity).map(move |it| {
                let is_seen = it < filled && (it + row) % 5 != 3 || it == 0;
                if is_seen { 0.0 } else { MASKED }
            })
        })
        .collect();
    let on = |device: &Device| {
        let cache = [rows, heads, capacity, head_dim];
        let (queries, keys, values) = (
            tensor(shape, 0.3, device) * 2.0,
            tensor(cache, 0.6, device),
            tensor(cache, 0.9, device),
        );
        let mask = Tensor::from_data(TensorData::new(mask.clone(), [rows, capacity]), device);
        let filled = Tensor::<1, Int>::from_ints([filled as i32], device);
        (queries, keys, values, mask, filled)
    };
    let (queries, keys, values, mask, _) = on(&Device::flex());
    let expected = list(super::decode_attention::reference(queries, keys, values, mask));
    for device in devices() {
        for (dtype, tolerance) in types(&device) {
            let (queries, keys, values, mask, columns) = on(&device);
            let found = decode_attention(queries, keys, values, mask, columns, dtype);
            assert_eq!(found.dtype(), dtype);
            let what = format!("{shape:?} {capacity} {filled} {dtype:?} on {device:?}");
            close(&list(found), &expected, tolerance, &what);
        }
    }
}

#[test]
fn decode_attention_equals_the_reference() {
    // One key; full, partial and several tiles; heads wider than a tile; odd widths.
    check_decode([1, 1, 1, 1, 8], 4, 1);
    check_decode([3, 2, 2, 1, 8], 300, 257);
    check_decode([2, 2, 7, 1, 64], 256, 128);
    check_decode([2, 1, 8, 1, 128], 192, 130);
    check_decode([1, 3, 3, 1, 6], 64, 50);
    check_decode([2, 1, 4, 1, 160], 64, 33);
}

/// Two spans that share a prefix, one alone, and queries of some tokens only.
fn spans(all: bool) -> (Vec<SpanQueries>, usize, usize) {
    let [prefix, first, second, alone] = [0..5, 5..8, 8..48, 48..50];
    let ranges = [(0..0, prefix.clone()), (prefix.clone(), first), (prefix, second), (0..0, alone)];
    let mut queries = 0;
    let spans = ranges.map(|(prefix, own)| {
        let indices: Vec<usize> = own.clone().filter(|it| all || it % 3 != 1).collect();
        let range = queries..queries + indices.len();
        queries = range.end;
        SpanQueries { prefix, own, queries: range, indices, is_causal: true }
    });
    (spans.to_vec(), queries, 50)
}

/// Output and gradients of attention, by the function under test or by autodiff of all scores.
fn attended(
    device: &Device,
    heads: Heads,
    all: bool,
    function: &dyn Fn([Tensor<2>; 3], Vec<SpanQueries>) -> Tensor<2>,
) -> Vec<Vec<f32>> {
    let device = device.clone().autodiff();
    let (spans, queries, tokens) = spans(all);
    let of = [
        tensor([queries, heads.query_width()], 0.1, &device) * 2.0,
        tensor([tokens, heads.key_width()], 0.2, &device),
        tensor([tokens, heads.key_width()], 0.3, &device),
    ]
    .map(|it| it.detach().require_grad());
    let output = function(of.clone(), spans);
    let upstream = tensor(output.dims(), 0.7, &device);
    let mut grads = (output.clone() * upstream).sum().backward();
    let grads = of.map(|it| list(it.grad_remove(&mut grads).expect("it is a leaf")));
    [vec![list(output)], grads.to_vec()].concat()
}

/// Attention with all scores at once.
fn whole_attention(
    [queries, keys, values]: [Tensor<2>; 3],
    spans: &[SpanQueries],
    Heads { key_value_heads, group, head_dim }: Heads,
) -> Tensor<2> {
    let (n, tokens) = (queries.dims()[0], keys.dims()[0]);
    let mut bias = vec![MASKED; n * tokens];
    for span in spans {
        for (query, token) in span.queries.clone().zip(&span.indices) {
            for key in span.prefix.clone().chain(span.own.start..token + 1) {
                bias[query * tokens + key] = 0.0;
            }
        }
    }
    let bias = Tensor::<3>::from_data(TensorData::new(bias, [1, n, tokens]), &queries.device());
    let split = |it: Tensor<2>, heads: usize| -> Tensor<3> {
        let len = it.dims()[0];
        let it: Tensor<3> = it.reshape([len, heads, head_dim]);
        it.swap_dims(0, 1)
    };
    // Each key-value head is repeated for its group.
    let repeated = |it: Tensor<2>| -> Tensor<3> {
        let len = it.dims()[0];
        let it: Tensor<4> = split(it, key_value_heads).unsqueeze_dim(1);
        it.repeat_dim(1, group).reshape([key_value_heads * group, len, head_dim])
    };
    let queries = split(queries, key_value_heads * group);
    let scores = queries.matmul(repeated(keys).swap_dims(1, 2)) + bias;
    let mixed = burn::tensor::activation::softmax(scores, 2).matmul(repeated(values));
    mixed.swap_dims(0, 1).reshape([n, key_value_heads * group * head_dim])
}

#[test]
fn attention_equals_softmax_of_all_scores() {
    for [key_value_heads, group, head_dim] in [[1, 1, 2], [2, 3, 8], [1, 2, 64]] {
        let heads = Heads { key_value_heads, group, head_dim };
        for all in [true, false] {
            let expected = attended(&Device::flex(), heads, all, &|of, spans| {
                whole_attention(of, &spans, heads)
            });
            for device in devices() {
                let found = attended(&device, heads, all, &|of, spans| {
                    let layout = SpanLayout::new(spans, &device);
                    attention(of, &layout, heads, ComputeDtype::F32)
                });
                for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    close(found, expected, 2e-5, &format!("{at} of {heads:?} on {device:?}"));
                }
            }
        }
    }
}

#[test]
fn token_scores_equal_burns_log_softmax() {
    let (n, vocab) = (5, 37);
    let targets = [0, 36, 7, 7, 20];
    let cpu = Device::flex().autodiff();
    let logits = (tensor([n, vocab], 0.4, &cpu) * 5.0).detach().require_grad();
    let log_p = burn::tensor::activation::log_softmax(logits.clone(), 1);
    let index = Tensor::<1, Int>::from_ints(targets, &cpu).reshape([n, 1]);
    let log_probs: Tensor<1> = log_p.clone().gather(1, index).reshape([n]);
    let entropy: Tensor<1> = (log_p.clone().exp() * log_p).sum_dim(1).reshape([n]).neg();
    let (g, h) = (tensor([n], 0.2, &cpu), tensor([n], 0.9, &cpu));
    let loss = (log_probs.clone() * g).sum() + (entropy.clone() * h).sum();
    let expected_grads = list(logits.grad_remove(&mut loss.backward()).expect("it is a leaf"));
    for device in devices() {
        let logits = tensor([n, vocab], 0.4, &device) * 5.0;
        let targets = Tensor::<1, Int>::from_ints(targets, &device);
        let scores = token_scores(logits.clone(), targets.clone());
        let column = |at: usize| list(scores.clone().narrow(1, at, 1));
        let what = format!("{device:?}");
        close(&column(0), &list(log_probs.clone()), 2e-5, &what);
        close(&column(1), &list(entropy.clone()), 2e-5, &what);
        let (g, h) = (tensor([n], 0.2, &device), tensor([n], 0.9, &device));
        let grads = token_scores_backward(logits, targets, scores, g, h);
        close(&list(grads), &expected_grads, 2e-5, &what);
    }
}
