//! Low-rank adapters: placement, initialisation, merging and removal.

mod peft;

use std::convert::Infallible;

use burn::module::Module;
use zs_core::{Domain, StreamKey};

pub use peft::AdapterError;

use crate::checkpoint::{fill, uniform};
use crate::network::LowRank;
use crate::{CausalLm, LoraConfig, PolicyModel};

/// Error while adding adapters to a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoraError {
    /// The rank is zero.
    #[error("`r` of a LoRA configuration is 0; set `r` to at least 1")]
    NoRank,
    /// A name matches no linear layer.
    #[error("target module `{name}` is not a linear layer of this model; use one of {available}")]
    UnknownTarget {
        /// The name.
        name: String,
        /// Available last parts of names.
        available: String,
    },
    /// No target was given.
    #[error("`target_modules` of a LoRA configuration is empty; name at least one linear layer")]
    NoTargets,
}

impl CausalLm {
    /// Freezes the network and adds a trainable adapter to every target.
    ///
    /// ```text
    /// A ~ U(-1 / sqrt(in), 1 / sqrt(in)),   B = 0
    /// ```
    ///
    /// The adapted network initially computes the same function as the base network. The random
    /// values are a function of the seed. Existing adapters are replaced.
    ///
    /// # Errors
    ///
    /// Fails if the rank is zero or a target names no linear layer.
    ///
    /// # References
    ///
    /// - PEFT, `LoraLayer.reset_lora_parameters`: `kaiming_uniform_(a = sqrt(5))`
    pub fn with_lora(&self, config: &LoraConfig, seed: u64) -> Result<Self, LoraError> {
        let mut index = 0;
        let filled = fill(self.with_zero_lora(config)?, |entry| {
            // Zeros are filled in explicitly, since filling also derives a parameter's identifier
            // from its name.
            if entry.name.ends_with("lora_b") {
                return Ok::<_, Infallible>(Some(vec![0.0; entry.len()]));
            }
            if !entry.name.ends_with("lora_a") {
                return Ok(None);
            }
            index += 1;
            let key = StreamKey { step: index, ..StreamKey::new(seed) };
            // The file layout is `[r, in]`.
            let bound = 1.0 / (entry.shape[1] as f64).sqrt();
            Ok(Some(uniform(&mut key.rng(Domain::Weights), entry.len(), bound)))
        });
        match filled {
            Ok(network) => Ok(network),
            Err(never) => match never {},
        }
    }

    /// Frozen network with zero adapters.
    fn with_zero_lora(&self, config: &LoraConfig) -> Result<Self, LoraError> {
        self.lora_targets(config)?;
        let mut network = self.without_lora().no_grad();
        let device = network.device();
        for (name, linear) in &mut network.linears_mut() {
            if config.target_modules.iter().any(|target| is_target(name, target)) {
                let shape = linear.weight.val().dims();
                linear.adapter = Some(LowRank::zeros(shape, config.r, config.scale(), &device));
            }
        }
        network.lora = Some(config.clone());
        Ok(network)
    }

    /// Paths and shapes (`[in, out]`) of the layers that a configuration names. Nothing is allocated.
    fn lora_targets(&self, config: &LoraConfig) -> Result<Vec<(String, [usize; 2])>, LoraError> {
        if config.r == 0 {
            return Err(LoraError::NoRank);
        }
        if config.target_modules.is_empty() {
            return Err(LoraError::NoTargets);
        }
        let mut network = self.clone();
        let mut linears = network.linears_mut();
        if let Some(name) = config
            .target_modules
            .iter()
            .find(|target| !linears.iter().any(|(name, _)| is_target(name, target)))
        {
            let last = |name: &String| name.rsplit('.').next().unwrap_or(name).to_owned();
            let mut available: Vec<String> = linears.iter().map(|(name, _)| last(name)).collect();
            available.sort();
            available.dedup();
            let available = available.join(", ");
            return Err(LoraError::UnknownTarget { name: name.clone(), available });
        }
        linears.retain(|(name, _)| config.target_modules.iter().any(|it| is_target(name, it)));
        Ok(linears.into_iter().map(|(name, it)| (name, it.weight.val().dims())).collect())
    }

    /// Base network without the adapters, sharing its weights.
    ///
    /// Serves as the reference model of the KL term when only adapters are trained, without a
    /// second copy of the weights.
    #[must_use]
    pub fn without_lora(&self) -> Self {
        let mut network = self.clone();
        network.linears_mut().into_iter().for_each(|(_, linear)| linear.adapter = None);
        network.lora = None;
        network
    }

    /// Network with the adapters merged into the weights, all of which are trainable again.
    ///
    /// ```text
    /// W' = W + alpha / r A B
    /// ```
    #[must_use]
    pub fn merge_lora(&self) -> Self {
        if self.lora.is_none() {
            return self.clone();
        }
        let mut network = self.clone();
        network.linears_mut().into_iter().for_each(|(_, linear)| linear.merge());
        network.lora = None;
        network.set_require_grad(true)
    }

    /// Configuration of the adapters, if any.
    #[must_use]
    pub fn lora_config(&self) -> Option<&LoraConfig> {
        self.lora.as_ref()
    }
}

/// True if a path ends with the parts that a target names.
fn is_target(path: &str, target: &str) -> bool {
    path.strip_suffix(target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_match_whole_path_components() {
        let path = "model.layers.3.mlp.up_proj";
        for (target, matches) in [
            ("up_proj", true),
            ("mlp.up_proj", true),
            (path, true),
            ("p_proj", false),
            ("layers.13.mlp.up_proj", false),
            ("down_proj", false),
        ] {
            assert_eq!(is_target(path, target), matches, "{target}");
        }
    }
}
