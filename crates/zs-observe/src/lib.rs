//! Views of training runs: the terminal with its dashboard, `TensorBoard` event files, traces, plots,
//! and a run as one HTML page.
//!
//! Views are [callbacks](zs_trainer::Callback) or readers of run directories: no run reads anything
//! from them, so the same seed writes the same bytes with and without them.
//!
//! ```
//! use zs_observe::{Chart, ChartStyle, Mark, Series};
//! use zs_trainer::{Console, RunContext};
//!
//! let context = RunContext { console: zs_observe::TerminalConsole::create(true, None), ..RunContext::default() };
//! context.note("not shown: the console is quiet");
//! ```

mod console;
mod content_policy;
mod dashboard;
mod inspect;
mod plot;
mod tensorboard;
mod trace;

pub use console::{
    SignalError, TerminalConsole, one_line, print_error, stop_on_signals, write_json,
};
pub use content_policy::content_policy;
pub use inspect::{InspectError, InspectOptions, inspect};
pub use plot::{Chart, ChartError, ChartStyle, Mark, Series};
pub use tensorboard::{TensorBoard, TensorBoardSettings, register_trackers};
pub use trace::{TraceError, Tracing};
