//! The record of a run, read and held against its own chain.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use zs_data::{FileError, read_regular};

use super::line::{Line, StepLine, hash_of, parse, split};
use super::{AUDIT, AuditError};
use crate::environment::Machine;
use crate::files::SUMMARY;

/// A record whose chain holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditRecord {
    /// Lines of the steps that have one, and the machine of each.
    steps: BTreeMap<usize, (StepLine, usize)>,
    machines: Vec<Machine>,
    /// Best step and digests of `best` and `final`, of a finished run.
    pub(super) finished: Option<(usize, String, String)>,
    /// Hash of the last line.
    pub(crate) head: String,
    /// Bytes of the lines of steps.
    num_step_bytes: usize,
}

impl AuditRecord {
    /// Reads the record of a run and follows its chain.
    ///
    /// A last line that was cut short is passed over where the run is not finished.
    ///
    /// # Errors
    ///
    /// Fails without a record, and at the first line that does not follow from those before it.
    pub(crate) fn read(run: &Path) -> Result<Self, AuditError> {
        let path = run.join(AUDIT);
        if !path.exists() {
            return Err(AuditError::NoRecord { run: run.to_owned() });
        }
        let text = read_text(&path)?;
        let is_finished = run.join(SUMMARY).exists();
        let (mut record, mut next) = (Self::default(), 0);
        let mut num_lines = 0;
        for (index, whole) in text.split_inclusive('\n').enumerate() {
            num_lines = index + 1;
            let problem = match whole.strip_suffix('\n') {
                None if is_finished => Err("was cut short"),
                // A process that was killed while it wrote the line.
                None => break,
                Some(line) => record.add(line, &mut next),
            };
            if let Err(problem) = problem {
                let step = step_of(whole).unwrap_or(next);
                return Err(AuditError::Line { step, path, line: num_lines, problem });
            }
        }
        if is_finished && record.finished.is_none() {
            let (step, line) = (next.saturating_sub(1), num_lines);
            let problem = "the record ends here although the run is finished: lines are missing";
            return Err(AuditError::Line { step, path, line, problem });
        }
        Ok(record)
    }

    /// Adds a line; `next` is the step that is expected.
    fn add(&mut self, line: &str, next: &mut usize) -> Result<(), &'static str> {
        const NO_LINE: &str = "not a line of a record";
        let (text, hash) = split(line).ok_or(NO_LINE)?;
        if hash_of(&self.head, text) != hash {
            return Err(
                "its hash does not follow: this line, or one before it, was changed or removed",
            );
        }
        let parsed = parse(text).map_err(|_| NO_LINE)?;
        if self.finished.is_some() {
            return Err("follows the end of the record");
        }
        match parsed {
            Line::Machine(machine) => self.machines.push(machine),
            Line::Step(step) => {
                if step.step != *next {
                    return Err("not the line of the next step");
                }
                let before = next.checked_sub(1).and_then(|it| self.steps.get(&it));
                let ended_with = before.map(|(it, _)| &it.weights);
                if ended_with.is_some() && ended_with != step.weights_before.as_ref() {
                    return Err("begins with other weights than the step before has ended with");
                }
                let machine = self.machines.len().checked_sub(1).ok_or("follows no machine")?;
                self.num_step_bytes += line.len() + 1;
                self.steps.insert(step.step, (step, machine));
                *next = next.saturating_add(1);
            }
            Line::Lost { first, last } => {
                if first != *next || last < first {
                    return Err("not about the next steps");
                }
                *next = last.saturating_add(1);
            }
            Line::Finished { best_step, best, r#final } => {
                self.finished = Some((best_step, best, r#final));
            }
        }
        hash.clone_into(&mut self.head);
        Ok(())
    }

    /// A record of steps, without a chain.
    #[cfg(test)]
    pub(crate) fn of(lines: impl Iterator<Item = StepLine>) -> Self {
        Self { steps: lines.map(|it| (it.step, (it, 0))).collect(), ..Self::default() }
    }

    /// Line of a step.
    pub(crate) fn step(&self, step: usize) -> Option<&StepLine> {
        self.steps.get(&step).map(|(line, _)| line)
    }

    /// Lines of the steps, in order.
    pub(crate) fn steps(&self) -> impl DoubleEndedIterator<Item = &StepLine> {
        self.steps.values().map(|(line, _)| line)
    }

    /// Machine that a step was computed on.
    pub(crate) fn machine(&self, step: usize) -> Option<&Machine> {
        self.steps.get(&step).and_then(|(_, machine)| self.machines.get(*machine))
    }

    /// First of the steps up to the last that have the same digest as it.
    pub(super) fn first_like_last(&self, digest: fn(&StepLine) -> &Option<String>) -> usize {
        let last = self.steps().next_back().map(digest);
        let alike = self.steps().rev().take_while(|it| Some(digest(it)) == last);
        alike.last().map_or(0, |it| it.step)
    }

    /// Mean bytes of the line of a step.
    pub(crate) fn bytes_per_step(&self) -> usize {
        self.num_step_bytes / self.steps.len().max(1)
    }
}

/// Step in a line of any form.
fn step_of(line: &str) -> Option<usize> {
    let (_, rest) = line.split_once("\"step\":")?;
    let end = rest.find(|it: char| !it.is_ascii_digit())?;
    rest[..end].parse().ok()
}

/// The lines of a record with their hashes, up to the first that is none; no lines where there is no
/// record.
pub(super) fn sealed_lines(path: &Path) -> Result<Vec<(Line, String)>, FileError> {
    let text = read_text(path)?;
    let line = |it: &str| {
        let (text, hash) = split(it.strip_suffix('\n')?)?;
        Some((parse(text).ok()?, hash.to_owned()))
    };
    Ok(text.split_inclusive('\n').map_while(line).collect())
}

fn read_text(path: &Path) -> Result<String, FileError> {
    match read_regular(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        // What a power cut leaves need not be text.
        bytes => {
            Ok(String::from_utf8_lossy(&bytes.map_err(FileError::io(path, "be read"))?)
                .into_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    /// Lines of any kind about any step, and text that is none.
    fn any_line() -> impl Strategy<Value = String> {
        let step = prop_oneof![0..4_usize, Just(usize::MAX), any::<usize>()];
        let lines = (step.clone(), step).prop_flat_map(|(a, b)| {
            let (metrics, weights) = ("\"metrics\":\"\"", "\"weights\":\"\"");
            let before = "\"weights_before\":\"\"";
            prop_oneof![
                Just(format!(r#"{{"kind":"step","step":{a},{metrics},{weights},{before}"#)),
                Just(format!(r#"{{"kind":"lost","first":{a},"last":{b}"#)),
                Just(format!(r#"{{"kind":"finished","best_step":{a},"best":"","final":"""#)),
                Just(
                    r#"{"kind":"machine","zs":"","git_commit":"","crates":{},"device":"","platform":"","threads":1"#
                        .to_owned()
                ),
            ]
        });
        prop_oneof![6 => lines, 1 => ".{0,40}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// A stranger's record is accepted or refused, and followed where it is continued.
        #[test]
        fn records_of_strangers_are_read(
            lines in prop::collection::vec(any_line(), 0..8),
            is_chained: bool,
            is_finished: bool,
            done in prop::option::of(0..3_usize),
        ) {
            let scratch = tempfile::tempdir().unwrap();
            let run = crate::files::RunDir::create(&scratch.path().join("run")).unwrap();
            let (mut text, mut previous) = (String::new(), String::new());
            for line in lines {
                previous = if is_chained { hash_of(&previous, &line) } else { previous };
                text += &format!("{line},\"hash\":\"{previous}\"}}\n");
            }
            fs::write(run.join(AUDIT), text).unwrap();
            if is_finished {
                run.write_text(SUMMARY, "{}").unwrap();
            }
            if let Ok(record) = AuditRecord::read(run.path()) {
                prop_assert!(record.steps().all(|it| record.machine(it.step).is_some()));
                let changed_to = None;
                prop_assert!(crate::audit::check_files(run.path(), &record, changed_to).is_err());
            }
            crate::audit::AuditWriter::begin(&run, done, Machine::default()).unwrap();
            fs::remove_file(run.join(SUMMARY)).ok();
            let text = fs::read_to_string(run.join(AUDIT)).unwrap();
            if is_chained && done.is_none() {
                prop_assert_eq!(text.lines().count(), 1);
                prop_assert!(AuditRecord::read(run.path()).is_ok());
            }
        }
    }
}
