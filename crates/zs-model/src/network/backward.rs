//! Staged computation of gradients, which bounds memory: logits of one chunk of positions,
//! attention scores of one block of queries and, with gradient checkpointing, activations of one
//! decoder block.
//!
//! Each stage has its own autodiff graph, with its input as a leaf. The backward pass runs the
//! stages in reverse, given the gradient of each output; stages without a saved graph are
//! recomputed first.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use super::block::{BlockForward, GradientContext};
use super::scores::{FlatScores, rows_of};
use super::{CausalLm, RowContext};
use crate::PolicyModel;
use crate::batch::PaddedBatch;
use crate::optim::add_gradients;

impl CausalLm {
    /// Gradients of a loss on the scores of rows with at least one loss token, in tensors, on any
    /// device.
    pub(crate) fn tensor_gradients<T>(
        &self,
        batch: &PaddedBatch,
        with_entropy: bool,
        loss: impl FnOnce(FlatScores) -> (Tensor<1>, T),
    ) -> (GradientsParams, T) {
        let trunk = Trunk::forward(self, batch);
        let detached = self.valid();
        let predicting =
            trunk.hidden.clone().select(0, batch.predicting_positions(&detached.device()));
        let targets = batch.targets(&detached.device());
        let scores = detached.score_predicting(predicting.clone(), targets.clone(), with_entropy);
        let known = scores.entropy.clone();

        // The scores are leaves of the loss's graph.
        let leaf = |values: Tensor<1>| Tensor::from_inner(values).require_grad();
        let log_probs = leaf(scores.log_probs);
        let entropy = scores.entropy.map(leaf);
        let (loss, output) =
            loss(FlatScores { log_probs: log_probs.clone(), entropy: entropy.clone() });
        let mut grads = loss.backward();
        let upstream = ScoreGradients {
            log_probs: log_probs
                .grad_remove(&mut grads)
                .unwrap_or_else(|| Tensor::zeros([batch.num_loss_tokens()], &detached.device())),
            entropy: entropy.and_then(|it| it.grad_remove(&mut grads)).zip(known),
        };

        let mut total = GradientsParams::new();
        let input_grads = self.head_backward(&predicting, &targets, &upstream, &mut total);
        trunk.backward(self, batch, input_grads, &mut total);
        (total, output)
    }

    /// Backward pass of the head: maps gradients of scores to those of hidden states, chunk by
    /// chunk.
    ///
    /// # Shapes
    ///
    /// - predicting, output: `[loss tokens, hidden]`
    fn head_backward(
        &self,
        predicting: &Tensor<2>,
        targets: &Tensor<1, Int>,
        upstream: &ScoreGradients,
        total: &mut GradientsParams,
    ) -> Tensor<2> {
        let mut input_grads = Vec::new();
        for (start, len) in self.chunks(predicting.dims()[0]) {
            let input = rows_of(predicting, start, len);
            let targets = targets.clone().narrow(0, start, len).reshape([len, 1]);
            let upstream = upstream.chunk(start, len);
            let logits_gradient = |logits: Tensor<2>| upstream.of_logits(logits, targets);
            input_grads.push(backward_stage(
                input,
                |it| self.head(it),
                logits_gradient,
                self,
                total,
            ));
        }
        Tensor::cat(input_grads, 0)
    }
}

/// Gradients of a loss with respect to scores, `[n]` each.
struct ScoreGradients {
    log_probs: Tensor<1>,
    /// Gradients with respect to entropies, and the entropies; `None` if the loss does not use
    /// them.
    entropy: Option<(Tensor<1>, Tensor<1>)>,
}

impl ScoreGradients {
    fn chunk(&self, start: usize, len: usize) -> Self {
        let part = |it: &Tensor<1>| it.clone().narrow(0, start, len);
        Self {
            log_probs: part(&self.log_probs),
            entropy: self.entropy.as_ref().map(|(grad, value)| (part(grad), part(value))),
        }
    }

    /// Gradient with respect to the logits.
    ///
    /// ```text
    /// dL/dz_k = g (1[k = target] - p_k) - h p_k (log p_k + H)
    /// g = dL/d log p_target,   h = dL/dH,   p = softmax(z),   H = -sum p log p
    /// ```
    ///
    /// # Shapes
    ///
    /// - logits, output: `[n, vocab]`; targets: `[n, 1]`
    fn of_logits(&self, logits: Tensor<2>, targets: Tensor<2, Int>) -> Tensor<2> {
        let column = |it: &Tensor<1>| -> Tensor<2> { it.clone().unsqueeze_dim(1) };
        let log_p = log_softmax(logits, 1);
        let factor = match &self.entropy {
            Some((h, value)) => {
                (log_p.clone() + column(value)) * column(h) + column(&self.log_probs)
            }
            None => column(&self.log_probs),
        };
        let backward_stage = -(log_p.exp() * factor);
        backward_stage.scatter(1, targets, column(&self.log_probs), IndexingUpdateOp::Add)
    }
}

/// Forward pass of the layers below the head, with the state for the backward pass.
struct Trunk {
    /// Final hidden states, `[rows * seq, hidden]`.
    hidden: Tensor<2>,
    blocks: Vec<SavedBlock>,
    /// Input of the final norm.
    last: Tensor<2>,
}

/// State of a block saved for the backward pass.
enum SavedBlock {
    /// Input, from which the block is recomputed.
    Input(Box<Tensor<2>>),
    Run(Box<BlockForward>),
}

impl Trunk {
    fn forward(network: &CausalLm, batch: &PaddedBatch) -> Self {
        let detached = network.valid();
        let device = detached.device();
        let mut x = detached.model.embed(batch.tokens(&device));
        let mut blocks = Vec::with_capacity(detached.model.layers.len());
        if network.memory.gradient_checkpointing {
            let context = RowContext::new(&detached.model, batch.shape(), &device);
            for block in &detached.model.layers {
                blocks.push(SavedBlock::Input(Box::new(x.clone())));
                x = block.forward(x, &context);
            }
        } else {
            let context = GradientContext::new(&network.model, batch.shape(), &network.device());
            for block in &network.model.layers {
                let run = BlockForward::forward(block, x, &context);
                x = run.output();
                blocks.push(SavedBlock::Run(Box::new(run)));
            }
        }
        Self { hidden: detached.model.norm.forward(x.clone()), blocks, last: x }
    }

    /// Accumulates the gradients of the parameters below the head, given those of the predicting
    /// hidden states.
    fn backward(
        mut self,
        network: &CausalLm,
        batch: &PaddedBatch,
        upstream: Tensor<2>,
        total: &mut GradientsParams,
    ) {
        let device = network.device();
        let loss_positions = batch.predicting_positions(&self.hidden.device());
        let spread = self.hidden.zeros_like();
        let upstream = spread.select_assign(0, loss_positions, upstream, IndexingUpdateOp::Add);
        let norm = &network.model.norm;
        let mut input_grads =
            backward_stage(self.last, |it| norm.forward(it), |_| upstream, norm, total);
        let context = GradientContext::new(&network.model, batch.shape(), &device);
        for block in network.model.layers.iter().rev() {
            let run = match self.blocks.pop().expect("the state of every block is saved") {
                SavedBlock::Run(run) => *run,
                SavedBlock::Input(input) => BlockForward::forward(block, *input, &context),
            };
            input_grads = run.backward(block, input_grads, &context, total);
        }
        let embedding = &network.model.embed_tokens;
        if embedding.weight.is_require_grad() {
            let embedded = network.model.embed(batch.tokens(&device));
            let grads = (embedded * Tensor::from_inner(input_grads)).sum().backward();
            add_gradients(embedding, total, GradientsParams::from_grads(grads, embedding));
        }
    }
}

/// Runs a stage with its input as a leaf, adds the parameter gradients to `total` and returns the
/// gradient of the input.
fn backward_stage<M: Module>(
    input: Tensor<2>,
    run: impl FnOnce(Tensor<2>) -> Tensor<2>,
    upstream: impl FnOnce(Tensor<2>) -> Tensor<2>,
    module: &M,
    total: &mut GradientsParams,
) -> Tensor<2> {
    let leaf = Tensor::from_inner(input).require_grad();
    let output = run(leaf.clone());
    let upstream = upstream(output.clone().inner());
    // The gradient of sum(output * upstream) with respect to the output is `upstream`.
    let mut grads = (output * Tensor::from_inner(upstream)).sum().backward();
    let input_grads =
        leaf.grad_remove(&mut grads).expect("the output of a stage depends on its input");
    add_gradients(module, total, GradientsParams::from_grads(grads, module));
    input_grads
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::checkpoint::named_gradients;
    use crate::testing::{byte_tokenizer, tiny_config};
    use crate::{LanguageModel, LoraConfig, MemoryConfig, ModelConfig, TokenRow};

    fn network(tied: bool) -> CausalLm {
        let config = ModelConfig { tie_word_embeddings: tied, ..tiny_config() };
        let model = LanguageModel::initialize(config, byte_tokenizer(), 3, &Device::flex());
        model.network().clone()
    }

    fn rows() -> Vec<TokenRow> {
        (0..4_usize)
            .map(|row| {
                let tokens: Vec<u32> =
                    (0..6 + 5 * row).map(|it| ((it * 7 + row * 3) % 90) as u32).collect();
                let loss_mask = (0..tokens.len()).map(|it| it > 2 && it % 4 != 0).collect();
                TokenRow { tokens, loss_mask }
            })
            .collect()
    }

    /// Loss and all gradients by name, for a loss with a different weight at every position.
    /// Without a memory config, computed by autodiff in one graph.
    fn gradients(
        network: &CausalLm,
        memory: Option<MemoryConfig>,
    ) -> (f32, Vec<(String, Vec<f32>)>) {
        let network = network.clone().with_memory(memory.unwrap_or_default()).train();
        let batch = PaddedBatch::new(&rows());
        let device = network.device();
        let loss = |scores: FlatScores| {
            let len = batch.num_loss_tokens() as i64;
            let weights = Tensor::arange(0..len, &device).float() * 0.01;
            let entropy = scores.entropy.expect("the entropy was requested");
            let loss = (scores.log_probs.exp() * weights.clone()).sum()
                - (entropy * (weights + 0.5)).sum() * 0.1;
            (loss.clone(), loss.into_scalar::<f32>())
        };
        let (mut grads, loss) = match memory {
            Some(_) => network.tensor_gradients(&batch, true, loss),
            None => {
                let hidden = network.model.hidden(batch.tokens(&device));
                let (loss, value) = loss(network.score(hidden, &batch, true));
                (GradientsParams::from_grads(loss.backward(), &network), value)
            }
        };
        let named = named_gradients(&network, &mut grads);
        (loss, named.into_iter().map(|it| (it.entry.name.clone(), it.to_vec())).collect())
    }

    #[track_caller]
    fn check(network: &CausalLm, memory: MemoryConfig, expected_tensors: usize) {
        let (loss, expected) = gradients(network, None);
        let (staged_loss, actual) = gradients(network, Some(memory));
        assert!((loss - staged_loss).abs() < 1e-4 * loss.abs(), "{loss} {staged_loss}");
        assert_eq!((expected.len(), actual.len()), (expected_tensors, expected_tensors));
        let scale =
            expected.iter().flat_map(|(_, it)| it).fold(0.0_f32, |max, it| max.max(it.abs()));
        assert!(scale > 1e-3, "the gradient is too small to compare");
        for ((name, expected), (_, actual)) in expected.iter().zip(&actual) {
            let error = expected.iter().zip(actual).map(|(e, a)| (e - a).abs());
            let error = error.fold(0.0_f32, f32::max) / scale;
            assert!(error < 1e-5, "{name}: {error:e} under {memory:?}");
        }
    }

    /// Chunks of one, seven and all 30 positions, with and without gradient checkpointing.
    #[test]
    fn staged_gradients_equal_those_of_one_graph() {
        for tied in [true, false] {
            let network = network(tied);
            let tensors = if tied { 26 } else { 27 };
            for gradient_checkpointing in [false, true] {
                for max_logits in [1, 7 * 257, 1 << 25] {
                    check(
                        &network,
                        MemoryConfig {
                            max_logits,
                            gradient_checkpointing,
                            ..MemoryConfig::default()
                        },
                        tensors,
                    );
                }
            }
        }
    }

    #[test]
    fn only_adapters_get_gradients() {
        let config = LoraConfig {
            r: 2,
            alpha: 8.0,
            target_modules: vec![
                "q_proj".into(),
                "layers.1.mlp.down_proj".into(),
                "lm_head".into(),
            ],
        };
        // Random values for B, since the initial zeros would hide the gradient of A.
        let network = network(false).with_lora(&config, 5).unwrap();
        let network = crate::testing::with_random_lora(&network, 6);
        for gradient_checkpointing in [false, true] {
            for max_logits in [7 * 257, 1 << 25] {
                check(
                    &network,
                    MemoryConfig { max_logits, gradient_checkpointing, ..MemoryConfig::default() },
                    8,
                );
            }
        }
    }

    #[test]
    fn gradients_without_entropy() {
        let network = network(true).with_memory(MemoryConfig {
            max_logits: 300,
            gradient_checkpointing: true,
            ..MemoryConfig::default()
        });
        let network = network.train();
        let batch = PaddedBatch::new(&rows());
        let (grads, ()) =
            network.tensor_gradients(&batch, false, |scores| (-scores.log_probs.mean(), ()));
        assert_eq!(grads.len(), 26);
    }
}
