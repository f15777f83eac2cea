//! Curricula as they are written in run files.

use serde::{Deserialize, Serialize};

use crate::{
    ConstantCurriculum, Curriculum, ExponentialCurriculum, FeedbackConfig, FeedbackCurriculum,
    LinearCurriculum, PerTurnCurriculum, PiecewiseCurriculum, Point, ReverseCurriculum, Stage,
    StepCurriculum,
};

/// Which curriculum to use; `kind` names the variant and unknown keys are refused.
///
/// ```toml
/// [curriculum]
/// kind = "exponential"
/// start = 0.0
/// end = 0.5
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum CurriculumConfig {
    /// Always the same probability: [`ConstantCurriculum`].
    Constant {
        /// The noise probability.
        probability: f64,
    },
    /// A straight line: [`LinearCurriculum`].
    Linear {
        /// Noise probability at the start.
        start: f64,
        /// Noise probability at the end.
        end: f64,
    },
    /// ZeroSearch's curve: [`ExponentialCurriculum`].
    Exponential {
        /// Noise probability at the start.
        start: f64,
        /// Noise probability at the end.
        end: f64,
        /// Base of the exponential; the paper's 4 unless said.
        #[serde(default = "paper_base")]
        base: f64,
    },
    /// Constant stretches: [`StepCurriculum`].
    Step {
        /// The stretches, in order; the first begins at 0.
        stages: Vec<Stage>,
    },
    /// Straight pieces: [`PiecewiseCurriculum`].
    Piecewise {
        /// The corners, in order.
        points: Vec<Point>,
    },
    /// Another curriculum from its end to its start: [`ReverseCurriculum`].
    Reverse {
        /// The other one.
        curriculum: Box<CurriculumConfig>,
    },
    /// Another curriculum, scaled turn by turn: [`PerTurnCurriculum`].
    PerTurn {
        /// The other one.
        curriculum: Box<CurriculumConfig>,
        /// One factor a turn; the last holds for all later turns.
        factors: Vec<f64>,
    },
    /// More noise while episodes succeed: [`FeedbackCurriculum`].
    Feedback(FeedbackConfig),
}

/// Why a curriculum's settings make no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CurriculumError {
    /// A probability is not one.
    #[error("curriculum.{field} is {value}; give a probability between 0 and 1")]
    Probability {
        /// The key.
        field: String,
        /// Its value.
        value: f64,
    },
    /// The base of the exponential is not positive and finite.
    #[error("curriculum.base is {value}; give a positive number, e.g. 4 (1 is a straight line)")]
    Base {
        /// The value.
        value: f64,
    },
    /// A step curriculum has no stage at all.
    #[error("curriculum.stages is empty; give at least {{ from = 0.0, probability = … }}")]
    NoStages,
    /// A stage begins at the wrong place.
    #[error("curriculum.stages[{index}].from is {value}; stages begin at 0 and rise, each below 1")]
    StageOrder {
        /// Which stage, from 0.
        index: usize,
        /// Its `from`.
        value: f64,
    },
    /// A piecewise curriculum has no point at all.
    #[error("curriculum.points is empty; give at least {{ at = 0.0, probability = … }}")]
    NoPoints,
    /// A point lies at the wrong place.
    #[error("curriculum.points[{index}].at is {value}; points rise between 0 and 1")]
    PointOrder {
        /// Which point, from 0.
        index: usize,
        /// Its `at`.
        value: f64,
    },
    /// A curriculum by turns has no factor at all.
    #[error("curriculum.factors is empty; give one a turn, e.g. [1.0, 0.5]")]
    NoFactors,
    /// A factor of a turn is not one.
    #[error("curriculum.factors[{index}] is {value}; give a number of at least 0")]
    Factor {
        /// Which factor, from 0.
        index: usize,
        /// Its value.
        value: f64,
    },
    /// A feedback curriculum ends below its start.
    #[error("curriculum.end is {end}, below curriculum.start, {start}; noise rises to the end")]
    FeedbackRange {
        /// Its start.
        start: f64,
        /// Its end.
        end: f64,
    },
    /// A feedback curriculum averages nothing.
    #[error("curriculum.window is 0; average over at least 1 step")]
    FeedbackWindow,
    /// A feedback curriculum was to be reversed.
    #[error("a feedback curriculum does not follow the step, so it has no reverse")]
    FeedbackReversed,
}

impl CurriculumConfig {
    /// Checks the settings and builds the curriculum.
    ///
    /// # Errors
    ///
    /// Fails when a probability is outside of `[0, 1]`, the base is not positive, or stages are
    /// missing or out of order; the message names the key.
    pub fn build(&self) -> Result<Box<dyn Curriculum>, CurriculumError> {
        Ok(match self {
            Self::Constant { probability } => Box::new(ConstantCurriculum::new(*probability)?),
            Self::Linear { start, end } => Box::new(LinearCurriculum::new(*start, *end)?),
            Self::Exponential { start, end, base } => {
                Box::new(ExponentialCurriculum::new(*start, *end, *base)?)
            }
            Self::Step { stages } => Box::new(StepCurriculum::new(stages.clone())?),
            Self::Piecewise { points } => Box::new(PiecewiseCurriculum::new(points.clone())?),
            Self::Reverse { curriculum } if curriculum.follows_success() => {
                return Err(CurriculumError::FeedbackReversed);
            }
            Self::Reverse { curriculum } => Box::new(ReverseCurriculum::new(curriculum.build()?)),
            Self::PerTurn { curriculum, factors } => {
                Box::new(PerTurnCurriculum::new(curriculum.build()?, factors.clone())?)
            }
            Self::Feedback(config) => Box::new(FeedbackCurriculum::new(*config)?),
        })
    }

    /// Whether the curriculum depends on recorded success rates.
    #[must_use]
    pub fn follows_success(&self) -> bool {
        match self {
            Self::Feedback(_) => true,
            Self::Reverse { curriculum } | Self::PerTurn { curriculum, .. } => {
                curriculum.follows_success()
            }
            Self::Constant { .. }
            | Self::Linear { .. }
            | Self::Exponential { .. }
            | Self::Step { .. }
            | Self::Piecewise { .. } => false,
        }
    }
}

/// The value if it is a probability.
pub(crate) fn probability(field: &str, value: f64) -> Result<f64, CurriculumError> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(CurriculumError::Probability { field: field.to_owned(), value })
    }
}

fn paper_base() -> f64 {
    ExponentialCurriculum::PAPER_BASE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Progress;

    const FEEDBACK: FeedbackConfig =
        FeedbackConfig { start: 0.0, end: 0.5, threshold: 0.6, rise: 0.02, fall: 0.0, window: 1 };

    #[track_caller]
    fn check_reads(text: &str, expected: &CurriculumConfig) {
        let config: CurriculumConfig = toml::from_str(text).unwrap();
        assert_eq!(&config, expected);
        let again: CurriculumConfig = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
        assert!(config.build().is_ok());
    }

    #[test]
    fn reads_every_kind() {
        check_reads(
            "kind = \"constant\"\nprobability = 0.5",
            &CurriculumConfig::Constant { probability: 0.5 },
        );
        check_reads(
            "kind = \"linear\"\nstart = 0.25\nend = 0.5",
            &CurriculumConfig::Linear { start: 0.25, end: 0.5 },
        );
        check_reads(
            "kind = \"exponential\"\nstart = 0.0\nend = 0.75",
            &CurriculumConfig::Exponential { start: 0.0, end: 0.75, base: 4.0 },
        );
        check_reads(
            "kind = \"step\"\nstages = [{ from = 0.0, probability = 0.1 }]",
            &CurriculumConfig::Step { stages: vec![Stage { from: 0.0, probability: 0.1 }] },
        );
        check_reads(
            "kind = \"piecewise\"\npoints = [{ at = 0.5, probability = 0.1 }]",
            &CurriculumConfig::Piecewise { points: vec![Point { at: 0.5, probability: 0.1 }] },
        );
        let line = Box::new(CurriculumConfig::Linear { start: 0.0, end: 0.5 });
        check_reads(
            "kind = \"reverse\"\ncurriculum = { kind = \"linear\", start = 0.0, end = 0.5 }",
            &CurriculumConfig::Reverse { curriculum: line.clone() },
        );
        check_reads(
            "kind = \"per_turn\"\nfactors = [1.0, 0.5]\n\
             curriculum = { kind = \"linear\", start = 0.0, end = 0.5 }",
            &CurriculumConfig::PerTurn { curriculum: line, factors: vec![1.0, 0.5] },
        );
        check_reads(
            "kind = \"feedback\"\nstart = 0.0\nend = 0.5\nthreshold = 0.6\nrise = 0.02",
            &CurriculumConfig::Feedback(FEEDBACK),
        );
    }

    #[track_caller]
    fn check_refuses(text: &str, expected: &str) {
        let message = match toml::from_str::<CurriculumConfig>(text) {
            Ok(config) => config.build().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(message.contains(expected), "`{message}` does not say `{expected}`");
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        check_refuses("kind = \"sawtooth\"", "sawtooth");
        check_refuses("kind = \"linear\"\nstart = 0.0", "end");
        check_refuses("kind = \"constant\"\nprobability = 0.5\nbias = 1.0", "bias");
        check_refuses("kind = \"step\"\nstages = [{ from = 0.0, probability = 0.1, x = 1 }]", "x");
        check_refuses("kind = \"constant\"\nprobability = 1.5", "curriculum.probability is 1.5");
        check_refuses("kind = \"linear\"\nstart = nan\nend = 0.5", "curriculum.start is NaN");
        check_refuses("kind = \"linear\"\nstart = 0.0\nend = -0.5", "curriculum.end is -0.5");
        check_refuses("kind = \"exponential\"\nstart = 0.0\nend = 0.5\nbase = 0.0", "base is 0");
        check_refuses("kind = \"exponential\"\nstart = 0.0\nend = 0.5\nbase = inf", "base is inf");
        check_refuses("kind = \"step\"\nstages = []", "stages is empty");
        check_refuses(
            "kind = \"step\"\nstages = [{ from = 0.1, probability = 0.1 }]",
            "stages[0].from is 0.1",
        );
        check_refuses(
            "kind = \"step\"\nstages = [{ from = 0.0, probability = 2.0 }]",
            "stages[0].probability is 2",
        );
        check_refuses("kind = \"piecewise\"\npoints = []", "points is empty");
        check_refuses(
            "kind = \"per_turn\"\nfactors = [1.0]\n\
             curriculum = { kind = \"constant\", probability = 2.0 }",
            "curriculum.probability is 2",
        );
        check_refuses(
            "kind = \"reverse\"\ncurriculum = { kind = \"feedback\", start = 0.0, end = 0.5, \
             threshold = 0.6, rise = 0.02 }",
            "no reverse",
        );
        check_refuses(
            "kind = \"feedback\"\nstart = 0.0\nend = 0.5\nthreshold = 0.6\nrise = 0.1\nx = 1",
            "x",
        );
    }

    fn config() -> impl Strategy<Value = CurriculumConfig> {
        let unit = || 0.0..=1.0;
        let simple = prop_oneof![
            unit().prop_map(|probability| CurriculumConfig::Constant { probability }),
            (unit(), unit()).prop_map(|(start, end)| CurriculumConfig::Linear { start, end }),
            (unit(), unit(), -300.0..300.0).prop_map(|(start, end, exponent)| {
                CurriculumConfig::Exponential { start, end, base: 10_f64.powf(exponent) }
            }),
            proptest::collection::vec(unit(), 1..5).prop_map(|probabilities| {
                let count = probabilities.len() as f64;
                let stages = probabilities.into_iter().enumerate();
                let stages = stages
                    .map(|(index, probability)| Stage { from: index as f64 / count, probability })
                    .collect();
                CurriculumConfig::Step { stages }
            }),
            proptest::collection::vec(unit(), 1..5).prop_map(|probabilities| {
                let count = probabilities.len() as f64;
                let points = probabilities.into_iter().enumerate();
                let points = points
                    .map(|(index, probability)| Point { at: index as f64 / count, probability })
                    .collect();
                CurriculumConfig::Piecewise { points }
            }),
            (unit(), unit(), unit(), unit(), unit(), 1_usize..6).prop_map(
                |(a, b, threshold, rise, fall, window)| {
                    let (start, end) = (f64::min(a, b), f64::max(a, b));
                    let config = FeedbackConfig { start, end, threshold, rise, fall, window };
                    CurriculumConfig::Feedback(config)
                }
            ),
        ];
        simple.prop_recursive(2, 4, 1, |inner| {
            let factors = proptest::collection::vec(0.0..10.0_f64, 1..4);
            prop_oneof![
                (inner.clone(), factors).prop_map(|(curriculum, factors)| {
                    CurriculumConfig::PerTurn { curriculum: Box::new(curriculum), factors }
                }),
                inner.prop_map(|it| match it.follows_success() {
                    true => it,
                    false => CurriculumConfig::Reverse { curriculum: Box::new(it) },
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn always_a_probability(
            config in config(), step in 0_usize..300, total in 0_usize..250, turn in 0_u32..9,
            rates in proptest::collection::vec(0.0..=1.0_f64, 0..20),
        ) {
            let curriculum = config.build().unwrap();
            let progress = Progress::new(step, total).at_turn(turn).after(&rates);
            let p = curriculum.noise_probability(progress);
            prop_assert!((0.0..=1.0).contains(&p), "{} from {:?}", p, config);
            prop_assert_eq!(curriculum.noise_probability(progress), p);
            if !config.follows_success() {
                prop_assert_eq!(curriculum.noise_probability(progress.after(&[])), p);
            }
        }

        #[test]
        fn what_is_written_reads_back(config in config()) {
            let text = toml::to_string(&config).unwrap();
            prop_assert_eq!(toml::from_str::<CurriculumConfig>(&text).unwrap(), config);
        }

        #[test]
        fn ramps_are_monotone_between_their_ends(
            start in 0.0..=1.0_f64, end in 0.0..=1.0_f64, exponent in -8.0..8.0_f64, total in 1_usize..100,
        ) {
            let base = 10_f64.powf(exponent);
            for config in [
                CurriculumConfig::Linear { start, end },
                CurriculumConfig::Exponential { start, end, base },
            ] {
                let curriculum = config.build().unwrap();
                let path: Vec<f64> = (0..=total)
                    .map(|step| curriculum.noise_probability(Progress::new(step, total)))
                    .collect();
                prop_assert!((path[0] - start).abs() < 1e-12);
                prop_assert!((path[total] - end).abs() < 1e-12);
                let direction = (end - start).signum();
                for pair in path.windows(2) {
                    prop_assert!((pair[1] - pair[0]) * direction >= -1e-12, "{:?}", path);
                }
            }
        }
    }
}
