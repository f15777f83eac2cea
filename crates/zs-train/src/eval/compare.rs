//! `zs eval compare`: several evaluations in one table, and their differences from the first.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use zs_data::{RowReader, read_regular_text};
use zs_eval::{EvaluationReport, Metric, PairedTest, QuestionRecord, paired_test};

use crate::report_table::{interval, table};
use crate::session::Session;
use zs_trainer::files::SUMMARY;

/// Arguments of `zs eval compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Directories of `zs eval`, or files of `zs score --records`; the first is the baseline.
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Seed of bootstrap and permutations.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print JSON instead of tables.
    #[arg(long)]
    pub json: bool,
}

/// Evaluation on disk.
struct Run {
    name: String,
    protocol: String,
    records: Vec<QuestionRecord>,
}

/// Prints the table.
pub(super) fn compare(args: &CompareArgs, session: &Session) -> Result<()> {
    let runs = args.runs.iter().map(|it| read(it)).collect::<Result<Vec<_>>>()?;
    let reports = runs
        .iter()
        .map(|it| EvaluationReport::new(&it.records, args.seed).map_err(Into::into))
        .collect::<Result<Vec<_>>>()?;
    let [first, others @ ..] = &runs[..] else { bail!("name at least two runs") };
    let mut tests: Vec<(&Run, [PairedTest; 2])> = Vec::new();
    for other in others {
        let test = |metric| -> Result<PairedTest> {
            let (before, after) = shared(first, other)?;
            Ok(paired_test(&before, &after, metric, args.seed)?)
        };
        tests.push((other, [test(Metric::ExactMatch)?, test(Metric::F1)?]));
    }
    if args.json {
        let run = |(run, report): (&Run, &EvaluationReport)| serde_json::json!({ "run": run.name, "protocol": run.protocol, "report": report });
        let pair = |(run, [exact_match, f1]): &(&Run, [PairedTest; 2])| {
            serde_json::json!({
                "before": first.name, "after": run.name, "exact_match": exact_match, "f1": f1,
            })
        };
        let json = serde_json::json!({
            "runs": runs.iter().zip(&reports).map(run).collect::<Vec<_>>(),
            "paired": tests.iter().map(pair).collect::<Vec<_>>(),
        });
        session.print(&format!("{json:#}\n"));
        return Ok(());
    }
    let mut means = table(["run", "protocol", "n", "exact match", "F1", "searches", "answered"]);
    for (run, EvaluationReport { overall, .. }) in runs.iter().zip(&reports) {
        means.add_row([
            run.name.clone(),
            run.protocol.clone(),
            overall.n.to_string(),
            interval(overall.exact_match),
            interval(overall.f1),
            format!("{:.2}", overall.num_searches.mean),
            format!("{:.3}", overall.answered.mean),
        ]);
    }
    let title = format!("change from {}", first.name);
    let mut differences =
        table([&title, "n", "metric", "difference", "permutation p", "McNemar p"]);
    for (run, [exact_match, f1]) in &tests {
        for (metric, test) in [("exact match", exact_match), ("F1", f1)] {
            differences.add_row([
                run.name.clone(),
                test.n.to_string(),
                metric.to_owned(),
                interval(test.difference),
                format!("{:.4}", test.permutation_p),
                test.mcnemar.map_or_else(|| "–".to_owned(), |it| format!("{:.4}", it.p)),
            ]);
        }
    }
    session.print(&format!("{means}\n{differences}\nintervals: 95 %, bootstrap over questions\n"));
    if runs.iter().any(|it| it.protocol != first.protocol) {
        session.print("note: not all runs are scored under the same protocol\n");
    }
    Ok(())
}

/// The records of the questions that both runs have, by set and id.
fn shared(before: &Run, after: &Run) -> Result<(Vec<QuestionRecord>, Vec<QuestionRecord>)> {
    let key = |it: &QuestionRecord| (it.data_source.clone(), it.id.clone());
    let keys = |run: &Run| -> BTreeSet<_> { run.records.iter().map(key).collect() };
    let both: BTreeSet<_> = keys(before).intersection(&keys(after)).cloned().collect();
    if both.is_empty() {
        bail!("{} and {} have no question in common", before.name, after.name);
    }
    let kept = |run: &Run| {
        let kept = run.records.iter().filter(|it| both.contains(&key(it)));
        // Ids may repeat from set to set.
        kept.map(|it| QuestionRecord {
            id: format!("{}/{}", it.data_source.as_deref().unwrap_or_default(), it.id),
            ..it.clone()
        })
        .collect()
    };
    Ok((kept(before), kept(after)))
}

fn read(path: &Path) -> Result<Run> {
    let is_dir = path.is_dir();
    let file = if is_dir { path.join("records.jsonl") } else { path.to_owned() };
    let reader = RowReader::new("record of an evaluation");
    let reader = if is_dir { reader.with_finished_lines() } else { reader };
    let records = reader.open(&file)?.collect_all()?;
    let protocol = match is_dir {
        true => protocol_of(&path.join(SUMMARY))?,
        false => "not recorded".to_owned(),
    };
    Ok(Run { name: path.display().to_string(), protocol, records })
}

fn protocol_of(summary: &Path) -> Result<String> {
    let text = read_regular_text(summary).with_context(|| {
        format!("{}: cannot read; is the evaluation finished?", summary.display())
    })?;
    let summary: serde_json::Value = serde_json::from_str(&text)
        .with_context(|| format!("{}: not a summary", summary.display()))?;
    // Evaluations inside other jobs are strict and do not say so.
    Ok(summary["protocol"].as_str().unwrap_or("strict").to_owned())
}
