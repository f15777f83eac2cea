//! The report as a self-contained page (no script, no font, no picture from elsewhere), as Markdown
//! and for the console.

use std::collections::BTreeMap;

use comfy_table::{Table, presets::UTF8_BORDERS_ONLY};
use minijinja::value::Serde;
use minijinja::{Environment, Error, Value, context};
use serde::Deserialize;
use zs_eval::Estimate;

use super::arms::Scores;
use super::charts;
use super::report::{AFTER, BEFORE, ClaimsReport, REAL};
use super::stats::SeedMean;
use super::verdict::Verdict;
use crate::ReproduceError;
use crate::config::ClaimMetric;
use crate::page::{self, Figure, template};

const REPORT: &str = template!("report.jinja");
const FINDINGS: &str = include_str!("findings.jinja");

/// The heads of the table of scores.
const SCORE_HEADER: [&str; 5] =
    ["greedy, on the real engine", "questions", "exact match", "F1", "searches"];

/// Draws the page and writes the Markdown.
///
/// # Errors
///
/// Fails when a chart cannot be drawn.
pub(super) fn render(report: &ClaimsReport) -> Result<(String, String), ReproduceError> {
    let mut figures: BTreeMap<&str, Vec<Figure>> = BTreeMap::new();
    for (id, chart) in charts::all(report) {
        figures.entry(id).or_default().push(Figure::of(&chart)?);
    }
    let crates: Vec<String> =
        report.environment.crates.iter().map(|it| format!("{} {}", it.0, it.1)).collect();
    let headline = [BEFORE, AFTER, "paper_form", REAL];
    let headline: Vec<_> = headline.iter().filter_map(|it| report.arms.get(*it)).collect();
    let content = context! {
        report => Serde(report),
        title => match report.claims.as_slice() {
            [only] => &only.claim,
            _ => "The claims of ZeroSearch, tested at the embedded scale",
        },
        state => match report.is_complete() {
            true => "complete".to_owned(),
            false => format!("{} of {} jobs are done", report.num_done, report.num_planned),
        },
        is_complete => report.is_complete(),
        has_verdicts => report.has_verdicts(),
        headline => Serde(&headline),
        score_header => SCORE_HEADER,
        scores => report.score_rows(),
        findings => report.findings()?,
        figures => Serde(&figures),
        crates => crates.join(", "),
    };
    Ok(page::render(&environment()?, REPORT, &content)?)
}

impl ClaimsReport {
    /// Tells verdicts over seeds from the scores of a single one.
    pub(super) fn has_verdicts(&self) -> bool {
        self.seeds.len() != 1
    }

    /// The text for the console: verdicts, or with one seed the scores and what follows from them.
    ///
    /// # Errors
    ///
    /// Never: the template is part of this crate and tested.
    pub fn summary(&self) -> Result<String, Error> {
        let mut table = Table::new();
        table.load_preset(UTF8_BORDERS_ONLY);
        if self.has_verdicts() {
            table.set_header(["claim", "", "verdict", "difference", "seeds"]);
            for claim in &self.claims {
                let (number, first) = (claim.number.to_string(), claim.comparisons.first());
                let text = first.map(|it| difference(it.difference, it.comparison.metric));
                let seeds = first.map(|it| it.seeds.len().to_string());
                let [text, seeds] = [text, seeds].map(Option::unwrap_or_default);
                table.add_row([&number, &claim.id, claim.verdict.words(), &text, &seeds]);
            }
            return Ok(table.to_string());
        }
        table.set_header(SCORE_HEADER).add_rows(self.score_rows());
        let findings: String = self.findings()?.iter().map(|it| format!("\n- {it}")).collect();
        Ok(format!("{table}{findings}"))
    }

    /// Exact match, F1 and searches of every arm, over all questions and by hops.
    fn score_rows(&self) -> Vec<[String; 5]> {
        let interval =
            |it: &Estimate| format!("{:.3} [{:.3}, {:.3}]", it.mean, it.ci_low, it.ci_high);
        let row = |name: String, it: &Scores| {
            let searches = format!("{:.2}", it.num_searches.mean);
            [name, it.n.to_string(), interval(&it.exact_match), interval(&it.f1), searches]
        };
        let rows = self.arms.values().flat_map(|arm| {
            let hops = arm.by_hops.iter();
            let hops = hops.map(|(hops, it)| row(format!("{}, {hops}-hop", arm.title), it));
            std::iter::once(row(arm.title.clone(), &arm.overall)).chain(hops)
        });
        rows.collect()
    }

    /// The findings beside the tables, a sentence each.
    ///
    /// # Errors
    ///
    /// Never: the template is part of this crate and tested.
    pub fn findings(&self) -> Result<Vec<String>, Error> {
        let text =
            environment()?.template_from_named_str("findings", FINDINGS)?.render(context! {
                report => Serde(self),
                has_verdicts => self.has_verdicts(),
                before => BEFORE,
                after => AFTER,
                real => REAL,
            })?;
        Ok(text.lines().map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect())
    }
}

/// Templates with the forms of claims.
fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = page::environment()?;
    environment.add_filter("class", |cell: Value| class(&cell.to_string()));
    environment.add_filter("metric", |Serde(it): Serde<ClaimMetric>| it.title());
    environment.add_filter("words", |Serde(it): Serde<Verdict>| it.words());
    environment.add_filter(
        "difference",
        |Serde(it): Serde<Option<SeedMean>>, Serde(metric): Serde<ClaimMetric>| {
            difference(it, metric)
        },
    );
    environment.add_filter("mean", |metric: Value, arm: Value| mean_sd(&metric, &arm));
    Ok(environment)
}

/// The style of a cell of a table.
fn class(cell: &str) -> &'static str {
    use Verdict::{Described, Inconclusive, NotRun, NotSupported, Supported};
    let is = |verdict: Verdict| cell.trim_matches(['(', ')']) == verdict.words();
    match cell {
        _ if is(Supported) => "badge yes",
        _ if is(NotSupported) => "badge no",
        _ if [Inconclusive, NotRun, Described].into_iter().any(is) => "badge open",
        _ => page::class_of(cell),
    }
}

/// A difference with its interval.
fn difference(difference: Option<SeedMean>, metric: ClaimMetric) -> String {
    let digits = digits(metric);
    match difference {
        None => Verdict::NotRun.words().to_owned(),
        Some(SeedMean { mean, interval: None, .. }) => format!("{mean:+.digits$}"),
        Some(SeedMean { mean, interval: Some([low, high]), .. }) => {
            format!("{mean:+.digits$} [{low:+.digits$}, {high:+.digits$}]")
        }
    }
}

/// The mean of a metric of an arm, with the standard deviation over seeds.
fn mean_sd(metric: &Value, arm: &Value) -> Result<String, Error> {
    let digits = digits(ClaimMetric::deserialize(metric)?);
    if arm.is_undefined() {
        return Ok(Verdict::NotRun.words().to_owned());
    }
    let mean = arm.get_attr("means")?.get_item(metric)?;
    if mean.is_undefined() {
        return Ok("-".to_owned());
    }
    Ok(match SeedMean::deserialize(mean)? {
        SeedMean { mean, sd: None, .. } => format!("{mean:.digits$}"),
        SeedMean { mean, sd: Some(sd), .. } => format!("{mean:.digits$} ± {sd:.digits$}"),
    })
}

fn digits(metric: ClaimMetric) -> usize {
    match metric {
        ClaimMetric::ProviderCalls | ClaimMetric::SimulatedCalls => 0,
        ClaimMetric::ProviderDollars | ClaimMetric::NumSearches | ClaimMetric::AnswerWords => 2,
        _ => 3,
    }
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
        assert!(
            page.contains("default-src &#x27;none&#x27;; script-src &#x27;none&#x27;; style-src")
        );
        for external in ["http:", "https:", "<script", "@import", "url(", " style=\""] {
            let found = page.replace("http://www.w3.org/2000/svg", "").contains(external);
            assert!(!found, "{external}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
        assert!(page.contains("own numbers (other models"));
        assert!(page.contains("18 of 100 jobs are done"));
        assert!(page.contains("zero_variance_groups: too even") && page.contains("#DC2626"));
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
        assert!(text.contains("18 of 100 jobs are done"));
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
            text.contains(
                "- Alarm, simulator, gated, curriculum, seed 1, step 3: zero_variance_gr"
            )
        );
    }

    #[test]
    fn the_console_has_a_row_a_claim() {
        let report = sample(&[1, 2]);
        let table = report.summary().unwrap();
        assert!(report.claims.iter().all(|it| table.contains(&it.id)), "{table}");
    }
}
