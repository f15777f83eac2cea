//! Decoding step with device-resident inputs, executed kernel by kernel or replayed as a captured
//! graph.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, Graph, IndexingUpdateOp, Int, Tensor, TensorData, capture, s};
use parking_lot::{Mutex, MutexGuard};
use tracing::{info_span, warn};

use super::device_access::DeviceAccess;
use crate::CausalLm;
use crate::network::{KvCache, NextColumn, NextTokens, Rotary};
use crate::spans::ints;

/// Steps that a batch decodes before capture; a batch that ends sooner does not pay for it.
const MIN_STEPS_BEFORE_CAPTURE: usize = 3;
/// Minimum number of remaining steps for capture, which costs about five steps.
const MIN_STEPS_AFTER_CAPTURE: usize = 32;
/// Number of replays that are checked against an eager step.
const VERIFIED_REPLAYS: usize = 2;

/// State that a decoding step reads and writes.
///
/// # Shapes
///
/// - mask: `[rows, capacity]`, 0 where a column holds a token of the row,
///   [`MASKED`](crate::kernels::MASKED) elsewhere
pub(crate) struct DecodeState {
    pub(crate) cache: KvCache,
    pub(crate) mask: Tensor<2>,
    inputs: Option<Inputs>,
}

/// Inputs of a step, uploaded by the host.
struct Inputs {
    /// Token and position of each row, and the column to fill: `[2 * rows + 1]`.
    numbers: Tensor<1, Int>,
    /// Mask of that column for each row: `[rows, 1]`.
    column_mask: Tensor<2>,
}

/// Decoding step of all rows, on the host.
pub(crate) struct Step {
    pub(crate) tokens: Vec<i32>,
    pub(crate) positions: Vec<i32>,
    /// Mask of the new column, by row.
    pub(crate) column_mask: Vec<f32>,
    pub(crate) column: usize,
}

/// Device, graph settings and device access of a step.
pub(crate) struct StepContext<'a> {
    pub(crate) device: &'a Device,
    pub(crate) graphs: &'a GraphSwitch,
    pub(crate) access: &'a mut DeviceAccess,
}

/// Decoding state and, after a few steps, the captured graph of a step.
pub(crate) struct Decoder {
    state: Arc<Mutex<DecodeState>>,
    graph: Option<StepGraph>,
    steps: usize,
}

/// Switch for graph capture, shared by the batches of a session.
#[derive(Clone, Debug)]
pub(crate) struct GraphSwitch {
    is_on: Arc<std::sync::atomic::AtomicBool>,
    counters: Arc<GraphCounters>,
    /// Accept a software graph, which executes the step again; for tests.
    accepts_software: bool,
}

/// Counters of device graphs (CUDA graphs). Steps that were not replayed were launched kernel by
/// kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DecodeGraphStats {
    /// Steps captured as a device graph.
    pub captured: usize,
    /// Steps that could not be captured, or whose graph computed a different result; the session
    /// then continues without graphs.
    pub refused: usize,
    /// Steps replayed from a graph.
    pub replayed: usize,
}

/// Counters behind [`DecodeGraphStats`], shared by a model, its copies and their sessions.
#[derive(Debug, Default)]
pub(crate) struct GraphCounters {
    captured: AtomicUsize,
    refused: AtomicUsize,
    replayed: AtomicUsize,
}

impl GraphCounters {
    pub(crate) fn read(&self) -> DecodeGraphStats {
        let read = |it: &AtomicUsize| it.load(Ordering::Relaxed);
        DecodeGraphStats {
            captured: read(&self.captured),
            refused: read(&self.refused),
            replayed: read(&self.replayed),
        }
    }
}

fn increment(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl GraphSwitch {
    pub(crate) fn new(is_on: bool, counters: Arc<GraphCounters>) -> Self {
        Self { is_on: Arc::new(is_on.into()), counters, accepts_software: false }
    }

    #[cfg(test)]
    pub(crate) fn accepting_software(counters: Arc<GraphCounters>) -> Self {
        Self { accepts_software: true, ..Self::new(true, counters) }
    }

    fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    fn disable(&self, why: &str) {
        increment(&self.counters.refused);
        self.is_on.store(false, Ordering::Relaxed);
        warn!("decoding without device graphs: {why}");
    }
}

impl Decoder {
    pub(crate) fn new(cache: KvCache, mask: Tensor<2>) -> Self {
        let state = DecodeState { cache, mask, inputs: None };
        Self { state: Arc::new(Mutex::new(state)), graph: None, steps: 0 }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, DecodeState> {
        self.state.lock()
    }

    /// KV cache and mask, without the graph.
    pub(crate) fn into_parts(mut self) -> (KvCache, Tensor<2>) {
        self.drop_graph();
        let state = self.state();
        (state.cache.clone(), state.mask.clone())
    }

    /// Drops the graph. The next step may run on another thread, whose work is not ordered with the
    /// graph's.
    pub(crate) fn drop_graph(&mut self) {
        self.graph = None;
    }

    /// Feeds one token to each row and returns the logits, `[rows, vocab]`, valid until the next
    /// step.
    pub(crate) fn step(
        &mut self,
        network: &CausalLm,
        step: Step,
        context: StepContext<'_>,
    ) -> Tensor<2> {
        let StepContext { device, graphs, access } = context;
        let column = step.column;
        self.state().set_inputs(step, device);
        let room = self.state().mask.dims()[1] - column;
        if self.graph.is_none()
            && self.steps >= MIN_STEPS_BEFORE_CAPTURE
            && room >= MIN_STEPS_AFTER_CAPTURE
            && graphs.is_on()
        {
            self.graph = access.exclusive(|| StepGraph::new(&self.state, network, device, graphs));
        }
        let replayed = self.graph.as_mut().map(|it| it.replay(&self.state, network));
        let logits = match replayed {
            Some(Ok(logits)) => logits,
            Some(Err(Mismatch(logits))) => {
                let logits = *logits;
                self.graph = None;
                graphs.disable("the logits of a replayed graph differ from those of an eager step");
                logits
            }
            None => self.state().run(network),
        };
        self.steps += 1;
        self.state().cache.columns = column + 1;
        logits
    }
}

impl DecodeState {
    /// Writes the inputs into the buffers of the previous step.
    fn set_inputs(&mut self, step: Step, device: &Device) {
        let rows = step.tokens.len();
        let numbers = [step.tokens, step.positions, vec![step.column as i32]].concat();
        let len = numbers.len();
        let numbers = ints(numbers, device);
        let column_mask =
            Tensor::<2>::from_data(TensorData::new(step.column_mask, [rows, 1]), device);
        match &mut self.inputs {
            None => self.inputs = Some(Inputs { numbers, column_mask }),
            Some(inputs) => {
                inputs.numbers.inplace(|it| it.slice_assign(s![0..len], numbers));
                inputs.column_mask.inplace(|it| it.slice_assign([0..rows, 0..1], column_mask));
            }
        }
    }

    /// Executes the step on the current inputs. Repeating it writes and returns the same values.
    fn run(&mut self, network: &CausalLm) -> Tensor<2> {
        let inputs = self.inputs.as_ref().expect("a step has inputs");
        let rows = self.mask.dims()[0];
        let numbers = |from: usize, to: usize| inputs.numbers.clone().slice(s![from..to]);
        let tokens = numbers(0, rows);
        let positions = numbers(rows, 2 * rows);
        let column = numbers(2 * rows, 2 * rows + 1);
        let column_mask = inputs.column_mask.clone();
        self.mask.inplace(|it| {
            it.select_assign(1, column.clone(), column_mask, IndexingUpdateOp::Assign)
        });
        let filled = column.clone() + 1;
        let next = NextColumn { column, filled, mask: self.mask.clone() };
        let rotary = Rotary::at_positions(&self.cache.frequencies, positions, [rows, 1]);
        let mut context = NextTokens { cache: &mut self.cache, next: &next, rotary };
        network.head(network.model.hidden(tokens, &mut context))
    }
}

type Closure = Box<dyn FnMut() -> Tensor<2> + Send>;

/// Captured graph of a step, on the buffers of one state.
struct StepGraph {
    graph: Graph<Tensor<2>, Closure>,
    counters: Arc<GraphCounters>,
    replays: usize,
}

/// Logits of the eager step when the graph's logits differ.
struct Mismatch(Box<Tensor<2>>);

impl StepGraph {
    /// Captures a step. Returns `None` if the device cannot, and turns the switch off.
    fn new(
        state: &Arc<Mutex<DecodeState>>,
        network: &CausalLm,
        device: &Device,
        graphs: &GraphSwitch,
    ) -> Option<Self> {
        let _span = info_span!("capture").entered();
        let (state, network) = (Arc::clone(state), network.clone());
        let closure: Closure = Box::new(move || state.lock().run(&network));
        let graph = capture(device, closure);
        if !graph.is_hardware() && !graphs.accepts_software {
            graphs.disable("the device cannot capture a graph");
            return None;
        }
        increment(&graphs.counters.captured);
        Some(Self { graph, counters: Arc::clone(&graphs.counters), replays: 0 })
    }

    /// Replays the graph. The first replays are compared with an eager step.
    fn replay(
        &mut self,
        state: &Mutex<DecodeState>,
        network: &CausalLm,
    ) -> Result<Tensor<2>, Mismatch> {
        #[expect(unsafe_code, reason = "a device graph refers to buffers, not tensors")]
        // SAFETY: every buffer that the step touches is alive: the closure owns weights and state,
        // and the graph owns its output. The state is written in place, so its tensors keep the
        // addresses that were captured (otherwise the comparison below would fail). A single thread
        // captures, refreshes the inputs, replays and reads: the graph of a batch is dropped before
        // another thread may use the batch.
        let replayed = unsafe { self.graph.replay() }.clone();
        increment(&self.counters.replayed);
        self.replays += 1;
        if self.replays > VERIFIED_REPLAYS {
            return Ok(replayed);
        }
        // Copies the result out of the buffer that the next replay overwrites.
        let replayed = replayed * 1.0;
        let off = replayed.clone();
        let expected = state.lock().run(network);
        let off = (off - expected.clone()).abs().max().into_scalar::<f32>();
        let largest = expected.clone().abs().max().into_scalar::<f32>();
        if off <= 1e-2 * largest { Ok(replayed) } else { Err(Mismatch(Box::new(expected))) }
    }
}
