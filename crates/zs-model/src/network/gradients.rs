//! Staged computation of gradients, which bounds memory: logits of one chunk of positions and, with
//! gradient checkpointing, activations of one decoder block.
//!
//! Each stage has its own autodiff graph, with its input as a leaf. The backward pass runs the
//! stages in reverse, given the gradient of each output; stages without a saved graph are
//! recomputed first.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor};

use super::block::{Block, Residual};
use super::scores::{FlatScores, rows_of};
use super::{CausalLm, Decoder, PackedRows, PackedTokens};
use crate::PolicyModel;
use crate::gradient_sum::add_gradients;
use crate::kernels::{token_scores, token_scores_backward, with_gradient};

impl CausalLm {
    /// Gradients of a loss on the scores of rows with at least one loss token.
    pub(crate) fn flat_gradients<T>(
        &self,
        rows: &PackedRows,
        with_entropy: bool,
        loss: impl FnOnce(FlatScores) -> (Tensor<1>, T),
    ) -> (GradientsParams, T) {
        let trunk = Trunk::forward(&self.model, rows, self.memory.gradient_checkpointing);
        let detached = self.valid();
        let predicting = trunk.predicting();
        let targets = rows.target_tensor(&detached.device());
        // Logits of a single chunk are kept.
        let head = (self.chunks(rows.num_loss_tokens()).count() == 1)
            .then(|| Stage::forward(predicting.clone(), |it| self.head(it)));
        let scores = match &head {
            Some(stage) => token_scores(stage.output(), targets.clone()),
            None => detached.chunk_scores(&predicting, &targets),
        };

        // The scores are leaves of the loss's graph.
        let leaf = |at: usize| {
            let n = rows.num_loss_tokens();
            Tensor::<1>::from_inner(scores.clone().narrow(1, at, 1).reshape([n])).require_grad()
        };
        let (log_probs, entropy) = (leaf(0), with_entropy.then(|| leaf(1)));
        let (loss, output) =
            loss(FlatScores { log_probs: log_probs.clone(), entropy: entropy.clone() });
        let mut grads = loss.backward();
        let mut upstream = |leaf: Option<Tensor<1>>| {
            let grad = leaf.and_then(|it| it.grad_remove(&mut grads));
            let zeros = || Tensor::zeros([rows.num_loss_tokens()], &detached.device());
            grad.unwrap_or_else(zeros)
        };
        let upstream = [upstream(Some(log_probs)), upstream(entropy)];

        let mut total = GradientsParams::new();
        let states = [predicting, scores];
        let hidden_grads = self.head_backward(head, &states, &targets, &upstream, &mut total);
        trunk.backward(&self.model, self, hidden_grads, &mut total);
        (total, output)
    }

    /// Backward pass of the head: maps gradients of scores to those of hidden states, chunk by
    /// chunk. `kept` is the forward pass of a single chunk.
    ///
    /// # Shapes
    ///
    /// - hidden, output: `[loss tokens, hidden]`; scores: `[loss tokens, 3]`
    /// - upstream: of log-probabilities and of entropies, `[loss tokens]`
    fn head_backward(
        &self,
        mut kept: Option<Stage>,
        [hidden, scores]: &[Tensor<2>; 2],
        targets: &Tensor<1, Int>,
        upstream: &[Tensor<1>; 2],
        total: &mut GradientsParams,
    ) -> Tensor<2> {
        let mut input_grads = Vec::new();
        for (start, len) in self.chunks(hidden.dims()[0]) {
            let part = |it: &Tensor<1>| it.clone().narrow(0, start, len);
            let [g, h] = [&upstream[0], &upstream[1]].map(part);
            let targets = targets.clone().narrow(0, start, len);
            let scores = rows_of(scores, start, len);
            let logits_gradient =
                |logits: Tensor<2>| token_scores_backward(logits, targets, scores, g, h);
            let stage = kept
                .take()
                .unwrap_or_else(|| Stage::forward(rows_of(hidden, start, len), |it| self.head(it)));
            input_grads.push(stage.backward(logits_gradient, self, total));
        }
        Tensor::cat(input_grads, 0)
    }
}

/// Forward pass of the layers below the head, with the state for the backward pass.
pub(crate) struct Trunk {
    packed: PackedTokens,
    blocks: Vec<SavedBlock>,
    norm: Stage,
}

/// State of a block saved for the backward pass.
enum SavedBlock {
    /// Input, from which the block is recomputed.
    Input(Box<Tensor<2>>),
    Stage(Box<Stage>),
}

impl Trunk {
    /// Runs a decoder on a device with autodiff.
    pub(crate) fn forward(decoder: &Decoder, rows: &PackedRows, checkpoints: bool) -> Self {
        let detached = decoder.valid();
        let device = detached.norm.weight.val().device();
        let packed = PackedTokens::new(rows, &detached.rotary, detached.layers.len(), &device);
        let mut x = detached.embed(packed.tokens());
        let mut blocks = Vec::with_capacity(decoder.layers.len());
        for (layer, (block, detached)) in decoder.layers.iter().zip(&detached.layers).enumerate() {
            let saved = if checkpoints {
                let input = Box::new(x.clone());
                x = run(detached, x, layer, &packed);
                SavedBlock::Input(input)
            } else {
                let stage = Stage::forward(x, |it| run(block, it, layer, &packed));
                x = stage.output();
                SavedBlock::Stage(Box::new(stage))
            };
            blocks.push(saved);
        }
        let norm = Stage::forward(x, |it| decoder.norm.forward(it));
        Self { packed, blocks, norm }
    }

    /// Hidden states that predict the loss tokens, detached, `[loss tokens, hidden]`.
    pub(crate) fn predicting(&self) -> Tensor<2> {
        self.packed.predicting(self.norm.output())
    }

    /// Adds the gradients of the decoder's parameters to `total`, given those of the predicting
    /// hidden states. `module` is the decoder's owner, whose parameters `total` refers to.
    pub(crate) fn backward<M: Module>(
        mut self,
        decoder: &Decoder,
        module: &M,
        upstream: Tensor<2>,
        total: &mut GradientsParams,
    ) {
        let upstream = |outputs: Tensor<2>| self.packed.spread(&outputs, upstream);
        let mut grads = self.norm.backward(upstream, &decoder.norm, total);
        for (layer, block) in decoder.layers.iter().enumerate().rev() {
            let stage = match self.blocks.pop().expect("the state of every block is saved") {
                SavedBlock::Stage(stage) => *stage,
                SavedBlock::Input(input) => {
                    Stage::forward(*input, |it| run(block, it, layer, &self.packed))
                }
            };
            grads = stage.backward(|_| grads, block, total);
        }
        let embedding = &decoder.embed_tokens;
        if embedding.weight.is_require_grad() {
            let embedded = decoder.embed(self.packed.tokens());
            let embedded_grads = with_gradient(embedded, Tensor::from_inner(grads)).backward();
            add_gradients(module, total, GradientsParams::from_grads(embedded_grads, embedding));
        }
    }
}

fn run(block: &Block, x: Tensor<2>, layer: usize, mut packed: &PackedTokens) -> Tensor<2> {
    let mut stream = Residual::new(x);
    block.forward(&mut stream, layer, &mut packed);
    stream.into_sum()
}

/// Part of a network that ran on a leaf, with its graph.
struct Stage {
    input: Tensor<2>,
    output: Tensor<2>,
}

impl Stage {
    /// Runs a part of a training copy on a detached input.
    fn forward(input: Tensor<2>, run: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Self {
        let input = Tensor::from_inner(input).require_grad();
        Self { output: run(input.clone()), input }
    }

    /// Detached output.
    fn output(&self) -> Tensor<2> {
        self.output.clone().inner()
    }

    /// Adds the gradients of a module's parameters to `total` and returns that of the input.
    /// `upstream` maps the output to its gradient.
    fn backward<M: Module>(
        self,
        upstream: impl FnOnce(Tensor<2>) -> Tensor<2>,
        module: &M,
        total: &mut GradientsParams,
    ) -> Tensor<2> {
        let upstream = upstream(self.output());
        let mut grads = with_gradient(self.output, Tensor::from_inner(upstream)).backward();
        let input_grads =
            self.input.grad_remove(&mut grads).expect("the output of a stage depends on its input");
        add_gradients(module, total, GradientsParams::from_grads(grads, module));
        input_grads
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::checkpoint::named_gradients;
    use crate::testing::{byte_tokenizer, tiny_config, with_random_lora};
    use crate::{Architecture, LanguageModel, LoraConfig, MemoryConfig, ModelConfig, TokenRow};

    type Named = Vec<(String, Vec<f32>)>;

    fn network(config: ModelConfig) -> CausalLm {
        LanguageModel::initialize(config, byte_tokenizer(), 3, &Device::flex()).network().clone()
    }

    /// Rows of several lengths: three with a common prefix, one longer than a tile of attention,
    /// and one without loss tokens.
    fn rows() -> Vec<TokenRow> {
        let row = |tokens: Vec<u32>, carries: &dyn Fn(usize) -> bool| TokenRow {
            loss_mask: (0..tokens.len()).map(|it| it > 0 && carries(it)).collect(),
            tokens,
        };
        let prompt: Vec<u32> = (0..37).map(|it| it * 5 % 90).collect();
        let with = |tail: &[u32]| [&prompt[..], tail].concat();
        vec![
            row(with(&[1, 2, 3, 4, 5]), &|it| it >= 37),
            row((0..75).map(|it| it * 7 % 91).collect(), &|it| it % 3 == 1),
            row(with(&[9, 9]), &|it| it >= 30),
            row(vec![5, 6, 7], &|_| false),
            row(with(&[1, 2, 8, 7, 6, 5, 4, 3]), &|it| it >= 37 && it != 40),
            row(vec![8, 1], &|_| true),
        ]
    }

    /// Loss with a different weight for every token; the first token of these rows is number
    /// `first` of all.
    fn loss(scores: FlatScores, first: usize) -> (Tensor<1>, f32) {
        let len = scores.log_probs.dims()[0];
        let numbers = first as i64..(first + len) as i64;
        let weights = Tensor::arange(numbers, &scores.log_probs.device()).float() * 0.01;
        let mut loss = (scores.log_probs.exp() * weights.clone()).sum();
        if let Some(entropy) = scores.entropy {
            loss = loss - (entropy * (weights + 0.5)).sum() * 0.1;
        }
        (loss.clone(), loss.into_scalar::<f32>())
    }

    fn named(network: &CausalLm, grads: &GradientsParams) -> Named {
        let named = named_gradients(network, grads);
        named.into_iter().map(|it| (it.entry.name.clone(), it.to_vec())).collect()
    }

    /// Loss and all gradients by name, by autodiff in one graph.
    fn one_graph(network: &CausalLm, with_entropy: bool) -> (f32, Named) {
        let network = network.clone().train();
        let rows = PackedRows::new(&rows());
        let targets = rows.target_tensor(&network.device());
        let scores = network.score(&network.model.predicting(&rows), &targets, with_entropy);
        let (loss, value) = loss(scores, 0);
        let grads = GradientsParams::from_grads(loss.backward(), &network);
        (value, named(&network, &grads))
    }

    #[track_caller]
    fn assert_close(expected: &Named, found: &Named, what: &str) {
        assert_eq!(expected.len(), found.len(), "{what}");
        let scale =
            expected.iter().flat_map(|(_, it)| it).fold(0.0_f32, |max, it| max.max(it.abs()));
        assert!(scale > 1e-3, "the gradient is too small to compare");
        for ((name, expected), (_, found)) in expected.iter().zip(found) {
            let off = expected.iter().zip(found).map(|(e, a)| (e - a).abs());
            let off = off.fold(0.0_f32, f32::max) / scale;
            assert!(off < 1e-5, "{name}: {off:e}, {what}");
        }
    }

    #[track_caller]
    fn check(network: &CausalLm, expected_tensors: usize) {
        for with_entropy in [false, true] {
            let (expected_loss, expected) = one_graph(network, with_entropy);
            assert_eq!(expected.len(), expected_tensors);
            for gradient_checkpointing in [false, true] {
                // Chunks of one, seven and all positions.
                for max_logits in [1, 7 * 257, 1 << 25] {
                    let memory = MemoryConfig {
                        max_logits,
                        gradient_checkpointing,
                        ..MemoryConfig::default()
                    };
                    let network = network.clone().with_memory(memory).train();
                    let rows = PackedRows::new(&rows());
                    let (grads, staged_loss) =
                        network.flat_gradients(&rows, with_entropy, |it| loss(it, 0));
                    let what = format!("{memory:?}");
                    let off = (expected_loss - staged_loss).abs();
                    assert!(off < 1e-5 * expected_loss.abs(), "{off:e} {what}");
                    assert_close(&expected, &named(&network, &grads), &what);
                }
            }
        }
    }

    #[test]
    fn staged_gradients_equal_those_of_one_graph() {
        check(&network(tiny_config()), 26);
        check(&network(ModelConfig { tie_word_embeddings: false, ..tiny_config() }), 27);
        let qwen3 =
            ModelConfig { architecture: Architecture::Qwen3, qkv_bias: false, ..tiny_config() };
        check(&network(qwen3), 24);
        check(&network(ModelConfig { num_key_value_heads: 4, ..tiny_config() }), 26);
    }

    #[test]
    fn only_adapters_get_gradients() {
        let target_modules = ["q_proj", "layers.1.mlp.down_proj", "lm_head"].map(str::to_owned);
        let config = LoraConfig { r: 2, alpha: 8.0, target_modules: target_modules.to_vec() };
        // Random values for B, since the initial zeros would hide the gradient of A.
        let network = network(ModelConfig { tie_word_embeddings: false, ..tiny_config() });
        let network = network.with_lora(&config, 5).unwrap();
        check(&with_random_lora(&network, 6), 8);
    }

    /// Rows that share prefixes give the gradients of the rows alone.
    #[test]
    fn packing_does_not_change_gradients() {
        let network = network(tiny_config()).train();
        let (together, _) =
            network.flat_gradients(&PackedRows::new(&rows()), true, |it| loss(it, 0));
        let (mut alone, mut first) = (GradientsParams::new(), 0);
        for row in rows() {
            let row = PackedRows::new(&[row]);
            if row.num_loss_tokens() > 0 {
                let (grads, _) = network.flat_gradients(&row, true, |it| loss(it, first));
                add_gradients(&network, &mut alone, grads);
                first += row.num_loss_tokens();
            }
        }
        assert_close(&named(&network, &alone), &named(&network, &together), "packed");
    }
}
