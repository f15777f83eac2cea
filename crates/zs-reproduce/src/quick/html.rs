//! The report as one self-contained page: no script, no font, no picture from elsewhere.

use anyhow::Result;
use minijinja::{Environment, context};

use super::report::{CurvePoint, Report};
use zs_observe::{Chart, ChartStyle, Mark, Series};

const TEMPLATE: &str = include_str!("report.html.jinja");

/// Steps that a reward of the learning curve is averaged over.
const WINDOW: usize = 5;

/// Draws the page.
///
/// # Errors
///
/// Fails when a chart cannot be drawn.
pub(crate) fn render(report: &Report) -> Result<String> {
    let mut environment = Environment::new();
    environment.add_filter("fixed", |value: f64, digits: usize| format!("{value:.digits$}"));
    environment.add_template("report.html", TEMPLATE)?;
    let page = environment.get_template("report.html")?.render(context! {
        report => minijinja::value::Serde(report),
        rows => report.rows(),
        findings => report.findings(),
        learning => learning_chart(report).to_svg()?,
        noise => noise_chart(report).to_svg()?,
        window => WINDOW,
        marked => report.alarms.values().any(|it| !it.is_empty()),
    })?;
    Ok(page)
}

fn learning_chart(report: &Report) -> Chart {
    let line = |name: &str, points: Vec<(f64, f64)>, mark: Mark| Series {
        name: name.to_owned(),
        points,
        mark,
        ..Series::default()
    };
    let validation = |curve: &[CurvePoint]| -> Vec<(f64, f64)> {
        let measured = curve.iter().filter_map(|it| it.validation_exact_match.map(|em| (it, em)));
        measured.map(|(it, em)| (it.step as f64, em)).collect()
    };
    let (simulated, real) = (&report.curve_simulated, &report.curve_real);
    Chart {
        x_label: "training step",
        y_label: "reward / exact match",
        top: 1.0,
        marks: report.alarms.values().flatten().map(|it| it.step as f64).collect(),
        bottom: 0.0,
        series: vec![
            line("reward, simulated", moving_mean(simulated), Mark::Line),
            line("reward, real", moving_mean(real), Mark::Line),
            line("validation, simulated", validation(simulated), Mark::Dashes),
            line("validation, real", validation(real), Mark::Dashes),
        ],
        style: ChartStyle::Wide,
    }
}

fn noise_chart(report: &Report) -> Chart {
    let points: Vec<(f64, f64)> = report
        .curve_simulated
        .iter()
        .filter_map(|it| Some((it.step as f64, it.noise_probability?)))
        .collect();
    let highest = points.iter().map(|it| it.1).fold(0.0, f64::max);
    Chart {
        x_label: "training step",
        y_label: "noise probability",
        top: (highest * 1.1).clamp(0.1, 1.0),
        series: vec![Series { name: "noise".to_owned(), points, ..Series::default() }],
        ..Chart::default()
    }
}

/// The mean reward of each step and up to `WINDOW - 1` before it.
fn moving_mean(curve: &[CurvePoint]) -> Vec<(f64, f64)> {
    let rewards: Vec<(f64, f64)> =
        curve.iter().filter_map(|it| Some((it.step as f64, it.reward?))).collect();
    (0..rewards.len())
        .map(|end| {
            let window = &rewards[(end + 1).saturating_sub(WINDOW)..=end];
            let mean = window.iter().map(|it| it.1).sum::<f64>() / window.len() as f64;
            (rewards[end].0, mean)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::sample;
    use super::*;

    #[test]
    fn the_page_is_self_contained_and_escapes_model_output() {
        let page = render(&sample()).unwrap();
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(page.contains("&lt;answer&gt;A"), "model output must be escaped");
        assert!(page.contains("&lt;b&gt; &amp; "));
        for external in ["http:", "https:", "<script", "@import", "url("] {
            let found = page.replace("http://www.w3.org/2000/svg", "").contains(external);
            assert!(!found, "{external}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
        assert!(page.contains("0.500 [0.450, 0.550]"));
        assert!(page.contains("constant_groups: too even") && page.contains("#DC2626"));
    }
}
