//! Transformer encoder over packed texts: every token attends to all tokens of its text.

use burn::tensor::{Device, Tensor, TensorData};

use super::config::EncoderConfig;
use crate::checkpoint::{CheckpointError, TensorEntry, WeightFiles};
use crate::kernels::{
    LayerNorm, SpanLayout, add_layer_norm, attention, bias_gelu, matmul_dtype, product, rounded_to,
};
use crate::spans::{Heads, SpanQueries, ints};
use crate::{ComputeDtype, TokenId};

/// Encoder of the BERT family, without pooler and heads.
///
/// ```text
/// x_0 = norm(word + position + type)
/// a_l = norm(x_l + W_o attention(x_l) + b_o),   x_(l+1) = norm(a_l + W_2 gelu(W_1 a_l + b_1) + b_2)
/// ```
///
/// # References
///
/// - [BERT](https://arxiv.org/abs/1810.04805), section 3
#[derive(Clone, Debug)]
pub(super) struct EncoderNetwork {
    word: Tensor<2>,
    /// Rows of positions, each with the row of the first token type added.
    position: Tensor<2>,
    norm: LayerNorm,
    blocks: Vec<Block>,
    heads: Heads,
    first_position: usize,
    compute_dtype: ComputeDtype,
}

#[derive(Clone, Debug)]
struct Block {
    /// Queries, scaled by `1 / sqrt(head_dim)`, keys and values.
    projections: [Linear; 3],
    output: Linear,
    output_norm: LayerNorm,
    inner: Linear,
    outer: Linear,
    outer_norm: LayerNorm,
}

#[derive(Clone, Debug)]
struct Linear {
    /// `[in, out]`, in the dtype of products.
    weight: Tensor<2>,
    bias: Tensor<1>,
}

/// Prefixes of the names of tensors: none where the encoder was saved alone.
const PREFIXES: [&str; 3] = ["", "bert.", "roberta."];

impl EncoderNetwork {
    /// Loads the weights of a model directory onto a device.
    ///
    /// # Errors
    ///
    /// Fails when the files do not hold the tensors that the configuration calls for.
    pub(super) fn load(
        files: WeightFiles,
        config: &EncoderConfig,
        compute_dtype: ComputeDtype,
        device: &Device,
    ) -> Result<Self, CheckpointError> {
        const WORDS: &str = "embeddings.word_embeddings.weight";
        let is_there = |it: &&&str| files.path_of(&format!("{it}{WORDS}")).is_some();
        let prefix = PREFIXES.iter().find(is_there).copied().unwrap_or_default();
        files.check(
            config.tensor_shapes().map(|(name, shape)| (format!("{prefix}{name}"), shape)),
        )?;
        let mut weights = Weights { files, prefix, compute_dtype, device };
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let word = weights.matrix("embeddings.word_embeddings", [config.vocab_size, width])?;
        let rows = [config.max_position_embeddings, width];
        let position = weights.matrix("embeddings.position_embeddings", rows)?;
        let types = [config.type_vocab_size, width];
        let types = weights.matrix("embeddings.token_type_embeddings", types)?;
        let norm = |weights: &mut Weights<'_>, name: &str| weights.norm(name, config);
        let embedding_norm = norm(&mut weights, "embeddings.LayerNorm")?;
        let scale = 1.0 / (config.head_dim() as f64).sqrt();
        let mut blocks = Vec::new();
        for index in 0..config.num_hidden_layers {
            let name = |part: &str| format!("encoder.layer.{index}.{part}");
            let mut linear = |part: &str, shape, scale| weights.linear(&name(part), shape, scale);
            let projections = [
                linear("attention.self.query", [width, width], scale)?,
                linear("attention.self.key", [width, width], 1.0)?,
                linear("attention.self.value", [width, width], 1.0)?,
            ];
            let output = linear("attention.output.dense", [width, width], 1.0)?;
            let inner_layer = linear("intermediate.dense", [inner, width], 1.0)?;
            let outer = linear("output.dense", [width, inner], 1.0)?;
            blocks.push(Block {
                projections,
                output,
                output_norm: norm(&mut weights, &name("attention.output.LayerNorm"))?,
                inner: inner_layer,
                outer,
                outer_norm: norm(&mut weights, &name("output.LayerNorm"))?,
            });
        }
        weights.files.finish(|name| is_ignored(name.strip_prefix(prefix).unwrap_or(name)))?;
        Ok(Self {
            word,
            position: position + types.slice([0..1, 0..width]),
            norm: embedding_norm,
            blocks,
            heads: Heads {
                key_value_heads: config.num_attention_heads,
                group: 1,
                head_dim: config.head_dim(),
            },
            first_position: config.first_position,
            compute_dtype,
        })
    }

    /// Hidden states of the tokens of texts, one text after the other, `[tokens, hidden_size]`.
    pub(super) fn forward(&self, texts: &[&[TokenId]]) -> Tensor<2> {
        let device = self.word.device();
        let (mut tokens, mut positions, mut spans) = (Vec::new(), Vec::new(), Vec::new());
        for text in texts {
            let own = tokens.len()..tokens.len() + text.len();
            tokens.extend(text.iter().map(|it| *it as i32));
            let first = self.first_position;
            positions.extend((first..first + text.len()).map(|it| it as i32));
            spans.push(SpanQueries {
                prefix: 0..0,
                queries: own.clone(),
                indices: own.clone().collect(),
                own,
                is_causal: false,
            });
        }
        let word = self.word.clone().select(0, ints(tokens, &device));
        let position = self.position.clone().select(0, ints(positions, &device));
        let zeros = Tensor::zeros([word.dims()[1]], &device);
        let mut x = add_layer_norm([word, position], zeros, &self.norm);
        let layout = SpanLayout::new(spans, &device);
        for block in &self.blocks {
            x = self.block(block, x, &layout);
        }
        x
    }

    fn block(&self, block: &Block, x: Tensor<2>, layout: &SpanLayout) -> Tensor<2> {
        let input = self.rounded(x.clone());
        let projections = block
            .projections
            .each_ref()
            .map(|it| self.product(input.clone(), it) + it.bias.clone().unsqueeze::<2>());
        let mixed = attention(projections, layout, self.heads, self.compute_dtype);
        let Block { output, output_norm, inner, outer, outer_norm, .. } = block;
        let delta = self.product(self.rounded(mixed), output);
        let x = add_layer_norm([x, delta], output.bias.clone(), output_norm);
        let inside = self.product(self.rounded(x.clone()), inner);
        let inside = bias_gelu(inside, inner.bias.clone());
        let delta = self.product(self.rounded(inside), outer);
        add_layer_norm([x, delta], outer.bias.clone(), outer_norm)
    }

    fn product(&self, x: Tensor<2>, linear: &Linear) -> Tensor<2> {
        product(x, linear.weight.clone(), false, self.compute_dtype)
    }

    /// Input of several products, rounded once.
    fn rounded(&self, x: Tensor<2>) -> Tensor<2> {
        rounded(x, self.compute_dtype)
    }
}

fn rounded(x: Tensor<2>, compute_dtype: ComputeDtype) -> Tensor<2> {
    if compute_dtype != ComputeDtype::Bf16 {
        return x;
    }
    let dtype = matmul_dtype(&x.device());
    rounded_to(x, dtype)
}

/// Returns true for tensors that an encoder does not need: heads, the pooler, and copies of positions.
fn is_ignored(name: &str) -> bool {
    let parts = ["pooler.", "cls.", "lm_head.", "classifier.", "qa_outputs."];
    name == "embeddings.position_ids" || parts.iter().any(|it| name.starts_with(it))
}

/// Tensors of a checkpoint on their way to a device.
struct Weights<'a> {
    files: WeightFiles,
    prefix: &'static str,
    compute_dtype: ComputeDtype,
    device: &'a Device,
}

impl Weights<'_> {
    fn take(
        &mut self,
        name: &str,
        shape: &[usize],
        transposed: bool,
    ) -> Result<Vec<f32>, CheckpointError> {
        let name = format!("{}{name}", self.prefix);
        self.files.take(&TensorEntry { name, shape: shape.to_vec(), transposed })
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Tensor<2>, CheckpointError> {
        let values = self.take(&format!("{name}.weight"), &shape, false)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), self.device))
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor<1>, CheckpointError> {
        let values = self.take(name, &[len], false)?;
        Ok(Tensor::from_data(TensorData::new(values, [len]), self.device))
    }

    fn norm(&mut self, name: &str, config: &EncoderConfig) -> Result<LayerNorm, CheckpointError> {
        let width = config.hidden_size;
        Ok(LayerNorm {
            weight: self.vector(&format!("{name}.weight"), width)?,
            bias: self.vector(&format!("{name}.bias"), width)?,
            eps: config.layer_norm_eps,
        })
    }

    /// Linear layer of shape `[out, in]` in the file, its output multiplied by `scale`.
    fn linear(
        &mut self,
        name: &str,
        [rows, columns]: [usize; 2],
        scale: f64,
    ) -> Result<Linear, CheckpointError> {
        let values = self.take(&format!("{name}.weight"), &[rows, columns], true)?;
        let data = TensorData::new(values, [columns, rows]);
        let weight = Tensor::<2>::from_data(data, self.device) * scale;
        let bias = self.vector(&format!("{name}.bias"), rows)? * scale;
        Ok(Linear { weight: rounded(weight, self.compute_dtype), bias })
    }
}
