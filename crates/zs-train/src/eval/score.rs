//! `zs score`: numbers for answers that are already written down.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use zs_eval::{
    EvaluationReport, Metric, Protocol, QuestionRecord, Quirk, QuirkStage, paired_test,
    read_predictions,
};

use crate::report_table::{self, Kind, interval};
use crate::session::Session;
use zs_data::JsonLinesWriter;

/// Protocol of scoring, with its switches.
#[derive(Clone, Debug, Args)]
pub struct ProtocolArgs {
    /// Protocol of scoring: `strict`, or `zs-compat` (the reference evaluation).
    #[arg(long, default_value = "strict")]
    pub protocol: Protocol,
    /// Switch on a quirk of the reference evaluation; may be repeated.
    #[arg(long, value_name = "QUIRK")]
    pub with: Vec<Quirk>,
    /// Switch off a quirk; may be repeated.
    #[arg(long, value_name = "QUIRK")]
    pub without: Vec<Quirk>,
}

impl ProtocolArgs {
    /// Protocol with its switches applied.
    pub(super) fn protocol(&self) -> Protocol {
        let with = self.with.iter().fold(self.protocol.clone(), |it, quirk| it.with(*quirk));
        self.without.iter().fold(with, |it, quirk| it.without(*quirk))
    }
}

/// Arguments of `zs score`.
#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// Protocol of scoring.
    #[command(flatten)]
    pub protocol: ProtocolArgs,
    /// Rows with `golden_answers` and `prediction` or `transcript` (JSON Lines, JSON, CSV, TSV, Parquet).
    #[arg(long, value_name = "FILE")]
    pub predictions: PathBuf,
    /// Seed of the bootstrap.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Also show the effect of each quirk on its own, against `strict`.
    #[arg(long)]
    pub quirks: bool,
    /// Write the score of every row to this file (JSON Lines), e.g. for `zs eval compare`.
    #[arg(long, value_name = "FILE")]
    pub records: Option<PathBuf>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Scores a file and prints a table.
pub(crate) fn score(args: &ScoreArgs, session: &Session) -> Result<()> {
    let protocol = args.protocol.protocol();
    let quirks = scoring_quirks(args);
    let mut protocols = vec![protocol.clone()];
    if args.quirks {
        protocols.push(Protocol::strict());
        protocols.extend(quirks.iter().map(|it| Protocol::strict().with(*it)));
    }
    let (mut scored, notes) = read_predictions(&args.predictions, &protocols)?;
    let effects = scored.split_off(1);
    let mut records = scored.remove(0);
    session.note_reading(&args.predictions, &notes);
    if protocol.has(Quirk::DropLast) {
        drop_last(&mut records);
    }
    let report = EvaluationReport::new(&records, args.seed)?;
    if let Some(path) = &args.records {
        let mut lines = JsonLinesWriter::create(path)?;
        records.iter().try_for_each(|it| lines.push(it))?;
    }
    let quirks = quirk_effects(&quirks, effects, args.seed)?;
    if args.json {
        let mut json = serde_json::to_value(&report)?;
        // The numbers over all rows come first, under their own names.
        let mut object = serde_json::to_value(&report.overall)?;
        object["protocol"] = protocol.to_string().into();
        object["quirks"] = serde_json::to_value(protocol.quirks().collect::<Vec<_>>())?;
        object["predictions"] = args.predictions.display().to_string().into();
        for key in ["by_set", "by_hops", "by_type", "average"] {
            object[key] = json[key].take();
        }
        if args.quirks {
            object["effects"] = quirks.iter().map(QuirkEffect::to_json).collect();
        }
        session.print(&format!("{object:#}\n"));
        return Ok(());
    }
    let kind = match records.iter().any(|it| it.num_turns > 0) {
        true => Kind::Episodes,
        false => Kind::Answers,
    };
    let title = format!("protocol {protocol}, {}", args.predictions.display());
    let mut text = report_table::render(&title, &report, kind);
    if args.quirks {
        let mut table =
            report_table::table(["quirk", "exact match", "change from strict", "permutation p"]);
        for it in &quirks {
            table.add_row([
                it.quirk.to_string(),
                format!("{:.3}", it.exact_match),
                interval(it.test.difference),
                format!("{:.4}", it.test.permutation_p),
            ]);
        }
        text.push_str(&format!("{table}\n"));
    }
    session.print(&text);
    Ok(())
}

/// Effect of one quirk on exact match.
struct QuirkEffect {
    quirk: Quirk,
    exact_match: f64,
    test: zs_eval::PairedTest,
}

impl QuirkEffect {
    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "quirk": self.quirk,
            "exact_match": self.exact_match,
            "paired": self.test,
        })
    }
}

/// Quirks whose effects are shown.
fn scoring_quirks(args: &ScoreArgs) -> Vec<Quirk> {
    let is_shown = |it: &Quirk| args.quirks && it.stage() == QuirkStage::Scoring;
    Quirk::ALL.into_iter().filter(is_shown).collect()
}

/// Each quirk alone, on the same rows: `scored` holds the records without quirks, and then those with
/// each quirk.
fn quirk_effects(
    quirks: &[Quirk],
    mut scored: Vec<Vec<QuestionRecord>>,
    seed: u64,
) -> Result<Vec<QuirkEffect>> {
    // Rows are compared by their place: ids of dumps need not be unique.
    for records in &mut scored {
        for (place, record) in records.iter_mut().enumerate() {
            record.id = place.to_string();
        }
    }
    let Some((strict, scored)) = scored.split_first() else { return Ok(Vec::new()) };
    let effect = |(quirk, records): (&Quirk, &Vec<QuestionRecord>)| {
        let exact = records.iter().filter(|it| it.exact_match).count();
        Ok(QuirkEffect {
            quirk: *quirk,
            exact_match: exact as f64 / records.len() as f64,
            test: paired_test(strict, records, Metric::ExactMatch, seed)?,
        })
    };
    quirks.iter().zip(scored).map(effect).collect()
}

/// Drops the rows of a last, short batch of 64, as the reference evaluation does.
fn drop_last(records: &mut Vec<QuestionRecord>) {
    records.truncate(records.len() / 64 * 64);
}
