//! Without the CPU backend there is no network on slices.

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use crate::network::FlatScores;
use crate::{CausalLm, TokenId, TokenRow};

/// Nothing: only the CPU backend has its parameters in memory that can be read in place.
#[derive(Debug)]
pub(crate) enum HostNetwork {}

/// Scores that nobody computes.
#[derive(Debug)]
pub(crate) enum HostScores {}

/// A sequence that nobody has.
#[derive(Clone, Debug)]
pub(crate) enum HostRow {}

impl Default for HostRow {
    fn default() -> Self {
        unreachable!("rows are made for a network")
    }
}

impl HostRow {
    pub(crate) fn len(&self) -> usize {
        match *self {}
    }

    pub(crate) fn first(&self, _len: usize) -> Self {
        match *self {}
    }
}

impl HostScores {
    pub(crate) fn flat(&self, _device: &Device, _with_entropy: bool) -> FlatScores {
        match *self {}
    }
}

impl HostNetwork {
    pub(crate) fn of(_network: &CausalLm) -> Option<Self> {
        None
    }

    pub(crate) fn scores(&self, _rows: &[TokenRow], _max_logits: usize) -> HostScores {
        match *self {}
    }

    pub(crate) fn gradients<T>(
        &self,
        _rows: &[TokenRow],
        _max_logits: usize,
        _with_entropy: bool,
        _device: &Device,
        _loss: impl FnOnce(FlatScores) -> (Tensor<1>, T),
    ) -> (GradientsParams, T) {
        match *self {}
    }

    pub(crate) fn feed(&self, _rows: &mut [HostRow], _tokens: &[Vec<TokenId>]) -> Vec<f32> {
        match *self {}
    }
}
