//! Stand-ins for the host implementation in builds without the CPU backend.

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use crate::network::FlatScores;
use crate::{CausalLm, TokenId, TokenRow};

/// Uninhabited: only the CPU backend exposes parameters in host memory.
#[derive(Debug)]
pub(crate) enum HostNetwork {}

/// Uninhabited scores.
#[derive(Debug)]
pub(crate) enum HostScores {}

/// Uninhabited sequence.
#[derive(Clone, Debug)]
pub(crate) enum HostRow {}

impl Default for HostRow {
    fn default() -> Self {
        unreachable!("host rows are created for a host network only")
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
