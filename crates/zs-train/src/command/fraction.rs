//! Progress of builds that know the fraction of a corpus that they have read.

use zs_trainer::{Console, Progress};

/// Progress is shown in thousandths.
const PARTS: usize = 1000;

/// Progress by fractions.
pub(super) struct FractionProgress {
    progress: Box<dyn Progress>,
    done: usize,
}

impl FractionProgress {
    pub(super) fn new(console: &dyn Console, title: &str) -> Self {
        Self { progress: console.progress(title, PARTS), done: 0 }
    }

    /// Shows the fraction that is done, if it has grown by a thousandth or `is_due`; `text` goes with it.
    pub(super) fn advance(&mut self, fraction: f64, is_due: bool, text: impl FnOnce() -> String) {
        let now = ((fraction * PARTS as f64) as usize).min(PARTS);
        if now > self.done || is_due {
            self.progress.advance(now.saturating_sub(self.done), &text());
            self.done = now.max(self.done);
        }
    }

    pub(super) fn finish(self, text: &str) {
        self.progress.finish(text);
    }
}
