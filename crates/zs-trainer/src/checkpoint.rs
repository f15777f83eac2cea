//! Checkpoints of a run, written atomically, with a manifest that reveals damaged ones.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zs_core::with_causes;
use zs_data::{FileError, digest, read_json, write_json};

use crate::files::{RunDir, files_below, numbers_in};
use crate::{RunContext, RunDirError};

const MANIFEST: &str = "manifest.json";
const PREFIX: &str = "step-";
const PARTIAL: &str = ".partial";

/// The checkpoints of one run: `checkpoints/step-000120` and so on, the newest few of them.
///
/// A checkpoint is filled in a directory of another name, synced to the disk, and renamed, so a crash
/// leaves only complete ones. Later damage of the disk shows in the sizes and hashes of the manifest.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoints {
    dir: PathBuf,
    keep_last: usize,
}

/// Files of a checkpoint, by path inside it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    files: BTreeMap<String, Entry>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    bytes: u64,
    sha256: String,
}

impl Checkpoints {
    /// The checkpoints of a run, of which the newest `keep_last` (at least one) are kept.
    pub(crate) fn of(run: &RunDir, keep_last: usize) -> Self {
        Self { keep_last: keep_last.max(1), ..Self::in_dir(run.path()) }
    }

    /// Checkpoints of a run directory, to be read only.
    pub(crate) fn in_dir(run: &Path) -> Self {
        Self { dir: run.join("checkpoints"), keep_last: usize::MAX }
    }

    /// Writes the checkpoint of a step; `fill` puts its files into the directory that it is given.
    ///
    /// # Errors
    ///
    /// Fails when `fill` does or the disk is full; earlier checkpoints are then as they were.
    pub(crate) fn write(
        &self,
        step: usize,
        fill: impl FnOnce(&Path) -> Result<(), RunDirError>,
    ) -> Result<(), RunDirError> {
        let place = self.place(step);
        let partial = self.dir.join(format!("{PREFIX}{step:06}{PARTIAL}"));
        let cannot_write = FileError::io(&place, "write the checkpoint");
        remove(&partial).and_then(|()| fs::create_dir_all(&partial)).map_err(&cannot_write)?;
        let written = fill(&partial).and_then(|()| seal(&partial));
        if let Err(error) = written {
            // What is left of it must not fill the disk further.
            let _ = fs::remove_dir_all(&partial);
            return Err(RunDirError::Checkpoint { path: place.clone(), source: Box::new(error) });
        }
        remove(&place)
            .and_then(|()| fs::rename(&partial, &place))
            .and_then(|()| sync(&self.dir))
            .map_err(cannot_write)?;
        Ok(self.prune(step)?)
    }

    /// Newest complete checkpoint and its step; `None` where none was ever written. Newer ones that are
    /// damaged are reported on the console.
    ///
    /// # Errors
    ///
    /// Fails when all are damaged.
    pub(crate) fn newest(
        &self,
        context: &RunContext,
    ) -> Result<Option<(usize, PathBuf)>, RunDirError> {
        self.newest_before(usize::MAX, context)
    }

    /// [`newest`](Self::newest) among those of earlier steps than `limit`.
    ///
    /// # Errors
    ///
    /// As [`newest`](Self::newest).
    pub(crate) fn newest_before(
        &self,
        limit: usize,
        context: &RunContext,
    ) -> Result<Option<(usize, PathBuf)>, RunDirError> {
        let mut found = self.steps()?;
        found.retain(|it| *it < limit);
        found.reverse();
        if found.is_empty() {
            return Ok(None);
        }
        for step in found {
            let place = self.place(step);
            match check(&place) {
                Ok(()) => return Ok(Some((step, place))),
                Err(error) => {
                    let error = with_causes(&error);
                    context.note(&format!("skipping a damaged checkpoint: {error}"));
                }
            }
        }
        Err(RunDirError::NoCheckpoint { dir: self.dir.clone() })
    }

    fn place(&self, step: usize) -> PathBuf {
        self.dir.join(format!("{PREFIX}{step:06}"))
    }

    /// The steps that have a checkpoint, oldest first.
    fn steps(&self) -> Result<Vec<usize>, FileError> {
        numbers_in(&self.dir, PREFIX, "")
    }

    /// Removes old checkpoints, and those of later steps that a resumed run leaves behind.
    fn prune(&self, step: usize) -> Result<(), FileError> {
        let (kept, later): (Vec<usize>, Vec<usize>) =
            self.steps()?.into_iter().partition(|it| *it <= step);
        let old = kept.len().saturating_sub(self.keep_last);
        for step in kept[..old].iter().chain(&later) {
            let place = self.place(*step);
            remove(&place).map_err(FileError::io(&place, "remove an old checkpoint"))?;
        }
        Ok(())
    }
}

/// Writes the manifest of a directory and syncs all of it to the disk.
fn seal(dir: &Path) -> Result<(), RunDirError> {
    let mut files = BTreeMap::new();
    for path in files_below(dir)? {
        files.insert(name_in(dir, &path), entry(&path)?);
        sync(&path).map_err(FileError::io(&path, "write"))?;
    }
    let manifest = dir.join(MANIFEST);
    write_json(&manifest, &Manifest { files })?;
    sync(&manifest).and_then(|()| sync(dir)).map_err(FileError::io(&manifest, "write"))?;
    Ok(())
}

/// Compares a directory with its manifest.
fn check(dir: &Path) -> Result<(), RunDirError> {
    let manifest: Manifest = read_json(&dir.join(MANIFEST))?;
    for (name, expected) in &manifest.files {
        let path = dir.join(name);
        let found = entry(&path)?;
        if found.bytes != expected.bytes {
            let (found, expected) = (found.bytes, expected.bytes);
            return Err(RunDirError::Size { path, found, expected });
        }
        if found != *expected {
            return Err(RunDirError::Digest { path });
        }
    }
    Ok(())
}

fn entry(path: &Path) -> Result<Entry, FileError> {
    let bytes = fs::metadata(path).map_err(FileError::io(path, "be read"))?.len();
    Ok(Entry { bytes, sha256: digest::of_file(path)? })
}

fn name_in(dir: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(dir).unwrap_or(path);
    let parts: Vec<_> = inside.iter().map(|it| it.to_string_lossy()).collect();
    parts.join("/")
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoints(scratch: &Path) -> Checkpoints {
        Checkpoints::of(&RunDir::create(&scratch.join("run")).unwrap(), 2)
    }

    fn write(checkpoints: &Checkpoints, step: usize) {
        let fill = |dir: &Path| {
            fs::create_dir(dir.join("model")).unwrap();
            fs::write(dir.join("model/weights"), format!("weights {step}")).unwrap();
            fs::write(dir.join("state"), "state").unwrap();
            Ok(())
        };
        checkpoints.write(step, fill).unwrap();
    }

    #[track_caller]
    fn check_newest(checkpoints: &Checkpoints, expected: Option<usize>) {
        let newest = checkpoints.newest(&RunContext::default());
        assert_eq!(newest.ok().flatten().map(|it| it.0), expected);
    }

    #[test]
    fn the_newest_are_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(scratch.path());
        check_newest(&checkpoints, None);
        for step in [2, 4, 10, 9] {
            write(&checkpoints, step);
        }
        // Step 9 came after step 10, so step 10 belongs to a run that is being done again.
        assert_eq!(checkpoints.steps().unwrap(), [4, 9]);
        check_newest(&checkpoints, Some(9));
    }

    #[test]
    fn damaged_ones_are_passed_over() {
        type Damage = fn(&Path);
        let damages: [Damage; 5] = [
            |dir| fs::write(dir.join("model/weights"), "weights 5").unwrap(),
            |dir| fs::write(dir.join("model/weights"), "weigh").unwrap(),
            |dir| fs::remove_file(dir.join("state")).unwrap(),
            |dir| fs::remove_file(dir.join(MANIFEST)).unwrap(),
            |dir| fs::write(dir.join(MANIFEST), "{").unwrap(),
        ];
        for damage in damages {
            let scratch = tempfile::tempdir().unwrap();
            let checkpoints = checkpoints(scratch.path());
            write(&checkpoints, 3);
            write(&checkpoints, 4);
            damage(&checkpoints.place(4));
            check_newest(&checkpoints, Some(3));
            // The step is done again and replaces what was damaged.
            write(&checkpoints, 4);
            check_newest(&checkpoints, Some(4));
        }
    }

    #[test]
    fn a_failed_one_leaves_nothing_behind() {
        let scratch = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(scratch.path());
        write(&checkpoints, 1);
        let fill = |dir: &Path| {
            fs::write(dir.join("state"), "half").unwrap();
            let full = io::Error::from(io::ErrorKind::StorageFull);
            Err(FileError::io(&dir.join("state"), "write")(full).into())
        };
        let message = with_causes(&checkpoints.write(2, fill).unwrap_err());
        assert!(
            message.contains("step-000002") && message.contains("no storage space"),
            "{message}"
        );
        assert_eq!(fs::read_dir(&checkpoints.dir).unwrap().count(), 1);
        check_newest(&checkpoints, Some(1));
    }
}
