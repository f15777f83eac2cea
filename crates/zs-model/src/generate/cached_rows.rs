//! KV cache of sequences with different lengths.

use burn::tensor::{Bool, Device, FloatDType, Tensor, TensorData};

#[cfg(feature = "flex")]
use super::cpu_rows::{self, CpuRow};
use super::decode_step::{Decoder, Step, StepContext};
use super::logits::Logits;
use super::shape_buckets::ShapeBuckets;
use crate::TokenId;
use crate::kernels::MASKED;
use crate::network::{CacheMask, CachedTokens, KvCache, Rotary};
use crate::spans::ints;
use crate::{CausalLm, ModelConfig};

/// Maximum number of attention scores of a forward pass.
const MAX_SCORES: usize = 1 << 26;

/// KV cache of the sequences of a batch.
pub(crate) struct CachedRows {
    store: Store,
    /// Sequence of each row; `None` for a row that has moved to another cache and for padding rows.
    owners: Vec<Option<usize>>,
}

/// Storage of the rows.
enum Store {
    /// Ragged rows of a CPU.
    #[cfg(feature = "flex")]
    Cpu(Vec<CpuRow>),
    Tensors(Box<TensorRows>),
}

/// KV cache in tensors, with the contents of its rows and columns.
struct TensorRows {
    /// Columns of each row that hold its tokens, in order: the first `len` tokens of the sequence.
    columns: Vec<Vec<usize>>,
    /// KV cache and attention mask.
    decoder: Decoder,
    buckets: ShapeBuckets,
}

impl CachedRows {
    /// Empty rows. With exact shapes, those of a CPU, rows have no common columns.
    pub(crate) fn empty(
        config: &ModelConfig,
        owners: Vec<Option<usize>>,
        capacity: usize,
        (buckets, dtype): (ShapeBuckets, FloatDType),
        device: &Device,
    ) -> Self {
        #[cfg(feature = "flex")]
        if buckets.is_ragged {
            let store = Store::Cpu(
                owners.iter().map(|_| CpuRow::new(config.num_hidden_layers, dtype)).collect(),
            );
            return Self { store, owners };
        }
        let shape = [buckets.rows(owners.len()), capacity];
        let cache = KvCache::new(config, shape, dtype, device);
        let columns = vec![Vec::new(); owners.len()];
        let mask = Tensor::full(shape, MASKED, device);
        let tensors = TensorRows { columns, decoder: Decoder::new(cache, mask), buckets };
        let mut rows = Self { store: Store::Tensors(Box::new(tensors)), owners };
        rows.pad_to_shape();
        rows
    }

    /// Row of a sequence, if cached.
    pub(crate) fn row_of(&self, sequence: usize) -> Option<usize> {
        self.owners.iter().position(|it| *it == Some(sequence))
    }

    /// Number of cached tokens of a row.
    pub(crate) fn held(&self, row: usize) -> usize {
        match &self.store {
            #[cfg(feature = "flex")]
            Store::Cpu(rows) => rows[row].len(),
            Store::Tensors(rows) => rows.columns[row].len(),
        }
    }

    /// Drops the rows of sequences that are not to be kept.
    pub(crate) fn keep(&mut self, is_kept: impl Fn(usize) -> bool) {
        self.owners.iter_mut().for_each(|owner| *owner = owner.filter(|it| is_kept(*it)));
    }

    /// Drops the captured graph, so that another thread may use the rows.
    pub(crate) fn without_graph(mut self) -> Self {
        match &mut self.store {
            #[cfg(feature = "flex")]
            Store::Cpu(_) => {}
            Store::Tensors(rows) => rows.decoder.drop_graph(),
        }
        self
    }

    /// True if no row belongs to a sequence.
    pub(crate) fn is_empty(&self) -> bool {
        self.owners.iter().all(Option::is_none)
    }

    /// Copies rows, each with its first `held` tokens and a new owner, to a cache with `capacity`
    /// columns. A row may be copied more than once.
    pub(crate) fn copy(&self, rows: &[CopiedRow], capacity: usize, device: &Device) -> Self {
        let owners = rows.iter().map(|it| Some(it.owner)).collect();
        let store = match &self.store {
            #[cfg(feature = "flex")]
            Store::Cpu(from) => {
                Store::Cpu(rows.iter().map(|it| from[it.row].first(it.held)).collect())
            }
            Store::Tensors(from) => Store::Tensors(Box::new(from.copy(rows, capacity, device))),
        };
        Self { store, owners }
    }

    /// Concatenates rows of equal capacity and pads them to a bucketed shape.
    pub(crate) fn stack(
        parts: Vec<Self>,
        config: &ModelConfig,
        capacity: usize,
        device: &Device,
    ) -> Self {
        let mut owners = Vec::new();
        #[cfg(feature = "flex")]
        let mut on_cpu = Vec::new();
        let mut tensors = Vec::new();
        for part in parts {
            owners.extend(part.owners);
            match part.store {
                #[cfg(feature = "flex")]
                Store::Cpu(rows) => on_cpu.extend(rows),
                Store::Tensors(rows) => tensors.push(*rows),
            }
        }
        // All rows of a shard use the same storage.
        #[cfg(feature = "flex")]
        if tensors.is_empty() {
            return Self { store: Store::Cpu(on_cpu), owners };
        }
        let stacked = TensorRows::stack(tensors, config, capacity, device);
        let store = Store::Tensors(Box::new(stacked));
        let mut stacked = Self { store, owners };
        stacked.pad_to_shape();
        stacked
    }

    /// Feeds each row its next tokens (none for a finished row) and returns the logits after the
    /// last one. Logits of an accelerator stay on the device.
    pub(crate) fn feed(
        &mut self,
        network: &CausalLm,
        tokens: &[Vec<TokenId>],
        context: StepContext<'_>,
    ) -> Logits {
        let on_host = |it: Tensor<2>| Logits::Host(it.into_data().iter::<f32>().collect());
        match &mut self.store {
            #[cfg(feature = "flex")]
            Store::Cpu(rows) => on_host(cpu_rows::feed(network, rows, tokens)),
            Store::Tensors(rows) => {
                let logits = rows.feed(network, tokens, context);
                match rows.buckets.keeps_logits_on_device {
                    true => Logits::Device(logits),
                    false => on_host(logits),
                }
            }
        }
    }

    /// Appends padding rows up to the height of the cache.
    fn pad_to_shape(&mut self) {
        match &mut self.store {
            #[cfg(feature = "flex")]
            Store::Cpu(_) => {}
            Store::Tensors(tensors) => {
                let rows = tensors.buckets.rows(self.owners.len());
                self.owners.resize(rows, None);
                tensors.columns.resize(rows, Vec::new());
            }
        }
    }
}

impl TensorRows {
    fn copy(&self, rows: &[CopiedRow], capacity: usize, device: &Device) -> Self {
        let from: Vec<usize> = rows.iter().map(|it| it.row).collect();
        let columns: Vec<Vec<usize>> =
            rows.iter().map(|it| self.columns[it.row][..it.held].to_vec()).collect();
        let mask = rows
            .iter()
            .flat_map(|it| (0..capacity).map(|column| if column < it.held { 0.0 } else { MASKED }));
        let mask = TensorData::new(mask.collect::<Vec<f32>>(), [rows.len(), capacity]);
        let cache = self.decoder.state().cache.repack(&from, &columns, capacity, device);
        Self {
            columns: rows.iter().map(|it| (0..it.held).collect()).collect(),
            decoder: Decoder::new(cache, Tensor::from_data(mask, device)),
            buckets: self.buckets,
        }
    }

    fn stack(parts: Vec<Self>, config: &ModelConfig, capacity: usize, device: &Device) -> Self {
        let buckets = parts.first().map_or(ShapeBuckets::EXACT, |it| it.buckets);
        let (mut columns, mut caches, mut masks) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            columns.extend(part.columns);
            let (cache, mask) = part.decoder.into_parts();
            caches.push(cache);
            masks.push(mask);
        }
        let missing = buckets.rows(columns.len()) - columns.len();
        if missing > 0 {
            let dtype = caches.first().map_or(FloatDType::F32, KvCache::dtype);
            caches.push(KvCache::new(config, [missing, capacity], dtype, device));
            masks.push(Tensor::full([missing, capacity], MASKED, device));
        }
        let decoder = Decoder::new(KvCache::stack(caches), Tensor::cat(masks, 0));
        Self { columns, decoder, buckets }
    }

    /// [`CachedRows::feed`] for tensors.
    ///
    /// Long inputs are split into several forward passes to bound the attention scores.
    fn feed(
        &mut self,
        network: &CausalLm,
        tokens: &[Vec<TokenId>],
        context: StepContext<'_>,
    ) -> Tensor<2> {
        let longest = tokens.iter().map(Vec::len).max().unwrap_or(0);
        if longest <= 1 && self.buckets.keeps_logits_on_device {
            let step = self.next_step(tokens);
            return self.decoder.step(network, step, context);
        }
        let device = context.device;
        let filled = self.decoder.state().cache.columns;
        let per_token = self.columns.len() * network.num_heads() * (filled + longest);
        let per_pass = self.buckets.pass(MAX_SCORES / per_token.max(1));
        let mut last: Option<Tensor<2>> = None;
        for start in (0..longest.max(1)).step_by(per_pass) {
            let part = |it: &Vec<TokenId>| {
                it[start.min(it.len())..(start + per_pass).min(it.len())].to_vec()
            };
            let part: Vec<Vec<TokenId>> = tokens.iter().map(part).collect();
            let hidden = self.pass(network, &part, device);
            last = Some(match last {
                None => hidden,
                Some(before) => {
                    let [rows, width] = hidden.dims();
                    let has_tokens: Vec<bool> =
                        (0..rows).map(|it| part.get(it).is_some_and(|it| !it.is_empty())).collect();
                    let mask = TensorData::new(has_tokens, [rows, 1]);
                    let mask = Tensor::<2, Bool>::from_data(mask, device).expand([rows, width]);
                    before.mask_where(mask, hidden)
                }
            });
        }
        let last = last.expect("there is at least one pass");
        network.head(last)
    }

    /// Decoding step of at most one token per row.
    fn next_step(&mut self, tokens: &[Vec<TokenId>]) -> Step {
        let rows = self.columns.len();
        let column = self.decoder.state().cache.columns;
        let mut step = Step {
            tokens: vec![0; rows],
            positions: vec![0; rows],
            column_mask: vec![MASKED; rows],
            column,
        };
        for (row, (held, tokens)) in self.columns.iter_mut().zip(tokens).enumerate() {
            let Some(&token) = tokens.first() else { continue };
            step.tokens[row] = token as i32;
            step.positions[row] = held.len() as i32;
            step.column_mask[row] = 0.0;
            held.push(column);
        }
        step
    }

    /// Runs one forward pass and returns the hidden state of each row's last token, `[rows,
    /// hidden]`.
    fn pass(&mut self, network: &CausalLm, tokens: &[Vec<TokenId>], device: &Device) -> Tensor<2> {
        let real = tokens.iter().map(Vec::len).max().unwrap_or(0);
        let new = self.buckets.new_tokens(real);
        let rows = self.columns.len();
        let state = &mut *self.decoder.state();
        let first = state.cache.columns;
        let width = self.buckets.columns(first + new);
        let mut ids = vec![0_i32; rows * new];
        let mut positions = vec![0_i32; rows * new];
        let mut mask = vec![MASKED; rows * new];
        let mut last = vec![0_i32; rows];
        for (row, held) in self.columns.iter_mut().enumerate() {
            let tokens = tokens.get(row).map_or(&[][..], Vec::as_slice);
            let before = held.len();
            mask[row * new..][..tokens.len()].fill(0.0);
            for (offset, token) in tokens.iter().enumerate() {
                let at = row * new + offset;
                ids[at] = *token as i32;
                positions[at] = (before + offset) as i32;
                held.push(first + offset);
            }
            last[row] = (row * new + tokens.len().saturating_sub(1)) as i32;
        }
        let mask = Tensor::<2>::from_data(TensorData::new(mask, [rows, new]), device);
        state.mask.inplace(|it| it.slice_assign([0..rows, first..first + new], mask));
        let mask = state.mask.clone().slice([0..rows, 0..width]);
        let mut bias = mask.reshape([rows, 1, 1, 1, width]);
        if new > 1 {
            bias = bias + later_masked(first, [new, width], device);
        }
        let positions = ints(positions, device);
        let mut tokens = CachedTokens {
            rotary: Rotary::at_positions(&state.cache.frequencies, positions, [rows, new]),
            cache: &mut state.cache,
            mask: &CacheMask { first, bias },
            shape: [rows, new],
        };
        let hidden = network.model.hidden(ints(ids, device), &mut tokens);
        state.cache.columns += new;
        hidden.select(0, ints(last, device))
    }
}

/// Causal bias among new tokens: [`MASKED`] for keys after the query, 0 elsewhere, `[1, 1, 1, new,
/// width]`. New tokens start at `first_column`.
fn later_masked(first_column: usize, [new, width]: [usize; 2], device: &Device) -> Tensor<5> {
    let values: Vec<f32> = (0..new)
        .flat_map(|query| {
            (0..width).map(move |it| if it > first_column + query { MASKED } else { 0.0 })
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [1, 1, 1, new, width]), device)
}

/// Source row, number of its tokens to copy, and sequence of the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CopiedRow {
    pub(crate) row: usize,
    pub(crate) held: usize,
    pub(crate) owner: usize,
}
