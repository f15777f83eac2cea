//! Learning curves of the preset's runs.

use std::path::Path;

use serde::{Deserialize, Serialize};
use zs_data::RowReader;
use zs_observe::{Chart, Mark, Series};
use zs_trainer::Metrics;

use crate::error::Result;
use crate::page::{moving_mean, over_training};

/// Rewards and validation scores of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// Stage.
    pub stage: String,
    /// Step and mean reward of its episodes.
    pub reward: Vec<(f64, f64)>,
    /// Step and F1 of greedy answers to the validation questions.
    pub validation_f1: Vec<(f64, f64)>,
}

impl Curve {
    /// Reads the metrics of a run; none where it has not begun.
    pub(super) fn read(stage: &str, run: &Path) -> Result<Option<Self>> {
        let path = run.join("metrics.jsonl");
        if !path.exists() {
            return Ok(None);
        }
        let reader = RowReader::new("row of metrics").with_finished_lines();
        let rows: Vec<Metrics> = reader.open(&path)?.collect_all()?;
        let points = |key: &str| {
            let point = |it: &Metrics| Some((it.step()? as f64, it.get(key)?));
            rows.iter().filter_map(point).collect()
        };
        Ok(Some(Self {
            stage: stage.to_owned(),
            reward: points("reward/mean"),
            validation_f1: points("validation/f1"),
        }))
    }
}

/// Rewards (a moving mean) and validation scores (broken lines) of all runs.
pub(super) fn learning(curves: &[Curve]) -> Chart {
    let lines = curves.iter().flat_map(|it| {
        let line = |what: &str, points: Vec<(f64, f64)>, mark| Series {
            name: format!("{what}, {}", it.stage),
            points,
            mark,
            ..Series::default()
        };
        [
            line("reward", moving_mean(&it.reward), Mark::Line),
            line("validation F1", it.validation_f1.clone(), Mark::Dashes),
        ]
    });
    let mut chart = over_training("reward / F1", lines);
    let highest = chart.series.iter().flat_map(|it| &it.points).map(|it| it.1).fold(0.0, f64::max);
    chart.top = (highest * 1.2).clamp(0.1, 1.0);
    chart
}
