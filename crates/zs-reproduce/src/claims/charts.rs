//! The charts of a report.

use super::arms::{ArmReport, BandPoint};
use super::report::{AFTER, ClaimsReport, REAL};
use super::result::CurvePoint;
use crate::config::ClaimMetric;
use crate::page::{moving_mean, over_training};
use zs_observe::{Chart, ChartStyle, Mark, Series};

/// All charts that show something, each with the part of the report that it belongs to; a claim has
/// one where there are several seeds.
pub(super) fn all(report: &ClaimsReport) -> Vec<(&str, Chart)> {
    use Mark::{Dashes, Dots, Line};
    let arms = |names: &'static [&str]| names.iter().filter_map(|it| report.arms.get(*it));
    let learners = || arms(&[AFTER, REAL]);
    let learning = learners().flat_map(|arm| {
        let mut reward = line(arm, "reward, ", Line, |it| it.reward);
        reward.points = moving_mean(&reward.points);
        [reward, line(arm, "validation, ", Dashes, |it| it.validation_exact_match)]
    });
    let mut learning = over_training("reward / exact match", learning);
    let alarms = learners().flat_map(|it| &it.alarms);
    learning.marks = alarms.map(|(_, it)| it.step as f64).collect();

    let noise = arms(&[AFTER, "fixed_noise", "falling_noise", "no_noise"]);
    let noise = noise.map(|it| line(it, "", Line, |it| it.noise_probability));
    let mut noise = over_training("noise probability", noise);
    let highest = noise.series.iter().flat_map(|it| &it.points).map(|it| it.1).fold(0.0, f64::max);
    noise.top = (highest * 1.1).clamp(0.1, 1.0);

    let main =
        arms(&[AFTER, "paper_form", "prompted", "mispaired", "simulator_30", "simulator_150"]);
    let dots = main.map(|arm| {
        let of = |metric| arm.values.get(&metric).into_iter().flatten().copied();
        let (simulated, real) = (of(ClaimMetric::SimulatedExactMatch), of(ClaimMetric::ExactMatch));
        Series {
            name: arm.title.clone(),
            points: simulated.zip(real).collect(),
            mark: Dots,
            ..Series::default()
        }
    });
    let scatter = Chart {
        x_label: "exact match on the simulator",
        style: ChartStyle::Square,
        ..over_training("on the real engine", dots)
    };

    let asked = arms(&[AFTER, "paper_form"])
        .filter(|arm| arm.curve.iter().any(|it| it.mean.simulated_exact_match.is_some()));
    let gap = asked.flat_map(|arm| {
        [
            line(arm, "simulator (dashed), ", Dashes, |it| it.simulated_exact_match),
            line(arm, "real engine, ", Line, |it| it.validation_exact_match),
        ]
    });
    let gap = over_training("validation exact match", gap);

    let mut charts =
        vec![("learning", learning), ("noise", noise), ("transfer", scatter), ("transfer", gap)];
    charts.extend(report.claims.iter().filter(|_| report.has_verdicts()).map(|claim| {
        let arms = claim.arms.iter().filter_map(|it| report.arms.get(it));
        let curves = arms.map(|arm| {
            let range = |it: &BandPoint| Some((it.step as f64, it.range?));
            let band = arm.curve.iter().filter_map(range);
            Series {
                band: band.map(|(step, [low, high])| (step, low, high)).collect(),
                ..line(arm, "", Line, |it| it.validation_exact_match)
            }
        });
        (claim.id.as_str(), over_training("validation exact match", curves))
    }));
    charts.retain(|it| !it.1.series.is_empty());
    charts
}

/// The points of an arm's curve that have a value.
fn line(
    arm: &ArmReport,
    prefix: &str,
    mark: Mark,
    pick: impl Fn(&CurvePoint) -> Option<f64>,
) -> Series {
    let points = arm.curve.iter().filter_map(|it| Some((it.step as f64, pick(&it.mean)?)));
    Series {
        name: format!("{prefix}{}", arm.title),
        points: points.collect(),
        mark,
        ..Series::default()
    }
}
