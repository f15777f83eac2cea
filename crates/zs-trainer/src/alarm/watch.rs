//! Alarms during a run: recorded at every step that they are on, reported once.

use std::collections::BTreeMap;

use zs_data::{FileError, JsonLinesWriter, write_atomic};

use super::{Alarm, AlarmRecord, AlarmsConfig, readings};
use crate::Metrics;
use crate::files::RunDir;

/// File of a run with the alarms that were on.
pub const ALARMS: &str = "alarms.jsonl";

/// Watches the metrics of a run.
#[derive(Debug)]
pub(crate) struct Watch {
    config: AlarmsConfig,
    max_searches: u32,
    history: Vec<Metrics>,
    /// Step since which each alarm that is on has been on.
    on: BTreeMap<Alarm, usize>,
    file: JsonLinesWriter,
}

impl Watch {
    /// Begins with the steps that are done already, none of a new run; `alarms.jsonl` is written for
    /// them anew. Returns what was on.
    pub(crate) fn begin(
        run: Option<&RunDir>,
        config: &AlarmsConfig,
        max_searches: u32,
        done: &[Metrics],
    ) -> Result<(Self, Vec<AlarmRecord>), FileError> {
        let file = match run {
            Some(run) => {
                let path = run.join(ALARMS);
                write_atomic(&path, b"")?;
                JsonLinesWriter::resume(&path, 0)?
            }
            None => JsonLinesWriter::discarding(),
        };
        let (history, on) = (Vec::new(), BTreeMap::new());
        let mut watch = Self { config: config.clone(), max_searches, history, on, file };
        let mut records = Vec::new();
        for metrics in done {
            records.extend(watch.observe(&mut metrics.clone())?);
        }
        Ok((watch, records))
    }

    /// Waits until the file is on the disk.
    pub(crate) fn sync(&mut self) -> Result<(), FileError> {
        self.file.sync()
    }

    /// Looks at the metrics of the next step, adds how many alarms are on, and returns those that are.
    pub(crate) fn observe(&mut self, metrics: &mut Metrics) -> Result<Vec<AlarmRecord>, FileError> {
        let Some(step) = metrics.step() else { return Ok(Vec::new()) };
        // Step 0 does not train, so nothing can have gone wrong.
        if step == 0 {
            return Ok(Vec::new());
        }
        self.history.push(metrics.clone());
        let readings = readings(&self.history, &self.config, self.max_searches);
        self.on.retain(|alarm, _| readings.iter().any(|it| it.alarm == *alarm));
        let mut records = Vec::new();
        for it in readings {
            let since = *self.on.entry(it.alarm).or_insert(step);
            let (alarm, value, threshold) = (it.alarm, it.value, it.threshold);
            records.push(AlarmRecord { step, alarm, value, threshold, since, message: it.message });
        }
        records.iter().try_for_each(|it| self.file.push(it))?;
        metrics.set("alarms/num_on", records.len() as f64);
        Ok(records)
    }
}

/// The alarms that were raised in a run, each where it was: what its `alarms.jsonl` holds less the
/// steps that they stayed on for.
pub(crate) fn raised(records: &[AlarmRecord]) -> Vec<AlarmRecord> {
    records.iter().filter(|it| it.is_raised()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(step: usize, entropy: f64) -> Metrics {
        let mut metrics = Metrics::of_step(step);
        metrics.set("actor/entropy", entropy);
        metrics
    }

    #[test]
    fn an_alarm_is_raised_once_and_again_after_it_was_off() {
        let scratch = tempfile::tempdir().unwrap();
        let run = RunDir::create(&scratch.path().join("run")).unwrap();
        let config = AlarmsConfig { window: 1, ..AlarmsConfig::default() };
        let (mut watch, _) = Watch::begin(Some(&run), &config, 3, &[]).unwrap();
        let entropies = [0.5, 0.0, 0.0, 0.5, 0.0];
        let mut history = vec![Metrics::of_step(0)];
        history.extend(entropies.iter().enumerate().map(|(at, it)| metrics(at + 1, *it)));
        let mut records = Vec::new();
        for metrics in &mut history {
            records.extend(watch.observe(metrics).unwrap());
        }
        let steps: Vec<(usize, usize)> = records.iter().map(|it| (it.step, it.since)).collect();
        assert_eq!(steps, [(2, 2), (3, 2), (5, 5)]);
        assert_eq!(raised(&records).len(), 2);
        assert_eq!(history[0].get("alarms/num_on"), None);
        assert_eq!(history[3].get("alarms/num_on"), Some(1.0));
        assert_eq!(history[4].get("alarms/num_on"), Some(0.0));

        let written = std::fs::read_to_string(run.join(ALARMS)).unwrap();
        let read: Vec<AlarmRecord> =
            written.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
        assert_eq!(read, records);
        // A run that resumes after step 4 is where an uninterrupted one would be.
        let (mut resumed, before) = Watch::begin(Some(&run), &config, 3, &history[..5]).unwrap();
        assert_eq!(before, records[..2]);
        resumed.observe(&mut metrics(5, 0.0)).unwrap();
        assert_eq!(std::fs::read_to_string(run.join(ALARMS)).unwrap(), written);
    }
}
