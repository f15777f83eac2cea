//! SHA-256 of weights and gradients, by which a run's record can be checked.

use burn::module::Module;
use burn::optim::GradientsParams;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::checkpoint::{NamedTensor, named_gradients, named_parameters};

/// Bytes that are hashed at once, so that all cores share a large tensor.
const CHUNK_BYTES: usize = 1 << 20;

/// SHA-256 of the weights that training changes: of the adapters alone where a module has any.
///
/// ```text
/// tensor  = sha256(sha256(chunk 1) sha256(chunk 2) ...)
/// weights = sha256(name 1 0x00 tensor 1 name 2 0x00 tensor 2 ...)
/// ```
///
/// Chunks are 2^20 bytes of the values as little-endian f32 (the last one is shorter); tensors come in
/// the order of their names. The matrices of linear layers and adapters are hashed as burn holds them,
/// the transposes of those in a checkpoint.
///
/// ```
/// use burn::tensor::Device;
/// use zs_model::LanguageModel;
/// use zs_model::testing::{byte_tokenizer, tiny_config};
///
/// let model = |seed| {
///     LanguageModel::initialize(tiny_config(), byte_tokenizer(), seed, &Device::default())
/// };
/// let digest = |seed| zs_model::weights_digest(model(seed).network());
/// assert!(digest(1) == digest(1) && digest(1) != digest(2));
/// ```
#[must_use]
pub fn weights_digest<M: Module>(module: &M) -> [u8; 32] {
    digest_of(trained_parameters(module))
}

/// The parameters that training changes, in the order of their names.
pub(crate) fn trained_parameters<M: Module>(module: &M) -> Vec<NamedTensor> {
    let is_adapter = |it: &NamedTensor| {
        let name = &it.entry.name;
        name.ends_with(".lora_a") || name.ends_with(".lora_b")
    };
    let (adapters, others): (Vec<_>, Vec<_>) =
        named_parameters(module).into_iter().partition(is_adapter);
    let mut trained = if adapters.is_empty() { others } else { adapters };
    trained.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
    trained
}

/// SHA-256 of gradients, as [`weights_digest`] of weights.
pub(crate) fn gradients_digest<M: Module>(module: &M, grads: &GradientsParams) -> [u8; 32] {
    let mut gradients = named_gradients(module, grads);
    gradients.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
    digest_of(gradients)
}

/// SHA-256 of several digests, one after the other.
pub(crate) fn joined(digests: &[[u8; 32]]) -> [u8; 32] {
    Sha256::digest(digests.as_flattened()).into()
}

fn digest_of(tensors: Vec<NamedTensor>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for tensor in tensors {
        hasher.update(tensor.entry.name.as_bytes());
        hasher.update([0]);
        let bytes = tensor.to_bytes();
        let chunks: Vec<[u8; 32]> =
            bytes.par_chunks(CHUNK_BYTES).map(|it| Sha256::digest(it).into()).collect();
        hasher.update(joined(&chunks));
    }
    hasher.finalize().into()
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::module::Param;
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::testing::{byte_tokenizer, tiny_config};
    use crate::{LanguageModel, LoraConfig, Optimizer, OptimizerConfig};

    #[derive(Module, Debug)]
    struct Two {
        b: Param<Tensor<1>>,
        a: Param<Tensor<2>>,
    }

    fn two() -> Two {
        let device = Device::default();
        // A tensor of more than one chunk.
        let large = Tensor::arange(0..300_000, &device).float().reshape([3, 100_000]);
        Two {
            b: Param::from_tensor(Tensor::from_data([0.5, -2.0], &device)),
            a: Param::from_tensor(large),
        }
    }

    #[test]
    fn the_digest_is_the_documented_one() {
        let hash = |parts: &[&[u8]]| -> [u8; 32] { Sha256::digest(parts.concat()).into() };
        let a: Vec<u8> = (0..300_000).flat_map(|it| (it as f32).to_le_bytes()).collect();
        let a = hash(&[&hash(&[&a[..1 << 20]]), &hash(&[&a[1 << 20..]])]);
        let b = hash(&[&hash(&[&0.5_f32.to_le_bytes(), &(-2.0_f32).to_le_bytes()])]);
        assert_eq!(weights_digest(&two()), hash(&[b"a\0", &a, b"b\0", &b]));
    }

    #[test]
    fn adapters_alone_are_hashed() {
        let base =
            LanguageModel::initialize(tiny_config(), byte_tokenizer(), 1, &Device::default());
        let config = LoraConfig { target_modules: vec!["q_proj".into()], ..LoraConfig::default() };
        let adapted = base.with_lora(&config, 1).unwrap();
        let names = trained_parameters(adapted.network());
        let names: Vec<&str> = names.iter().map(|it| it.entry.name.as_str()).collect();
        assert_eq!(names.len(), 2 * base.config().num_hidden_layers, "{names:?}");
        assert!(names[0].ends_with("layers.0.self_attn.q_proj.adapter.lora_a"), "{names:?}");
        // The training copy is the same to a digest.
        assert_eq!(
            weights_digest(adapted.network()),
            weights_digest(&adapted.network().clone().train())
        );
    }

    #[test]
    fn gradients_are_hashed_where_they_are_asked_for() {
        let model = two().train();
        let mut optimizer = Optimizer::new(&OptimizerConfig::default(), &model);
        let step = |optimizer: &mut Optimizer, factor: f64| {
            let loss = model.b.val().sum() * factor;
            let grads = GradientsParams::from_grads(loss.backward(), &model);
            let _ = optimizer.step(model.clone(), grads);
        };
        step(&mut optimizer, 3.0);
        assert_eq!(optimizer.take_gradients_digest(), None);
        optimizer.digest_gradients();
        assert_eq!(optimizer.take_gradients_digest(), None);
        // A step that is not taken has no part in it.
        for factors in [&[3.0][..], &[3.0, f64::NAN], &[3.0, 4.0]] {
            factors.iter().for_each(|it| step(&mut optimizer, *it));
            let hash = |parts: &[&[u8]]| -> [u8; 32] { Sha256::digest(parts.concat()).into() };
            let of_step = |factor: f64| {
                let bytes = (factor as f32).to_le_bytes();
                hash(&[b"b\0", &hash(&[&hash(&[&bytes, &bytes])])])
            };
            let taken: Vec<[u8; 32]> =
                factors.iter().filter(|it| it.is_finite()).map(|it| of_step(*it)).collect();
            assert_eq!(optimizer.take_gradients_digest(), Some(joined(&taken)));
        }
    }
}
