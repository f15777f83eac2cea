//! `zs simulate audit`: the table and the JSON of an audit.

use std::path::Path;

use anyhow::{Context, Result};
use zs_core::DocumentQuality;
use zs_simulator::audit::{AuditCell, QueryForm, QuestionAudit};

use zs_trainer::files::write_atomic;

/// An audit as a table, one line a quality and form, means over seeds.
#[must_use]
pub fn table(audit: &QuestionAudit) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
    let has_real = !audit.real.is_empty();
    let mut header = vec![
        "asked for",
        "query",
        "answer",
        "± seeds",
        "malformed",
        "failed",
        "docs",
        "words",
        "repeated",
        "self overlap",
        "copied",
    ];
    if has_real {
        header.extend(["like real", "real answer"]);
    }
    table.set_header(header);
    for quality in [DocumentQuality::Useful, DocumentQuality::Noisy] {
        for form in QueryForm::ALL {
            let over = |number: fn(&AuditCell) -> f64| audit.over_seeds(quality, form, number);
            let show = |number: fn(&AuditCell) -> f64, digits: usize| {
                over(number).map_or_else(String::new, |it| format!("{:.digits$}", it.0))
            };
            let deviation = over(|it| it.contains_answer).map_or(0.0, |it| it.1);
            let mut row = vec![
                quality.word().to_owned(),
                form.word().to_owned(),
                show(|it| it.contains_answer, 3),
                format!("{deviation:.3}"),
                show(|it| it.malformed, 3),
                show(|it| it.failed, 3),
                show(|it| it.replies.documents, 1),
                show(|it| it.replies.words, 1),
                show(|it| it.replies.repeated, 3),
                show(|it| it.replies.self_overlap, 3),
                show(|it| it.replies.copied, 3),
            ];
            if has_real {
                row.push(show(|it| it.real_overlap.unwrap_or_default(), 3));
                let found = audit.real.iter().filter(|it| it.form == form);
                let shares: Vec<f64> = found.map(|it| it.contains_answer).collect();
                let mean = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
                row.push(format!("{mean:.3}"));
            }
            table.add_row(row);
        }
    }
    table
}

/// What an audit comes to, in sentences.
#[must_use]
pub fn findings(audit: &QuestionAudit) -> Vec<String> {
    let share = |quality, form| {
        audit.over_seeds(quality, form, |it| it.contains_answer).map_or(0.0, |it| it.0)
    };
    let (useful, noisy) = (DocumentQuality::Useful, DocumentQuality::Noisy);
    let mut findings = vec![format!(
        "the answer stands in {:.3} of useful and {:.3} of noisy replies to the question itself",
        share(useful, QueryForm::Oracle),
        share(noisy, QueryForm::Oracle),
    )];
    if let Some(faithfulness) = audit.faithfulness() {
        findings.push(format!(
            "faithfulness {faithfulness:.3}: a wrong query finds the answer in {:.3} of useful \
             replies",
            share(useful, QueryForm::Wrong)
        ));
    }
    findings
}

/// Writes an audit as JSON.
///
/// # Errors
///
/// Fails when the file cannot be written.
pub fn write(audit: &QuestionAudit, path: &Path) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(audit)?;
    bytes.push(b'\n');
    write_atomic(path, &bytes).with_context(|| path.display().to_string())
}
