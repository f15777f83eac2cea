//! Panics of code that a run must survive, as messages.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs work whose panic is not to end the process; a panic is returned as `panicked: {message}`.
///
/// After a panic, state that the work was changing may be half changed; the caller must not use it.
///
/// # Errors
///
/// Fails with the message of the panic.
///
/// ```
/// assert_eq!(zs_core::caught(|| 3), Ok(3));
/// assert_eq!(zs_core::caught(|| panic!("no {}", 1)), Err::<(), _>("panicked: no 1".to_owned()));
/// ```
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|it| format!("panicked: {}", panic_message(&*it)))
}

/// Message of a panic that was caught, by its payload.
///
/// ```
/// let payload = std::panic::catch_unwind(|| panic!("no {}", 1)).unwrap_err();
/// assert_eq!(zs_core::panic_message(&*payload), "no 1");
/// ```
#[must_use]
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}
