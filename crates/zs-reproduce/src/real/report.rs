//! Report of the preset: scores of every policy on every test set, paired differences, learning curves.

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::context;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};
use zs_data::{RowReader, digest, read_json};
use zs_eval::{
    Estimate, EvaluationReport, Metric, PairedTest, QuestionRecord, Summary, paired_test,
};
use zs_model::ModelCard;
use zs_trainer::files::{RunDir, SUMMARY};
use zs_trainer::trajectories::TrajectoryManifest;

use super::charts::{Curve, learning};
use super::stages::{ARMS, BASE, Plan, Stage, evaluation_name};
use crate::Environment;
use crate::error::Result;
use crate::page::{self, Figure, template};

const REPORT: &str = template!("report.jinja");

/// The comparisons, after and before; the baseline of the first is the best prompt of the base model.
const COMPARISONS: [(&str, &str); 4] = [
    ("cold_start", BEST_PROMPT),
    ("bm25", "cold_start"),
    ("simulated", "cold_start"),
    ("simulated", "bm25"),
];
const BEST_PROMPT: &str = "best prompt";

/// Results of the preset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RealReport {
    /// Directory of the base model, its parameters and the digest of its weights.
    pub model: BaseModel,
    /// Seed of every stage.
    pub seed: u64,
    /// True if every stage was as short as it can be, which tests the path and not the method.
    pub smoke: bool,
    /// Scores by test set.
    pub tests: BTreeMap<String, Vec<ArmScores>>,
    /// Differences by test set.
    pub differences: BTreeMap<String, Vec<Difference>>,
    /// Learning curves.
    pub curves: Vec<Curve>,
    /// Contents of the sets of episodes, and the number of their questions that are test questions.
    pub episodes: BTreeMap<String, TrajectoryManifest>,
    /// Every stage as a command, with its seconds where it has ended.
    pub stages: Vec<StageReport>,
    /// SHA-256 of the data.
    pub files: BTreeMap<String, String>,
    /// Origin of the numbers.
    pub environment: Environment,
}

/// The base model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseModel {
    /// Name of its directory.
    pub name: String,
    /// Architecture.
    pub architecture: String,
    /// Number of parameters.
    pub num_parameters: usize,
    /// Origin of converted weights.
    pub converted_from: Option<String>,
    /// SHA-256 of the files with weights.
    pub weights: BTreeMap<String, String>,
}

/// One policy on one test set, greedy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmScores {
    /// Policy.
    pub arm: String,
    /// Method of `zs eval`.
    pub method: String,
    /// Scores.
    pub scores: Summary,
}

/// Paired difference of two policies on the questions of a test set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// Policy.
    pub after: String,
    /// Policy that it is compared with.
    pub before: String,
    /// Difference of exact match.
    pub exact_match: PairedTest,
    /// Difference of F1.
    pub f1: PairedTest,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageReport {
    /// Stage.
    #[serde(flatten)]
    pub stage: Stage,
    /// Seconds, of the last call alone where it was interrupted; none where it has not ended.
    pub seconds: Option<f64>,
}

/// Answers of one policy.
struct Answers {
    scores: ArmScores,
    records: Vec<QuestionRecord>,
}

impl RealReport {
    pub(super) fn new(
        plan: &Plan<'_>,
        stages: &[Stage],
        finished: BTreeMap<String, f64>,
        files: BTreeMap<String, String>,
    ) -> Result<Self> {
        let (mut tests, mut differences) = (BTreeMap::new(), BTreeMap::new());
        for test in &plan.data.tests {
            let answers = answers(plan, &test.name)?;
            differences.insert(test.name.clone(), compare(&answers, plan.seed)?);
            tests.insert(test.name.clone(), answers.into_iter().map(|it| it.scores).collect());
        }
        let mut curves = Vec::new();
        for stage in ["bm25", "simulated"] {
            curves.extend(Curve::read(stage, &plan.out.join(stage))?);
        }
        let mut episodes = BTreeMap::new();
        for set in ["turns", "questions"] {
            let manifest = plan.out.join("episodes").join(set).join("manifest.json");
            if manifest.exists() {
                episodes.insert(set.to_owned(), read_json(&manifest)?);
            }
        }
        let seconds = |it: &Stage| finished.get(&it.name).copied();
        let stages =
            stages.iter().map(|it| StageReport { seconds: seconds(it), stage: it.clone() });
        Ok(Self {
            model: BaseModel::read(plan.model)?,
            seed: plan.seed,
            smoke: plan.smoke,
            tests,
            differences,
            curves,
            episodes,
            stages: stages.collect(),
            files,
            environment: Environment::here(),
        })
    }

    /// Writes `report.json`, `report.md` and `report.html`.
    pub(super) fn write(&self, run: &RunDir) -> Result<()> {
        let mut environment = page::environment()?;
        environment.add_filter("interval", |Serde(it): Serde<Estimate>| interval(&it, false));
        environment.add_filter("change", |Serde(it): Serde<Estimate>| interval(&it, true));
        let chart = learning(&self.curves);
        let figures = match chart.series.is_empty() {
            true => Vec::new(),
            false => vec![Figure::of(&chart)?],
        };
        let content = context! {
            report => Serde(self),
            title => format!("{} learns to search", self.model.name),
            figures => Serde(&figures),
        };
        let (page, text) = page::render(&environment, REPORT, &content)?;
        run.write_json("report.json", self)?;
        run.write_text("report.html", &page)?;
        Ok(run.write_text("report.md", &text)?)
    }

    /// The table for the console.
    pub(super) fn summary(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
        table.set_header(["test set", "policy", "n", "exact match", "F1", "searches"]);
        for (test, arms) in &self.tests {
            for ArmScores { arm, method, scores } in arms {
                table.add_row([
                    test.clone(),
                    format!("{arm}, {method}"),
                    scores.n.to_string(),
                    interval(&scores.exact_match, false),
                    interval(&scores.f1, false),
                    format!("{:.2}", scores.num_searches.mean),
                ]);
            }
        }
        table.to_string()
    }
}

impl BaseModel {
    fn read(dir: &Path) -> Result<Self> {
        let card = ModelCard::read(dir)?;
        let mut weights = BTreeMap::new();
        let entries = std::fs::read_dir(dir).map_err(zs_data::FileError::io(dir, "list"))?;
        for entry in entries {
            let path = entry.map_err(zs_data::FileError::io(dir, "list"))?.path();
            if path.extension().is_some_and(|it| it == "safetensors") {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                weights.insert(name, digest::of_file(&path)?);
            }
        }
        let name = dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy().into_owned();
        Ok(Self {
            name,
            architecture: card.architecture,
            num_parameters: card.num_parameters,
            converted_from: card.provenance.map(|it| it.summary()),
            weights,
        })
    }
}

/// The finished evaluations on a test set, in the order of [`ARMS`].
fn answers(plan: &Plan<'_>, test: &str) -> Result<Vec<Answers>> {
    let mut answers = Vec::new();
    for (arm, methods) in ARMS {
        for method in methods {
            let dir = plan.out.join(evaluation_name(arm, method, test));
            if !dir.join(SUMMARY).exists() {
                continue;
            }
            let reader = RowReader::new("record of an evaluation").with_finished_lines();
            let records: Vec<QuestionRecord> =
                reader.open(&dir.join("records.jsonl"))?.collect_all()?;
            let scores = EvaluationReport::new(&records, plan.seed)?.overall;
            let (arm, method) = (arm.to_owned(), (*method).to_owned());
            answers.push(Answers { scores: ArmScores { arm, method, scores }, records });
        }
    }
    Ok(answers)
}

/// The comparisons for which both sides are there.
fn compare(answers: &[Answers], seed: u64) -> Result<Vec<Difference>> {
    let prompts = answers.iter().filter(|it| it.scores.arm == BASE);
    let best_prompt = prompts.max_by(|a, b| {
        let f1 = |it: &Answers| it.scores.scores.f1.mean;
        f1(a).total_cmp(&f1(b))
    });
    let find = |arm: &str| match arm {
        BEST_PROMPT => best_prompt,
        _ => answers.iter().find(|it| it.scores.arm == arm),
    };
    let mut differences = Vec::new();
    for (after, before) in COMPARISONS {
        let (Some(a), Some(b)) = (find(after), find(before)) else { continue };
        let test = |metric| -> Result<PairedTest> {
            Ok(paired_test(&b.records, &a.records, metric, seed)?)
        };
        let before = match before {
            BEST_PROMPT => format!("{}, {}", b.scores.arm, b.scores.method),
            _ => before.to_owned(),
        };
        differences.push(Difference {
            after: after.to_owned(),
            before,
            exact_match: test(Metric::ExactMatch)?,
            f1: test(Metric::F1)?,
        });
    }
    Ok(differences)
}

fn interval(it: &Estimate, signed: bool) -> String {
    match signed {
        true => format!("{:+.3} [{:+.3}, {:+.3}]", it.mean, it.ci_low, it.ci_high),
        false => format!("{:.3} [{:.3}, {:.3}]", it.mean, it.ci_low, it.ci_high),
    }
}
