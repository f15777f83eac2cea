//! Being asked to stop: the step at hand is finished and saved first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether somebody has asked the process to stop; by default nobody can.
///
/// ```
/// use zs_train::interrupt::Interrupt;
///
/// let interrupt = Interrupt::default();
/// assert!(!interrupt.is_set());
/// interrupt.set();
/// assert!(interrupt.is_set());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Set by Ctrl-C (SIGINT) and SIGTERM; a second signal ends the process at once.
    ///
    /// # Errors
    ///
    /// Fails when the system does not let signals be handled.
    pub fn on_signals() -> Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag down, passes by, and raises it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&interrupt.0))
                .and_then(|_| flag::register(signal, Arc::clone(&interrupt.0)))
                .context("signals cannot be handled")?;
        }
        Ok(interrupt)
    }

    /// Whether to stop.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Asks for a stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
