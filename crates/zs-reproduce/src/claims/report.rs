//! Results of all arms and claims, as data: `report.json` is this, the other forms are drawn from it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use zs_eval::{Metric, paired_difference};

use super::arms::{ArmReport, SimulatorReport};
use super::preset::ClaimsPreset;
use super::result::{EpisodeText, ExampleTurn, SeedResult, SimulatorResult};
use super::stats::{SeedMean, seed_mean};
use super::verdict::{Verdict, expected};
use super::work::Outcome;
use crate::Environment;
use crate::config::{ClaimConfig, ClaimMetric, ComparisonConfig, PublishedConfig, ReproduceConfig};

/// The arm that examples are taken from before training.
pub(super) const BEFORE: &str = "base";
/// The arm that examples are taken from after training.
pub(super) const AFTER: &str = "simulated";
/// The arm that was trained on the real engine.
pub(super) const REAL: &str = "real";

/// Everything that `zs reproduce` reports, with the presets `quick` and `claims`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClaimsReport {
    /// Machine and versions.
    pub environment: Environment,
    /// The commits that the policies were trained at.
    pub commits: Vec<String>,
    /// The seeds that were asked for.
    pub seeds: Vec<u64>,
    /// Pieces of work that are done.
    pub num_done: usize,
    /// Pieces of work in all.
    pub num_planned: usize,
    /// Test questions a seed.
    pub questions: usize,
    /// Settings that the arms share.
    pub settings: ReproduceConfig,
    /// The claims, by their numbers.
    pub claims: Vec<ClaimReport>,
    /// The arms, by their names.
    pub arms: BTreeMap<String, ArmReport>,
    /// The simulation LLMs.
    pub simulators: Vec<SimulatorReport>,
    /// Questions before and after training.
    pub examples: Vec<Example>,
    /// Seconds of the command that wrote the report; what was done before it is not counted.
    pub seconds: f64,
}

/// One question before and after training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    /// The question.
    pub question: String,
    /// Its golden answers.
    pub golden_answers: Vec<String>,
    /// The episode of the base model.
    pub before: Vec<ExampleTurn>,
    /// The episode of the policy that was trained on the simulator.
    pub after: Vec<ExampleTurn>,
}

/// One claim and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClaimReport {
    /// Its name.
    pub id: String,
    /// Its number.
    pub number: u32,
    /// The claim, as a sentence.
    pub claim: String,
    /// Section or table of the paper, or ours.
    pub source: String,
    /// Note to the reader.
    pub note: String,
    /// Verdict of the comparisons that decide.
    pub verdict: Verdict,
    /// Arms, metric and margin.
    pub comparisons: Vec<ComparisonReport>,
    /// The arms to show.
    pub arms: Vec<String>,
    /// The metrics to show of them.
    pub metrics: Vec<ClaimMetric>,
    /// The paper's numbers.
    pub published: Vec<PublishedConfig>,
}

/// One comparison over the seeds that both arms have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparisonReport {
    /// Arms, metric and margin.
    #[serde(flatten)]
    pub comparison: ComparisonConfig,
    /// Expected difference, in words.
    pub expected: String,
    /// The seeds that both arms have.
    pub seeds: Vec<u64>,
    /// The mean of `treatment - control` over these seeds; none without seeds. For exact match with
    /// a single seed that was not resumed, the interval is bootstrapped over questions.
    pub difference: Option<SeedMean>,
    /// Verdict of this comparison alone.
    pub verdict: Verdict,
}

impl ClaimsReport {
    pub(super) fn new(
        preset: &ClaimsPreset,
        wanted: &[ClaimConfig],
        seeds: &[u64],
        num_planned: usize,
        outcomes: Vec<Outcome>,
    ) -> Self {
        let num_done = outcomes.len();
        let mut results: BTreeMap<String, Vec<SeedResult>> = BTreeMap::new();
        let mut simulators: BTreeMap<usize, Vec<SimulatorResult>> = BTreeMap::new();
        for outcome in outcomes {
            match outcome {
                Outcome::Arm(it) => results.entry(it.arm.clone()).or_default().push(*it),
                Outcome::Simulator(it) => simulators.entry(it.steps).or_default().push(*it),
            }
        }
        // In the order of the seeds, whichever was done first.
        results.values_mut().for_each(|it| it.sort_by_key(|it| it.seed));
        simulators.values_mut().for_each(|it| it.sort_by_key(|it| it.seed));
        let of_claims = preset.claims.iter().flat_map(|it| &it.arms);
        let arms: BTreeMap<String, ArmReport> = of_claims
            .filter_map(|(name, config)| {
                Some((name.clone(), ArmReport::new(config, results.get(name)?)))
            })
            .collect();
        let mut claims: Vec<ClaimReport> =
            wanted.iter().map(|it| ClaimReport::new(it, &arms, &results)).collect();
        claims.sort_by_key(|it| it.number);
        let commits: BTreeSet<String> =
            results.values().flatten().filter_map(|it| it.commit.clone()).collect();
        Self {
            environment: Environment::here(),
            commits: commits.into_iter().collect(),
            seeds: seeds.to_vec(),
            num_done,
            num_planned,
            questions: 2 * preset.base.worlds.test_per_hop,
            settings: preset.base.clone(),
            claims,
            examples: examples(&results),
            arms,
            simulators: simulators.into_values().map(|it| SimulatorReport::new(&it)).collect(),
            seconds: 0.0,
        }
    }

    /// Returns `true` when all planned work is done.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.num_done == self.num_planned
    }
}

impl ClaimReport {
    fn new(
        claim: &ClaimConfig,
        arms: &BTreeMap<String, ArmReport>,
        results: &BTreeMap<String, Vec<SeedResult>>,
    ) -> Self {
        let comparisons: Vec<ComparisonReport> =
            claim.comparisons.iter().map(|it| ComparisonReport::new(it, arms, results)).collect();
        let deciding = comparisons.iter().filter(|it| it.comparison.decides);
        let mut metrics = vec![ClaimMetric::ExactMatch];
        for metric in comparisons.iter().map(|it| it.comparison.metric).chain(claim.metrics.clone())
        {
            if !metrics.contains(&metric) {
                metrics.push(metric);
            }
        }
        Self {
            id: claim.id.clone(),
            number: claim.number,
            claim: claim.claim.clone(),
            source: claim.source.clone(),
            note: claim.note.clone(),
            verdict: Verdict::all(deciding.map(|it| it.verdict)),
            arms: claim.arm_names().into_iter().map(str::to_owned).collect(),
            metrics,
            published: claim.published.clone(),
            comparisons,
        }
    }
}

impl ComparisonReport {
    fn new(
        comparison: &ComparisonConfig,
        arms: &BTreeMap<String, ArmReport>,
        results: &BTreeMap<String, Vec<SeedResult>>,
    ) -> Self {
        let by_seed = |name: &str| -> BTreeMap<u64, f64> {
            let Some(arm) = arms.get(name) else { return BTreeMap::new() };
            let values = arm.values.get(&comparison.metric).map_or(&[][..], Vec::as_slice);
            arm.seeds.iter().copied().zip(values.iter().copied()).collect()
        };
        let control = by_seed(&comparison.control);
        let pairs: Vec<(u64, f64)> = by_seed(&comparison.treatment)
            .into_iter()
            .filter_map(|(seed, value)| Some((seed, value - control.get(&seed)?)))
            .collect();
        let differences: Vec<f64> = pairs.iter().map(|it| it.1).collect();
        let mut difference = seed_mean(&differences);
        if let (Some(SeedMean { n: 1, interval, .. }), ClaimMetric::ExactMatch) =
            (&mut difference, comparison.metric)
        {
            *interval = over_questions(comparison, results);
        }
        let verdict = difference
            .map_or(Verdict::NotRun, |it| Verdict::of(&it, comparison.expect, comparison.margin));
        Self {
            expected: expected(comparison),
            seeds: pairs.into_iter().map(|it| it.0).collect(),
            comparison: comparison.clone(),
            difference,
            verdict,
        }
    }
}

/// The interval of a difference in exact match with a single seed, over the test questions.
fn over_questions(
    comparison: &ComparisonConfig,
    results: &BTreeMap<String, Vec<SeedResult>>,
) -> Option<[f64; 2]> {
    let [treatment] = results.get(&comparison.treatment)?.as_slice() else { return None };
    let [control] = results.get(&comparison.control)?.as_slice() else { return None };
    let (before, after) = (&control.records, &treatment.records);
    let difference = paired_difference(before, after, Metric::ExactMatch, control.seed).ok()?;
    Some([difference.ci_low, difference.ci_high])
}

/// Up to three questions of one seed: where possible two of two hops and one of one that training
/// changed.
fn examples(results: &BTreeMap<String, Vec<SeedResult>>) -> Vec<Example> {
    let (Some(before), Some(after)) = (results.get(BEFORE), results.get(AFTER)) else {
        return Vec::new();
    };
    let pair =
        before.iter().find_map(|it| Some((it, after.iter().find(|other| other.seed == it.seed)?)));
    let Some((before, after)) = pair else { return Vec::new() };
    let pairs: Vec<(&EpisodeText, &EpisodeText)> =
        before.episodes.iter().zip(&after.episodes).collect();
    let pairs = pairs.as_slice();
    let solved = |hops: u8| {
        let is_solved = move |&at: &usize| {
            let (before, after) = pairs[at];
            !before.exact_match && after.exact_match && before.hops == Some(hops)
        };
        (0..pairs.len()).filter(is_solved)
    };
    let mut chosen: Vec<usize> = solved(2).take(2).chain(solved(1).take(1)).collect();
    let others: Vec<usize> = (0..pairs.len()).filter(|it| !chosen.contains(it)).take(3).collect();
    chosen.extend(others);
    chosen.truncate(3);
    let example = |at: usize| Example {
        question: pairs[at].0.question.clone(),
        golden_answers: pairs[at].0.golden_answers.clone(),
        before: pairs[at].0.turns.clone(),
        after: pairs[at].1.turns.clone(),
    };
    chosen.into_iter().map(example).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::preset::preset;
    use super::super::result::CurvePoint;
    use super::*;
    use zs_eval::{Estimate, EvaluationReport, QuestionRecord, Summary};
    use zs_trainer::alarm::{Alarm, AlarmRecord};

    /// A report on made-up results: `simulated` is 0.1 better than `fixed_noise` with each of `seeds`,
    /// give or take what the seed makes of both.
    pub(in super::super) fn sample(seeds: &[u64]) -> ClaimsReport {
        let preset =
            preset(zs_world::WorldPreset::Easy, &zs_trainer::Components::built_in()).unwrap();
        let episode = |exact_match: bool, hops: u8| EpisodeText {
            question: "who <i>?".into(),
            golden_answers: vec!["A & B".into()],
            hops: Some(hops),
            exact_match,
            turns: vec![ExampleTurn { text: "<answer>A".into(), observation: "Doc 1: x".into() }],
        };
        let result = |arm: &str, seed: u64, exact_match: f64| {
            let exact_match = exact_match + 0.01 * seed as f64;
            let point = |step: usize| CurvePoint {
                step,
                reward: (step > 0).then_some(0.02 * step as f64),
                noise_probability: (step > 0).then_some(0.01 * step as f64),
                names_entity: None,
                validation_exact_match: step
                    .is_multiple_of(5)
                    .then_some(exact_match * step as f64 / 20.0),
                simulated_exact_match: step.is_multiple_of(5).then_some(exact_match),
            };
            let metrics = [
                (ClaimMetric::ExactMatch, exact_match),
                (ClaimMetric::SimulatedExactMatch, exact_match + 0.02),
                (ClaimMetric::SimToReal, 0.02 + 0.001 * seed as f64),
                (ClaimMetric::ProviderDollars, if arm == "real" { 60.0 } else { 0.0 }),
            ];
            let estimate = |mean: f64| Estimate { mean, ci_low: mean - 0.05, ci_high: mean + 0.05 };
            let summary = |mean: f64| Summary {
                n: 4,
                exact_match: estimate(mean),
                f1: estimate(mean),
                num_searches: estimate(1.5),
                ..Summary::default()
            };
            let alarm = AlarmRecord {
                step: 3,
                alarm: Alarm::ZeroVarianceGroups,
                value: 0.95,
                threshold: 0.9,
                since: 3,
                message: "too even".to_owned(),
            };
            let record = |at: u8| QuestionRecord {
                id: at.to_string(),
                exact_match: arm != "base" && at > 0,
                ..QuestionRecord::default()
            };
            let evaluation = EvaluationReport {
                overall: summary(exact_match),
                by_hops: [(1, summary(exact_match + 0.05)), (2, summary(exact_match - 0.05))]
                    .into(),
                by_set: BTreeMap::new(),
                by_type: BTreeMap::new(),
                average: None,
                pass_at: BTreeMap::new(),
            };
            Outcome::Arm(Box::new(SeedResult {
                arm: arm.to_owned(),
                seed,
                commit: Some("abc".to_owned()),
                best_step: 20,
                train_seconds: 30.0,
                metrics: metrics.into(),
                evaluation,
                records: (0..4).map(record).collect(),
                eval_seconds: 5.0,
                alarms: if arm == "simulated" { vec![alarm] } else { Vec::new() },
                curve: if arm == "base" { Vec::new() } else { (0..=20).map(point).collect() },
                episodes: vec![episode(arm != "base", 2), episode(arm != "base", 1)],
            }))
        };
        let arms = [
            ("simulated", 0.8),
            ("real", 0.81),
            ("paper_form", 0.6),
            ("fixed_noise", 0.7),
            ("falling_noise", 0.79),
            ("base", 0.0),
        ];
        let outcomes = arms
            .into_iter()
            .flat_map(|(arm, value)| seeds.iter().map(move |&seed| (arm, seed, value)))
            .map(|(arm, seed, value)| result(arm, seed, value))
            .collect();
        ClaimsReport::new(&preset, &preset.claims, seeds, 100, outcomes)
    }

    #[track_caller]
    fn claim<'a>(report: &'a ClaimsReport, id: &str) -> &'a ClaimReport {
        report.claims.iter().find(|it| it.id == id).unwrap()
    }

    #[test]
    fn verdicts_follow_from_paired_seeds() {
        let report = sample(&[1, 2, 3]);
        assert_eq!((report.num_done, report.is_complete()), (18, false));
        let curriculum = claim(&report, "curriculum");
        let fixed = &curriculum.comparisons[0];
        // The same difference with every seed: no width at all.
        assert_eq!((fixed.seeds.as_slice(), fixed.verdict), (&[1, 2, 3][..], Verdict::Supported));
        assert!((fixed.difference.unwrap().mean - 0.1).abs() < 1e-9);
        let [low, high] = fixed.difference.unwrap().interval.unwrap();
        assert!(high - low < 1e-9);
        // `no_noise` was not run.
        assert_eq!(curriculum.comparisons[2].difference, None);
        assert_eq!(curriculum.verdict, Verdict::NotRun);
        assert_eq!(claim(&report, "simulator_or_real").verdict, Verdict::Supported);
        assert_eq!(claim(&report, "cost").verdict, Verdict::Supported);
        assert_eq!(claim(&report, "seeds").verdict, Verdict::Described);
    }

    #[test]
    fn arms_are_summed_up_over_seeds() {
        let report = sample(&[2, 1]);
        let arm = &report.arms["simulated"];
        assert_eq!(arm.seeds, [1, 2]);
        assert!((arm.means[&ClaimMetric::ExactMatch].mean - 0.815).abs() < 1e-9);
        let last = arm.curve.last().unwrap();
        assert!((last.mean.validation_exact_match.unwrap() - 0.815).abs() < 1e-9);
        let [low, high] = last.range.unwrap();
        assert!((low - 0.81).abs() < 1e-9 && (high - 0.82).abs() < 1e-9);
        assert_eq!(arm.curve[1].range, None);
        assert_eq!(report.examples.len(), 2);
        assert_eq!(report.commits, ["abc"]);
    }

    #[test]
    fn a_single_seed_decides_nothing() {
        let report = sample(&[1]);
        let undecided = |it: &ClaimReport| {
            matches!(it.verdict, Verdict::Inconclusive | Verdict::NotRun | Verdict::Described)
        };
        assert!(report.claims.iter().all(undecided));
    }
}
