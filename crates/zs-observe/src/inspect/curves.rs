//! The curves of a run.

use serde::Serialize;

use crate::plot::{Chart, ChartError, ChartStyle, Mark, Series};
use zs_trainer::Metrics;
use zs_trainer::alarm::AlarmRecord;

/// A chart of the page.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    title: &'static str,
    legend: Vec<Entry>,
    svg: String,
}

/// A line of a chart as its legend names it.
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    color: String,
    dashed: bool,
}

/// Curves drawn together: a title, the unit, and the metrics with their names in the legend.
type Plan = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const PLANS: [Plan; 11] = [
    (
        "Reward and exact match",
        "mean over episodes",
        &[
            ("reward/mean", "reward"),
            ("curriculum/success_rate", "exact match, training"),
            ("validation/exact_match", "exact match, validation"),
            ("reward/format", "format"),
        ],
    ),
    (
        "Noise",
        "share of searches",
        &[("curriculum/noise_probability", "scheduled"), ("search/noisy_frac", "drawn")],
    ),
    (
        "Searches",
        "an episode",
        &[("rollout/num_searches", "training"), ("validation/num_searches", "validation")],
    ),
    ("Entropy", "nats per token", &[("actor/entropy", "entropy")]),
    (
        "Divergence",
        "nats per token",
        &[
            ("actor/kl", "from the reference"),
            ("reward/kl", "at sampling"),
            ("actor/ppo_kl", "in the batch"),
        ],
    ),
    ("Sampling against training", "nats per token", &[("rollout/log_prob_k3", "k3")]),
    (
        "Gradient norm",
        "before clipping",
        &[("actor/grad_norm", "policy"), ("critic/grad_norm", "values")],
    ),
    ("Policy loss", "loss", &[("actor/pg_loss", "policy")]),
    (
        "Groups that teach nothing",
        "share",
        &[
            ("reward/zero_variance_groups", "zero-variance groups"),
            ("rollout/document_copy_frac", "copied words"),
        ],
    ),
    (
        "Faults",
        "share",
        &[
            ("search/error_frac", "failed searches"),
            ("search/malformed_frac", "malformed replies"),
            ("rollout/invalid_frac", "invalid turns"),
            ("rollout/truncated_frac", "truncated episodes"),
        ],
    ),
    (
        "Time",
        "seconds per step",
        &[
            ("time/rollout", "rollout"),
            ("time/update", "update"),
            ("time/validation", "validation"),
            ("time/search", "of rollout: search"),
            ("time/search_hidden", "search during sampling"),
        ],
    ),
];

/// Draws what the run has logged; `rows` are metrics and times.
pub(super) fn figures(rows: &[Metrics], alarms: &[AlarmRecord]) -> Result<Vec<Figure>, ChartError> {
    let marks: Vec<f64> =
        alarms.iter().filter(|it| it.is_raised()).map(|it| it.step as f64).collect();
    let mut figures = Vec::new();
    for (title, unit, keys) in PLANS {
        let line = |(key, name): &(&str, &str)| {
            let point = |it: &Metrics| Some((it.step()? as f64, it.get(key)?));
            let points: Vec<(f64, f64)> = rows.iter().filter_map(point).collect();
            let name = (*name).to_owned();
            let mark = if key.starts_with("valid") { Mark::Dashes } else { Mark::Line };
            (!points.is_empty()).then(|| Series { name, points, mark, ..Series::default() })
        };
        let series: Vec<Series> = keys.iter().filter_map(line).collect();
        if series.is_empty() {
            continue;
        }
        let values = || series.iter().flat_map(|it| it.points.iter().map(|point| point.1));
        let (low, high) = (values().fold(0.0, f64::min), values().fold(0.0, f64::max));
        let (bottom, top) = match high > low {
            true => (low * 1.05, high * 1.05),
            false => (0.0, 1.0),
        };
        let marks = marks.clone();
        let style = ChartStyle::Narrow;
        let chart = Chart { x_label: "step", y_label: unit, bottom, top, series, marks, style };
        let entry = |((name, color), series): ((String, String), &Series)| Entry {
            name,
            color,
            dashed: matches!(series.mark, Mark::Dashes),
        };
        let legend = chart.legend().into_iter().zip(&chart.series).map(entry).collect();
        figures.push(Figure { title, legend, svg: chart.to_svg()? });
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_logged_is_drawn() {
        let row = |step: usize| {
            let mut row = Metrics::of_step(step);
            row.set("actor/pg_loss", -0.1 * step as f64);
            row.set("actor/entropy", 0.0);
            row
        };
        let rows: Vec<Metrics> = (1..4).map(row).collect();
        let figures = figures(&rows, &[]).unwrap();
        let titles: Vec<&str> = figures.iter().map(|it| it.title).collect();
        assert_eq!(titles, ["Entropy", "Policy loss"]);
        assert!(figures[1].svg.contains("-0.3"), "the axis goes below 0: {}", figures[1].svg);
    }
}
