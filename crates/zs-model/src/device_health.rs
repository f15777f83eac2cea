//! Failures of a device that its backend does not report.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Failures of the threads that compute with a model or run a device's work, told by whoever can see
/// them.
///
/// An accelerator's backend runs work on threads of its own. Where such work panics and nobody waits for
/// its result, cubecl catches the panic and continues with the buffers as they are
/// ([burn issue 5352](https://github.com/tracel-ai/burn/issues/5352)). A run checks for that before it
/// learns from a step and before it writes a checkpoint, a server before it answers.
///
/// ```
/// use zs_model::DeviceHealth;
///
/// let health = DeviceHealth::default();
/// assert!(health.check().is_ok());
/// health.report("Should run when selected by autotune.");
/// assert!(health.check().unwrap_err().to_string().contains("autotune"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct DeviceHealth(Arc<Mutex<Vec<String>>>);

/// Failure of a thread of a model or a device: what it was to compute is not there.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "a thread of the model or its device failed, and its results are lost: {message}; resume the run \
     from its last checkpoint, or start the server again, with CUBECL_AUTOTUNE_LEVEL=0 if it happens \
     again"
)]
pub struct DeviceFailed {
    /// Message of the first failure, and its place where it is known.
    message: String,
}

impl DeviceHealth {
    /// Notes a failure; its message is kept as one line.
    pub fn report(&self, message: &str) {
        let lines: Vec<&str> = message.lines().map(str::trim).collect();
        self.lock().push(lines.join(" "));
    }

    /// Checks that nothing has failed so far.
    ///
    /// # Errors
    ///
    /// Fails, again and again, once something has.
    pub fn check(&self) -> Result<(), DeviceFailed> {
        match self.lock().first() {
            Some(message) => Err(DeviceFailed { message: message.clone() }),
            None => Ok(()),
        }
    }

    /// Forgets the failures whose messages are of some kind, after all that was lost has been computed
    /// again.
    pub fn forgive(&self, is_of_kind: impl Fn(&str) -> bool) {
        self.lock().retain(|it| !is_of_kind(it));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_computed_again_is_forgiven() {
        let is_memory = |it: &str| it.contains("OUT_OF_MEMORY");
        let health = DeviceHealth::default();
        health.report("panicked at x.rs:1:\nCUDA_ERROR_OUT_OF_MEMORY");
        health.forgive(is_memory);
        assert!(health.check().is_ok());
        health.report("CUDA_ERROR_OUT_OF_MEMORY");
        health.report("Should run when selected by autotune.");
        health.forgive(is_memory);
        assert!(health.check().unwrap_err().to_string().contains("autotune"));
    }
}
