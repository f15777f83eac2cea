//! Tracing spans: written for `--trace FILE`, and summed up for the dashboard and `timings.jsonl`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::thread::{ThreadId, current};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::dispatcher::get_default;
use tracing::span::Id;
use tracing::subscriber::{SetGlobalDefaultError, set_global_default};
use tracing_chrome::{ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use zs_data::FileError;
use zs_trainer::{RolloutTimes, SpanSums};

/// Spans that follow each other on the thread of the loop.
const PHASES: [&str; 5] = ["rollout", "reward", "update", "validation", "checkpoint"];
/// Spans of the policy that writes, one at a time, and of lanes (blocks of episodes, see
/// [`RolloutConfig::lanes`](zs_rl::RolloutConfig::lanes)) that search, several at a time.
const GENERATE: &str = "generate";
const SEARCH: &str = "search";
/// Time in both.
const HIDDEN: &str = "search_hidden";
/// Spans of the workers that sample.
const SAMPLING: [&str; 2] = ["prefill", "decode"];

/// Tracing of a process; spans are written as long as this lives.
pub struct Tracing {
    sums: Option<Arc<Clock>>,
    _flush: Option<FlushGuard>,
}

impl fmt::Debug for Tracing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_written = self._flush.is_some();
        f.debug_struct("Tracing")
            .field("sums", &self.sums)
            .field("is_written", &is_written)
            .finish()
    }
}

/// Failure to write spans.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file cannot be created.
    #[error(transparent)]
    File(#[from] FileError),
    /// Something else receives the spans of this process.
    #[error(transparent)]
    Subscriber(#[from] SetGlobalDefaultError),
}

impl Tracing {
    /// Begins to sum up spans, and to write them to `file` if there is one.
    ///
    /// A program that has a subscriber of its own keeps it, and does without sums. One that has begun
    /// before shares the sums of then.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be created, or when spans are to be written and something else
    /// receives them already.
    pub fn begin(file: Option<&Path>) -> Result<Self, TraceError> {
        let clock = Arc::new(Clock::default());
        let subscriber = Registry::default().with(ClockLayer(Arc::clone(&clock)));
        let Some(path) = file else {
            let sums = match set_global_default(subscriber) {
                Ok(()) => Some(clock),
                Err(_) => {
                    get_default(|it| it.downcast_ref().map(|it: &ClockLayer| Arc::clone(&it.0)))
                }
            };
            return Ok(Self { sums, _flush: None });
        };
        let file = File::create(path).map_err(FileError::io(path, "create the trace"))?;
        let (chrome, flush) = ChromeLayerBuilder::new().writer(file).include_args(true).build();
        set_global_default(subscriber.with(chrome))?;
        Ok(Self { sums: Some(clock), _flush: Some(flush) })
    }

    /// Sums of spans, where this process receives them.
    #[must_use]
    pub fn sums(&self) -> Option<Arc<dyn SpanSums>> {
        self.sums.as_ref().map(|it| Arc::clone(it) as Arc<dyn SpanSums>)
    }
}

impl SpanSums for Clock {
    fn take_rollout_times(&self) -> RolloutTimes {
        self.take()
    }

    fn phase(&self) -> Option<&'static str> {
        self.state.lock().phase()
    }
}

/// Sums of the spans of rollouts.
#[derive(Debug, Default)]
struct Clock {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The phases that the loop is in, outermost first, and since when.
    stack: Vec<(&'static str, Instant)>,
    /// The threads on which the policy writes now.
    generating: Vec<ThreadId>,
    /// Lanes that search now.
    num_searching: usize,
    /// Time of the last change of one of these.
    changed: Option<Instant>,
    seconds: BTreeMap<&'static str, f64>,
}

impl State {
    fn add(&mut self, name: &'static str, time: Duration) {
        *self.seconds.entry(name).or_default() += time.as_secs_f64();
    }

    fn is_rollout(&self) -> bool {
        self.stack.first().is_some_and(|(name, _)| *name == "rollout")
    }

    fn phase(&self) -> Option<&'static str> {
        match (self.generating.is_empty(), self.num_searching) {
            (false, _) => Some(GENERATE),
            (true, 1..) => Some(SEARCH),
            (true, 0) => self.stack.last().map(|(name, _)| *name),
        }
    }

    /// Counts the time since sampling or searching last began or ended: time counts once, however many
    /// lanes search in it.
    fn settle(&mut self) {
        let now = Instant::now();
        let time = self.changed.replace(now).map_or(Duration::ZERO, |it| now - it);
        if !self.is_rollout() {
            return;
        }
        match (self.generating.is_empty(), self.num_searching) {
            (true, 0) => (),
            (true, _) => self.add(SEARCH, time),
            (false, 0) => self.add(GENERATE, time),
            (false, _) => {
                self.add(GENERATE, time);
                self.add(HIDDEN, time);
            }
        }
    }
}

impl Clock {
    fn enter(&self, name: &'static str) {
        let mut state = self.state.lock();
        match name {
            GENERATE => {
                state.settle();
                state.generating.push(current().id());
            }
            SEARCH => {
                state.settle();
                state.num_searching += 1;
            }
            _ => state.stack.push((name, Instant::now())),
        }
    }

    fn exit(&self, name: &'static str) {
        let mut state = self.state.lock();
        match name {
            GENERATE => {
                state.settle();
                let thread = current().id();
                let at = state.generating.iter().rposition(|it| *it == thread);
                at.map(|it| state.generating.remove(it));
            }
            SEARCH => {
                state.settle();
                state.num_searching = state.num_searching.saturating_sub(1);
            }
            _ => {
                let is_rollout = state.is_rollout();
                let Some(at) = state.stack.iter().rposition(|it| it.0 == name) else { return };
                let since = state.stack[at].1;
                state.stack.truncate(at);
                if is_rollout {
                    state.add(name, since.elapsed());
                }
            }
        }
    }

    /// Time of a worker that samples; what a simulation LLM samples is part of its search. Where both
    /// sample at the same time, a worker's time counts only on the thread that the policy writes on.
    fn sampled(&self, name: &'static str, time: Duration) {
        let mut state = self.state.lock();
        let is_policy = match state.num_searching {
            0 => !state.generating.is_empty(),
            _ => state.generating.contains(&current().id()),
        };
        if is_policy && state.is_rollout() {
            state.add(name, time);
        }
    }

    /// Workers sample side by side, so their times are scaled to the time that passed.
    fn take(&self) -> RolloutTimes {
        let seconds = std::mem::take(&mut self.state.lock().seconds);
        let get = |name: &str| seconds.get(name).copied().unwrap_or_default();
        let (prefill, decode) = (get("prefill"), get("decode"));
        let scale = match prefill + decode {
            0.0 => 0.0,
            sum => get(GENERATE) / sum,
        };
        RolloutTimes {
            prefill: prefill * scale,
            decode: decode * scale,
            search: get(SEARCH),
            search_hidden: get(HIDDEN),
        }
    }
}

/// Feeds spans to a [`Clock`].
struct ClockLayer(Arc<Clock>);

fn is_phase(name: &str) -> bool {
    PHASES.contains(&name) || [GENERATE, SEARCH].contains(&name)
}

/// Start of a worker's span.
struct Began(Instant);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for ClockLayer {
    fn on_enter(&self, id: &Id, context: LayerContext<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let name = span.name();
        if SAMPLING.contains(&name) {
            span.extensions_mut().replace(Began(Instant::now()));
        } else if is_phase(name) {
            self.0.enter(name);
        }
    }

    fn on_exit(&self, id: &Id, context: LayerContext<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let name = span.name();
        if let Some(Began(since)) = span.extensions_mut().remove::<Began>() {
            self.0.sampled(name, since.elapsed());
        } else if is_phase(name) {
            self.0.exit(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::info_span;

    use super::*;

    #[test]
    fn only_the_policy_of_a_rollout_counts() {
        let clock = Arc::new(Clock::default());
        let subscriber = Registry::default().with(ClockLayer(Arc::clone(&clock)));
        tracing::subscriber::with_default(subscriber, || {
            {
                let _rollout = info_span!("rollout").entered();
                {
                    let _generate = info_span!("generate").entered();
                    info_span!("prefill")
                        .in_scope(|| assert_eq!(clock.state.lock().phase(), Some(GENERATE)));
                    info_span!("decode").in_scope(|| ());
                }
                let _search = info_span!("search").entered();
                // The simulation LLM's.
                info_span!("prefill").in_scope(|| ());
                assert_eq!(clock.state.lock().seconds.len(), 3);
            }
            let _validation = info_span!("validation").entered();
            let _generate = info_span!("generate").entered();
            info_span!("decode").in_scope(|| ());
        });
        let keys: Vec<&str> = clock.state.lock().seconds.keys().copied().collect();
        assert_eq!(keys, ["decode", "generate", "prefill", "rollout", "search"]);
        let generate = clock.state.lock().seconds["generate"];
        let times = clock.take();
        assert!((times.prefill + times.decode - generate).abs() < 1e-9);
        assert!(times.search > 0.0);
        assert_eq!(clock.take(), RolloutTimes::default());
        assert!(clock.state.lock().stack.is_empty());
    }

    #[test]
    fn a_lane_that_searches_beside_sampling_is_hidden() {
        let clock = Clock::default();
        clock.enter("rollout");
        clock.enter(GENERATE);
        // Two lanes search while this thread samples, and continue when it has finished.
        std::thread::scope(|scope| {
            let other = || {
                clock.enter(SEARCH);
                clock.sampled("decode", Duration::from_secs(1000));
            };
            scope.spawn(other);
            scope.spawn(other);
        });
        clock.sampled("prefill", Duration::from_secs(1));
        clock.sampled("decode", Duration::from_secs(3));
        clock.exit(GENERATE);
        assert_eq!(clock.state.lock().phase(), Some(SEARCH));
        clock.exit(SEARCH);
        clock.exit(SEARCH);
        assert_eq!(clock.state.lock().phase(), Some("rollout"));
        let generate = clock.state.lock().seconds[GENERATE];
        let times = clock.take();
        // What the searchers sampled is not the policy's: it shares as this thread does, 1 to 3.
        assert!((times.prefill - generate / 4.0).abs() < 1e-9, "{times:?}");
        assert!(times.search > 0.0 && times.search_hidden > 0.0, "{times:?}");
        assert!(times.search_hidden < generate, "{times:?}");
    }
}
