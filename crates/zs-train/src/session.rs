//! One call of the command line: its console, and the devices that it may compute on.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use zs_core::Question;
use zs_data::{DataError, Note};
use zs_model::{DeviceHealth, canary};
use zs_trainer::{Components, Console, DeviceName, Devices, Interrupt, RunContext, SpanSums};

use crate::device::{DeviceArgs, DeviceError};

/// Session of the command line: console, device options, components.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) console: Arc<dyn Console>,
    pub(crate) device: DeviceArgs,
    pub(crate) spans: Option<Arc<dyn SpanSums>>,
    pub(crate) health: DeviceHealth,
    pub(crate) components: Arc<Components>,
}

impl Session {
    /// Opens the chosen devices; accelerators compute something first whose result is known.
    ///
    /// # Errors
    ///
    /// Fails, and says what to do, where this build has no backend for one, the machine lacks
    /// something, or an accelerator computes something else.
    pub(crate) fn devices(&self) -> Result<Devices, DeviceError> {
        let devices = self.device.open()?;
        for (name, device) in devices.named().filter(|(name, _)| *name != DeviceName::Cpu) {
            self.canary(name, device)?;
        }
        Ok(devices)
    }

    /// Computes something on a device whose result is known.
    ///
    /// # Errors
    ///
    /// Fails where the result is another, or a thread of the device has failed.
    pub(crate) fn canary(&self, name: DeviceName, device: &Device) -> Result<(), DeviceError> {
        let untrusted = |problem: String| DeviceError::Untrusted { name, problem };
        canary(device).map_err(|it| untrusted(it.to_string()))?;
        self.health.check().map_err(|it| untrusted(it.to_string()))
    }

    /// Opens the chosen devices, for work that nobody can interrupt between two steps.
    ///
    /// # Errors
    ///
    /// As [`devices`](Self::devices).
    pub(crate) fn context(&self) -> Result<RunContext, DeviceError> {
        self.interruptible(Interrupt::default())
    }

    /// Opens the chosen devices, for a run that stops when `interrupt` is set.
    ///
    /// # Errors
    ///
    /// As [`devices`](Self::devices).
    pub(crate) fn interruptible(&self, interrupt: Interrupt) -> Result<RunContext, DeviceError> {
        Ok(RunContext {
            devices: self.devices()?,
            console: Arc::clone(&self.console),
            interrupt,
            spans: self.spans.clone(),
            health: self.health.clone(),
            components: Arc::clone(&self.components),
            clock: Instant::now,
        })
    }

    /// Says what a reader has decided about the rows of a file.
    pub(crate) fn note_reading(&self, path: &Path, notes: &[Note]) {
        for note in notes {
            self.console.note(&format!("{}: {note}", path.display()));
        }
    }

    /// Reads the questions of a file, and says what the reader has decided.
    ///
    /// # Errors
    ///
    /// As [`zs_data::read_questions`].
    pub(crate) fn read_questions(&self, path: &Path) -> Result<Vec<Question>, DataError> {
        let set = zs_data::read_question_set(path, false)?;
        self.note_reading(path, &set.notes);
        Ok(set.questions)
    }

    /// Prints a result.
    pub(crate) fn print(&self, text: &str) {
        self.console.print(text);
    }
}

#[cfg(test)]
impl Session {
    /// Creates a session that says nothing.
    pub(crate) fn quiet() -> Self {
        let console = Arc::new(zs_trainer::QuietConsole);
        let components = Arc::new(Components::built_in());
        let health = DeviceHealth::default();
        Self { console, device: DeviceArgs::default(), spans: None, health, components }
    }
}
