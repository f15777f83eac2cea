//! The terminal: taken once, and given back however the process ends.

use std::io::{self, Stderr, Write, stderr};
use std::sync::Once;

use parking_lot::Mutex;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::{Frame, Terminal};

/// The terminal while it is ours, and what was said meanwhile.
static ACTIVE: Mutex<Option<Active>> = Mutex::new(None);
static PANIC_HOOK: Once = Once::new();

struct Active {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    notes: Vec<String>,
}

/// The right to draw. Dropping it gives the terminal back.
#[derive(Debug)]
pub(super) struct Screen(());

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        PANIC_HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                before(info);
            }));
        });
        let mut active = ACTIVE.lock();
        if active.is_some() {
            return Err(io::Error::other("the terminal has a dashboard already"));
        }
        execute!(stderr(), EnterAlternateScreen, Hide)?;
        match Terminal::new(CrosstermBackend::new(stderr())) {
            Ok(terminal) => *active = Some(Active { terminal, notes: Vec::new() }),
            Err(error) => {
                let _ = leave();
                return Err(error);
            }
        }
        Ok(Self(()))
    }

    /// Draws, unless the terminal was given back already. What cannot be drawn is drawn next time.
    pub(super) fn draw(&self, render: impl FnOnce(&mut Frame<'_>)) {
        if let Some(active) = ACTIVE.lock().as_mut() {
            let _ = active.terminal.draw(render);
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back if it is taken, and says what was said meanwhile. Whoever ends the process
/// without unwinding calls this first.
pub(crate) fn restore() {
    // A panic while drawing holds the lock: the terminal is given back all the same.
    let Some(mut active) = ACTIVE.try_lock() else {
        let _ = leave();
        return;
    };
    let taken = active.take();
    drop(active);
    let Some(Active { terminal, notes }) = taken else { return };
    drop(terminal);
    let _ = leave();
    let mut stderr = stderr().lock();
    for note in notes {
        let _ = writeln!(stderr, "{note}");
    }
}

/// Keeps a note while the terminal is taken; false where it is not, and the note is still to be said.
pub(crate) fn note(text: &str) -> bool {
    match ACTIVE.lock().as_mut() {
        Some(active) => {
            active.notes.push(text.to_owned());
            true
        }
        None => false,
    }
}

/// The notes so far.
pub(super) fn notes() -> Vec<String> {
    ACTIVE.lock().as_ref().map_or_else(Vec::new, |it| it.notes.clone())
}

fn leave() -> io::Result<()> {
    execute!(stderr(), LeaveAlternateScreen, Show)
}
