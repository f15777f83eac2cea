//! Parts that pages of reports share: style, macros, forms of numbers, curves.

mod charts;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, UndefinedBehavior, Value, context};
use serde::Serialize;
use zs_observe::{Chart, ChartError, content_policy};

pub(crate) use self::charts::{moving_mean, over_training};

const STYLE: &str = include_str!("report.css");

/// Macros of both forms of a report, and the top of a page; a template comes after them.
macro_rules! template {
    ($file:literal) => {
        concat!(include_str!("../page/macros.jinja"), include_str!($file))
    };
}
pub(crate) use template;

/// A chart with its legend.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    svg: String,
    legend: Vec<(String, String)>,
}

impl Figure {
    /// Draws a chart.
    pub(crate) fn of(chart: &Chart) -> Result<Self, ChartError> {
        Ok(Self { svg: chart.to_svg()?, legend: chart.legend() })
    }
}

/// Templates with the forms of numbers.
pub(crate) fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.add_filter("fixed", |value: f64, digits: usize| format!("{value:.digits$}"));
    environment.add_filter("class", |cell: Value| class_of(&cell.to_string()));
    environment.add_filter("p_value", |p: Option<f64>| match p {
        None => String::new(),
        Some(p) if p < 0.001 => "< 0.001".to_owned(),
        Some(p) => format!("{p:.3}"),
    });
    Ok(environment)
}

/// The page and the Markdown of a template made by [`template!`].
pub(crate) fn render(
    environment: &Environment<'_>,
    template: &str,
    content: &Value,
) -> Result<(String, String), Error> {
    let text = |name: &str| {
        environment.template_from_named_str(name, template)?.render(context! {
            html => name.ends_with("html"),
            policy => content_policy(&[], &[STYLE]),
            style => STYLE,
            ..content.clone()
        })
    };
    Ok((text("report.html")?, text("report.md")?))
}

/// The style of a cell of a table.
pub(crate) fn class_of(cell: &str) -> &'static str {
    if cell.len() <= 40 { "nowrap" } else { "long" }
}
