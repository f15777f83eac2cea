//! Arms and simulation LLMs over their seeds.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use zs_eval::{Estimate, Summary};
use zs_trainer::alarm::AlarmRecord;

use super::result::{CurvePoint, SeedResult, SimulatorResult};
use super::stats::{SeedMean, seed_mean};
use crate::config::{ArmConfig, ClaimMetric};

/// The scores of one arm on the test questions. With one seed intervals are bootstrapped over
/// questions, with several they are Student's over the means of the seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// Questions a seed.
    pub n: usize,
    /// Exact match.
    pub exact_match: Estimate,
    /// Word-overlap F1.
    pub f1: Estimate,
    /// Searches a question.
    pub num_searches: Estimate,
}

/// One arm over its seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmReport {
    /// The name in tables.
    pub title: String,
    /// Settings that differ from those shared.
    pub config: ArmConfig,
    /// The seeds that are done.
    pub seeds: Vec<u64>,
    /// Each metric, seed by seed.
    pub values: BTreeMap<ClaimMetric, Vec<f64>>,
    /// Their means.
    pub means: BTreeMap<ClaimMetric, SeedMean>,
    /// The scores on all questions.
    pub overall: Scores,
    /// The same by hops.
    pub by_hops: BTreeMap<u8, Scores>,
    /// Seconds of training, mean over seeds.
    pub train_seconds: f64,
    /// Seconds of evaluation, mean over seeds.
    pub eval_seconds: f64,
    /// Alarms of training, with the seed.
    pub alarms: Vec<(u64, AlarmRecord)>,
    /// The steps after which the policies were kept.
    pub best_steps: Vec<usize>,
    /// Training over the seeds.
    pub curve: Vec<BandPoint>,
}

/// One point of a curve over seeds: means, and the lowest and highest validation scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct BandPoint {
    /// The step.
    pub step: usize,
    /// Means over the seeds.
    pub mean: CurvePoint,
    /// The lowest and highest validation exact match of a seed.
    pub range: Option<[f64; 2]>,
}

/// The simulation LLMs with this number of tuning steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SimulatorReport {
    /// Steps of tuning.
    pub steps: usize,
    /// Seeds that are done.
    pub seeds: Vec<u64>,
    /// Seconds of tuning, mean over seeds.
    pub seconds: f64,
    /// The fields of the audit ([`AuditReport`](zs_simulator::audit::AuditReport)), mean over seeds.
    pub audit: BTreeMap<String, f64>,
}

impl Scores {
    pub(super) fn new<'a>(seeds: impl Iterator<Item = &'a Summary>) -> Self {
        let seeds: Vec<&Summary> = seeds.collect();
        let over_seeds = |pick: fn(&Summary) -> Estimate| -> Estimate {
            if let [only] = seeds.as_slice() {
                return pick(only);
            }
            let means: Vec<f64> = seeds.iter().map(|it| pick(it).mean).collect();
            let interval = seed_mean(&means).and_then(|it| it.interval).unwrap_or_default();
            Estimate {
                mean: mean(means.iter().copied()),
                ci_low: interval[0],
                ci_high: interval[1],
            }
        };
        Self {
            n: seeds.first().map_or(0, |it| it.n),
            exact_match: over_seeds(|it| it.exact_match),
            f1: over_seeds(|it| it.f1),
            num_searches: over_seeds(|it| it.num_searches),
        }
    }
}

impl ArmReport {
    pub(super) fn new(config: &ArmConfig, results: &[SeedResult]) -> Self {
        let mut values: BTreeMap<ClaimMetric, Vec<f64>> = BTreeMap::new();
        for result in results {
            for (&metric, &value) in &result.metrics {
                values.entry(metric).or_default().push(value);
            }
        }
        // A metric that some seed lacks would be paired with the wrong seeds.
        values.retain(|_, it| it.len() == results.len());
        let hops = results.iter().flat_map(|it| it.evaluation.by_hops.keys().copied());
        let hops = hops.collect::<BTreeSet<u8>>().into_iter();
        let with_hops = |hop| results.iter().filter_map(move |it| it.evaluation.by_hops.get(&hop));
        let means = values.iter().filter_map(|(&key, it)| Some((key, seed_mean(it)?))).collect();
        Self {
            title: config.title.clone(),
            config: config.clone(),
            seeds: results.iter().map(|it| it.seed).collect(),
            means,
            values,
            overall: Scores::new(results.iter().map(|it| &it.evaluation.overall)),
            by_hops: hops.map(|it| (it, Scores::new(with_hops(it)))).collect(),
            train_seconds: mean(results.iter().map(|it| it.train_seconds)),
            eval_seconds: mean(results.iter().map(|it| it.eval_seconds)),
            alarms: results
                .iter()
                .flat_map(|it| it.alarms.iter().map(|alarm| (it.seed, alarm.clone())))
                .collect(),
            best_steps: results.iter().map(|it| it.best_step).collect(),
            curve: band(results),
        }
    }
}

impl SimulatorReport {
    pub(super) fn new(results: &[SimulatorResult]) -> Self {
        let mut audit: BTreeMap<String, f64> = BTreeMap::new();
        for result in results {
            let fields = serde_json::to_value(result.audit).unwrap_or_default();
            for (name, value) in fields.as_object().into_iter().flatten() {
                let share = value.as_f64().unwrap_or_default() / results.len() as f64;
                *audit.entry(name.clone()).or_default() += share;
            }
        }
        Self {
            steps: results.first().map_or(0, |it| it.steps),
            seeds: results.iter().map(|it| it.seed).collect(),
            seconds: mean(results.iter().map(|it| it.seconds)),
            audit,
        }
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1);
    values.sum::<f64>() / n as f64
}

/// The curves of some seeds as one.
fn band(results: &[SeedResult]) -> Vec<BandPoint> {
    let longest = results.iter().map(|it| it.curve.len()).max().unwrap_or(0);
    let point = |step: usize| {
        let points: Vec<&CurvePoint> = results.iter().filter_map(|it| it.curve.get(step)).collect();
        let values = |pick: fn(&CurvePoint) -> Option<f64>| -> Vec<f64> {
            points.iter().filter_map(|it| pick(it)).collect()
        };
        let of = |pick: fn(&CurvePoint) -> Option<f64>| {
            let values = values(pick);
            (!values.is_empty()).then(|| mean(values.into_iter()))
        };
        let validation = values(|it| it.validation_exact_match);
        let range = validation.iter().copied().reduce(f64::min);
        let range = range.zip(validation.iter().copied().reduce(f64::max));
        BandPoint {
            step,
            mean: CurvePoint {
                step,
                reward: of(|it| it.reward),
                noise_probability: of(|it| it.noise_probability),
                names_entity: of(|it| it.names_entity),
                validation_exact_match: of(|it| it.validation_exact_match),
                simulated_exact_match: of(|it| it.simulated_exact_match),
            },
            range: range.map(|(low, high)| [low, high]),
        }
    };
    (0..longest).map(point).collect()
}
