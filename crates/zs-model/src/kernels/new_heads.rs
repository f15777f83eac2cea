//! Preparation of a new token's heads for attention, and their insertion into the cache.

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use super::{rms_norm, rotate};

/// Projected queries, keys and values of one new token per row, with the parameters of the
/// remaining steps.
///
/// # Shapes
///
/// - queries: `[rows, key_value_heads * group * head_dim]`; keys, values:
///   `[rows, key_value_heads * head_dim]`
/// - biases: of queries, keys and values, with the same widths
/// - norms: of queries and keys, `[head_dim]`
/// - cos, sin: `[rows, 1, 1, head_dim / 2]`
/// - column: `[1]`
pub(crate) struct NewHeads {
    pub(crate) queries: Tensor<2>,
    pub(crate) keys: Tensor<2>,
    pub(crate) values: Tensor<2>,
    pub(crate) biases: Option<[Tensor<1>; 3]>,
    pub(crate) norms: Option<[Tensor<1>; 2]>,
    pub(crate) eps: f64,
    pub(crate) cos: Tensor<4>,
    pub(crate) sin: Tensor<4>,
    /// Column of the cache that the token fills in every row.
    pub(crate) column: Tensor<1, Int>,
}

impl NewHeads {
    /// Adds biases, normalises heads if the model has head norms, rotates, scales the queries, and
    /// writes keys and values into the caches.
    ///
    /// ```text
    /// q_h = R norm(q_h + b) / sqrt(head_dim),   k_h = R norm(k_h + b),   v_h = v_h + b
    /// ```
    ///
    /// `R` is the rotation by the token's position ([`rotate`]). A single kernel on an accelerator;
    /// it writes in place if the caches are not shared.
    ///
    /// # Shapes
    ///
    /// - caches (keys, values), as input and as output: `[rows, key_value_heads, capacity,
    ///   head_dim]`
    /// - queries: `[rows, key_value_heads, group, 1, head_dim]`
    pub(crate) fn place(self, caches: [Tensor<4>; 2]) -> (Tensor<5>, [Tensor<4>; 2]) {
        #[cfg(feature = "accelerator")]
        if !crate::workers::is_host(&self.queries.device()) {
            return kernel::run(self, caches);
        }
        self.place_reference(caches)
    }

    /// [`place`](Self::place) as a composition of tensor operations.
    pub(super) fn place_reference(self, caches: [Tensor<4>; 2]) -> (Tensor<5>, [Tensor<4>; 2]) {
        let [rows, key_value_heads, _, head_dim] = caches[0].dims();
        let Self { queries, keys, values, biases, norms, eps, cos, sin, column } = self;
        let split = |x: Tensor<2>| -> Tensor<4> {
            let heads = x.dims()[1] / head_dim;
            x.reshape([rows, 1, heads, head_dim])
        };
        let [queries, keys, values] = match biases {
            Some([q, k, v]) => {
                [queries + q.unsqueeze(), keys + k.unsqueeze(), values + v.unsqueeze()]
            }
            None => [queries, keys, values],
        };
        let [queries, keys, values] = [queries, keys, values].map(split);
        let norm = |x: Tensor<4>, weight: Tensor<1>| {
            let dims = x.dims();
            rms_norm(x.reshape([dims[0] * dims[2], head_dim]), weight, eps).reshape(dims)
        };
        let [queries, keys] = match norms {
            Some([q, k]) => [norm(queries, q), norm(keys, k)],
            None => [queries, keys],
        };
        let scale = 1.0 / (head_dim as f64).sqrt();
        let queries = rotate(queries, cos.clone(), sin.clone(), scale);
        let keys = rotate(keys, cos, sin, 1.0);
        let put = |cache: Tensor<4>, new: Tensor<4>| {
            let new = new.swap_dims(1, 2).cast(cache.dtype());
            cache.select_assign(2, column.clone(), new, IndexingUpdateOp::Assign)
        };
        let group = queries.dims()[2] / key_value_heads;
        let [key_cache, value_cache] = caches;
        let queries = queries.reshape([rows, key_value_heads, group, 1, head_dim]);
        (queries, [put(key_cache, keys), put(value_cache, values)])
    }
}

#[cfg(feature = "accelerator")]
mod kernel {
    use burn::backend::fusion::custom::TensorSpec;
    use burn::backend::tensor::{FloatTensor, IntTensor};
    use burn::backend::{Backend, Dispatch, ExtensionType, backend_extension};
    use burn::tensor::{Shape, Tensor as BurnTensor};
    use burn_cubecl::CubeBackend;
    use burn_cubecl::kernel::into_contiguous;
    use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
    use cubecl::prelude::*;

    use super::super::cube_norm::norm_scale;
    use super::NewHeads;

    /// [`NewHeads`] and the caches on a backend; absent biases or norms are replaced by any tensor.
    #[derive(Clone, Debug, ExtensionType)]
    #[extension_type(fusion)]
    pub(super) struct HeadTensors<B: Backend> {
        queries: FloatTensor<B>,
        keys: FloatTensor<B>,
        values: FloatTensor<B>,
        bias_q: FloatTensor<B>,
        bias_k: FloatTensor<B>,
        bias_v: FloatTensor<B>,
        norm_q: FloatTensor<B>,
        norm_k: FloatTensor<B>,
        cos: FloatTensor<B>,
        sin: FloatTensor<B>,
        column: IntTensor<B>,
        key_cache: FloatTensor<B>,
        value_cache: FloatTensor<B>,
    }

    /// Arguments that are not tensors.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Plan {
        has_biases: bool,
        has_norms: bool,
        eps: f32,
        scale: f32,
    }

    pub(super) fn run(
        heads: NewHeads,
        [key_cache, value_cache]: [BurnTensor<4>; 2],
    ) -> (BurnTensor<5>, [BurnTensor<4>; 2]) {
        let NewHeads { queries, keys, values, biases, norms, eps, cos, sin, column } = heads;
        let plan = Plan {
            has_biases: biases.is_some(),
            has_norms: norms.is_some(),
            eps: eps as f32,
            scale: 1.0 / (key_cache.dims()[3] as f32).sqrt(),
        };
        let nothing = || cos.clone().into_dispatch();
        let [bias_q, bias_k, bias_v] = biases.map_or_else(
            || [(); 3].map(|()| nothing()),
            |biases| biases.map(BurnTensor::into_dispatch),
        );
        let [norm_q, norm_k] = norms.map_or_else(
            || [(); 2].map(|()| nothing()),
            |norms| norms.map(BurnTensor::into_dispatch),
        );
        let tensors = HeadTensors::<Dispatch> {
            queries: queries.into_dispatch(),
            keys: keys.into_dispatch(),
            values: values.into_dispatch(),
            bias_q,
            bias_k,
            bias_v,
            norm_q,
            norm_k,
            sin: sin.into_dispatch(),
            cos: cos.into_dispatch(),
            column: column.into_dispatch(),
            key_cache: key_cache.into_dispatch(),
            value_cache: value_cache.into_dispatch(),
        };
        let (queries, keys, values) = Dispatch::place_heads(tensors, plan);
        let caches = [keys, values].map(BurnTensor::from_dispatch);
        (BurnTensor::from_dispatch(queries), caches)
    }

    #[backend_extension(Cube, Fusion)]
    pub(super) trait PlaceHeads: Backend {
        #[fusion(meta = |tensors: &HeadTensorsMetadata, _: &Plan| {
            let shape = query_shape(&tensors.queries.shape, &tensors.key_cache.shape);
            let queries = TensorSpec::new(shape, tensors.queries.dtype);
            (queries, tensors.key_cache.clone(), tensors.value_cache.clone())
        })]
        fn place_heads(
            #[extension_type] tensors: HeadTensors<Self>,
            plan: Plan,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
    }

    /// Shape `[rows, key_value_heads, group, 1, head_dim]`, given the shapes of queries and cache.
    fn query_shape(queries: &Shape, cache: &Shape) -> Shape {
        let (heads, head_dim) = (cache[1], cache[3]);
        Shape::new([queries[0], heads, queries[1] / heads / head_dim, 1, head_dim])
    }

    impl PlaceHeads for CubeBackend {
        fn place_heads(
            tensors: HeadTensors<Self>,
            plan: Plan,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
            let read = |it| into_contiguous(it).into_tensor_arg();
            // In place, unless the tensor is shared.
            let own = |it: FloatTensor<Self>| if it.can_mut() { it } else { it.copy() };
            let (key_cache, value_cache) = (own(tensors.key_cache), own(tensors.value_cache));
            let queries = into_contiguous(tensors.queries);
            let shape = query_shape(queries.meta.shape(), key_cache.meta.shape());
            let (rows, heads, group, head_dim) = (shape[0], shape[1], shape[2], shape[4]);
            let client = queries.client.clone();
            let output = empty_device_contiguous_dtype(
                client.clone(),
                queries.device.clone(),
                shape,
                queries.dtype,
            );
            let types = [key_cache.dtype, tensors.column.dtype];
            place_heads_kernel::launch(
                &client,
                CubeCount::Static(rows as u32, (heads * (group + 2)) as u32, 1),
                CubeDim::new_1d(units(head_dim) as u32),
                queries.into_tensor_arg(),
                read(tensors.keys),
                read(tensors.values),
                read(tensors.bias_q),
                read(tensors.bias_k),
                read(tensors.bias_v),
                read(tensors.norm_q),
                read(tensors.norm_k),
                read(tensors.cos),
                read(tensors.sin),
                read(tensors.column),
                output.clone().into_tensor_arg(),
                key_cache.clone().into_tensor_arg(),
                value_cache.clone().into_tensor_arg(),
                plan.eps,
                plan.scale,
                Shapes { heads, group, head_dim, units: units(head_dim) },
                plan.has_biases,
                plan.has_norms,
                types.map(burn::backend::cubecl::dtype_to_storage_type),
            );
            (output, key_cache, value_cache)
        }
    }

    /// Units of a cube: one per rotated pair of elements, up to the limit.
    fn units(head_dim: usize) -> usize {
        (head_dim / 2).next_power_of_two().clamp(32, 128)
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    struct Shapes {
        heads: usize,
        group: usize,
        head_dim: usize,
        units: usize,
    }

    /// One cube per head and row: first query heads, then keys, then values.
    #[cube(launch)]
    #[expect(clippy::too_many_arguments, reason = "the operation has these inputs")]
    fn place_heads_kernel<E: Float, I: Numeric>(
        queries: &Tensor<f32>,
        keys: &Tensor<f32>,
        values: &Tensor<f32>,
        bias_q: &Tensor<f32>,
        bias_k: &Tensor<f32>,
        bias_v: &Tensor<f32>,
        norm_q: &Tensor<f32>,
        norm_k: &Tensor<f32>,
        cos: &Tensor<f32>,
        sin: &Tensor<f32>,
        column: &Tensor<I>,
        output: &mut Tensor<f32>,
        key_cache: &mut Tensor<E>,
        value_cache: &mut Tensor<E>,
        eps: f32,
        query_scale: f32,
        #[comptime] shapes: Shapes,
        #[comptime] has_biases: bool,
        #[comptime] has_norms: bool,
        #[define(E, I)] _types: [ElemType; 2],
    ) {
        let Shapes { heads, group, head_dim, units } = comptime!(shapes);
        let half = comptime!(head_dim / 2);
        let row = CUBE_POS_X as usize;
        let head = CUBE_POS_Y as usize;
        let unit = UNIT_POS_X as usize;
        let angle = row * half;
        let mut numbers = Shared::<[f32]>::new_slice(head_dim);
        if head < comptime!(heads * group) {
            let first = (row * comptime!(heads * group) + head) * head_dim;
            load_head(queries, bias_q, first, head, &mut numbers, head_dim, units, has_biases);
            norm_head(norm_q, &mut numbers, eps, head_dim, units, has_norms);
            let mut at = unit;
            while at < half {
                let (a, b) = (numbers[at], numbers[at + half]);
                let (c, s) = (cos[angle + at], sin[angle + at]);
                output[first + at] = (a * c - b * s) * query_scale;
                output[first + at + half] = (b * c + a * s) * query_scale;
                at += units;
            }
        } else if head < comptime!(heads * (group + 1)) {
            let head = head - comptime!(heads * group);
            let first = (row * heads + head) * head_dim;
            load_head(keys, bias_k, first, head, &mut numbers, head_dim, units, has_biases);
            norm_head(norm_k, &mut numbers, eps, head_dim, units, has_norms);
            let place = row * key_cache.stride(0)
                + head * key_cache.stride(1)
                + u32::cast_from(column[0]) as usize * key_cache.stride(2);
            let mut at = unit;
            while at < half {
                let (a, b) = (numbers[at], numbers[at + half]);
                let (c, s) = (cos[angle + at], sin[angle + at]);
                key_cache[place + at] = E::cast_from(a * c - b * s);
                key_cache[place + at + half] = E::cast_from(b * c + a * s);
                at += units;
            }
        } else {
            let head = head - comptime!(heads * (group + 1));
            let first = (row * heads + head) * head_dim;
            load_head(values, bias_v, first, head, &mut numbers, head_dim, units, has_biases);
            let place = row * value_cache.stride(0)
                + head * value_cache.stride(1)
                + u32::cast_from(column[0]) as usize * value_cache.stride(2);
            let mut at = unit;
            while at < head_dim {
                value_cache[place + at] = E::cast_from(numbers[at]);
                at += units;
            }
        }
    }

    /// Loads a head, with its bias added, into shared memory.
    #[cube]
    fn load_head(
        x: &Tensor<f32>,
        bias: &Tensor<f32>,
        first: usize,
        head: usize,
        numbers: &mut Shared<[f32]>,
        #[comptime] head_dim: usize,
        #[comptime] units: usize,
        #[comptime] has_biases: bool,
    ) {
        let mut at = UNIT_POS_X as usize;
        while at < head_dim {
            let mut number = x[first + at];
            if has_biases {
                number += bias[head * head_dim + at];
            }
            numbers[at] = number;
            at += units;
        }
        sync_cube();
    }

    /// RMS norm of a head, in place.
    #[cube]
    fn norm_head(
        weight: &Tensor<f32>,
        numbers: &mut Shared<[f32]>,
        eps: f32,
        #[comptime] head_dim: usize,
        #[comptime] units: usize,
        #[comptime] has_norms: bool,
    ) {
        if has_norms {
            let unit = UNIT_POS_X as usize;
            let mut square = f32::new(0.0);
            let mut at = unit;
            while at < head_dim {
                square += numbers[at] * numbers[at];
                at += units;
            }
            let scale = norm_scale(square, head_dim as u32, eps, units);
            at = unit;
            while at < head_dim {
                numbers[at] = numbers[at] * scale * weight[at];
                at += units;
            }
            sync_cube();
        }
    }
}
