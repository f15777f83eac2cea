//! Requests to stop: the step at hand is finished and saved first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Request to stop, shared by whoever asks and whoever obeys.
///
/// ```
/// use zs_trainer::Interrupt;
///
/// let interrupt = Interrupt::default();
/// assert!(!interrupt.is_set());
/// assert!(!interrupt.set(), "it was not set before");
/// assert!(interrupt.is_set());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Tells whether a stop was requested.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Requests a stop; returns whether one had been requested before.
    pub fn set(&self) -> bool {
        self.0.swap(true, Ordering::Relaxed)
    }
}
