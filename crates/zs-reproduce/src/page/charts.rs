//! Curves over training.

use zs_observe::{Chart, ChartStyle, Series};

/// Steps that a reward of the learning curve is averaged over.
const WINDOW: usize = 5;

/// A chart over the steps of training, of the lines that have points.
pub(crate) fn over_training(y_label: &'static str, series: impl Iterator<Item = Series>) -> Chart {
    Chart {
        x_label: "training step",
        y_label,
        top: 1.0,
        series: series.filter(|it| !it.points.is_empty()).collect(),
        style: ChartStyle::Narrow,
        ..Chart::default()
    }
}

/// The mean of each point and up to `WINDOW - 1` before it.
pub(crate) fn moving_mean(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mean = |end: usize| {
        let window = &points[(end + 1).saturating_sub(WINDOW)..=end];
        let mean = window.iter().map(|it| it.1).sum::<f64>() / window.len() as f64;
        (points[end].0, mean)
    };
    (0..points.len()).map(mean).collect()
}
