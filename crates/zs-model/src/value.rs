//! Value model of PPO: the layers of a language model with a scalar head.

use std::convert::Infallible;
use std::path::Path;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use crate::checkpoint::{fill, load_module, named_parameters, write_safetensors};
use crate::network::{Decoder, Linear, PackedRows, Trunk};
use crate::replicas::{all_devices, secondary_devices};
use crate::scoring::spread;
use crate::{
    CausalLm, CheckpointError, MemoryConfig, ModelConfig, SaveError, TokenRow, ValueModel,
    WeightDtype,
};

/// Decoder of the Qwen2, Qwen3 or Llama family with a scalar head.
///
/// ```text
/// V_t = w . hidden_(t-1) + b
/// ```
///
/// - `hidden_(t-1)`: final hidden state of the token before `t`, which predicts `t`; so `V_t` is
///   the value of the state in which `t` is chosen
///
/// Saved in its own directory beside the policy (`value/model.safetensors`), since sampling does
/// not need it and other programs load the policy without it.
#[derive(Module, Debug)]
pub struct ValueNetwork {
    model: Decoder,
    value_head: Linear,
    /// Recompute each block in the backward pass, as the policy does.
    #[module(skip)]
    gradient_checkpointing: bool,
    /// Devices of the other replicas.
    #[module(skip)]
    secondary_devices: Vec<Device>,
}

/// Directory of the value model inside a model directory.
const FOLDER: &str = "value";

impl ValueNetwork {
    /// Value model with a copy of the policy's decoder that predicts 0.
    ///
    /// `policy` is a sampling copy; `.train()` of the result gives a copy to train.
    #[must_use]
    pub fn from_policy(policy: &CausalLm) -> Self {
        let width = policy.model.norm.weight.val().dims()[0];
        let device = policy.model.norm.weight.val().device();
        let value_head = Linear::zeros(width, 1, true, &device);
        let unnamed = Self {
            model: policy.model.clone(),
            value_head,
            gradient_checkpointing: policy.memory.gradient_checkpointing,
            secondary_devices: policy.secondary_devices.clone(),
        };
        // Parameter identifiers derive from names, so that a saved optimiser state matches the
        // reloaded model.
        let named = fill(unnamed, |entry| {
            let is_head = entry.name.starts_with("value_head.");
            Ok::<_, Infallible>(is_head.then(|| vec![0.0; entry.len()]))
        });
        match named {
            Ok(values) => values,
            Err(never) => match never {},
        }
    }

    /// Loads the value model beside a policy.
    ///
    /// # Errors
    ///
    /// Fails, naming file and tensor, on anything missing, malformed or unsupported.
    pub fn load(
        dir: &Path,
        config: &ModelConfig,
        device: &Device,
    ) -> Result<Self, CheckpointError> {
        let empty = Self::from_policy(&CausalLm::zeros(config, device));
        load_module(&dir.join(FOLDER), empty, |_| false)
    }

    /// Value model with a replica on each of these devices, its own first.
    ///
    /// # Panics
    ///
    /// Panics if the first device is not the one of the parameters.
    #[must_use]
    pub fn with_devices(mut self, devices: &[Device]) -> Self {
        self.secondary_devices = secondary_devices(&ValueModel::device(&self), devices);
        self
    }

    /// Value model with gradient checkpointing as the settings say; its products are f32.
    #[must_use]
    pub fn with_memory(mut self, memory: MemoryConfig) -> Self {
        self.gradient_checkpointing = memory.gradient_checkpointing;
        self
    }

    /// Writes the value model beside a policy saved to `dir`.
    ///
    /// # Errors
    ///
    /// Fails when a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), SaveError> {
        let dir = dir.join(FOLDER);
        std::fs::create_dir_all(&dir)
            .map_err(|source| SaveError::Write { path: dir.clone(), source })?;
        let tensors = named_parameters(&self.valid());
        write_safetensors(&tensors, WeightDtype::F32, &dir.join("model.safetensors"))
    }
}

impl ValueNetwork {
    /// Values of hidden states that predict loss tokens, `[loss tokens, hidden]` to `[loss tokens]`.
    fn head(&self, predicting: Tensor<2>) -> Tensor<1> {
        let n = predicting.dims()[0];
        self.value_head.forward(predicting).reshape([n])
    }
}

impl ValueModel for ValueNetwork {
    fn values(&self, rows: &[TokenRow]) -> Tensor<2> {
        let device = ValueModel::device(self);
        let rows = PackedRows::new(rows);
        if rows.num_loss_tokens() == 0 {
            return Tensor::zeros(rows.shape(), &device);
        }
        spread(self.head(self.model.predicting(&rows)), &rows, &device)
    }

    fn value_gradients<T>(
        &self,
        rows: &[TokenRow],
        loss: impl FnOnce(Tensor<2>) -> (Tensor<1>, T),
    ) -> (GradientsParams, T) {
        let packed = PackedRows::new(rows);
        if packed.num_loss_tokens() == 0 {
            let (loss, output) = loss(self.values(rows));
            return (GradientsParams::from_grads(loss.backward(), self), output);
        }
        let trunk = Trunk::forward(&self.model, &packed, self.gradient_checkpointing);
        // The hidden states are leaves of the loss's graph.
        let hidden = Tensor::from_inner(trunk.predicting()).require_grad();
        let values = spread(self.head(hidden.clone()), &packed, &ValueModel::device(self));
        let (loss, output) = loss(values);
        let mut grads = loss.backward();
        let upstream =
            hidden.grad_remove(&mut grads).unwrap_or_else(|| hidden.inner().zeros_like());
        let mut total = GradientsParams::from_grads(grads, self);
        trunk.backward(&self.model, self, upstream, &mut total);
        (total, output)
    }

    fn device(&self) -> Device {
        self.value_head.weight.val().device()
    }

    fn compute_devices(&self) -> Vec<Device> {
        all_devices(&ValueModel::device(self), &self.secondary_devices)
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;
    use crate::testing::{byte_tokenizer, tiny_config};
    use crate::{LanguageModel, Optimizer, OptimizerConfig, accumulate_value_gradients};

    fn rows() -> Vec<TokenRow> {
        vec![
            TokenRow {
                tokens: vec![1, 2, 3, 4, 5],
                loss_mask: vec![false, true, false, true, true],
            },
            TokenRow { tokens: vec![7, 8], loss_mask: vec![false, true] },
        ]
    }

    fn numbers(values: Tensor<2>) -> Vec<f32> {
        values.into_data().iter::<f32>().collect()
    }

    #[test]
    fn learns_values_of_loss_tokens_and_round_trips() {
        let policy =
            LanguageModel::initialize(tiny_config(), byte_tokenizer(), 1, &Device::default());
        let mut model = ValueNetwork::from_policy(policy.network()).train();
        assert_eq!(numbers(model.valid().values(&rows())), [0.0; 10]);
        let config = OptimizerConfig { learning_rate: 0.01, ..OptimizerConfig::default() };
        let mut optimizer = Optimizer::new(&config, &model);
        let targets = [0.0, 1.0, 0.0, -1.0, 0.5, 0.0, 2.0, 0.0, 0.0, 0.0];
        for _ in 0..60 {
            let (grads, _) = accumulate_value_gradients(&model, &[rows()], |_, values| {
                let targets = Tensor::<1>::from_data(targets, &values.device()).reshape([2, 5]);
                ((values - targets).square().sum(), ())
            });
            (model, _) = optimizer.step(model, grads);
        }
        let learned = numbers(model.valid().values(&rows()));
        for (value, target) in learned.iter().zip(targets) {
            assert!((value - target).abs() < 0.1, "{learned:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        model.save(dir.path()).unwrap();
        let again = ValueNetwork::load(dir.path(), policy.config(), &policy.device()).unwrap();
        assert_eq!(numbers(again.values(&rows())), learned);
        let error = ValueNetwork::load(&dir.path().join("x"), policy.config(), &policy.device());
        assert!(error.unwrap_err().to_string().contains("value"));
    }
}
