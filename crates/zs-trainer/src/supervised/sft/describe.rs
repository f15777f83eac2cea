//! Description of a run before it begins.

use std::fmt::Write;

use zs_model::{Generator, LanguageModel, TokenRow};

use super::TuningRows;
use crate::config::SftConfig;

/// Characters of a part of the first row that are shown.
const MAX_CHARS: usize = 400;

/// Rows and steps of a run, and its first row.
pub(super) fn text(config: &SftConfig, base: &LanguageModel, rows: &TuningRows) -> String {
    let context = base.config().max_position_embeddings;
    let mut text = format!("base: {}, context of {context} tokens\n", config.base.display());
    for (name, rows) in [("train", &rows.train), ("validation", &rows.validation)] {
        text.push_str(&format!("{name}: {}\n", Counts::of(rows)));
    }
    let tuning = &config.tuning;
    let tokens = Counts::of(&rows.train).tokens;
    let passes = (tuning.steps * tuning.tokens_per_step) as f64 / tokens.max(1) as f64;
    let (steps, per_step) = (tuning.steps, tuning.tokens_per_step);
    let _ = writeln!(text, "steps: {steps} of {per_step} tokens, {passes:.2} passes over the rows");
    if rows.num_cut_results > 0 {
        let _ = writeln!(text, "search results not shown in full: {}", rows.num_cut_results);
    }
    if let Some(row) = rows.train.first() {
        text.push_str("first row:\n");
        for (is_learned, part) in parts(row) {
            let name = if is_learned { "learned" } else { "shown" };
            let _ = writeln!(
                text,
                "  {name}: {:?}",
                shortened(&base.tokenizer().decode_with_special(part))
            );
        }
    }
    let _ = writeln!(text, "left out: {}", rows.left_out.len());
    rows.left_out.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    text
}

struct Counts {
    rows: usize,
    tokens: usize,
    learned: usize,
    longest: usize,
}

impl Counts {
    fn of(rows: &[TokenRow]) -> Self {
        Self {
            rows: rows.len(),
            tokens: rows.iter().map(|it| it.tokens.len()).sum(),
            learned: rows.iter().flat_map(|it| &it.loss_mask).filter(|it| **it).count(),
            longest: rows.iter().map(|it| it.tokens.len()).max().unwrap_or(0),
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rows, tokens, learned, longest } = self;
        write!(
            f,
            "{rows} rows, {tokens} tokens, {learned} of them with loss, longest row {longest}"
        )
    }
}

/// Runs of tokens with and without loss.
fn parts(row: &TokenRow) -> Vec<(bool, &[u32])> {
    let mut parts = Vec::new();
    let mut start = 0;
    for chunk in row.loss_mask.chunk_by(|a, b| a == b) {
        parts.push((chunk[0], &row.tokens[start..start + chunk.len()]));
        start += chunk.len();
    }
    parts
}

/// The beginning and the end of a long text.
fn shortened(text: &str) -> String {
    let count = text.chars().count();
    if count <= MAX_CHARS {
        return text.to_owned();
    }
    let beginning: String = text.chars().take(MAX_CHARS / 2).collect();
    let end: String = text.chars().skip(count - MAX_CHARS / 2).collect();
    format!("{beginning} … {end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_the_mask() {
        let (t, f) = (true, false);
        let row = TokenRow { tokens: vec![1, 2, 3, 4, 5], loss_mask: vec![f, f, t, t, f] };
        assert_eq!(parts(&row), [(f, &[1, 2][..]), (t, &[3, 4]), (f, &[5])]);
        assert_eq!(shortened("ab"), "ab");
        let long = shortened(&"x".repeat(MAX_CHARS + 1));
        assert_eq!(long.chars().count(), MAX_CHARS + 3);
    }
}
