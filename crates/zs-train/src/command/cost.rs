//! `zs cost`: what the searches of a run cost, and what as many would cost at a provider.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use comfy_table::Table;
use serde_json::{Value, json};
use zs_search::{EngineCost, WebProvider};

use zs_trainer::engines;
use zs_trainer::files::SUMMARY;

use crate::session::Session;

/// Arguments of `zs cost`.
#[derive(Debug, Args)]
pub struct CostArgs {
    /// The run directory of `zs train`.
    pub run: PathBuf,
    /// Price of another provider to compare with, in dollars per 1,000 searches.
    #[arg(long, value_name = "DOLLARS")]
    pub dollars_per_1000: Option<f64>,
    /// Print JSON instead of tables.
    #[arg(long)]
    pub json: bool,
}

/// The providers that bill.
const PAID: [WebProvider; 4] =
    [WebProvider::Serpapi, WebProvider::Serper, WebProvider::Brave, WebProvider::GoogleCse];

/// Cost of as many searches at a provider.
#[derive(Debug, PartialEq, serde::Serialize)]
struct Elsewhere {
    provider: String,
    dollars_per_1000: f64,
    dollars: f64,
}

/// Prints the cost of a run, and its cost at other providers.
pub(crate) fn cost(args: &CostArgs, session: &Session) -> Result<()> {
    let costs = match args.run.join(engines::COSTS).exists() {
        true => engines::read_costs(&args.run)?,
        false => Vec::new(),
    };
    let searches = match costs.is_empty() {
        true => searches_of_summary(args)?,
        false => costs.iter().map(|it| it.usage.searches).sum(),
    };
    let spent = costs.iter().map(|it| it.dollars + it.repeated_dollars).sum::<f64>() + 0.0; // not -0
    let elsewhere = elsewhere(searches, args.dollars_per_1000);
    if args.json {
        let all = json!({
            "searches": searches, "dollars": spent, "engines": costs, "elsewhere": elsewhere,
        });
        session.print(&format!("{}\n", serde_json::to_string(&all)?));
        return Ok(());
    }
    if !costs.is_empty() {
        session.print(&format!("{}\n", engine_table(&costs)));
    }
    let repeated: u64 = costs.iter().map(|it| it.repeated.calls).sum();
    if repeated > 0 {
        let dollars: f64 = costs.iter().map(|it| it.repeated_dollars).sum();
        session.print(&format!(
            "{repeated} more calls (${dollars:.2}) were for steps repeated after interruptions.\n"
        ));
    }
    session.print(&format!(
        "{searches} searches, ${spent:.2} spent. As many at a provider, at its published price:\n{}\n",
        provider_table(&elsewhere)
    ));
    Ok(())
}

/// Runs whose engines kept no ledger still have their number of searches.
fn searches_of_summary(args: &CostArgs) -> Result<u64> {
    let path = args.run.join(SUMMARY);
    let text = zs_data::read_regular(&path)
        .with_context(|| format!("{}: not the directory of a finished run", path.display()))?;
    let summary: Value = serde_json::from_slice(&text)
        .with_context(|| format!("{}: not a summary", path.display()))?;
    summary["searches"]
        .as_u64()
        .ok_or_else(|| anyhow!("{}: has no `searches`; is it a run of `zs train`?", path.display()))
}

fn elsewhere(searches: u64, own: Option<f64>) -> Vec<Elsewhere> {
    let published = PAID.iter().map(|it| (it.name(), it.dollars_per_1000()));
    let own = own.map(|price| ("yours", price));
    let row = |(provider, dollars_per_1000): (&str, f64)| Elsewhere {
        provider: provider.to_owned(),
        dollars_per_1000,
        dollars: searches as f64 * dollars_per_1000 / 1000.0,
    };
    published.chain(own).map(row).collect()
}

fn engine_table(costs: &[EngineCost]) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header([
        "engine", "searches", "failed", "cached", "calls", "retries", "tokens", "MB", "p50 ms",
        "p99 ms", "dollars",
    ]);
    for it in costs {
        let usage = it.usage;
        // What an engine sends over the wire is timed call by call, what it does here by search.
        let latency = if usage.calls > 0 { it.call_latency } else { it.search_latency };
        let bytes = usage.bytes_sent + usage.bytes_received;
        table.add_row([
            it.engine.clone(),
            usage.searches.to_string(),
            usage.failed_searches.to_string(),
            usage.cache_hits.to_string(),
            usage.calls.to_string(),
            usage.retries.to_string(),
            usage.prompt_tokens.saturating_add(usage.completion_tokens).to_string(),
            format!("{:.2}", bytes as f64 / 1e6),
            format!("{:.1}", latency.p50_ms),
            format!("{:.1}", latency.p99_ms),
            format!("{:.2}", it.dollars),
        ]);
    }
    table
}

fn provider_table(rows: &[Elsewhere]) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(["provider", "$ / 1000", "$"]);
    for row in rows {
        let price = |it: f64| format!("{it:.2}");
        table.add_row([row.provider.clone(), price(row.dollars_per_1000), price(row.dollars)]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_searches_elsewhere() {
        let rows = elsewhere(2500, Some(2.0));
        let dollars: Vec<(&str, f64)> =
            rows.iter().map(|it| (it.provider.as_str(), it.dollars)).collect();
        let expected = [
            ("serpapi", 37.5),
            ("serper", 2.5),
            ("brave", 12.5),
            ("google_cse", 12.5),
            ("yours", 5.0),
        ];
        assert_eq!(dollars, expected);
    }
}
