//! Context of a run, which does not affect its result: devices, console, clock, spans.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use zs_model::DeviceHealth;

use crate::callback::Callback;
use crate::components::Components;
use crate::console::{Console, Progress, QuietConsole};
use crate::device_name::DeviceName;
use crate::interrupt::Interrupt;
use crate::times::RolloutTimes;

/// Context of a run, passed down from the command line or from a program that trains.
#[derive(Clone, Debug)]
pub struct RunContext {
    /// Devices to compute on.
    pub devices: Devices,
    /// Receiver of notes, progress and results.
    pub console: Arc<dyn Console>,
    /// Request to stop after the current step.
    pub interrupt: Interrupt,
    /// Sums of tracing spans, if they are recorded.
    pub spans: Option<Arc<dyn SpanSums>>,
    /// Failures of the devices, if anybody watches them.
    pub health: DeviceHealth,
    /// Components that run files choose by name.
    pub components: Arc<Components>,
    /// Clock for checkpoints at intervals of minutes.
    pub clock: fn() -> Instant,
}

impl RunContext {
    /// Creates a context with one device and no output.
    #[must_use]
    pub fn quiet(name: DeviceName, device: Device) -> Self {
        Self {
            devices: Devices::new(vec![(name, device)]),
            console: Arc::new(QuietConsole),
            interrupt: Interrupt::default(),
            spans: None,
            health: DeviceHealth::default(),
            components: Arc::new(Components::built_in()),
            clock: Instant::now,
        }
    }

    /// Copies this context, without output.
    #[must_use]
    pub fn silenced(&self) -> Self {
        Self { console: Arc::new(QuietConsole), ..self.clone() }
    }

    /// Shows one line to the user.
    pub fn note(&self, text: &str) {
        self.console.note(text);
    }

    /// Prints a result.
    pub fn print(&self, text: &str) {
        self.console.print(text);
    }

    /// Starts a progress display of `total` steps.
    #[must_use]
    pub fn progress(&self, title: &str, total: usize) -> Box<dyn Progress> {
        self.console.progress(title, total)
    }

    pub(crate) fn training(&self, title: &str, total: usize) -> Box<dyn Callback> {
        self.console.training(title, total)
    }

    pub(crate) fn take_rollout_times(&self) -> Option<RolloutTimes> {
        self.spans.as_ref().map(|it| it.take_rollout_times())
    }
}

/// Context on the CPU, without output.
#[cfg(feature = "flex")]
impl Default for RunContext {
    fn default() -> Self {
        Self::quiet(DeviceName::Cpu, Device::flex())
    }
}

/// Devices that a run computes on.
#[derive(Clone, Debug)]
pub struct Devices {
    policy: Vec<(DeviceName, Device)>,
    simulator: Option<(DeviceName, Device)>,
    gpu_memory: fn(usize) -> Option<GpuMemory>,
}

impl Devices {
    /// Creates the list of devices that share sampling and training; the first keeps weights and
    /// optimiser.
    ///
    /// # Panics
    ///
    /// When the list is empty.
    #[must_use]
    pub fn new(policy: Vec<(DeviceName, Device)>) -> Self {
        assert!(!policy.is_empty(), "a run needs at least one device");
        Self { policy, simulator: None, gpu_memory: |_| None }
    }

    /// Gives simulation LLMs a device of their own.
    #[must_use]
    pub fn with_simulator(mut self, name: DeviceName, device: Device) -> Self {
        self.simulator = (name != self.name()).then_some((name, device));
        self
    }

    /// Sets the function that queries the memory of a GPU.
    #[must_use]
    pub fn with_gpu_memory(mut self, gpu_memory: fn(usize) -> Option<GpuMemory>) -> Self {
        self.gpu_memory = gpu_memory;
        self
    }

    /// Name of the first device.
    #[must_use]
    pub fn name(&self) -> DeviceName {
        self.policy[0].0
    }

    /// The first device.
    #[must_use]
    pub fn first(&self) -> &Device {
        &self.policy[0].1
    }

    /// All devices of the policy.
    #[must_use]
    pub fn all(&self) -> Vec<Device> {
        self.policy.iter().map(|(_, device)| device.clone()).collect()
    }

    /// All devices with their names: those of the policy, then that of simulation LLMs where they have
    /// one of their own.
    pub fn named(&self) -> impl Iterator<Item = (DeviceName, &Device)> {
        self.policy.iter().chain(&self.simulator).map(|(name, device)| (*name, device))
    }

    /// Number of devices of the policy.
    #[must_use]
    pub fn count(&self) -> usize {
        self.policy.len()
    }

    /// Device of simulation LLMs: their own, else the first of the policy.
    #[must_use]
    pub fn simulator(&self) -> &Device {
        self.simulator.as_ref().map_or_else(|| self.first(), |(_, device)| device)
    }

    /// Name of the device that simulation LLMs have for themselves.
    #[must_use]
    pub fn own_simulator_name(&self) -> Option<DeviceName> {
        self.simulator.as_ref().map(|(name, _)| *name)
    }

    /// Returns true if the first device is the CPU.
    #[must_use]
    pub fn is_cpu(&self) -> bool {
        self.name() == DeviceName::Cpu
    }

    /// Number of tasks that the first device computes in parallel: one per thread of a CPU, one on an
    /// accelerator.
    #[must_use]
    pub fn workers(&self) -> usize {
        if self.is_cpu() { host_threads() } else { 1 }
    }

    /// Memory of a device, where it is a GPU that is there.
    #[must_use]
    pub fn memory_of(&self, name: DeviceName) -> Option<GpuMemory> {
        let DeviceName::Cuda(index) = name else { return None };
        (self.gpu_memory)(index)
    }
}

/// Memory of a GPU, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuMemory {
    /// Total memory.
    pub total: u64,
    /// Free memory, where it can be queried.
    pub free: Option<u64>,
}

/// Threads of the CPU.
#[must_use]
pub fn host_threads() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// Sums of the spans of rollouts.
pub trait SpanSums: std::fmt::Debug + Send + Sync {
    /// Times of the rollouts since the last call.
    fn take_rollout_times(&self) -> RolloutTimes;

    /// Name of the innermost phase that a run is in.
    fn phase(&self) -> Option<&'static str>;
}
