//! Journal of what a run has paid for: ahead of each batch of a budget, and never taken back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zs_data::{DataError, FileError, JsonLinesWriter, read_whole_rows};

use crate::{Price, Usage};

/// Failure to read or write the journal of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The rows of earlier processes cannot be read.
    #[error(
        "cannot read the spending of the run; restore the file, or remove it to start from zero"
    )]
    Read {
        /// The reader's error.
        #[from]
        source: DataError,
    },
    /// The journal cannot be written, so nothing may be spent.
    #[error(transparent)]
    Write(#[from] FileError),
}

/// A row of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
enum Row {
    /// Searches that a budget passes on, written and synced before they are.
    Begun { batch: u64, budget: usize, engine: String, searches: u64 },
    /// Usage since the row before, written after a batch, of the engines that were used.
    Used {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        batch: Option<u64>,
        usage: BTreeMap<String, Usage>,
    },
}

/// Sums over the rows of earlier processes.
#[derive(Debug, Default)]
struct Paid {
    usage: BTreeMap<String, Usage>,
    /// Searches that each budget has passed on.
    budgets: Vec<u64>,
    /// Engine and searches of batches of which nothing is known but that they were begun.
    unfinished: BTreeMap<u64, (String, u64)>,
    num_batches: u64,
}

/// Journal of one run.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// `None` before the first row of this process.
    file: Option<JsonLinesWriter>,
    num_rows: usize,
    next_batch: u64,
    paid: Paid,
    /// Usage that the rows account for, or that an earlier process has accounted for.
    accounted: BTreeMap<String, Usage>,
}

impl Journal {
    /// Opens the journal of a run, which need not exist; `usage` is where the ledger resumes.
    pub(crate) fn open(path: &Path, usage: BTreeMap<String, Usage>) -> Result<Self, JournalError> {
        let rows: Vec<Row> = read_whole_rows(path)?;
        let num_rows = rows.len();
        let mut paid = Paid::default();
        rows.into_iter().for_each(|it| paid.add(it));
        let (path, next_batch) = (path.to_owned(), paid.num_batches);
        Ok(Self { path, file: None, num_rows, next_batch, paid, accounted: usage })
    }

    /// Searches that each budget has passed on in earlier processes.
    pub(crate) fn budgets(&self) -> &[u64] {
        &self.paid.budgets
    }

    /// Usage that earlier processes have paid for.
    pub(crate) fn usage(&self) -> &BTreeMap<String, Usage> {
        &self.paid.usage
    }

    /// Dollars of batches that were begun by a process which did not live to see their end: each
    /// search costs a call, or the mean of the finished batches where that is more.
    pub(crate) fn unfinished_dollars(&self, prices: &BTreeMap<String, Price>) -> f64 {
        let dollars = |(engine, usage): (&String, &Usage)| {
            prices.get(engine).map_or(0.0, |it| it.dollars(usage))
        };
        let total: f64 = self.paid.usage.iter().map(dollars).sum();
        let unfinished: u64 = self.paid.unfinished.values().map(|(_, searches)| searches).sum();
        let finished = self.paid.budgets.iter().sum::<u64>().saturating_sub(unfinished);
        let mean = if finished == 0 { 0.0 } else { total / finished as f64 };
        let of_batch = |(engine, searches): &(String, u64)| {
            let call = prices.get(engine).map_or(0.0, |it| it.per_1000_calls / 1e3);
            *searches as f64 * call.max(mean)
        };
        self.paid.unfinished.values().map(of_batch).sum()
    }

    /// Writes that a budget is about to pass searches on, and waits until that is on the disk.
    pub(crate) fn begin(
        &mut self,
        budget: usize,
        engine: &str,
        searches: u64,
    ) -> Result<u64, JournalError> {
        let batch = self.next_batch;
        self.push(&Row::Begun { batch, budget, engine: engine.to_owned(), searches })?;
        self.next_batch += 1;
        if let Some(file) = &mut self.file {
            file.sync()?;
        }
        Ok(batch)
    }

    /// Writes what has been used since the last row, where it is anything that is paid for.
    ///
    /// A row that cannot be written is part of the next one.
    pub(crate) fn end(
        &mut self,
        batch: Option<u64>,
        usage: BTreeMap<String, Usage>,
    ) -> Result<(), JournalError> {
        let added: BTreeMap<String, Usage> = usage
            .iter()
            .map(|(engine, it)| {
                let before = self.accounted.get(engine).copied().unwrap_or_default();
                (engine.clone(), it.since(before))
            })
            .filter(|(_, it)| it.calls.max(it.prompt_tokens).max(it.completion_tokens) > 0)
            .collect();
        if batch.is_none() && added.is_empty() {
            return Ok(());
        }
        let written: Vec<String> = added.keys().cloned().collect();
        self.push(&Row::Used { batch, usage: added })?;
        let written = usage.into_iter().filter(|(engine, _)| written.contains(engine));
        self.accounted.extend(written);
        Ok(())
    }

    fn push(&mut self, row: &Row) -> Result<(), JournalError> {
        let file = match &mut self.file {
            Some(file) => file,
            // What a killed process has left of a row goes.
            None => self.file.insert(JsonLinesWriter::resume(&self.path, self.num_rows)?),
        };
        Ok(file.push(row)?)
    }
}

impl Paid {
    fn add(&mut self, row: Row) {
        match row {
            Row::Begun { batch, budget, engine, searches } => {
                if self.budgets.len() <= budget {
                    self.budgets.resize(budget + 1, 0);
                }
                self.budgets[budget] += searches;
                self.unfinished.insert(batch, (engine, searches));
                self.num_batches = self.num_batches.max(batch + 1);
            }
            Row::Used { batch, usage } => {
                if let Some(batch) = batch {
                    self.unfinished.remove(&batch);
                }
                for (engine, added) in usage {
                    let total = self.usage.entry(engine).or_default();
                    *total = total.plus(added);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zs_core::{Document, Question, SearchEngine, SearchRequest, SearchResult, with_causes};

    use super::*;
    use crate::{BudgetConfig, BudgetedEngine, Ledger, MeteredEngine};

    /// An engine behind a wire: each search is a call.
    #[derive(Debug)]
    struct Calling(Arc<Ledger>);

    impl SearchEngine for Calling {
        fn name(&self) -> &str {
            "web"
        }

        fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
            let calls = requests.len() as u64;
            self.0.record("web", |usage| {
                usage.calls += calls;
                usage.prompt_tokens += 10 * calls;
            });
            requests.iter().map(|_| Ok(vec![Document::new("", "x")])).collect()
        }
    }

    /// A process of a run that resumes at some usage and counts.
    struct Process {
        ledger: Arc<Ledger>,
        engine: MeteredEngine<BudgetedEngine<Calling>>,
    }

    impl Process {
        fn begin(path: &Path, budget: BudgetConfig, usage: Usage, passed: u64) -> Self {
            let price = Price { per_1000_calls: 100.0, ..Price::default() };
            let ledger = Arc::new(Ledger::new([("web".to_owned(), price)].into()));
            let engine = BudgetedEngine::new(Calling(Arc::clone(&ledger)), budget, ledger.clone());
            let engine = MeteredEngine::new(engine, ledger.clone());
            ledger.restore([("web".to_owned(), usage)].into());
            ledger.restore_passed(&[passed]);
            ledger.keep_journal(path).unwrap();
            Self { ledger, engine }
        }

        fn num_answered(&self, count: usize) -> usize {
            let question = Question::new("q", "?", ["a"]);
            let request = SearchRequest { query: "q", ..SearchRequest::of(&question, 1, 0) };
            let results = self.engine.search_batch(&vec![request; count]);
            results.iter().filter(|it| it.is_ok()).count()
        }
    }

    #[test]
    fn a_budget_counts_what_any_process_has_spent() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("spent.jsonl");
        let budget = BudgetConfig { max_searches: Some(20), ..BudgetConfig::default() };
        let (mut answered, mut processes) = (0, 0);
        // No process lives to save a checkpoint.
        while answered < 20 {
            let process = Process::begin(&path, budget, Usage::default(), 0);
            answered += process.num_answered(3);
            answered += process.num_answered(3);
            processes += 1;
        }
        assert_eq!((answered, processes), (20, 4));
        let process = Process::begin(&path, budget, Usage::default(), 0);
        assert!(process.engine.exhausted().is_some() && process.num_answered(1) == 0);
        let cost = process.ledger.totals().remove(0);
        assert_eq!((cost.usage.calls, cost.repeated.calls), (0, 20));
        assert!((cost.repeated_dollars - 2.0).abs() < 1e-9, "{cost:?}");
        // A checkpoint has kept eight of them.
        let usage = Usage { calls: 8, prompt_tokens: 80, ..Usage::default() };
        let cost = Process::begin(&path, budget, usage, 8).ledger.totals().remove(0);
        assert_eq!((cost.usage.calls, cost.repeated.calls), (8, 12));
        assert_eq!(cost.repeated.prompt_tokens, 120);
    }

    #[test]
    fn dollars_of_killed_processes_count() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("spent.jsonl");
        let budget = BudgetConfig { max_dollars: Some(0.95), ..BudgetConfig::default() };
        let begin = || Process::begin(&path, budget, Usage::default(), 0);
        assert_eq!(begin().num_answered(6), 6);
        // Killed while it searches: the batch was begun, and nobody knows what was sent.
        let killed = begin();
        killed.ledger.begin_batch(0, "web", 3).unwrap();
        let process = begin();
        assert!((process.ledger.dollars_paid() - 0.9).abs() < 1e-9);
        assert_eq!((process.num_answered(1), process.num_answered(1)), (1, 0));
        assert!(process.engine.exhausted().unwrap().contains("$0.95"));
    }

    #[test]
    fn a_row_that_was_cut_short_is_passed_over_and_a_foreign_one_is_not() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("spent.jsonl");
        let budget = BudgetConfig { max_searches: Some(20), ..BudgetConfig::default() };
        Process::begin(&path, budget, Usage::default(), 0).num_answered(5);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}{{\"kind\":\"begun\",")).unwrap();
        let process = Process::begin(&path, budget, Usage::default(), 0);
        assert_eq!(process.ledger.passed(), [5]);
        process.num_answered(2);
        assert_eq!(Process::begin(&path, budget, Usage::default(), 0).ledger.passed(), [7]);
        std::fs::write(&path, "{}\n").unwrap();
        let message = with_causes(&Ledger::default().keep_journal(&path).unwrap_err());
        assert!(message.contains("spent.jsonl, row 1") && message.contains("restore"), "{message}");
    }

    #[test]
    fn nothing_is_spent_that_cannot_be_written_down() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("spent.jsonl");
        let budget = BudgetConfig { max_searches: Some(20), ..BudgetConfig::default() };
        let process = Process::begin(&path, budget, Usage::default(), 0);
        std::fs::create_dir(&path).unwrap();
        assert_eq!(process.num_answered(3), 0);
        assert_eq!(process.ledger.totals()[0].usage.calls, 0);
    }
}
