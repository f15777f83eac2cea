//! What a person sees while a command runs: notes and progress on stderr, results on stdout.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::dashboard::{self, Dashboard};

/// Where a command talks to.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Quiet,
    Lines,
    Terminal,
}

impl Console {
    /// A console on stderr; bars where that is a terminal, plain lines elsewhere.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let mode = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Terminal,
            (false, false) => Mode::Lines,
        };
        Self { mode }
    }

    /// A console that says nothing.
    #[must_use]
    pub fn quiet() -> Self {
        Self { mode: Mode::Quiet }
    }

    /// One line for the person who watches.
    pub fn note(&self, text: &str) {
        if self.mode != Mode::Quiet {
            write_stderr(text);
        }
    }

    /// The same as [`progress`](Self::progress) for training, which has more to show: a dashboard
    /// where stderr is a terminal.
    #[must_use]
    pub(crate) fn training(&self, title: &str, total: usize) -> Progress {
        let progress = |view| Progress {
            view,
            title: title.to_owned(),
            total,
            done: Cell::new(0),
            start: Instant::now(),
        };
        if self.mode != Mode::Terminal {
            return self.progress(title, total);
        }
        match Dashboard::open(title, total) {
            Ok(dashboard) => progress(View::Dashboard(dashboard)),
            Err(_) => self.progress(title, total),
        }
    }

    /// A piece of work of `total` steps, with its progress and the time that is left.
    #[must_use]
    pub fn progress(&self, title: &str, total: usize) -> Progress {
        let view = match self.mode {
            Mode::Quiet => View::Hidden,
            Mode::Lines => {
                write_stderr(title);
                View::Lines { next: Cell::new(total.div_ceil(10)) }
            }
            Mode::Terminal => {
                let bar = ProgressBar::new(total as u64).with_prefix(title.to_owned());
                bar.set_style(bar_style());
                bar.enable_steady_tick(Duration::from_millis(500));
                View::Bar(bar)
            }
        };
        Progress { view, title: title.to_owned(), total, done: Cell::new(0), start: Instant::now() }
    }
}

/// The progress of one piece of work.
#[derive(Debug)]
pub struct Progress {
    view: View,
    title: String,
    total: usize,
    done: Cell<usize>,
    start: Instant,
}

#[derive(Debug)]
enum View {
    Hidden,
    Lines { next: Cell<usize> },
    Bar(ProgressBar),
    Dashboard(Dashboard),
}

impl Progress {
    /// Counts `steps` more steps as done.
    pub fn advance(&self, steps: usize, message: &str) {
        let done = self.done.get() + steps;
        self.done.set(done);
        match &self.view {
            View::Hidden | View::Dashboard(_) => {}
            View::Lines { next } => {
                if done >= next.get() && done < self.total {
                    next.set(done + self.total.div_ceil(10));
                    let elapsed = self.start.elapsed().as_secs_f64();
                    let left = elapsed / done.max(1) as f64 * (self.total - done) as f64;
                    write_stderr(&format!(
                        "  {done}/{total}  {message}  {elapsed:.0} s, about {left:.0} s left",
                        total = self.total
                    ));
                }
            }
            View::Bar(bar) => {
                bar.set_message(message.to_owned());
                bar.set_position(done as u64);
            }
        }
    }

    /// One line for the person who watches, above the progress.
    pub fn note(&self, text: &str) {
        match &self.view {
            View::Hidden => {}
            View::Lines { .. } | View::Dashboard(_) => write_stderr(text),
            View::Bar(bar) => bar.suspend(|| write_stderr(text)),
        }
    }

    /// The dashboard, where there is one.
    pub(crate) fn dashboard(&self) -> Option<&Dashboard> {
        match &self.view {
            View::Dashboard(dashboard) => Some(dashboard),
            View::Hidden | View::Lines { .. } | View::Bar(_) => None,
        }
    }

    /// Says that the work is done and with what result; returns the seconds that it took.
    pub fn finish(self, message: &str) -> f64 {
        let seconds = self.start.elapsed().as_secs_f64();
        let line = format!("{}: {message} ({seconds:.0} s)", self.title);
        match self.view {
            View::Hidden => {}
            View::Lines { .. } => write_stderr(&line),
            View::Bar(bar) => {
                bar.finish_and_clear();
                write_stderr(&line);
            }
            View::Dashboard(dashboard) => {
                drop(dashboard);
                write_stderr(&line);
            }
        }
        seconds
    }
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{prefix} [{bar:28}] {pos}/{len} {elapsed}, about {eta} left  {wide_msg}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .progress_chars("=> ")
}

/// Writes a result to stdout. A reader that went away (`zs … | head`) is no error.
pub fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Writes a value to a file, as JSON.
///
/// # Errors
///
/// Fails, naming the file, where it cannot be written.
pub fn write_json<T: serde::Serialize>(path: &std::path::Path, value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    std::fs::write(path, format!("{text}\n"))
        .with_context(|| format!("{}: cannot be written", path.display()))
}

/// While a dashboard has the terminal, what is said waits until it gives it back.
fn write_stderr(text: &str) {
    if dashboard::note(text) {
        return;
    }
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes the one line that a failed command leaves: `error: what: why`.
pub(crate) fn print_error(error: &anyhow::Error) {
    dashboard::restore();
    write_stderr(&format!("error: {}", one_line(error)));
}

/// An error and its causes, `what: why`; a cause that the text before it ends with is left out.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let text = error.chain().fold(String::new(), |text, cause| {
        let cause = cause.to_string();
        match text.ends_with(&cause) {
            true => text,
            false if text.is_empty() => cause,
            false => format!("{text}: {cause}"),
        }
    });
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let check = |error: anyhow::Error, expected: &str| assert_eq!(one_line(&error), expected);
        check(anyhow!("no row\n here"), "no row here");
        check(anyhow!("end of file").context("a.jsonl"), "a.jsonl: end of file");
        check(anyhow!("end of file").context("a.jsonl: end of file"), "a.jsonl: end of file");
        check(anyhow!("why").context("what").context("where"), "where: what: why");
    }
}
