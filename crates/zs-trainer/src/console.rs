//! Console of a run as a trait, so that loops are independent of a terminal.

use std::fmt::Debug;
use std::time::Instant;

use crate::callback::Callback;

/// Receiver of notes, progress and results.
pub trait Console: Debug + Send + Sync {
    /// Shows one line to the user.
    fn note(&self, text: &str);

    /// Prints a result, as given but for what would control a terminal.
    fn print(&self, text: &str);

    /// Checks that the results so far were written, once there are no more.
    ///
    /// # Errors
    ///
    /// Fails where one could not be, unless its reader has gone away.
    fn check_printed(&self) -> std::io::Result<()> {
        Ok(())
    }

    /// Starts a progress display of `total` steps.
    fn progress(&self, title: &str, total: usize) -> Box<dyn Progress>;

    /// Starts a display of training, which shows metrics besides the count of steps.
    fn training(&self, title: &str, total: usize) -> Box<dyn Callback>;
}

/// Progress display.
pub trait Progress: Debug {
    /// Counts `steps` more steps as done.
    fn advance(&self, steps: usize, message: &str);

    /// Finishes with a result; returns the elapsed seconds.
    fn finish(self: Box<Self>, message: &str) -> f64;
}

/// Console without output.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuietConsole;

impl Console for QuietConsole {
    fn note(&self, _text: &str) {}

    fn print(&self, _text: &str) {}

    fn progress(&self, _title: &str, _total: usize) -> Box<dyn Progress> {
        Box::new(Hidden(Instant::now()))
    }

    fn training(&self, _title: &str, _total: usize) -> Box<dyn Callback> {
        Box::new(Unwatched)
    }
}

#[derive(Debug)]
struct Hidden(Instant);

impl Progress for Hidden {
    fn advance(&self, _steps: usize, _message: &str) {}

    fn finish(self: Box<Self>, _message: &str) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

#[derive(Debug)]
struct Unwatched;

impl Callback for Unwatched {
    fn name(&self) -> &'static str {
        "quiet"
    }
}
