//! Tensors of a model: names in GGUF and in Hugging Face layout, shapes, order of rows.

use std::collections::BTreeMap;

use super::file::{GgufFile, GgufTensor};
use super::{GgufError, rope};
use crate::{Architecture, ModelConfig};

/// Tensor of a model, with its place in the file.
pub(super) struct Weight<'a> {
    pub(super) file: &'a GgufFile,
    pub(super) tensor: &'a GgufTensor,
    /// Width of the heads whose rows the file holds in pairs; see [`unpair_rows`].
    paired_head_dim: Option<usize>,
}

impl Weight<'_> {
    /// Values in the order of Hugging Face layout.
    pub(super) fn values(&self) -> Vec<f32> {
        let values = self.file.values(self.tensor);
        match self.paired_head_dim {
            Some(head_dim) => unpair_rows(&values, self.tensor.shape[0], head_dim),
            None => values,
        }
    }
}

/// Place of a tensor in the model, by its name in GGUF.
struct Place {
    name: String,
    shape: Vec<usize>,
    paired_head_dim: Option<usize>,
}

/// Tensors of the configured model by their name in Hugging Face layout. Every tensor of the file
/// has a place in the model, and every place has a tensor of its shape.
pub(super) fn weights<'a>(
    file: &'a GgufFile,
    config: &ModelConfig,
) -> Result<BTreeMap<String, Weight<'a>>, GgufError> {
    let blocks = config.num_hidden_layers;
    // Also bounds the number of places by what the file holds.
    if blocks > file.tensors().len() {
        let name = format!("blk.{}.attn_norm.weight", blocks - 1);
        return Err(GgufError::tensor(file.path(), name, "is missing", "convert the model again"));
    }
    let places = places(config);
    let is_extra = |name: &&String| !places.contains_key(*name) && *name != rope::FACTORS;
    if let Some(name) = file.tensors().keys().find(is_extra) {
        let problem = format!("is not part of a {:?} model", config.architecture);
        let remedy = "use a file of a model that transformers loads as that architecture";
        return Err(GgufError::tensor(file.path(), name, problem, remedy));
    }
    let mut weights = BTreeMap::new();
    for (gguf, place) in places {
        let Some(tensor) = file.tensors().get(&gguf) else {
            let remedy = "convert the model again";
            return Err(GgufError::tensor(file.path(), gguf, "is missing", remedy));
        };
        if tensor.shape != place.shape {
            let (found, expected) = (&tensor.shape, &place.shape);
            let problem = format!("has shape {found:?}, but the metadata call for {expected:?}");
            return Err(GgufError::tensor(file.path(), gguf, problem, "convert the model again"));
        }
        let weight = Weight { file, tensor, paired_head_dim: place.paired_head_dim };
        weights.insert(place.name, weight);
    }
    Ok(weights)
}

/// Every tensor of a model, by its name in GGUF.
fn places(config: &ModelConfig) -> BTreeMap<String, Place> {
    let mut places = BTreeMap::new();
    let mut add = |gguf: String, name: String, shape: &[usize], paired_head_dim| {
        places.insert(gguf, Place { name, shape: shape.to_vec(), paired_head_dim });
    };
    let (d, f, h) = (config.hidden_size, config.intermediate_size, config.head_dim);
    let (q, k) = (config.num_attention_heads * h, config.num_key_value_heads * h);
    let table = [config.vocab_size, d];
    add("token_embd.weight".to_owned(), "model.embed_tokens.weight".to_owned(), &table, None);
    add("output_norm.weight".to_owned(), "model.norm.weight".to_owned(), &[d], None);
    if !config.tie_word_embeddings {
        add("output.weight".to_owned(), "lm_head.weight".to_owned(), &table, None);
    }
    // Only the architecture `llama` stores the rows of queries and keys in pairs.
    let paired = (config.architecture == Architecture::Llama).then_some(h);
    let mut parts: Vec<(&str, &str, &[usize], Option<usize>)> = Vec::new();
    let (of_q, of_k, of_o) = ([q, d], [k, d], [d, q]);
    let (wide, narrow) = ([f, d], [d, f]);
    parts.push(("attn_norm.weight", "input_layernorm.weight", &wide[1..], None));
    parts.push(("ffn_norm.weight", "post_attention_layernorm.weight", &wide[1..], None));
    parts.push(("attn_q.weight", "self_attn.q_proj.weight", &of_q, paired));
    parts.push(("attn_k.weight", "self_attn.k_proj.weight", &of_k, paired));
    parts.push(("attn_v.weight", "self_attn.v_proj.weight", &of_k, None));
    parts.push(("attn_output.weight", "self_attn.o_proj.weight", &of_o, None));
    parts.push(("ffn_gate.weight", "mlp.gate_proj.weight", &wide, None));
    parts.push(("ffn_up.weight", "mlp.up_proj.weight", &wide, None));
    parts.push(("ffn_down.weight", "mlp.down_proj.weight", &narrow, None));
    if config.qkv_bias {
        parts.push(("attn_q.bias", "self_attn.q_proj.bias", &of_q[..1], paired));
        parts.push(("attn_k.bias", "self_attn.k_proj.bias", &of_k[..1], paired));
        parts.push(("attn_v.bias", "self_attn.v_proj.bias", &of_k[..1], None));
    }
    if config.output_bias {
        parts.push(("attn_output.bias", "self_attn.o_proj.bias", &of_o[..1], None));
    }
    let head = [h];
    if config.architecture.has_qk_norm() {
        parts.push(("attn_q_norm.weight", "self_attn.q_norm.weight", &head, None));
        parts.push(("attn_k_norm.weight", "self_attn.k_norm.weight", &head, None));
    }
    for layer in 0..config.num_hidden_layers {
        for (gguf, name, shape, paired) in &parts {
            let name = format!("model.layers.{layer}.{name}");
            add(format!("blk.{layer}.{gguf}"), name, shape, *paired);
        }
    }
    places
}

/// Rows in the rotate-half convention, of rows whose rotated pairs are adjacent.
///
/// ```text
/// row i + j h/2 of a head here = row 2 i + j there      i < h/2, j < 2
/// ```
///
/// llama.cpp rotates adjacent dimensions in the architecture `llama`, so its converter reorders the
/// rows of the query and key projections (and their biases).
fn unpair_rows(values: &[f32], rows: usize, head_dim: usize) -> Vec<f32> {
    let width = values.len() / rows;
    let mut out = Vec::with_capacity(values.len());
    for head in (0..rows).step_by(head_dim) {
        for row in 0..head_dim {
            let (i, j) = (row % (head_dim / 2), row / (head_dim / 2));
            out.extend_from_slice(&values[(head + 2 * i + j) * width..][..width]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_head_are_unpaired() {
        // Two heads of width 4, rows of two values; numbers as `_reverse_permute_weights` of
        // transformers 4.57 returns them.
        let values: Vec<f32> = (0..16).map(|it| it as f32).collect();
        let expected = [0., 1., 4., 5., 2., 3., 6., 7., 8., 9., 12., 13., 10., 11., 14., 15.]
            .map(|it| it as f32);
        assert_eq!(unpair_rows(&values, 8, 4), expected);
    }
}
