//! The report in words and tables, for the page, for Markdown and for the console.

use super::page::{Section, Table};
use super::report::{
    AFTER, ArmReport, BEFORE, ClaimReport, ClaimsReport, ComparisonReport, REAL, Scores,
};
use super::stats::SeedMean;
use crate::config::ClaimMetric;
use zs_eval::Estimate;

/// The rules of verdicts, for every form of the report.
const RULES: &str = "Each comparison is the mean of treatment minus control over the seeds that both \
    arms have, paired by seed, with a 95 % interval of Student's t and a two-sided p value; nothing is \
    corrected for the number of comparisons. \"Supported\": the interval lies where the claim says. \
    \"Not supported\": it leaves no room for a difference that matters (the margin given). \
    \"Inconclusive\": neither. A claim is as good as the worst comparison that decides it; verdicts in \
    parentheses are of comparisons that do not decide. Checkpoints are chosen on validation questions; \
    the test questions are about entities that no model has seen, and nothing was chosen on them. \
    The paper's own numbers are of other models, data and engines, from one seed each, and stand here \
    for orientation.";

impl ClaimsReport {
    /// The title: the claim itself where there is but one.
    pub(super) fn title(&self) -> &str {
        match self.claims.as_slice() {
            [only] => &only.claim,
            _ => "The claims of ZeroSearch, tested at the embedded scale",
        }
    }

    /// Tells verdicts from what a single seed says.
    pub(super) fn has_verdicts(&self) -> bool {
        self.seeds.len() != 1
    }

    /// The mean of a metric over the seeds of an arm.
    pub(super) fn mean(&self, arm: &str, metric: ClaimMetric) -> Option<f64> {
        Some(self.arms.get(arm)?.means.get(&metric)?.mean)
    }

    /// The text for the console: verdicts, or with one seed the scores and what follows from them.
    #[must_use]
    pub fn summary(&self) -> String {
        if self.has_verdicts() {
            return self.verdict_table(|it| it.id.clone()).to_console();
        }
        let findings: String = self.findings().iter().map(|it| format!("\n- {it}")).collect();
        format!("{}{findings}", self.score_table().to_console())
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

    /// The report, part by part.
    pub(super) fn sections(&self) -> Vec<Section> {
        let section = |id: &str, title: &str| Section {
            id: id.to_owned(),
            title: title.to_owned(),
            ..Section::default()
        };
        let mut sections = Vec::new();
        if self.has_verdicts() {
            sections.push(Section {
                tables: vec![self.verdict_table(|it| it.claim.clone())],
                texts: vec![RULES.to_owned()],
                ..section("summary", "Summary")
            });
        }
        sections.push(Section {
            tables: vec![self.score_table()],
            list: self.findings(),
            ..section("scores", "Scores on the real engine")
        });
        sections.push(section("learning", "Learning curves"));
        sections.push(section("transfer", "Simulator and real engine"));
        sections.extend(self.claims.iter().map(|it| self.claim_section(it)));
        sections.push(section("noise", "Noise schedules"));
        sections.push(Section {
            tables: vec![self.simulator_table()],
            ..section("simulators", "Simulation LLMs")
        });
        sections.push(Section {
            texts: vec![
                "Means over seeds. Where several arms ran side by side, seconds are those of a busy \
                 machine."
                    .to_owned(),
            ],
            tables: vec![self.cost_table()],
            ..section("cost", "Cost")
        });
        sections.push(Section {
            list: self.environment_rows(),
            ..section("environment", "Environment")
        });
        sections
    }

    /// Exact match, F1 and searches of every arm, over all questions and by hops.
    fn score_table(&self) -> Table {
        let mut rows = Vec::new();
        for arm in self.arms.values() {
            rows.push(score_row(arm.title.clone(), &arm.overall));
            for (hops, scores) in &arm.by_hops {
                rows.push(score_row(format!("{}, {hops}-hop", arm.title), scores));
            }
        }
        Table::new(
            &["greedy, on the real engine", "questions", "exact match", "F1", "searches"],
            rows,
        )
    }

    /// What there is to say beside the tables, a sentence each.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let gain = self.claims.iter().flat_map(|it| &it.comparisons).find(|it| {
            let it = &it.comparison;
            (it.treatment.as_str(), it.control.as_str(), it.metric)
                == (AFTER, BEFORE, ClaimMetric::ExactMatch)
        });
        if let Some(gain) = gain.filter(|it| it.difference.is_some()) {
            let exact_match = |arm| self.mean(arm, ClaimMetric::ExactMatch).unwrap_or_default();
            let share = match exact_match(REAL) {
                real if real > 0.0 => format!(
                    ", to {:.0} % of the score of training on the real engine",
                    100.0 * exact_match(AFTER) / real
                ),
                _ => String::new(),
            };
            findings.push(format!(
                "Training on the simulated engine changes exact match on the real engine by {}{share}.",
                difference(gain)
            ));
        }
        for simulator in &self.simulators {
            let share = |name: &str| 100.0 * simulator.audit.get(name).copied().unwrap_or_default();
            findings.push(format!(
                "The answer stands in {:.0} % of the useful replies of the simulator of {} steps to \
                 full queries for it ({:.0} % 1-hop, {:.0} % 2-hop), in {:.0} % of its noisy ones, and \
                 in {:.0} % of its useful replies to queries that do not name their subject.",
                share("useful_contains_answer"),
                simulator.steps,
                share("useful_contains_answer_one_hop"),
                share("useful_contains_answer_two_hop"),
                share("noisy_contains_answer"),
                share("sloppy_contains_answer")
            ));
        }
        if let Some(searches) = self.mean(AFTER, ClaimMetric::SimulatedCalls) {
            let price = self.settings.evaluation.dollars_per_1000_searches;
            findings.push(format!(
                "{searches:.0} searches were simulated a seed; at ${price:.2} per 1,000 a provider \
                 would have charged ${:.2}.",
                searches / 1000.0 * price
            ));
        }
        if !self.has_verdicts() {
            let training = self.arms.values().map(|it| it.train_seconds).sum::<f64>();
            findings.push(format!(
                "Intervals are 95 % bootstrap intervals over {} held-out questions; checkpoints were \
                 chosen on the validation split.",
                self.questions
            ));
            findings.push(format!(
                "It took {:.0} s: tuning {:.0}, training {training:.0}, evaluation {:.0}.",
                self.seconds,
                self.simulators.iter().map(|it| it.seconds).sum::<f64>(),
                self.arms.values().map(|it| it.eval_seconds).sum::<f64>()
            ));
        }
        for arm in self.arms.values() {
            findings.extend(arm.alarms.iter().map(|(seed, it)| {
                format!(
                    "Alarm, {}, seed {seed}, step {}: {}: {}",
                    arm.title,
                    it.step,
                    it.alarm.name(),
                    it.message
                )
            }));
        }
        findings
    }

    fn verdict_table(&self, name: impl Fn(&ClaimReport) -> String) -> Table {
        let row = |claim: &ClaimReport| {
            let mut row =
                vec![claim.number.to_string(), name(claim), claim.verdict.words().to_owned()];
            row.extend(match claim.comparisons.first() {
                None => vec![String::new(); 4],
                Some(it) => vec![
                    format!("{}: {}", self.compared(it), it.comparison.metric.title()),
                    difference(it),
                    p_value(it),
                    it.seeds.len().to_string(),
                ],
            });
            row
        };
        Table::new(
            &["", "claim", "verdict", "first comparison", "difference [95 %]", "p", "seeds"],
            self.claims.iter().map(row).collect(),
        )
    }

    fn claim_section(&self, claim: &ClaimReport) -> Section {
        let verdict =
            |words: &str| if self.has_verdicts() { words.to_owned() } else { String::new() };
        let mut texts = vec![format!("{} ({}.)", verdict(claim.verdict.words()), claim.source)];
        texts.extend((!claim.note.is_empty()).then(|| claim.note.clone()));
        let mut tables = Vec::new();
        if !claim.comparisons.is_empty() {
            let row = |it: &ComparisonReport| {
                let words = verdict(it.verdict.words());
                vec![
                    self.compared(it),
                    it.comparison.metric.title().to_owned(),
                    it.expected.clone(),
                    difference(it),
                    p_value(it),
                    it.seeds.len().to_string(),
                    if it.comparison.decides || words.is_empty() {
                        words
                    } else {
                        format!("({words})")
                    },
                ]
            };
            tables.push(Table::new(
                &[
                    "treatment - control",
                    "metric",
                    "expected",
                    "difference [95 %]",
                    "p",
                    "seeds",
                    "verdict",
                ],
                claim.comparisons.iter().map(row).collect(),
            ));
        }
        tables.push(self.arm_table(claim));
        let published = claim.published.iter();
        let list =
            published.map(|it| format!("{}: {} ({})", it.what, it.value, it.source)).collect();
        if !claim.published.is_empty() {
            texts.push(
                "The paper's own numbers are listed below: other models, data and engine; one seed."
                    .to_owned(),
            );
        }
        Section {
            id: claim.id.clone(),
            title: format!("{}. {}", claim.number, claim.claim),
            texts,
            tables,
            list,
            ..Section::default()
        }
    }

    /// The arms of a claim: means with the standard deviation over seeds.
    fn arm_table(&self, claim: &ClaimReport) -> Table {
        let row = |name: &String| {
            let arm = self.arms.get(name);
            let cell = |metric: &ClaimMetric| match arm {
                None => "not run".to_owned(),
                Some(it) => {
                    it.means.get(metric).map_or_else(|| "-".to_owned(), |it| mean_sd(it, *metric))
                }
            };
            let mut row =
                vec![arm.map_or_else(|| name.clone(), |it| format!("{} ({name})", it.title))];
            row.extend(claim.metrics.iter().map(cell));
            let steps = arm.map_or(&[][..], |it| &it.best_steps);
            row.push(steps.iter().map(usize::to_string).collect::<Vec<_>>().join(", "));
            row.push(arm.map_or(0, |it| it.seeds.len()).to_string());
            row
        };
        let metrics = claim.metrics.iter().map(|it| it.title());
        let header: Vec<&str> =
            ["arm"].into_iter().chain(metrics).chain(["kept steps", "seeds"]).collect();
        Table::new(&header, claim.arms.iter().map(row).collect())
    }

    fn simulator_table(&self) -> Table {
        let columns = [
            "useful_contains_answer",
            "useful_contains_answer_one_hop",
            "useful_contains_answer_two_hop",
            "noisy_contains_answer",
            "sloppy_contains_answer",
        ];
        let rows = self.simulators.iter().map(|it| {
            let mut row = vec![it.steps.to_string(), it.seeds.len().to_string()];
            let share = |name| it.audit.get(name).copied().unwrap_or_default();
            row.extend(columns.map(|name| format!("{:.3}", share(name))));
            row.push(format!("{:.0}", it.seconds));
            row
        });
        Table::new(
            &[
                "steps of tuning",
                "seeds",
                "answer in useful replies",
                "1-hop",
                "2-hop",
                "in noisy replies",
                "to sloppy queries",
                "seconds",
            ],
            rows.collect(),
        )
    }

    /// The cost of each trained arm.
    fn cost_table(&self) -> Table {
        let trained = self.arms.values().filter(|it| !it.curve.is_empty());
        let row = |arm: &ArmReport| {
            let of = |metric| arm.means.get(&metric).map_or(0.0, |it| it.mean);
            vec![
                arm.title.clone(),
                format!("{:.0}", arm.train_seconds),
                format!("{:.0}", arm.eval_seconds),
                format!("{:.0}", of(ClaimMetric::SimulatedCalls)),
                format!("{:.0}", of(ClaimMetric::ProviderCalls)),
                format!("${:.2}", of(ClaimMetric::ProviderDollars)),
            ]
        };
        Table::new(
            &[
                "arm",
                "seconds of training",
                "of evaluation",
                "simulated searches",
                "searches at a provider",
                "their price",
            ],
            trained.map(row).collect(),
        )
    }

    /// Everything that the numbers may depend on beside settings and seeds.
    fn environment_rows(&self) -> Vec<String> {
        let it = &self.environment;
        let crates: Vec<String> =
            it.crates.iter().map(|(name, version)| format!("{name} {version}")).collect();
        vec![
            format!("version: {}", it.version),
            format!("commits of the runs: {}", self.commits.join(", ")),
            format!("commit of the report: {}", it.commit),
            format!(
                "machine: {} cores, {:.1} GiB of memory, accelerator: {}",
                it.cores, it.memory_gib, it.accelerator
            ),
            format!("processor: {}", it.processor.as_deref().unwrap_or("unknown")),
            format!("system: {}", it.system),
            format!("crates: {}", crates.join(", ")),
            format!("command: `{}`", it.command),
            format!("from scratch: `cargo xtask reproduce --preset {}`", self.settings.preset),
        ]
    }

    /// `treatment - control` by their titles.
    fn compared(&self, it: &ComparisonReport) -> String {
        let title =
            |name: &str| self.arms.get(name).map_or(name, |it| it.title.as_str()).to_owned();
        format!("{} - {}", title(&it.comparison.treatment), title(&it.comparison.control))
    }
}

fn score_row(name: String, scores: &Scores) -> Vec<String> {
    let interval = |it: &Estimate| format!("{:.3} [{:.3}, {:.3}]", it.mean, it.ci_low, it.ci_high);
    vec![
        name,
        scores.n.to_string(),
        interval(&scores.exact_match),
        interval(&scores.f1),
        format!("{:.2}", scores.num_searches.mean),
    ]
}

/// The difference with its interval.
fn difference(it: &ComparisonReport) -> String {
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
fn p_value(it: &ComparisonReport) -> String {
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
