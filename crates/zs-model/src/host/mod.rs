//! The network on a CPU in f32: fused passes over slices, forward and backward.
//!
//! Burn's tensors remain the reference, and the only way on other devices and types: a
//! [`HostNetwork`] is there only where it applies, shares the parameters' memory, and gives what
//! [`CausalLm`] gives on tensors, gradients included, within rounding. What it saves:
//!
//! - element-wise chains (norms, rotation, SwiGLU, softmax, scores) are one pass each, in the
//!   machine's vector width;
//! - rows are packed without padding, common beginnings once, and each only up to the last token that
//!   something is predicted from ([`layout`]); the last block and the head run only where something is
//!   predicted;
//! - attention computes no keys behind a tile of queries, and nothing is transposed or repeated.

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

use crate::{CausalLm, Precision};

/// [`CausalLm`] on slices.
#[derive(Debug)]
pub(crate) struct HostNetwork {
    embedding: Parameter,
    blocks: Vec<HostBlock>,
    norm: HostNorm,
    /// `None` where it shares the embedding's weights.
    head: Option<HostLinear>,
    /// Angle of one position, for each pair of a head.
    frequencies: Vec<f32>,
    checkpoints_activations: bool,
}

/// The way through the blocks, with what the way back needs.
struct Trunk<'a> {
    packed: &'a PackedRows,
    indices: Vec<usize>,
    all: Vec<usize>,
    angles: Angles,
    selected_angles: Angles,
    /// The input of each block, and what else it kept; of the final norm, the input alone.
    inputs: Vec<Vec<f32>>,
    saved: Vec<Option<SavedActivations>>,
}

impl HostNetwork {
    /// `None` where the network is not in f32 on the CPU, or does not compute in it.
    pub(crate) fn of(network: &CausalLm) -> Option<Self> {
        if network.memory.compute_dtype != Precision::F32 {
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
                // transformers computes angles in f32; so do we, to agree at long contexts.
                let angle = f64::from(position as f32 * frequency);
                angles.cos.push(angle.cos() as f32);
                angles.sin.push(angle.sin() as f32);
            }
        }
        angles
    }

    /// Hidden states, normalised, at the places that something is predicted from.
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

    /// The gradient of the embeddings of the packed tokens, given that of the hidden states.
    fn backward(&self, mut trunk: Trunk<'_>, upstream: &[f32], grads: &mut Gradients) -> Vec<f32> {
        let x = trunk.inputs.pop().unwrap_or_default();
        let (_, inverse) = self.norm.forward(&x);
        let mut below = vec![0.0; x.len()];
        self.norm.backward(&x, &inverse, upstream, &mut below, grads);
        for (index, block) in self.blocks.iter().enumerate().rev() {
            let (input, saved) = (trunk.inputs.pop(), trunk.saved.pop().flatten());
            let selected = trunk.selected(index + 1 == self.blocks.len());
            let input = input.unwrap_or_default();
            let saved = saved.or_else(|| block.forward(&input, &trunk.angles, &selected, true).1);
            if let Some(saved) = saved {
                below = block.backward(&input, saved, &trunk.angles, &selected, below, grads);
            }
        }
        below
    }
}

impl Trunk<'_> {
    /// What a block is asked for: everything, or in the last block what predicts something.
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
