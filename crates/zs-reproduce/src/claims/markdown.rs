//! The report as Markdown, and its table for the console.

use std::fmt::Write;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;

use super::report::{ArmReport, ClaimReport, ClaimsReport, ComparisonReport};
use super::stats::SeedMean;
use crate::config::ClaimMetric;

/// How verdicts are reached, for every form of the report.
pub(super) const RULES: &str = "Each comparison is the mean of treatment minus control over the \
    seeds that both arms have, paired by seed, with a 95 % interval of Student's t and a two-sided p \
    value; nothing is corrected for the number of comparisons. \"Supported\": the interval lies where \
    the claim says. \"Not supported\": it leaves no room for a difference that matters (the margin \
    given). \"Inconclusive\": neither. A claim is as good as the worst comparison that decides it. \
    Checkpoints are chosen on validation questions; the test questions are about entities that no \
    model has seen, and nothing was chosen on them.";

impl ClaimsReport {
    /// Verdicts as a table for the console.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(UTF8_BORDERS_ONLY);
        table.set_header(["claim", "", "verdict", "difference", "seeds"]);
        for claim in &self.claims {
            let first = claim.comparisons.first();
            table.add_row([
                claim.number.to_string(),
                claim.id.clone(),
                claim.verdict.words().to_owned(),
                first.map_or_else(String::new, difference),
                first.map_or_else(String::new, |it| it.seeds.len().to_string()),
            ]);
        }
        table.to_string()
    }

    /// One sentence on how much of the plan is done.
    #[must_use]
    pub fn progress(&self) -> String {
        let seeds: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
        let state = match self.is_complete() {
            true => "complete".to_owned(),
            false => format!("{} of {} pieces of work are done", self.num_done, self.num_planned),
        };
        format!("Seeds {}; {state}; {} test questions a seed.", seeds.join(", "), self.questions)
    }

    /// The report as Markdown.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut out = String::from("# The claims at the embedded scale\n\n");
        let _ = writeln!(out, "{}\n", self.progress());
        out.push_str("| | claim | verdict | first comparison | difference | p | seeds |\n");
        out.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
        for claim in &self.claims {
            let cells = match claim.comparisons.first() {
                None => [String::new(), String::new(), String::new(), String::new()],
                Some(it) => {
                    [self.compared(it), difference(it), p_value(it), it.seeds.len().to_string()]
                }
            };
            let _ = writeln!(
                out,
                "| {} | {} | **{}** | {} |",
                claim.number,
                claim.claim,
                claim.verdict.words(),
                cells.join(" | ")
            );
        }
        let _ = writeln!(out, "\n{RULES}");
        for claim in &self.claims {
            self.claim_section(&mut out, claim);
        }
        self.tables(&mut out);
        self.environment_section(&mut out);
        out
    }

    fn claim_section(&self, out: &mut String, claim: &ClaimReport) {
        let _ = writeln!(out, "\n## {}. {}\n", claim.number, claim.id);
        let _ =
            writeln!(out, "{} *{}.* **{}**\n", claim.claim, claim.source, claim.verdict.words());
        if !claim.note.is_empty() {
            let _ = writeln!(out, "{}\n", claim.note);
        }
        if !claim.comparisons.is_empty() {
            out.push_str(
                "| treatment - control | metric | expected | difference | p | verdict |\n",
            );
            out.push_str("| --- | --- | --- | --- | --- | --- |\n");
            for it in &claim.comparisons {
                let verdict = it.verdict.words();
                let _ = writeln!(
                    out,
                    "| {} | {} | {} | {} | {} | {} |",
                    self.compared(it),
                    it.comparison.metric.title(),
                    it.expected,
                    difference(it),
                    p_value(it),
                    if it.comparison.decides { verdict.to_owned() } else { format!("({verdict})") }
                );
            }
            out.push('\n');
        }
        let header = self.arm_header(claim);
        let _ = writeln!(out, "| {} |", header.join(" | "));
        let _ = writeln!(out, "|{}", " --- |".repeat(header.len()));
        for row in self.arm_rows(claim) {
            let _ = writeln!(out, "| {} |", row.join(" | "));
        }
        if !claim.published.is_empty() {
            out.push_str(
                "\nThe paper's own numbers (other models, data and engine; one seed):\n\n",
            );
            for it in &claim.published {
                let _ = writeln!(out, "- {}: {} ({})", it.what, it.value, it.source);
            }
        }
    }

    fn tables(&self, out: &mut String) {
        out.push_str("\n## Simulation LLMs\n\n");
        out.push_str(
            "| steps of tuning | seeds | answer in useful replies | in noisy replies | seconds |\n",
        );
        out.push_str("| --- | --- | --- | --- | --- |\n");
        for it in &self.simulators {
            let _ = writeln!(
                out,
                "| {} | {} | {:.3} | {:.3} | {:.0} |",
                it.steps,
                it.seeds.len(),
                it.useful_contains_answer,
                it.noisy_contains_answer,
                it.seconds
            );
        }
        out.push_str("\n## Cost\n\n");
        let header = cost_header();
        let _ = writeln!(out, "| {} |", header.join(" | "));
        let _ = writeln!(out, "|{}", " --- |".repeat(header.len()));
        for row in self.cost_rows() {
            let _ = writeln!(out, "| {} |", row.join(" | "));
        }
    }

    fn environment_section(&self, out: &mut String) {
        out.push_str("\n## Environment\n\n");
        for (name, value) in self.environment_rows() {
            let _ = writeln!(out, "- {name}: {value}");
        }
    }

    /// Name and value of everything that the numbers may depend on beside settings and seeds.
    pub(super) fn environment_rows(&self) -> Vec<(&'static str, String)> {
        let it = &self.environment;
        let crates: Vec<String> =
            it.crates.iter().map(|(name, version)| format!("{name} {version}")).collect();
        vec![
            ("version", it.version.clone()),
            ("commits of the runs", self.commits.join(", ")),
            ("commit of the report", it.commit.clone()),
            (
                "machine",
                format!(
                    "{} cores, {:.1} GiB of memory, accelerator: {}",
                    it.cores, it.memory_gib, it.accelerator
                ),
            ),
            ("processor", it.processor.clone().unwrap_or_else(|| "unknown".to_owned())),
            ("system", it.system.clone()),
            ("crates", crates.join(", ")),
            ("command", format!("`{}`", it.command)),
            ("again from scratch", "`cargo xtask reproduce --preset claims`".to_owned()),
        ]
    }

    /// The heads of a claim's table of arms.
    pub(super) fn arm_header(&self, claim: &ClaimReport) -> Vec<String> {
        let metrics = claim.metrics.iter().map(|it| it.title().to_owned());
        let ends = ["kept steps", "seeds"].map(str::to_owned);
        ["arm".to_owned()].into_iter().chain(metrics).chain(ends).collect()
    }

    /// Its rows: means with the standard deviation over seeds.
    pub(super) fn arm_rows(&self, claim: &ClaimReport) -> Vec<Vec<String>> {
        let row = |name: &String| {
            let Some(arm) = self.arms.get(name) else {
                let mut row = vec![name.clone()];
                row.extend(claim.metrics.iter().map(|_| "not run".to_owned()));
                row.extend([String::new(), "0".to_owned()]);
                return row;
            };
            let cell = |metric: &ClaimMetric| {
                arm.means.get(metric).map_or_else(|| "-".to_owned(), |it| mean_sd(it, *metric))
            };
            let steps: Vec<String> = arm.best_steps.iter().map(usize::to_string).collect();
            let mut row = vec![format!("{} ({name})", arm.title)];
            row.extend(claim.metrics.iter().map(cell));
            row.extend([steps.join(", "), arm.seeds.len().to_string()]);
            row
        };
        claim.arms.iter().map(row).collect()
    }

    /// What each trained arm cost.
    pub(super) fn cost_rows(&self) -> Vec<Vec<String>> {
        let trained = self.arms.values().filter(|it| !it.curve.is_empty());
        let row = |arm: &ArmReport| {
            let of = |metric| arm.means.get(&metric).map_or(0.0, |it| it.mean);
            vec![
                arm.title.clone(),
                format!("{:.0}", arm.train_seconds),
                format!("{:.0}", of(ClaimMetric::SimulatedCalls)),
                format!("{:.0}", of(ClaimMetric::ProviderCalls)),
                format!("${:.2}", of(ClaimMetric::ProviderDollars)),
            ]
        };
        trained.map(row).collect()
    }

    /// `treatment - control` by their titles.
    pub(super) fn compared(&self, it: &ComparisonReport) -> String {
        let title =
            |name: &str| self.arms.get(name).map_or(name, |it| it.title.as_str()).to_owned();
        format!("{} - {}", title(&it.comparison.treatment), title(&it.comparison.control))
    }
}

/// The heads of the table of costs.
pub(super) fn cost_header() -> [&'static str; 5] {
    ["arm", "seconds of training", "simulated searches", "searches at a provider", "their price"]
}

/// The difference with its interval.
pub(super) fn difference(it: &ComparisonReport) -> String {
    let digits = digits(it.comparison.metric);
    match it.difference {
        None => "not run".to_owned(),
        Some(SeedMean { mean, interval: None, .. }) => format!("{mean:+.digits$}"),
        Some(SeedMean { mean, interval: Some([low, high]), .. }) => {
            format!("{mean:+.digits$} [{low:+.digits$}, {high:+.digits$}]")
        }
    }
}

/// The p value.
pub(super) fn p_value(it: &ComparisonReport) -> String {
    match it.difference.and_then(|it| it.p) {
        None => String::new(),
        Some(p) if p < 0.001 => "< 0.001".to_owned(),
        Some(p) => format!("{p:.3}"),
    }
}

fn mean_sd(it: &SeedMean, metric: ClaimMetric) -> String {
    let digits = digits(metric);
    match it.sd {
        None => format!("{:.digits$}", it.mean),
        Some(sd) => format!("{:.digits$} ± {sd:.digits$}", it.mean),
    }
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

    #[test]
    fn markdown_says_what_was_found_and_what_was_not_run() {
        let text = sample(&[1, 2, 3]).to_markdown();
        assert!(text.contains("18 of 100 pieces of work are done"));
        assert!(text.contains("| **supported** |") && text.contains("| **not run** |"));
        assert!(text.contains("+0.100 [+0.100, +0.100]"), "{text}");
        assert!(text.contains("| no_noise | not run |"));
        assert!(text.contains("The paper's own numbers"));
        assert!(text.contains("0.820 ± 0.010"));
        assert!(text.contains("$60.00"));
    }

    #[test]
    fn the_console_has_a_row_a_claim() {
        let report = sample(&[1, 2]);
        let table = report.table();
        assert!(report.claims.iter().all(|it| table.contains(&it.id)), "{table}");
    }
}
