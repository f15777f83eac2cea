//! Names and shapes of the tensors that a configuration calls for.

use crate::ModelConfig;

/// Tensors of a checkpoint, with their shapes in the file, without a head that is tied.
pub(crate) fn tensor_shapes(config: &ModelConfig) -> impl Iterator<Item = (String, Vec<usize>)> {
    let (width, inner, head) = (config.hidden_size, config.intermediate_size, config.head_dim);
    let queries = config.num_attention_heads * head;
    let keys = config.num_key_value_heads * head;
    let mut block = vec![
        ("input_layernorm.weight", vec![width]),
        ("post_attention_layernorm.weight", vec![width]),
        ("self_attn.q_proj.weight", vec![queries, width]),
        ("self_attn.k_proj.weight", vec![keys, width]),
        ("self_attn.v_proj.weight", vec![keys, width]),
        ("self_attn.o_proj.weight", vec![width, queries]),
        ("mlp.gate_proj.weight", vec![inner, width]),
        ("mlp.up_proj.weight", vec![inner, width]),
        ("mlp.down_proj.weight", vec![width, inner]),
    ];
    if config.qkv_bias {
        block.push(("self_attn.q_proj.bias", vec![queries]));
        block.push(("self_attn.k_proj.bias", vec![keys]));
        block.push(("self_attn.v_proj.bias", vec![keys]));
    }
    if config.output_bias {
        block.push(("self_attn.o_proj.bias", vec![width]));
    }
    if config.architecture.has_qk_norm() {
        block.push(("self_attn.q_norm.weight", vec![head]));
        block.push(("self_attn.k_norm.weight", vec![head]));
    }
    let embedding = ("model.embed_tokens.weight".to_owned(), vec![config.vocab_size, width]);
    let norm = ("model.norm.weight".to_owned(), vec![width]);
    let output = (!config.tie_word_embeddings)
        .then(|| ("lm_head.weight".to_owned(), vec![config.vocab_size, width]));
    let blocks = (0..config.num_hidden_layers).flat_map(move |layer| {
        let named = move |(name, shape)| (format!("model.layers.{layer}.{name}"), shape);
        block.clone().into_iter().map(named)
    });
    [embedding, norm].into_iter().chain(output).chain(blocks)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::checkpoint::named_parameters;
    use crate::testing::tiny_config;
    use crate::{Architecture, CausalLm};

    #[test]
    fn shapes_are_those_of_the_network() {
        for (architecture, bias, tied) in [
            (Architecture::Qwen2, true, true),
            (Architecture::Qwen3, false, false),
            (Architecture::Llama, true, false),
        ] {
            let config = ModelConfig {
                architecture,
                qkv_bias: bias,
                output_bias: bias && architecture == Architecture::Llama,
                tie_word_embeddings: tied,
                ..tiny_config()
            };
            let network = CausalLm::zeros(&config, &Device::default());
            let mut expected: Vec<_> = named_parameters(&network)
                .into_iter()
                .map(|it| (it.entry.name, it.entry.shape))
                .collect();
            let mut found: Vec<_> = tensor_shapes(&config).collect();
            expected.sort();
            found.sort();
            assert_eq!(found, expected);
            let num_values: usize = found.iter().map(|(_, it)| it.iter().product::<usize>()).sum();
            assert_eq!(num_values, config.num_parameters());
        }
    }
}
