//! The charts of a report.

use super::report::{AFTER, ArmReport, BandPoint, ClaimReport, ClaimsReport, REAL};
use crate::config::ClaimMetric;
use zs_observe::{Chart, ChartStyle, Mark, Series};

/// Arms whose noise is drawn.
const NOISE: [&str; 4] = [AFTER, "fixed_noise", "falling_noise", "no_noise"];

/// Steps that a reward of the learning curve is averaged over.
const WINDOW: usize = 5;

/// All charts, each with the part of the report that it belongs to; a claim has one where there are
/// several seeds.
pub(super) fn all(report: &ClaimsReport) -> Vec<(&str, Chart)> {
    let mut charts = vec![
        ("learning", reward_chart(report)),
        ("noise", noise_chart(report)),
        ("transfer", scatter_chart(report)),
        ("transfer", gap_chart(report)),
    ];
    let claims = report.claims.iter().filter(|_| report.has_verdicts());
    charts.extend(claims.map(|it| (it.id.as_str(), learning_chart(report, it))));
    charts
}

/// The points of a curve where `pick` has a value.
fn points(curve: &[BandPoint], pick: impl Fn(&BandPoint) -> Option<f64>) -> Vec<(f64, f64)> {
    curve.iter().filter_map(|it| Some((it.step as f64, pick(it)?))).collect()
}

/// Reward and validation exact match of the policies that learned on either engine.
fn reward_chart(report: &ClaimsReport) -> Chart {
    let arms = || [AFTER, REAL].into_iter().filter_map(|it| report.arms.get(it));
    let lines = |arm: &ArmReport| {
        let line = |name, points, mark| Series {
            name: format!("{name}, {}", arm.title),
            points,
            mark,
            band: Vec::new(),
        };
        let rewards = points(&arm.curve, |it| it.mean.reward);
        let validation = points(&arm.curve, |it| it.mean.validation_exact_match);
        [
            line("reward", moving_mean(&rewards), Mark::Line),
            line("validation", validation, Mark::Dashes),
        ]
    };
    Chart {
        x_label: "training step",
        y_label: "reward / exact match",
        top: 1.0,
        marks: arms().flat_map(|it| &it.alarms).map(|(_, it)| it.step as f64).collect(),
        series: arms().filter(|it| !it.curve.is_empty()).flat_map(lines).collect(),
        style: ChartStyle::Narrow,
        ..Chart::default()
    }
}

/// The mean of each point and up to `WINDOW - 1` before it.
fn moving_mean(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mean = |end: usize| {
        let window = &points[(end + 1).saturating_sub(WINDOW)..=end];
        let mean = window.iter().map(|it| it.1).sum::<f64>() / window.len() as f64;
        (points[end].0, mean)
    };
    (0..points.len()).map(mean).collect()
}

/// Validation exact match of the claim's arms, with the range over seeds.
fn learning_chart(report: &ClaimsReport, claim: &ClaimReport) -> Chart {
    let series = |arm: &ArmReport| Series {
        name: arm.title.clone(),
        points: points(&arm.curve, |it| it.mean.validation_exact_match),
        band: arm
            .curve
            .iter()
            .filter_map(|it| it.range.map(|[low, high]| (it.step as f64, low, high)))
            .collect(),
        mark: Mark::Line,
    };
    let arms = claim.arms.iter().filter_map(|it| report.arms.get(it));
    Chart {
        x_label: "training step",
        y_label: "validation exact match",
        top: 1.0,
        series: arms.filter(|it| !it.curve.is_empty()).map(series).collect(),
        style: ChartStyle::Narrow,
        ..Chart::default()
    }
}

fn noise_chart(report: &ClaimsReport) -> Chart {
    let arms = NOISE.iter().filter_map(|it| report.arms.get(*it));
    let series = |arm: &ArmReport| Series {
        name: arm.title.clone(),
        points: points(&arm.curve, |it| it.mean.noise_probability),
        ..Series::default()
    };
    let series: Vec<Series> = arms.map(series).collect();
    let highest = series.iter().flat_map(|it| &it.points).map(|it| it.1).fold(0.0, f64::max);
    Chart {
        x_label: "training step",
        y_label: "noise probability",
        top: (highest * 1.1).clamp(0.1, 1.0),
        series,
        style: ChartStyle::Narrow,
        ..Chart::default()
    }
}

/// Exact match on the simulator and on the real engine of every policy that was trained on one.
fn scatter_chart(report: &ClaimsReport) -> Chart {
    let series = |arm: &ArmReport| {
        let of = |metric| arm.values.get(&metric).map_or(&[][..], Vec::as_slice);
        let (simulated, real) = (of(ClaimMetric::SimulatedExactMatch), of(ClaimMetric::ExactMatch));
        let points: Vec<(f64, f64)> = simulated.iter().copied().zip(real.iter().copied()).collect();
        let (name, mark) = (arm.title.clone(), Mark::Dots);
        (!points.is_empty()).then_some(Series { name, points, mark, band: Vec::new() })
    };
    let main = [AFTER, "paper_form", "prompted", "mispaired", "simulator_30", "simulator_150"];
    let arms = main.iter().filter_map(|it| report.arms.get(*it));
    Chart {
        x_label: "exact match on the simulator",
        y_label: "on the real engine",
        top: 1.0,
        series: arms.filter_map(series).collect(),
        style: ChartStyle::Square,
        ..Chart::default()
    }
}

/// How far the simulator is ahead of the real engine, over training.
fn gap_chart(report: &ClaimsReport) -> Chart {
    let lines = |name: &str| {
        let Some(arm) = report.arms.get(name) else { return Vec::new() };
        let line = |suffix: &str, mark, points| Series {
            name: format!("{}, {suffix}", arm.title),
            points,
            mark,
            band: Vec::new(),
        };
        let simulated = points(&arm.curve, |it| it.mean.simulated_exact_match);
        if simulated.is_empty() {
            return Vec::new();
        }
        let real = points(&arm.curve, |it| it.mean.validation_exact_match);
        vec![
            line("asking the simulator (dashed)", Mark::Dashes, simulated),
            line("asking the real engine", Mark::Line, real),
        ]
    };
    Chart {
        x_label: "training step",
        y_label: "validation exact match",
        top: 1.0,
        series: [AFTER, "paper_form"].into_iter().flat_map(lines).collect(),
        style: ChartStyle::Narrow,
        ..Chart::default()
    }
}
