//! Optimisers: global-norm clipping, learning-rate schedules, and AdamW with or without Muon on the
//! hidden matrices.

mod gradients;
mod schedule;
mod state;

use burn::grad_clipping::GradientClippingConfig;
use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamWConfig, AdjustLrFn, GradientsParams, ModuleOptimizer, MuonConfig};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub(crate) use gradients::accumulate;
pub use gradients::{accumulate_gradients, accumulate_value_gradients};
use gradients::{global_norm, scale_gradients};
pub use schedule::Schedule;
pub use state::OptimizerStateError;

use crate::digest::{gradients_digest, joined};

/// Optimiser configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Update rule.
    pub kind: OptimizerKind,
    /// Learning rate after warm-up.
    pub learning_rate: f64,
    /// Steps of linear warm-up from `learning_rate / warmup_steps`.
    pub warmup_steps: usize,
    /// Total steps of the run, for decaying schedules.
    pub total_steps: usize,
    /// Learning-rate schedule after warm-up.
    pub schedule: Schedule,
    /// Decoupled weight decay of matrices; norms and biases do not decay.
    pub weight_decay: f64,
    /// Maximum global gradient norm; larger gradients are scaled down to it.
    pub max_grad_norm: f64,
    /// Decay rate of AdamW's first moment.
    pub beta_1: f64,
    /// Decay rate of AdamW's second moment.
    pub beta_2: f64,
    /// AdamW's epsilon.
    pub epsilon: f64,
}

/// Update rule of [`OptimizerConfig`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// AdamW on every parameter.
    #[default]
    AdamW,
    /// Muon on the matrices of the blocks, AdamW on embedding, head, norms and biases.
    ///
    /// Muon's update is scaled to the root mean square of AdamW's (`0.2 sqrt(max(rows, columns))`),
    /// so both share one learning rate.
    Muon,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::AdamW,
            learning_rate: 1e-6,
            warmup_steps: 0,
            total_steps: 0,
            schedule: Schedule::Constant,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
        }
    }
}

/// Statistics of an optimiser step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepStats {
    /// Global L2 norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
}

/// Optimiser with its moments and step counter.
///
/// # References
///
/// - AdamW: [Decoupled Weight Decay Regularization](https://arxiv.org/abs/1711.05101), algorithm 2
/// - Muon: [Muon is Scalable for LLM Training](https://arxiv.org/abs/2502.16982), equation 4
#[derive(Clone)]
pub struct Optimizer {
    config: OptimizerConfig,
    inner: ModuleOptimizer,
    step: usize,
    /// Digests of the gradients of the steps since they were last taken; none where nobody asks.
    gradient_digests: Option<Vec<[u8; 32]>>,
}

impl std::fmt::Debug for Optimizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Optimizer")
            .field("config", &self.config)
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

impl Optimizer {
    /// Creates an optimiser for the parameters of `model`.
    #[must_use]
    pub fn new<M: Module>(config: &OptimizerConfig, model: &M) -> Self {
        let mut roles = ParameterRoles::default();
        model.visit(&mut roles);
        let adam_w = |weight_decay: f64| {
            AdamWConfig::new()
                .with_beta_1(config.beta_1 as f32)
                .with_beta_2(config.beta_2 as f32)
                .with_epsilon(config.epsilon as f32)
                .with_weight_decay(weight_decay as f32)
        };
        let no_clipping = None::<GradientClippingConfig>.map(|it| it.init());
        let mut inner: ModuleOptimizer = adam_w(config.weight_decay).init();
        inner = inner.with_group(
            ParamGroup::from_ids(roles.vectors),
            adam_w(0.0).build(),
            no_clipping.clone(),
        );
        if config.kind == OptimizerKind::Muon {
            let muon = MuonConfig::new()
                .with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW)
                .with_weight_decay(Some(WeightDecayConfig::new(config.weight_decay as f32)));
            inner = inner.with_group(
                ParamGroup::from_ids(roles.hidden_matrices),
                muon.build(),
                no_clipping,
            );
        }
        Self { config: config.clone(), inner, step: 0, gradient_digests: None }
    }

    /// Clips the gradients to the global norm and takes one step.
    ///
    /// A non-finite gradient norm skips the step: weights, moments and step counter are unchanged.
    ///
    /// `model` must be the training copy that the gradients were computed with.
    pub fn step<M: Module>(&mut self, model: M, mut grads: GradientsParams) -> (M, StepStats) {
        let grad_norm = global_norm(&model, &grads);
        if !grad_norm.is_finite() {
            return (model, StepStats { grad_norm, learning_rate: self.learning_rate() });
        }
        if let Some(digests) = &mut self.gradient_digests {
            digests.push(gradients_digest(&model, &grads));
        }
        if grad_norm > self.config.max_grad_norm {
            scale_gradients(&model, &mut grads, self.config.max_grad_norm / (grad_norm + 1e-6));
        }
        let learning_rate = self.learning_rate();
        let model = self.inner.step(learning_rate, model, grads);
        self.step += 1;
        (model, StepStats { grad_norm, learning_rate })
    }

    /// Digests the gradients of each step from here on.
    pub fn digest_gradients(&mut self) {
        self.gradient_digests = Some(Vec::new());
    }

    /// SHA-256 of the gradients of the steps since the last call, before clipping; none where no step
    /// was taken, or without [`digest_gradients`](Self::digest_gradients).
    pub fn take_gradients_digest(&mut self) -> Option<[u8; 32]> {
        let digests = std::mem::take(self.gradient_digests.as_mut()?);
        (!digests.is_empty()).then(|| joined(&digests))
    }

    /// Learning rate of the next step.
    ///
    /// ```text
    /// lr_t = learning_rate * min(1, (t + 1) / warmup_steps) * schedule(t)
    /// ```
    ///
    /// The first step has a positive rate; the reference code of ZeroSearch uses 0.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        let OptimizerConfig { learning_rate, warmup_steps, total_steps, schedule, .. } =
            self.config;
        let warm = match warmup_steps {
            0 => 1.0,
            steps => ((self.step + 1) as f64 / steps as f64).min(1.0),
        };
        learning_rate * warm * schedule.factor(self.step, warmup_steps, total_steps)
    }

    /// Number of steps taken.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.step
    }
}

/// Parameters by role: vectors, and matrices inside a block.
#[derive(Default)]
struct ParameterRoles {
    path: Vec<String>,
    vectors: Vec<ParamId>,
    hidden_matrices: Vec<ParamId>,
}

impl ModuleVisitor for ParameterRoles {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if D < 2 {
            self.vectors.push(param.id);
        } else if D == 2 && self.path.iter().any(|it| it == "layers") {
            self.hidden_matrices.push(param.id);
        }
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[derive(Module, Debug)]
    struct Scale {
        weight: Param<Tensor<2>>,
        bias: Param<Tensor<1>>,
    }

    fn scale(device: &Device) -> Scale {
        Scale {
            weight: Param::from_tensor(Tensor::from_data([[1.0, -2.0]], device)),
            bias: Param::from_tensor(Tensor::from_data([4.0], device)),
        }
    }

    fn step_once(config: &OptimizerConfig) -> (Scale, StepStats) {
        let model = scale(&Device::flex()).train();
        let mut optimizer = Optimizer::new(config, &model);
        let loss = model.weight.val().sum() * 3.0 + model.bias.val().sum() * 4.0;
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        optimizer.step(model, grads)
    }

    #[test]
    fn first_adam_w_step_has_the_learning_rate_as_its_size() {
        // Gradients 3, 3, 4 have norm sqrt(34). The first AdamW step is lr * sign(g) for any
        // clipping, and decay takes lr * wd * w from matrices only.
        let config = OptimizerConfig {
            learning_rate: 0.1,
            weight_decay: 0.5,
            max_grad_norm: 1.0,
            ..OptimizerConfig::default()
        };
        let (model, stats) = step_once(&config);
        assert!((stats.grad_norm - 34_f64.sqrt()).abs() < 1e-5);
        let weight: Vec<f32> = model.weight.val().into_data().try_to_vec().unwrap();
        let expected = [1.0 - 0.05 - 0.1, -2.0 + 0.1 - 0.1];
        for (actual, expected) in weight.iter().zip(expected) {
            assert!((actual - expected).abs() < 1e-4, "{weight:?}");
        }
        let bias: Vec<f32> = model.bias.val().into_data().try_to_vec().unwrap();
        assert!((bias[0] - 3.9).abs() < 1e-4, "{bias:?}");
    }

    /// Module whose matrix has the role of a block's matrix.
    #[derive(Module, Debug)]
    struct Blocks {
        layers: Vec<Param<Tensor<2>>>,
    }

    /// One Muon step at rate 1 without decay on zero weights, given by rows.
    #[track_caller]
    fn check_muon(gradient: &[&[f32]], orthogonalized: &[f32]) {
        let shape = [gradient.len(), gradient[0].len()];
        let device = Device::flex();
        let weight = Param::from_tensor(Tensor::<2>::zeros(shape, &device));
        let model = Blocks { layers: vec![weight] }.train();
        let config = OptimizerConfig {
            kind: OptimizerKind::Muon,
            learning_rate: 1.0,
            weight_decay: 0.0,
            ..OptimizerConfig::default()
        };
        let mut optimizer = Optimizer::new(&config, &model);
        let weight = model.layers[0].val();
        let data = burn::tensor::TensorData::new(gradient.concat(), shape);
        let loss = (weight.clone() * Tensor::from_data(data, &weight.device())).sum();
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        let (model, _) = optimizer.step(model, grads);
        let moved: Vec<f32> = model.layers[0].val().into_data().iter::<f32>().collect();
        let scale = 0.2 * (shape[0].max(shape[1]) as f32).sqrt();
        for (moved, expected) in moved.iter().zip(orthogonalized) {
            assert!((moved + scale * expected).abs() < 1e-4, "{moved}, not -{scale} {expected}");
        }
    }

    #[test]
    fn muon_agrees_with_a_float64_reference() {
        // Five quintic iterations in numpy. They do not converge to 1: singular values of at least
        // 0.01 end between 0.68 and 1.13.
        check_muon(&[&[3.0, 0.0], &[0.0, 4.0]], &[0.722_876, 0.0, 0.0, 1.119_204]);
        let [a, b, c] = [-0.568_290, 0.057_742, 0.683_774];
        let [d, e, f] = [0.563_355, 0.405_613, 0.247_871];
        check_muon(&[&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]], &[a, b, c, d, e, f]);
        check_muon(&[&[1.0, 4.0], &[2.0, 5.0], &[3.0, 6.0]], &[a, d, b, e, c, f]);
    }

    #[test]
    fn warm_up_starts_above_zero_and_reaches_the_rate() {
        let config =
            OptimizerConfig { learning_rate: 1.0, warmup_steps: 4, ..OptimizerConfig::default() };
        let mut optimizer = Optimizer::new(&config, &scale(&Device::flex()));
        let rates: Vec<f64> = (0..6)
            .map(|step| {
                optimizer.step = step;
                optimizer.learning_rate()
            })
            .collect();
        assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
    }
}
