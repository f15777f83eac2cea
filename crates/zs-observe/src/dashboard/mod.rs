//! Training as seen on a terminal: redrawn twice a second on the alternate screen, and gone without a
//! trace but for the notes when it ends, however it ends.

mod screen;
mod state;
mod view;

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub(crate) use screen::{note, restore};

use self::screen::Screen;
use self::state::{Sample, State};
use zs_trainer::{SpanSums, StepReport};

/// Between two drawings.
const TICK: Duration = Duration::from_millis(500);

/// The dashboard of one run. Dropping it gives the terminal back.
#[derive(Debug)]
pub(crate) struct Dashboard {
    state: Arc<Mutex<State>>,
    stop: Option<Sender<()>>,
    ticker: Option<JoinHandle<()>>,
}

impl Dashboard {
    /// Takes the terminal.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be drawn on.
    pub(crate) fn open(
        title: &str,
        total: usize,
        spans: Option<Arc<dyn SpanSums>>,
    ) -> std::io::Result<Self> {
        let screen = Screen::enter()?;
        let state = Arc::new(Mutex::new(State::new(title, total)));
        let (stop, stopped) = channel();
        let shared = Arc::clone(&state);
        let ticker = std::thread::spawn(move || {
            // The screen lives here, so that it is given back when the loop ends.
            let screen = screen;
            loop {
                {
                    let mut state = shared.lock();
                    state.phase = spans.as_ref().and_then(|it| it.phase()).unwrap_or("…");
                    state.notes = screen::notes();
                    screen.draw(|frame| view::render(frame, &state, Instant::now()));
                }
                match stopped.recv_timeout(TICK) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
                }
            }
        });
        Ok(Self { state, stop: Some(stop), ticker: Some(ticker) })
    }

    /// Shows a finished step.
    pub(crate) fn step(&self, report: &StepReport<'_>) {
        let mut state = self.state.lock();
        if let Some(recorded) = report.groups.last() {
            state.sample = Some(Sample::of(&recorded.group));
        }
        state.step(report.metrics, *report.times);
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(ticker) = self.ticker.take() {
            let _ = ticker.join();
        }
    }
}
