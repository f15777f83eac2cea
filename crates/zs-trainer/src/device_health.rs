//! Failures of a device that its backend does not report.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Panics of the threads that run a device's work, told by whoever can see them.
///
/// An accelerator's backend runs work on threads of its own. Where such work panics and nobody waits for
/// its result, cubecl catches the panic and continues with the buffers as they are
/// ([burn issue 5352](https://github.com/tracel-ai/burn/issues/5352)). A run checks for that before it
/// learns from a step and before it writes a checkpoint.
///
/// ```
/// use zs_trainer::DeviceHealth;
///
/// let health = DeviceHealth::default();
/// assert!(health.check().is_ok());
/// health.report("Should run when selected by autotune.");
/// assert!(health.check().unwrap_err().to_string().contains("autotune"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct DeviceHealth(Arc<Mutex<Vec<String>>>);

/// Failure of a device's thread: what it was to compute is not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "a worker thread of the device panicked, and its results are lost: {message}; no checkpoint was \
     written since: resume from the last one, with CUBECL_AUTOTUNE_LEVEL=0 if it happens again"
)]
pub struct DeviceFailed {
    /// Message of the first panic, and its place.
    message: String,
}

impl DeviceHealth {
    /// Notes a panic of a thread that runs a device's work.
    pub fn report(&self, message: impl Into<String>) {
        self.lock().push(message.into());
    }

    /// Checks that no such thread has panicked so far.
    ///
    /// # Errors
    ///
    /// Fails, again and again, once one has.
    pub fn check(&self) -> Result<(), DeviceFailed> {
        match self.lock().first() {
            Some(message) => Err(DeviceFailed { message: message.clone() }),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets panics for lack of memory, after all that was lost has been computed again.
    pub(crate) fn forgive_out_of_memory(&self) {
        self.lock().retain(|it| !zs_rl::is_out_of_memory(it));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_computed_again_is_forgiven() {
        let health = DeviceHealth::default();
        health.report("panicked at x.rs:1:\\nCUDA_ERROR_OUT_OF_MEMORY");
        health.forgive_out_of_memory();
        assert!(health.check().is_ok());
        health.report("CUDA_ERROR_OUT_OF_MEMORY");
        health.report("Should run when selected by autotune.");
        health.forgive_out_of_memory();
        assert!(health.check().unwrap_err().to_string().contains("autotune"));
    }
}
