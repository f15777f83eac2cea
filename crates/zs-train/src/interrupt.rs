//! Being asked to stop: the step at hand is finished and saved first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::dashboard;

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
        let mut signals = Signals::new([SIGINT, SIGTERM]).context("signals cannot be handled")?;
        let flag = Arc::clone(&interrupt.0);
        std::thread::spawn(move || {
            for signal in signals.forever() {
                if flag.swap(true, Ordering::Relaxed) {
                    dashboard::restore();
                    std::process::exit(128 + signal);
                }
                dashboard::note("stops after this step; once more, and it ends at once");
            }
        });
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
