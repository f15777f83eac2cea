//! The report as one self-contained page: no script, no font, no picture from elsewhere.

use anyhow::Result;
use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde::Serialize;

use super::markdown::{RULES, cost_header, difference, p_value};
use super::report::{ArmReport, BandPoint, ClaimReport, ClaimsReport};
use super::verdict::Verdict;
use crate::config::{ClaimMetric, PublishedConfig};
use zs_observe::{Chart, ChartStyle, Mark, Series};

const TEMPLATE: &str = include_str!("page.html.jinja");

/// Arms whose noise is drawn.
const NOISE: [&str; 4] = ["simulated", "fixed_noise", "falling_noise", "no_noise"];

/// Draws the page.
///
/// # Errors
///
/// Fails when a chart cannot be drawn.
pub(super) fn render(report: &ClaimsReport) -> Result<String> {
    let mut environment = Environment::new();
    environment.add_filter("fixed", |value: f64, digits: usize| format!("{value:.digits$}"));
    environment.add_template("page.html", TEMPLATE)?;
    let claims: Vec<ClaimView> =
        report.claims.iter().map(|it| ClaimView::new(report, it)).collect::<Result<_>>()?;
    let count = |verdict| report.claims.iter().filter(|it| it.verdict == verdict).count();
    let page = environment.get_template("page.html")?.render(context! {
        progress => report.progress(),
        is_complete => report.is_complete(),
        rules => RULES,
        claims => Serde(&claims),
        num_supported => count(Verdict::Supported),
        num_not_supported => count(Verdict::NotSupported),
        num_inconclusive => count(Verdict::Inconclusive),
        num_described => count(Verdict::Described),
        num_not_run => count(Verdict::NotRun),
        figures => Serde(figures(report)),
        noise => Serde(Figure::new(&noise_chart(report))?),
        scatter => Serde(Figure::new(&scatter_chart(report))?),
        gap => Serde(Figure::new(&gap_chart(report))?),
        simulators => Serde(&report.simulators),
        cost_header => Serde(cost_header()),
        cost_rows => Serde(report.cost_rows()),
        examples => Serde(&report.examples),
        environment => Serde(report.environment_rows()),
    })?;
    Ok(page)
}

/// A claim as the page shows it.
#[derive(Serialize)]
struct ClaimView {
    number: u32,
    id: String,
    claim: String,
    source: String,
    note: String,
    verdict: &'static str,
    /// The class of the verdict's badge.
    class: &'static str,
    comparisons: Vec<ComparisonView>,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    published: Vec<PublishedConfig>,
    curves: Option<Figure>,
}

#[derive(Serialize)]
struct ComparisonView {
    compared: String,
    metric: &'static str,
    expected: String,
    difference: String,
    p: String,
    seeds: usize,
    verdict: &'static str,
    decides: bool,
}

/// A chart with its legend.
#[derive(Serialize)]
struct Figure {
    svg: String,
    legend: Vec<(String, String)>,
}

impl Figure {
    fn new(chart: &Chart) -> Result<Self> {
        Ok(Self { svg: chart.to_svg()?, legend: chart.legend() })
    }
}

impl ClaimView {
    fn new(report: &ClaimsReport, claim: &ClaimReport) -> Result<Self> {
        let comparison = |it: &super::report::ComparisonReport| ComparisonView {
            compared: report.compared(it),
            metric: it.comparison.metric.title(),
            expected: it.expected.clone(),
            difference: difference(it),
            p: p_value(it),
            seeds: it.seeds.len(),
            verdict: it.verdict.words(),
            decides: it.comparison.decides,
        };
        let chart = learning_chart(report, claim);
        Ok(Self {
            number: claim.number,
            id: claim.id.clone(),
            claim: claim.claim.clone(),
            source: claim.source.clone(),
            note: claim.note.clone(),
            verdict: claim.verdict.words(),
            class: match claim.verdict {
                Verdict::Supported => "yes",
                Verdict::NotSupported => "no",
                Verdict::Inconclusive | Verdict::NotRun | Verdict::Described => "open",
            },
            comparisons: claim.comparisons.iter().map(comparison).collect(),
            header: report.arm_header(claim),
            rows: report.arm_rows(claim),
            published: claim.published.clone(),
            curves: match chart.series.is_empty() {
                true => None,
                false => Some(Figure::new(&chart)?),
            },
        })
    }
}

/// The numbers at the top: exact match of the main arms.
fn figures(report: &ClaimsReport) -> Vec<(String, String)> {
    let shown = ["base", "simulated", "paper_form", "real"];
    let figure = |name: &str| {
        let arm = report.arms.get(name)?;
        let mean = arm.means.get(&ClaimMetric::ExactMatch)?;
        Some((format!("{:.3}", mean.mean), format!("exact match: {}", arm.title)))
    };
    shown.into_iter().filter_map(figure).collect()
}

/// The points of a curve where `pick` has a value.
fn points(curve: &[BandPoint], pick: impl Fn(&BandPoint) -> Option<f64>) -> Vec<(f64, f64)> {
    curve.iter().filter_map(|it| Some((it.step as f64, pick(it)?))).collect()
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
    Chart {
        x_label: "training step",
        y_label: "noise probability",
        top: 0.5,
        series: arms.map(series).collect(),
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
    let main =
        ["simulated", "paper_form", "prompted", "mispaired", "simulator_30", "simulator_150"];
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
        series: ["simulated", "paper_form"].into_iter().flat_map(lines).collect(),
        style: ChartStyle::Narrow,
        ..Chart::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::sample;
    use super::*;

    #[test]
    fn the_page_is_self_contained_and_escapes_model_output() {
        let report = sample(&[1, 2, 3]);
        let page = render(&report).unwrap();
        assert!(page.matches("<svg").count() >= 4);
        assert!(page.contains("&lt;answer&gt;A") && page.contains("who &lt;i&gt;?"));
        for external in ["http:", "https:", "<script", "@import", "url("] {
            let found = page.replace("http://www.w3.org/2000/svg", "").contains(external);
            assert!(!found, "{external}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
        assert!(page.contains("The paper's own numbers") || page.contains("the paper's own"));
        assert!(page.contains("18 of 100 pieces of work are done"));
        assert!(report.claims.iter().all(|it| page.contains(&format!("id=\"{}\"", it.id))));
    }

    #[test]
    fn a_report_of_nothing_is_drawn() {
        let page = render(&sample(&[])).unwrap();
        assert!(page.contains("not run"));
    }
}
