//! A report as the table that every evaluation ends with, protocol and number of questions included.

use std::fmt::Write;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use zs_eval::{Estimate, EvaluationReport, Summary};

/// A mean and its interval.
pub(super) fn interval(it: Estimate) -> String {
    format!("{:.3} [{:.3}, {:.3}]", it.mean, it.ci_low, it.ci_high)
}

/// An empty table with a header.
pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY);
    table.set_header(header);
    table
}

/// Records behind a report: episodes, or answers alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Answers,
    Episodes,
}

/// The report as text, with a title that says what the numbers mean.
pub(super) fn render(title: &str, report: &EvaluationReport, kind: Kind) -> String {
    let mut table = table(["questions", "n", "exact match", "F1", "cover", "searches", "answered"]);
    let mut add = |name: String, it: &Summary| {
        let searches = match kind {
            Kind::Episodes => format!("{:.2}", it.num_searches.mean),
            Kind::Answers => "–".to_owned(),
        };
        table.add_row([
            name,
            it.n.to_string(),
            interval(it.exact_match),
            interval(it.f1),
            format!("{:.3}", it.cover_exact_match.mean),
            searches,
            format!("{:.3}", it.answered.mean),
        ]);
    };
    add("all".to_owned(), &report.overall);
    for (set, summary) in &report.by_set {
        add(set.clone(), summary);
    }
    for (hops, summary) in &report.by_hops {
        add(format!("{hops}-hop"), summary);
    }
    for (kind, summary) in &report.by_type {
        add(format!("type {kind}"), summary);
    }
    if let Some(average) = &report.average {
        let n: usize = average.sets.values().sum();
        table.add_row([
            format!("mean of {} sets", average.sets.len()),
            n.to_string(),
            interval(average.exact_match),
            interval(average.f1),
        ]);
    }
    let mut text = format!("{title}\n{table}\n");
    for (k, estimate) in &report.pass_at {
        let _ = writeln!(text, "pass@{k}: {}", interval(*estimate));
    }
    let all = &report.overall;
    let _ = writeln!(
        text,
        "precision {:.3}, recall {:.3}; with the yes/no rule: F1 {:.3}, precision {:.3}, recall {:.3}",
        all.precision.mean,
        all.recall.mean,
        all.f1_yes_no.mean,
        all.precision_yes_no.mean,
        all.recall_yes_no.mean,
    );
    if kind == Kind::Episodes {
        let _ = write!(text, "answer format {:.3}", all.answer_format.mean);
        // Text alone does not tell its tokens.
        if all.num_tokens.mean > 0.0 {
            let _ = write!(text, ", {:.0} tokens a question", all.num_tokens.mean);
        }
        let shares = [
            ("valid searches", all.valid_search),
            ("invalid actions", all.invalid_action),
            ("recall of golden titles", all.retrieval_recall),
            ("searches that mattered", all.searches_mattered),
        ];
        for (name, share) in shares {
            if let Some(share) = share {
                let _ = write!(text, ", {name} {:.3}", share.mean);
            }
        }
        text.push('\n');
    }
    text.push_str("intervals: 95 %, bootstrap over questions\n");
    text
}
