//! The terminal: notes and progress on stderr, results on stdout, a dashboard while a policy trains.

use std::borrow::Cow;
use std::cell::Cell;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use zs_core::registry::BoxedError;
use zs_core::with_causes;
use zs_data::FileError;
use zs_trainer::{
    Callback, Console, Flow, Interrupt, Metrics, Progress, QuietConsole, SpanSums, StepReport,
};

use crate::dashboard::{self, Dashboard};

/// Console on stderr and stdout: bars and a dashboard where stderr is a terminal, plain lines
/// elsewhere.
#[derive(Clone, Debug)]
pub struct TerminalConsole {
    is_terminal: bool,
    spans: Option<Arc<dyn SpanSums>>,
    results: Arc<Results>,
}

impl TerminalConsole {
    /// Creates the console of a command; a quiet one prints results and nothing else. The dashboard
    /// shows the phase that `spans` tell.
    #[must_use]
    pub fn create(quiet: bool, spans: Option<Arc<dyn SpanSums>>) -> Arc<dyn Console> {
        match quiet {
            true => Arc::new(ResultsOnly(Results::default())),
            false => {
                let is_terminal = std::io::stderr().is_terminal();
                Arc::new(Self { is_terminal, spans, results: Arc::default() })
            }
        }
    }

    fn begin(&self, title: &str, total: usize) -> TerminalProgress {
        let view = match self.is_terminal {
            false => {
                write_stderr(title);
                View::Lines { next: Cell::new(total.div_ceil(10)) }
            }
            true => {
                let bar = ProgressBar::new(total as u64).with_prefix(harmless(title).into_owned());
                bar.set_style(bar_style());
                bar.enable_steady_tick(Duration::from_millis(500));
                View::Bar(bar)
            }
        };
        TerminalProgress::new(view, title, total)
    }
}

impl Console for TerminalConsole {
    fn note(&self, text: &str) {
        write_stderr(text);
    }

    fn print(&self, text: &str) {
        self.results.print(text);
    }

    fn check_printed(&self) -> io::Result<()> {
        self.results.check()
    }

    fn progress(&self, title: &str, total: usize) -> Box<dyn Progress> {
        Box::new(self.begin(title, total))
    }

    fn training(&self, title: &str, total: usize) -> Box<dyn Callback> {
        let open = || Dashboard::open(title, total, self.spans.clone()).ok();
        let dashboard = self.is_terminal.then(open).flatten();
        let progress = match dashboard {
            Some(dashboard) => TerminalProgress::new(View::Dashboard(dashboard), title, total),
            None => self.begin(title, total),
        };
        Box::new(TrainingView { progress: Some(progress) })
    }
}

/// Console that prints results alone.
#[derive(Debug)]
struct ResultsOnly(Results);

impl Console for ResultsOnly {
    fn note(&self, _text: &str) {}

    fn print(&self, text: &str) {
        self.0.print(text);
    }

    fn check_printed(&self) -> io::Result<()> {
        self.0.check()
    }

    fn progress(&self, title: &str, total: usize) -> Box<dyn Progress> {
        QuietConsole.progress(title, total)
    }

    fn training(&self, title: &str, total: usize) -> Box<dyn Callback> {
        QuietConsole.training(title, total)
    }
}

/// Training as the terminal shows it.
#[derive(Debug)]
struct TrainingView {
    /// None once the run has ended.
    progress: Option<TerminalProgress>,
}

impl Callback for TrainingView {
    fn name(&self) -> &'static str {
        "terminal"
    }

    fn begin(&mut self, history: &[Metrics]) -> Result<(), BoxedError> {
        let done = history.iter().filter_map(Metrics::step).max().unwrap_or(0);
        if let Some(progress) = &self.progress {
            progress.advance(done, "resumed");
        }
        Ok(())
    }

    fn step(&mut self, report: &StepReport<'_>) -> Result<Flow, BoxedError> {
        let Some(progress) = &self.progress else { return Ok(Flow::Continue) };
        for it in report.alarms {
            progress.note(&format!(
                "alarm at step {}: {}: {}",
                it.step,
                it.alarm.name(),
                it.message
            ));
        }
        if let View::Dashboard(dashboard) = &progress.view {
            dashboard.step(report);
        }
        if report.step > 0 {
            progress.advance(1, &headline(report.metrics));
        }
        Ok(Flow::Continue)
    }

    fn finish(&mut self, outcome: &str) {
        if let Some(progress) = self.progress.take() {
            progress.end(outcome);
        }
    }
}

/// Summary of a step, in one line.
fn headline(metrics: &Metrics) -> String {
    let value = |key| metrics.get(key).unwrap_or_default();
    let searches = value("rollout/num_searches");
    format!("reward {:.3}, {searches:.2} searches", value("reward/mean"))
}

/// Progress of one piece of work.
#[derive(Debug)]
struct TerminalProgress {
    view: View,
    title: String,
    total: usize,
    done: Cell<usize>,
    start: Instant,
}

#[derive(Debug)]
enum View {
    Lines { next: Cell<usize> },
    Bar(ProgressBar),
    Dashboard(Dashboard),
}

impl TerminalProgress {
    fn new(view: View, title: &str, total: usize) -> Self {
        let title = title.to_owned();
        Self { view, title, total, done: Cell::new(0), start: Instant::now() }
    }

    /// Says one line above the progress.
    fn note(&self, text: &str) {
        match &self.view {
            View::Lines { .. } | View::Dashboard(_) => write_stderr(text),
            View::Bar(bar) => bar.suspend(|| write_stderr(text)),
        }
    }

    fn end(self, message: &str) -> f64 {
        let seconds = self.start.elapsed().as_secs_f64();
        match self.view {
            View::Lines { .. } => {}
            View::Bar(bar) => bar.finish_and_clear(),
            View::Dashboard(dashboard) => drop(dashboard),
        }
        write_stderr(&format!("{}: {message} ({seconds:.0} s)", self.title));
        seconds
    }
}

impl Progress for TerminalProgress {
    fn advance(&self, steps: usize, message: &str) {
        let done = self.done.get() + steps;
        self.done.set(done);
        match &self.view {
            View::Dashboard(_) => {}
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
                bar.set_message(harmless(message).into_owned());
                bar.set_position(done as u64);
            }
        }
    }

    fn finish(self: Box<Self>, message: &str) -> f64 {
        self.end(message)
    }
}

/// Refusal of the system to let signals be handled.
#[derive(Debug, thiserror::Error)]
#[error("signals cannot be handled")]
pub struct SignalError(#[from] std::io::Error);

/// Sets a request to stop on Ctrl-C (SIGINT), SIGTERM and the end of the terminal (SIGHUP); a second
/// signal ends the process at once.
///
/// # Errors
///
/// Fails when the system does not let signals be handled.
pub fn stop_on_signals() -> Result<Interrupt, SignalError> {
    let interrupt = Interrupt::default();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let flag = interrupt.clone();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if flag.set() {
                dashboard::restore();
                std::process::exit(128 + signal);
            }
            dashboard::note("stops after this step; once more, and it ends at once");
        }
    });
    Ok(interrupt)
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{prefix} [{bar:28}] {pos}/{len} {elapsed}, about {eta} left  {wide_msg}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .progress_chars("=> ")
}

/// Results on stdout, and the first failure to write one.
#[derive(Debug, Default)]
struct Results(Mutex<Option<io::Error>>);

impl Results {
    fn print(&self, text: &str) {
        let mut stdout = io::stdout();
        let text = match stdout.is_terminal() {
            true => harmless(text),
            false => Cow::Borrowed(text),
        };
        self.write(&text, &mut stdout);
    }

    fn write(&self, text: &str, out: &mut dyn Write) {
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            self.0.lock().get_or_insert(error);
        }
    }

    /// A reader that went away (`zs … | head`) is no error.
    fn check(&self) -> io::Result<()> {
        match self.0.lock().take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}

/// Text in which nothing moves the cursor, changes the terminal or turns the direction of writing:
/// such characters of documents, errors and file names are shown as `\u{…}`.
fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmful = |it: char| match it {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            true
        }
        _ => it.is_control(),
    };
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for character in text.chars() {
        match is_harmful(character) {
            true => shown.extend(character.escape_unicode()),
            false => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

/// Writes a value to a file, as JSON.
///
/// # Errors
///
/// Fails, naming the file, where it cannot be written.
pub fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    let text = serde_json::to_string_pretty(value).map_err(std::io::Error::from);
    text.and_then(|text| std::fs::write(path, format!("{text}\n")))
        .map_err(FileError::io(path, "be written"))
}

/// While a dashboard has the terminal, what is said waits until it gives it back.
fn write_stderr(text: &str) {
    let text = harmless(text);
    if dashboard::note(&text) {
        return;
    }
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes the one line that a failed command leaves: `error: what: why`.
pub fn print_error(error: &dyn Error) {
    dashboard::restore();
    write_stderr(&format!("error: {}", one_line(error)));
}

/// An error [with its causes](with_causes), without line breaks.
pub fn one_line(error: &dyn Error) -> String {
    with_causes(error).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headline_tells_reward_and_searches() {
        let mut metrics = Metrics::of_step(1);
        assert_eq!(headline(&metrics), "reward 0.000, 0.00 searches");
        metrics.set("reward/mean", 0.25);
        metrics.set("rollout/num_searches", 1.5);
        assert_eq!(headline(&metrics), "reward 0.250, 1.50 searches");
    }

    #[test]
    fn errors_have_one_line() {
        assert_eq!(one_line(&std::io::Error::other("no row\n here")), "no row here");
    }

    #[test]
    fn nothing_reaches_the_terminal_that_controls_it() {
        let check = |text: &str, expected: &str| assert_eq!(harmless(text), expected);
        check("plain\ttext é 東京 \u{1f600}\n", "plain\ttext é 東京 \u{1f600}\n");
        check("\u{1b}[2J\u{1b}]0;title\u{7}", "\\u{1b}[2J\\u{1b}]0;title\\u{7}");
        check("\u{9b}31m\u{9d}8;;x\u{9c}", "\\u{9b}31m\\u{9d}8;;x\\u{9c}");
        check("a\r\u{8}b\u{7f}\0", "a\\u{d}\\u{8}b\\u{7f}\\u{0}");
        check("gpj.\u{202e}exe\u{2066}\u{200f}", "gpj.\\u{202e}exe\\u{2066}\\u{200f}");
    }

    /// A disk or a reader.
    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn results_that_are_lost_are_an_error() {
        for (kind, is_lost) in [
            (io::ErrorKind::StorageFull, true),
            (io::ErrorKind::Other, true),
            (io::ErrorKind::BrokenPipe, false),
        ] {
            let results = Results::default();
            results.write("1", &mut Vec::new());
            assert!(results.check().is_ok());
            results.write("2", &mut Broken(kind));
            results.write("3", &mut Vec::new());
            assert_eq!(results.check().is_err(), is_lost, "{kind:?}");
        }
    }
}
