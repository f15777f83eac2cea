//! The report as a self-contained page (no script, no font, no picture from elsewhere) and as
//! Markdown, both from the same sections.

use anyhow::Result;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde::Serialize;

use super::charts;
use super::report::{AFTER, BEFORE, ClaimsReport, REAL};
use super::verdict::Verdict;
use crate::config::ClaimMetric;
use zs_observe::Chart;

const TEMPLATES: [(&str, &str); 2] = [
    ("report.html", include_str!("report.html.jinja")),
    ("report.md", include_str!("report.md.jinja")),
];

/// One part of the report. Fields that are empty are left out.
#[derive(Debug, Default, Serialize)]
pub(super) struct Section {
    /// The anchor on the page.
    pub(super) id: String,
    pub(super) title: String,
    pub(super) texts: Vec<String>,
    pub(super) tables: Vec<Table>,
    pub(super) list: Vec<String>,
    /// Charts, which only the page has.
    pub(super) figures: Vec<Figure>,
}

/// A table of text.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(header: &[&str], rows: Vec<Vec<String>>) -> Self {
        Self { header: header.iter().map(|it| (*it).to_owned()).collect(), rows }
    }

    /// The table for the console.
    pub(super) fn to_console(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
        table.set_header(&self.header).add_rows(&self.rows);
        table.to_string()
    }
}

/// A chart with its legend.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    svg: String,
    legend: Vec<(String, String)>,
    caption: &'static str,
}

/// Draws the page and writes the Markdown.
///
/// # Errors
///
/// Fails when a chart cannot be drawn.
pub(super) fn render(report: &ClaimsReport) -> Result<(String, String)> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_filter("class", class);
    let mut sections = report.sections();
    for section in &mut sections {
        for (chart, caption) in charts::of_section(report, &section.id) {
            if !chart.series.is_empty() {
                section.figures.push(Figure::new(&chart, caption)?);
            }
        }
    }
    // A section whose arms were not run has nothing to show.
    sections.retain(|it| {
        let has_words = !it.texts.is_empty() || !it.tables.is_empty() || !it.list.is_empty();
        has_words || !it.figures.is_empty()
    });
    let context = context! {
        title => report.title(),
        progress => report.progress(),
        is_complete => report.is_complete(),
        figures => Serde(headline(report)),
        sections => Serde(&sections),
        examples => Serde(&report.examples),
    };
    for (name, template) in TEMPLATES {
        environment.add_template(name, template)?;
    }
    let [page, markdown] = TEMPLATES
        .map(|(name, _)| environment.get_template(name).and_then(|it| it.render(&context)));
    Ok((page?, markdown?))
}

impl Figure {
    fn new(chart: &Chart, caption: &'static str) -> Result<Self> {
        Ok(Self { svg: chart.to_svg()?, legend: chart.legend(), caption })
    }
}

/// The style of a cell of a table.
fn class(cell: &str) -> &'static str {
    let is = |verdict: Verdict| cell.trim_matches(['(', ')']) == verdict.words();
    if is(Verdict::Supported) {
        "badge yes"
    } else if is(Verdict::NotSupported) {
        "badge no"
    } else if [Verdict::Inconclusive, Verdict::NotRun, Verdict::Described].into_iter().any(is) {
        "badge open"
    } else if cell.len() > 40 {
        "long"
    } else {
        "nowrap"
    }
}

/// The numbers at the top: exact match of the main arms, and the verdicts or the searches.
fn headline(report: &ClaimsReport) -> Vec<(String, String)> {
    let figure = |name: &str| {
        let arm = report.arms.get(name)?;
        Some((
            format!("{:.3}", arm.overall.exact_match.mean),
            format!("exact match: {}", arm.title),
        ))
    };
    let mut figures: Vec<(String, String)> =
        [BEFORE, AFTER, "paper_form", REAL].into_iter().filter_map(figure).collect();
    if report.has_verdicts() {
        let count =
            |verdict| report.claims.iter().filter(|it| it.verdict == verdict).count().to_string();
        use Verdict::{Described, Inconclusive, NotRun, NotSupported, Supported};
        let shown = [Supported, NotSupported, Inconclusive, Described, NotRun];
        figures.push((
            shown.map(count).join(" / "),
            format!("claims {}", shown.map(Verdict::words).join(", ")),
        ));
    } else if let Some(it) = report.mean(AFTER, ClaimMetric::SimulatedCalls) {
        figures.push((format!("{it:.0}"), "searches simulated".to_owned()));
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::sample;
    use super::*;

    #[test]
    fn the_page_is_self_contained_and_escapes_model_output() {
        let report = sample(&[1, 2, 3]);
        let (page, _) = render(&report).unwrap();
        assert!(page.matches("<svg").count() >= 5);
        assert!(page.contains("&lt;answer&gt;A") && page.contains("who &lt;i&gt;?"));
        for external in ["http:", "https:", "<script", "@import", "url("] {
            let found = page.replace("http://www.w3.org/2000/svg", "").contains(external);
            assert!(!found, "{external}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
        assert!(page.contains("own numbers are of other models"));
        assert!(page.contains("18 of 100 pieces of work are done"));
        assert!(page.contains("constant_groups: too even") && page.contains("#DC2626"));
        assert!(report.claims.iter().all(|it| page.contains(&format!("id=\"{}\"", it.id))));
    }

    #[test]
    fn a_report_of_nothing_is_drawn() {
        let (page, _) = render(&sample(&[])).unwrap();
        assert!(page.contains("not run"));
    }

    #[test]
    fn markdown_says_what_was_found_and_what_was_not_run() {
        let (_, text) = render(&sample(&[1, 2, 3])).unwrap();
        assert!(text.contains("18 of 100 pieces of work are done"));
        assert!(text.contains("| supported |") && text.contains("| not run |"));
        assert!(text.contains("+0.100 [+0.100, +0.100]"), "{text}");
        assert!(text.contains("| no_noise | not run |"));
        assert!(text.contains("The paper's own numbers"));
        assert!(text.contains("0.820 ± 0.010"));
        assert!(text.contains("$60.00"));
    }

    #[test]
    fn one_seed_has_intervals_over_questions_and_no_verdicts() {
        let report = sample(&[1]);
        let (page, text) = render(&report).unwrap();
        assert!(text.contains("| base model, untrained | 4 | 0.010 [-0.040, 0.060] |"), "{text}");
        assert_eq!(text.matches(", 2-hop | 4 |").count(), report.arms.len());
        // Three of four records differ from the base, so the interval is not a point.
        assert!(text.contains("by +0.800 [+0.250, +1.000]"), "{text}");
        assert!(!text.contains("inconclusive") && !page.contains("inconclusive"));
        assert!(
            text.contains("- Alarm, simulator, gated, curriculum, seed 1, step 3: constant_gr")
        );
    }

    #[test]
    fn the_console_has_a_row_a_claim() {
        let report = sample(&[1, 2]);
        let table = report.summary();
        assert!(report.claims.iter().all(|it| table.contains(&it.id)), "{table}");
    }
}
