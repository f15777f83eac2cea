//! `zs simulate audit`: the table of an audit.

use zs_core::DocumentQuality;
use zs_simulator::audit::{AuditCell, QueryForm, QuestionAudit};

/// An audit as a table, one line a quality and form, means over seeds.
pub(super) fn table(audit: &QuestionAudit) -> comfy_table::Table {
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
