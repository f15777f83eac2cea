//! The record of a run that is being made.

use std::path::{Path, PathBuf};

use zs_data::{FileError, JsonLinesWriter, digest};
use zs_rl::RewardedTrajectory;

use super::line::{Line, StepLine, of_list};
use super::record::sealed_lines;
use super::{AUDIT, files};
use crate::environment::{self, Machine};
use crate::files::RunDir;
use crate::metrics::Metrics;
use crate::rollouts::RecordedGroup;

/// Writer of the record of a run; without a run directory, nothing is digested.
#[derive(Debug)]
pub(crate) struct AuditWriter {
    file: JsonLinesWriter,
    path: PathBuf,
    is_on: bool,
    /// Hash of the last line; empty before the first.
    previous: String,
    /// Digests of what all steps of this process have in common.
    common: StepLine,
    /// Digest of the weights that the next step begins with.
    weights: Option<String>,
    /// Digests of the step so far.
    step: StepLine,
}

impl AuditWriter {
    /// Creates the record of a run that is kept in memory: none.
    pub(crate) fn discarding() -> Self {
        Self {
            file: JsonLinesWriter::discarding(),
            path: PathBuf::new(),
            is_on: false,
            previous: String::new(),
            common: StepLine::default(),
            weights: None,
            step: StepLine::default(),
        }
    }

    /// Continues the record of a run after the step `done`, or begins it.
    ///
    /// Lines of later steps are removed. Where lines of `done` or earlier steps are lost, a line says
    /// so; where the machine is another than before, a line describes it.
    pub(crate) fn begin(
        run: &RunDir,
        done: Option<usize>,
        machine: Machine,
    ) -> Result<Self, FileError> {
        let path = run.join(AUDIT);
        let mut kept = sealed_lines(&path)?;
        let is_kept = |line: &Line| line.last_step().is_some_and(|it| Some(it) <= done);
        let num_kept = kept.iter().rposition(|(line, _)| is_kept(line)).map_or(0, |it| it + 1);
        kept.truncate(num_kept);
        let file = JsonLinesWriter::resume(&path, num_kept)?;
        let common = StepLine {
            run_file: files::run_file_of(run.path())?,
            data: environment::data_of(run.path())?.map(of_list),
            ..StepLine::default()
        };
        let previous = kept.last().map(|(_, hash)| hash.clone()).unwrap_or_default();
        let mut writer = Self { file, path, is_on: true, previous, common, ..Self::discarding() };
        let machines = kept.iter().rev().find_map(|(line, _)| match line {
            Line::Machine(machine) => Some(machine),
            _ => None,
        });
        if machines != Some(&machine) {
            writer.push(&Line::Machine(machine))?;
        }
        let next = kept.last().and_then(|(line, _)| line.last_step()).map_or(0, |it| it + 1);
        if let Some(last) = done.filter(|it| *it >= next) {
            writer.push(&Line::Lost { first: next, last })?;
        }
        Ok(writer)
    }

    /// Returns true if digests are wanted.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Takes the weights that the next step begins with.
    pub(crate) fn begin_with(&mut self, weights: [u8; 32]) {
        self.weights = Some(digest::hexadecimal(&weights));
    }

    /// Takes the rewards of a step, and the digest of the file of its episodes where they are recorded.
    pub(crate) fn episodes(&mut self, groups: &[RecordedGroup], file: Option<String>) {
        if self.is_on {
            self.step.rewards = Some(rewards_digest(groups));
            self.step.episodes = file;
        }
    }

    /// Takes what a step has learned: its gradients, and the weights after it.
    pub(crate) fn learned(
        &mut self,
        gradients: Option<[u8; 32]>,
        weights: [u8; 32],
        value_weights: Option<[u8; 32]>,
    ) {
        self.step.gradients = gradients.map(|it| digest::hexadecimal(&it));
        self.step.value_weights = value_weights.map(|it| digest::hexadecimal(&it));
        self.step.weights_before = self.weights.replace(digest::hexadecimal(&weights));
    }

    /// Writes the line of a step.
    pub(crate) fn end_step(&mut self, step: usize, metrics: &Metrics) -> Result<(), FileError> {
        if !self.is_on {
            return Ok(());
        }
        let StepLine { run_file, data, .. } = self.common.clone();
        let taken = std::mem::take(&mut self.step);
        let line = serde_json::to_vec(metrics).map_err(|it| self.no_json(it))?;
        let metrics = digest::of_bytes(&line);
        let weights = self.weights.clone().unwrap_or_default();
        self.push(&Line::Step(StepLine { step, run_file, data, metrics, weights, ..taken }))
    }

    /// Writes the last line of a finished run, whose models are saved.
    pub(crate) fn finish(&mut self, run: &Path, best_step: usize) -> Result<(), FileError> {
        let of_model = |name: &str| files::of_dir(&run.join("checkpoints").join(name));
        let (best, r#final) = (of_model("best")?, of_model("final")?);
        self.push(&Line::Finished { best_step, best, r#final })
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync(&mut self) -> Result<(), FileError> {
        self.file.sync()
    }

    fn push(&mut self, line: &Line) -> Result<(), FileError> {
        let (text, hash) = line.seal(&self.previous).map_err(|it| self.no_json(it))?;
        self.file.push_bytes(text.as_bytes())?;
        self.previous = hash;
        Ok(())
    }

    fn no_json(&self, source: serde_json::Error) -> FileError {
        FileError::Json { path: self.path.clone(), source }
    }
}

/// Digest of the rewards of a step, in the order of its episodes.
pub(crate) fn rewards_digest(groups: &[RecordedGroup]) -> String {
    let episodes = groups.iter().flat_map(|it| &it.group.trajectories);
    let bytes = |it: &RewardedTrajectory| it.reward.total.to_le_bytes();
    digest::of_bytes(&episodes.flat_map(bytes).collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::super::record::AuditRecord;
    use super::*;

    fn machine(threads: usize) -> Machine {
        let mut machine = Machine::default();
        machine.threads = threads;
        machine
    }

    /// Writes the lines of some steps; the weights are those of `seed` and the step.
    fn write(run: &RunDir, done: Option<usize>, threads: usize, steps: &[usize]) {
        let mut writer = AuditWriter::begin(run, done, machine(threads)).unwrap();
        writer.begin_with([*steps.first().unwrap_or(&0) as u8; 32]);
        for &step in steps {
            if step > 0 {
                writer.learned(None, [step as u8 + 1; 32], None);
            }
            writer.end_step(step, &Metrics::of_step(step)).unwrap();
        }
    }

    fn kinds(run: &RunDir) -> Vec<String> {
        let text = std::fs::read_to_string(run.join(AUDIT)).unwrap();
        let kind = |it: &str| {
            let line: serde_json::Value = serde_json::from_str(it).unwrap();
            let last = line.get("step").or(line.get("last")).map(|it| format!(" {it}"));
            line["kind"].as_str().unwrap().to_owned() + &last.unwrap_or_default()
        };
        text.lines().map(kind).collect()
    }

    #[test]
    fn a_record_is_continued_where_the_checkpoint_was() {
        let scratch = tempfile::tempdir().unwrap();
        let run = RunDir::create(&scratch.path().join("run")).unwrap();
        write(&run, None, 2, &[0, 1, 2, 3]);
        let whole = std::fs::read(run.join(AUDIT)).unwrap();
        assert_eq!(kinds(&run), ["machine", "step 0", "step 1", "step 2", "step 3"]);
        // What a killed process leaves.
        let mut torn = whole.clone();
        torn.truncate(whole.len() - 30);
        for damaged in [torn, [&whole[..], b"{\"kind\":\"step\",\"st"].concat()] {
            std::fs::write(run.join(AUDIT), damaged).unwrap();
            write(&run, Some(1), 2, &[2, 3]);
            assert!(std::fs::read(run.join(AUDIT)).unwrap() == whole);
        }
        write(&run, None, 2, &[0, 1, 2, 3]);
        assert!(std::fs::read(run.join(AUDIT)).unwrap() == whole);
        // Another machine, and lines that are lost.
        write(&run, Some(2), 3, &[3]);
        write(&run, Some(2), 3, &[3]);
        assert_eq!(kinds(&run), ["machine", "step 0", "step 1", "step 2", "machine", "step 3"]);
        AuditRecord::read(run.path()).unwrap();
        std::fs::remove_file(run.join(AUDIT)).unwrap();
        write(&run, Some(2), 2, &[3]);
        assert_eq!(kinds(&run), ["machine", "lost 2", "step 3"]);
        write(&run, Some(5), 2, &[6]);
        assert_eq!(kinds(&run), ["machine", "lost 2", "step 3", "lost 5", "step 6"]);
        AuditRecord::read(run.path()).unwrap();
    }
}
