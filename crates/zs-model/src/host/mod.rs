//! f32 implementation of the network in host memory: fused operations on slices, forward and
//! backward.
//!
//! The tensor implementation remains the reference, and the only one for other devices and dtypes.
//! A [`HostNetwork`] shares the parameters' memory and computes the same results as [`CausalLm`],
//! gradients included, within rounding. It saves work in three ways:
//!
//! - element-wise chains (norms, rotation, SwiGLU, softmax, scores) are fused into one pass each
//!   and vectorised;
//! - rows are packed without padding, with shared prefixes once, up to the last token that predicts
//!   a loss token ([`layout`]); the last block and the head run only at predicting positions;
//! - attention skips keys after a tile of queries, and nothing is transposed or repeated.

mod attention;
mod block;
mod decode;
mod gradients;
mod kernels;
mod layout;
mod linear;
mod parameter;
mod product;
#[cfg(test)]
mod tests;

use attention::SpanQueries;
use block::{Angles, HostBlock, OutputPositions, SavedActivations, gather};
use layout::PackedRows;
use linear::{HostLinear, HostNorm};
use parameter::{Gradients, Parameter};

pub(crate) use decode::HostRow;

use crate::{CausalLm, ComputeDtype};

/// [`CausalLm`] in host memory.
#[derive(Debug)]
pub(crate) struct HostNetwork {
    embedding: Parameter,
    blocks: Vec<HostBlock>,
    norm: HostNorm,
    /// `None` if the head shares the embedding's weights.
    head: Option<HostLinear>,
    /// Rotary angle per position, for each pair of a head's elements.
    frequencies: Vec<f32>,
    checkpoints_activations: bool,
}

/// State of a forward pass through the blocks, for the backward pass.
struct Trunk<'a> {
    packed: &'a PackedRows,
    indices: Vec<usize>,
    all: Vec<usize>,
    angles: Angles,
    selected_angles: Angles,
    /// Input of each block, then the input of the final norm.
    inputs: Vec<Vec<f32>>,
    saved: Vec<Option<SavedActivations>>,
}

impl HostNetwork {
    /// Returns `None` if the network is not on the CPU, not in f32, or set to another compute
    /// dtype.
    pub(crate) fn of(network: &CausalLm) -> Option<Self> {
        if network.memory.compute_dtype != ComputeDtype::F32 {
            return None;
        }
        let blocks = network.model.layers.iter().map(HostBlock::of).collect::<Option<_>>()?;
        let head = match &network.lm_head {
            Some(it) => Some(HostLinear::of(it)?),
            None => None,
        };
        Some(Self {
            embedding: Parameter::of(&network.model.embed_tokens.weight)?,
            blocks,
            norm: HostNorm::of(&network.model.norm)?,
            head,
            frequencies: network.model.rotary.frequencies().map(|it| it as f32).collect(),
            checkpoints_activations: network.memory.gradient_checkpointing,
        })
    }

    fn width(&self) -> usize {
        self.norm.width()
    }

    fn embed(&self, tokens: impl Iterator<Item = usize>) -> Vec<f32> {
        gather(self.embedding.values(), self.width(), &tokens.collect::<Vec<_>>())
    }

    fn angles(&self, positions: impl Iterator<Item = u32>) -> Angles {
        let mut angles = Angles::default();
        for position in positions {
            for frequency in &self.frequencies {
                // f32 as in transformers, for agreement at long contexts.
                let angle = f64::from(position as f32 * frequency);
                angles.cos.push(angle.cos() as f32);
                angles.sin.push(angle.sin() as f32);
            }
        }
        angles
    }

    /// Normalised hidden states at the predicting positions.
    fn forward<'a>(&self, packed: &'a PackedRows, save: bool) -> (Vec<f32>, Trunk<'a>) {
        let indices = packed.predicting_indices();
        let mut trunk = Trunk {
            packed,
            all: (0..packed.len()).collect(),
            angles: self.angles(packed.positions.iter().copied()),
            selected_angles: self.angles(indices.iter().map(|it| packed.positions[*it])),
            indices,
            inputs: Vec::new(),
            saved: Vec::new(),
        };
        let mut x = self.embed(packed.tokens.iter().map(|it| *it as usize));
        for (index, block) in self.blocks.iter().enumerate() {
            let selected = trunk.selected(index + 1 == self.blocks.len());
            let save_activations = save && !self.checkpoints_activations;
            let (next, saved) = block.forward(&x, &trunk.angles, &selected, save_activations);
            let input = std::mem::replace(&mut x, next);
            if save {
                trunk.inputs.push(input);
                trunk.saved.push(saved);
            }
        }
        let (hidden, _) = self.norm.forward(&x);
        trunk.inputs.push(x);
        (hidden, trunk)
    }

    /// Gradient of the packed tokens' embeddings, given that of the hidden states.
    fn backward(&self, mut trunk: Trunk<'_>, upstream: &[f32], grads: &mut Gradients) -> Vec<f32> {
        let x = trunk.inputs.pop().unwrap_or_default();
        let (_, inverse) = self.norm.forward(&x);
        let mut input_grads = vec![0.0; x.len()];
        self.norm.backward(&x, &inverse, upstream, &mut input_grads, grads);
        for (index, block) in self.blocks.iter().enumerate().rev() {
            let (input, saved) = (trunk.inputs.pop(), trunk.saved.pop().flatten());
            let selected = trunk.selected(index + 1 == self.blocks.len());
            let input = input.unwrap_or_default();
            let saved = saved.or_else(|| block.forward(&input, &trunk.angles, &selected, true).1);
            if let Some(saved) = saved {
                input_grads =
                    block.backward(&input, saved, &trunk.angles, &selected, input_grads, grads);
            }
        }
        input_grads
    }
}

impl Trunk<'_> {
    /// Output positions of a block: all, or in the last block only the predicting ones.
    fn selected(&self, is_last: bool) -> OutputPositions<'_> {
        let indices = if is_last { &self.indices } else { &self.all };
        let spans = self.packed.spans.iter().map(|span| {
            let start = indices.partition_point(|it| *it < span.own.start);
            let end = indices.partition_point(|it| *it < span.own.end);
            SpanQueries { span, queries: start..end, indices: &indices[start..end] }
        });
        OutputPositions {
            indices: is_last.then_some(&indices[..]),
            spans: spans.collect(),
            angles: if is_last { &self.selected_angles } else { &self.angles },
        }
    }
}
