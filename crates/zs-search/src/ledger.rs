//! Cost of searching: calls, tokens, bytes, time and dollars, counted in one place for all engines
//! of a run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use crate::spending::{Journal, JournalError};
use crate::usage::{Price, Usage};

/// Latencies in milliseconds, each to three digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50_ms: f64,
    /// Nine in ten took at most this.
    pub p90_ms: f64,
    /// Ninety-nine in a hundred took at most this.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// Usage and cost of one engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EngineCost {
    /// The engine's name.
    pub engine: String,
    /// Usage.
    #[serde(flatten)]
    pub usage: Usage,
    /// Cost at the configured price.
    pub dollars: f64,
    /// Usage, paid for as well, of steps that were done again after an interruption.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub repeated: Usage,
    /// Cost of that.
    #[serde(default, skip_serializing_if = "is_free")]
    pub repeated_dollars: f64,
    /// Latency of searches: a whole batch for each of its requests.
    pub search_latency: Latency,
    /// Latency of calls.
    pub call_latency: Latency,
}

fn is_nothing(usage: &Usage) -> bool {
    *usage == Usage::default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_free(dollars: &f64) -> bool {
    *dollars == 0.0
}

/// The books of a run: engines and wrappers write what they did under the engine's name, and whoever
/// wants to know reads totals, or what has been added since the last look.
///
/// ```
/// use std::time::Duration;
/// use zs_search::{Ledger, Price};
///
/// let price = Price { per_1000_calls: 1.0, ..Price::default() };
/// let ledger = Ledger::new([("serper".to_owned(), price)].into());
/// ledger.record_call("serper", Duration::from_millis(80), |usage| usage.bytes_received += 900);
/// let total = &ledger.totals()[0];
/// assert_eq!((total.usage.calls, total.usage.bytes_received, total.dollars), (1, 900, 0.001));
/// ```
#[derive(Debug, Default)]
pub struct Ledger {
    prices: BTreeMap<String, Price>,
    books: Mutex<BTreeMap<String, Book>>,
    /// Searches that each budget has passed on, in the order in which they were opened.
    budgets: Mutex<Vec<Arc<AtomicU64>>>,
    /// `None` where nothing is written down.
    journal: Mutex<Option<Journal>>,
}

#[derive(Debug, Default)]
struct Book {
    usage: Usage,
    repeated: Usage,
    at_last_step: Usage,
    search_latency: Times,
    call_latency: Times,
}

impl Book {
    /// Adds what `add` makes of zeros.
    fn add(&mut self, add: impl FnOnce(&mut Usage)) {
        let mut added = Usage::default();
        add(&mut added);
        self.usage = self.usage.plus(added);
    }
}

impl Ledger {
    /// Empty books, with the prices of some engines; others are free.
    #[must_use]
    pub fn new(prices: BTreeMap<String, Price>) -> Self {
        Self { prices, ..Self::default() }
    }

    /// Adds to an engine's counts what `add` makes of zeros. Counts that no number holds, which only a
    /// server's reply can name, stay at the largest.
    pub fn record(&self, engine: &str, add: impl FnOnce(&mut Usage)) {
        self.with_book(engine, |book| book.add(add));
    }

    /// Adds one call over the wire, and whatever else `add` says.
    pub fn record_call(&self, engine: &str, took: Duration, add: impl FnOnce(&mut Usage)) {
        self.with_book(engine, |book| {
            book.call_latency.record(took, 1);
            book.add(|usage| {
                usage.calls += 1;
                add(usage);
            });
        });
    }

    /// Adds searches that an engine answered without a part of it.
    pub(crate) fn record_degraded(&self, engine: &str, searches: u64) {
        if searches > 0 {
            self.record(engine, |usage| usage.degraded_searches += searches);
        }
    }

    /// Adds the searches of one batch, all of which waited for the whole batch.
    pub fn record_searches(&self, engine: &str, searches: u64, failed: u64, took: Duration) {
        self.with_book(engine, |book| {
            book.search_latency.record(took, searches);
            book.add(|usage| (usage.searches, usage.failed_searches) = (searches, failed));
        });
    }

    /// Usage and cost of every engine so far, by name.
    #[must_use]
    pub fn totals(&self) -> Vec<EngineCost> {
        let cost = |(engine, book): (&String, &Book)| EngineCost {
            engine: engine.clone(),
            usage: book.usage,
            dollars: self.dollars_of(engine, &book.usage),
            repeated: book.repeated,
            repeated_dollars: self.dollars_of(engine, &book.repeated),
            search_latency: book.search_latency.summary(),
            call_latency: book.call_latency.summary(),
        };
        self.lock().iter().map(cost).collect()
    }

    /// Continues the journal of a run, or begins one: from here on, what is spent is written to
    /// `path`, and budgets count what any process of the run has spent.
    ///
    /// Comes after [`restore`](Self::restore). A journal that holds more than what was restored tells
    /// of steps that will be done again; their usage is [`repeated`](EngineCost::repeated).
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be read.
    pub fn keep_journal(&self, path: &Path) -> Result<(), JournalError> {
        let usage = self.usage();
        let journal = Journal::open(path, usage.clone())?;
        for (engine, paid) in journal.usage() {
            let restored = usage.get(engine).copied().unwrap_or_default();
            self.with_book(engine, |book| book.repeated = paid.since(restored));
        }
        for (counter, paid) in self.budgets.lock().iter().zip(journal.budgets()) {
            counter.fetch_max(*paid, Ordering::SeqCst);
        }
        *self.journal.lock() = Some(journal);
        Ok(())
    }

    /// Adds a budget; returns its number and the count of searches that it has passed on.
    pub(crate) fn open_budget(&self) -> (usize, Arc<AtomicU64>) {
        let mut budgets = self.budgets.lock();
        let counter = Arc::default();
        budgets.push(Arc::clone(&counter));
        (budgets.len() - 1, counter)
    }

    /// Searches that each budget has passed on, in the order in which they were opened.
    #[must_use]
    pub fn passed(&self) -> Vec<u64> {
        self.budgets.lock().iter().map(|it| it.load(Ordering::SeqCst)).collect()
    }

    /// Sets the counts of budgets to the [`passed`](Self::passed) of an earlier process, in which the
    /// same budgets were opened in the same order.
    pub fn restore_passed(&self, passed: &[u64]) {
        for (counter, passed) in self.budgets.lock().iter().zip(passed) {
            counter.store(*passed, Ordering::SeqCst);
        }
    }

    /// Writes into the journal that a budget is about to pass searches on; returns the batch's number.
    pub(crate) fn begin_batch(
        &self,
        budget: usize,
        engine: &str,
        searches: u64,
    ) -> Result<Option<u64>, JournalError> {
        let mut journal = self.journal.lock();
        journal.as_mut().map(|it| it.begin(budget, engine, searches)).transpose()
    }

    /// Writes into the journal what was used since its last row.
    ///
    /// A row that cannot be written now is part of the next one, and no budget passes anything on before
    /// that is written.
    pub(crate) fn end_batch(&self, batch: Option<u64>) {
        if let Some(journal) = self.journal.lock().as_mut() {
            let _ = journal.end(batch, self.usage());
        }
    }

    /// The counts of every engine, by name; [`restore`](Self::restore) takes them back.
    #[must_use]
    pub fn usage(&self) -> BTreeMap<String, Usage> {
        self.lock().iter().map(|(engine, book)| (engine.clone(), book.usage)).collect()
    }

    /// Goes on from the counts of an earlier process; how long things took there is not known here.
    pub fn restore(&self, usage: BTreeMap<String, Usage>) {
        for (engine, usage) in usage {
            self.with_book(&engine, |book| {
                (book.usage, book.at_last_step) = (usage, usage);
            });
        }
    }

    /// Usage of every engine since the last call, by name: a step of training.
    pub fn take_step(&self) -> BTreeMap<String, Usage> {
        let mut books = self.lock();
        let step = |(engine, book): (&String, &mut Book)| {
            let added = book.usage.since(book.at_last_step);
            book.at_last_step = book.usage;
            (engine.clone(), added)
        };
        books.iter_mut().map(step).collect()
    }

    /// Dollars that some usage of an engine costs.
    #[must_use]
    pub fn dollars_of(&self, engine: &str, usage: &Usage) -> f64 {
        self.prices.get(engine).map_or(0.0, |it| it.dollars(usage))
    }

    /// Dollars spent on all engines so far.
    #[must_use]
    pub fn dollars(&self) -> f64 {
        let dollars = |(engine, book): (&String, &Book)| self.dollars_of(engine, &book.usage);
        self.lock().iter().map(dollars).sum::<f64>() + 0.0 // the sum of nothing is -0
    }

    /// Dollars that any process of the run has paid: repeated steps count, and so do searches that a
    /// killed process had begun.
    #[must_use]
    pub fn dollars_paid(&self) -> f64 {
        let repeated = |(engine, book): (&String, &Book)| self.dollars_of(engine, &book.repeated);
        let repeated: f64 = self.lock().iter().map(repeated).sum();
        let journal = self.journal.lock();
        let unfinished = journal.as_ref().map_or(0.0, |it| it.unfinished_dollars(&self.prices));
        self.dollars() + repeated + unfinished
    }

    fn with_book(&self, engine: &str, write: impl FnOnce(&mut Book)) {
        let mut books = self.lock();
        if !books.contains_key(engine) {
            books.insert(engine.to_owned(), Book::default());
        }
        if let Some(book) = books.get_mut(engine) {
            write(book);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Book>> {
        self.books.lock()
    }
}

/// A day; what takes longer is counted as that.
const LONGEST_MICROS: u64 = 86_400_000_000;

/// Durations in microseconds, in constant memory.
#[derive(Debug)]
struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        let bounds = Histogram::new_with_bounds(1, LONGEST_MICROS, 3);
        Self(bounds.expect("three digits over these bounds are what histograms have"))
    }
}

impl Times {
    fn record(&mut self, took: Duration, count: u64) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record_n(micros, count);
    }

    fn summary(&self) -> Latency {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        if self.0.is_empty() {
            return Latency::default();
        }
        Latency { p50_ms: at(0.5), p90_ms: at(0.9), p99_ms: at(0.99), max_ms: at(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_add_up_by_engine_and_step() {
        let price = Price {
            per_1000_calls: 5.0,
            per_million_prompt_tokens: 2.0,
            per_million_completion_tokens: 10.0,
        };
        let ledger = Ledger::new([("remote".to_owned(), price)].into());
        ledger.record_searches("bm25", 3, 1, Duration::from_millis(7));
        for tokens in [100, 200] {
            ledger.record_call("remote", Duration::from_millis(tokens), |usage| {
                usage.prompt_tokens += tokens;
                usage.completion_tokens += 10 * tokens;
            });
        }
        let totals = ledger.totals();
        let [bm25, remote] = totals.as_slice() else { panic!("{totals:?}") };
        assert_eq!((bm25.usage.searches, bm25.usage.failed_searches, bm25.dollars), (3, 1, 0.0));
        assert!((bm25.search_latency.p99_ms - 7.0).abs() < 0.01);
        assert_eq!((remote.usage.calls, remote.usage.prompt_tokens), (2, 300));
        // 2 calls at 0.005, 300 tokens at 2e-6, 3000 at 1e-5.
        assert!((remote.dollars - (0.01 + 0.0006 + 0.03)).abs() < 1e-12);
        assert_eq!(ledger.dollars(), remote.dollars);
        assert!((remote.call_latency.p50_ms - 100.0).abs() < 0.1);
        assert!((remote.call_latency.max_ms - 200.0).abs() < 0.2);

        let step = ledger.take_step();
        assert_eq!(step["bm25"].searches, 3);
        ledger.record("bm25", |usage| usage.cache_hits += 2);
        let step = ledger.take_step();
        assert_eq!(step["bm25"], Usage { cache_hits: 2, ..Usage::default() });
        assert_eq!(step["remote"], Usage::default());
    }

    #[test]
    fn counts_are_taken_to_another_process() {
        let (first, second) = (Ledger::default(), Ledger::default());
        first.record_searches("x", 3, 1, Duration::from_millis(2));
        second.restore(first.usage());
        assert_eq!(second.usage(), first.usage());
        second.record("x", |usage| usage.searches += 1);
        assert_eq!(second.take_step()["x"].searches, 1);
        assert_eq!(second.totals()[0].usage.searches, 4);
    }

    #[test]
    fn counts_of_replies_stay_at_the_largest() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::default();
        ledger.keep_journal(&folder.path().join("spending.jsonl")).unwrap();
        for tokens in [u64::MAX, 7] {
            ledger.record("x", |usage| {
                (usage.prompt_tokens, usage.completion_tokens) = (tokens, tokens);
            });
            ledger.end_batch(None);
        }
        let usage = ledger.totals()[0].usage;
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), (u64::MAX, u64::MAX));
    }

    #[test]
    fn costs_have_a_flat_json_form() {
        let ledger = Ledger::default();
        assert_eq!(format!("{:.2}", ledger.dollars()), "0.00");
        ledger.record("x", |usage| usage.searches += 1);
        let json = serde_json::to_value(ledger.totals()).unwrap();
        assert_eq!(json[0]["engine"], "x");
        assert_eq!(json[0]["searches"], 1);
        let back: Vec<EngineCost> = serde_json::from_value(json).unwrap();
        assert_eq!(back, ledger.totals());
    }
}
