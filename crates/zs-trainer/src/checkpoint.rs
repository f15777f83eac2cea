//! Checkpoints of a run, written atomically, with a manifest that reveals damaged ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zs_core::with_causes;
use zs_data::{
    FileError, count_whole_lines, create_dir, digest, open_regular, read_json, sync_dir, write_json,
};

use crate::RunContext;
use crate::files::{CONFIG, RunDir, entries_below, numbers_in};
use crate::run_dir_error::RunDirError;

const MANIFEST: &str = "manifest.json";
const PREFIX: &str = "step-";
const PARTIAL: &str = ".partial";

/// The checkpoints of one run: `checkpoints/step-000120` and so on, the newest few of them.
///
/// A checkpoint is filled in a directory of another name, synced to the disk, and renamed, so a crash
/// leaves only complete ones. Later damage of the disk shows in the sizes and hashes of the manifest,
/// and a file that the manifest does not list is damage too.
///
/// A checkpoint is *suspect* where the weights in it are those that a skipped step was computed with.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoints {
    dir: PathBuf,
    keep_last: usize,
    /// The run file, as the run directory holds it.
    config: PathBuf,
}

/// Contents of a checkpoint.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// Files, by path inside it.
    files: BTreeMap<String, Entry>,
    /// SHA-256 of the run's `config.toml`; none where the run has no such file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config_sha256: Option<String>,
    /// First of the skipped steps that the run was at, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    skipped_since: Option<usize>,
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
        let (dir, config) = (run.join("checkpoints"), run.join(CONFIG));
        Self { dir, keep_last: usize::MAX, config }
    }

    /// Writes the checkpoint of a step; `fill` puts its files into the directory that it is given.
    /// `skipped_since` is the first of the skipped steps that the run is at, where it is.
    ///
    /// # Errors
    ///
    /// Fails when `fill` does or the disk is full; earlier checkpoints are then as they were.
    pub(crate) fn write(
        &self,
        step: usize,
        skipped_since: Option<usize>,
        fill: impl FnOnce(&Path) -> Result<(), RunDirError>,
    ) -> Result<(), RunDirError> {
        let place = self.place(step);
        let partial = self.partial(step);
        let cannot_write = FileError::io(&place, "write the checkpoint");
        remove(&partial).and_then(|()| create_dir(&partial)).map_err(&cannot_write)?;
        let seal = || {
            let config_sha256 = file_digest(&self.config)?;
            seal(&partial, Manifest { config_sha256, skipped_since, ..Manifest::default() })
        };
        let written = fill(&partial).and_then(|()| Ok(seal()?));
        if let Err(error) = written {
            // What is left of it must not fill the disk further.
            let _ = fs::remove_dir_all(&partial);
            return Err(RunDirError::Checkpoint { path: place.clone(), source: Box::new(error) });
        }
        remove(&place)
            .and_then(|()| fs::rename(&partial, &place))
            .and_then(|()| sync_dir(&self.dir))
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

    /// [`newest`](Self::newest) of a run of supervised steps, whose `metrics.jsonl` has a line for
    /// each; one of a step whose line is lost is passed over.
    ///
    /// # Errors
    ///
    /// As [`newest`](Self::newest), and where the lines of all are lost.
    pub(crate) fn newest_recorded(
        &self,
        run: &RunDir,
        context: &RunContext,
    ) -> Result<Option<(usize, PathBuf)>, RunDirError> {
        let path = run.join("metrics.jsonl");
        let num_steps = count_whole_lines(&path)?;
        let found = self.newest_before(num_steps + 1, context)?;
        if found.is_none() && !self.steps()?.is_empty() {
            return Err(RunDirError::LostLines { path, num_steps });
        }
        Ok(found)
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

    /// The complete checkpoint of one step.
    ///
    /// # Errors
    ///
    /// Fails when there is none, and names those that there are; and when it is damaged.
    pub(crate) fn at(&self, step: usize) -> Result<PathBuf, RunDirError> {
        let place = self.place(step);
        if !place.is_dir() {
            let found: Vec<String> = self.steps()?.into_iter().map(name_of).collect();
            return Err(RunDirError::NoSuchCheckpoint { path: place, found: found.join(", ") });
        }
        check(&place)?;
        Ok(place)
    }

    /// Name of the newest checkpoint that is not suspect, for `--resume-from`.
    ///
    /// # Errors
    ///
    /// Fails when the checkpoints cannot be listed.
    pub(crate) fn newest_healthy(&self) -> Result<Option<String>, FileError> {
        Ok(self.healthy(&self.steps()?).map(name_of))
    }

    /// SHA-256 of the `config.toml` that the newest readable checkpoint was written with.
    ///
    /// # Errors
    ///
    /// Fails when the checkpoints cannot be listed.
    pub(crate) fn config_sha256(&self) -> Result<Option<String>, FileError> {
        let newest_first = self.steps()?.into_iter().rev();
        let mut manifests = newest_first.filter_map(|it| read_manifest(&self.place(it)).ok());
        Ok(manifests.next().and_then(|it| it.config_sha256))
    }

    /// The newest of some steps whose checkpoint is not suspect.
    fn healthy(&self, steps: &[usize]) -> Option<usize> {
        let skipped_since: Vec<(usize, usize)> = steps
            .iter()
            .filter_map(|it| Some((*it, read_manifest(&self.place(*it)).ok()?.skipped_since?)))
            .collect();
        // The weights after a step are those that the next step is computed with.
        let is_suspect = |step: usize| {
            skipped_since.iter().any(|(at, since)| (since.saturating_sub(1)..=*at).contains(&step))
        };
        steps.iter().copied().rev().find(|it| !is_suspect(*it))
    }

    /// Directory of the checkpoint of a step, wherever there is one; [`at`](Self::at) checks it.
    pub(crate) fn place(&self, step: usize) -> PathBuf {
        self.dir.join(name_of(step))
    }

    /// Directory in which the checkpoint of a step is filled.
    fn partial(&self, step: usize) -> PathBuf {
        self.dir.join(name_of(step) + PARTIAL)
    }

    /// The steps that have a checkpoint, oldest first.
    pub(crate) fn steps(&self) -> Result<Vec<usize>, FileError> {
        numbers_in(&self.dir, PREFIX, "")
    }

    /// Removes old checkpoints, those of later steps that a resumed run leaves behind, and what a
    /// killed process has left of one. The newest that is not suspect stays.
    fn prune(&self, step: usize) -> Result<(), FileError> {
        let (kept, later): (Vec<usize>, Vec<usize>) =
            self.steps()?.into_iter().partition(|it| *it <= step);
        let healthy = self.healthy(&kept);
        let old = &kept[..kept.len().saturating_sub(self.keep_last)];
        let old = old.iter().filter(|it| Some(**it) != healthy).chain(&later);
        let unfinished = numbers_in(&self.dir, PREFIX, PARTIAL)?;
        let unfinished = unfinished.into_iter().map(|it| self.partial(it));
        for place in old.map(|it| self.place(*it)).chain(unfinished) {
            remove(&place).map_err(FileError::io(&place, "remove an old checkpoint"))?;
        }
        Ok(())
    }
}

fn name_of(step: usize) -> String {
    format!("{PREFIX}{step:06}")
}

/// Step of a checkpoint, by its name or a path to it.
///
/// ```
/// assert_eq!(zs_trainer::checkpoint_step("runs/a/checkpoints/step-000120"), Some(120));
/// assert_eq!(zs_trainer::checkpoint_step("final"), None);
/// ```
#[must_use]
pub fn checkpoint_step(name: &str) -> Option<usize> {
    let name = name.trim_end_matches('/');
    let name = name.rsplit('/').next().unwrap_or(name);
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// SHA-256 of a regular file; `None` where there is none.
pub(crate) fn file_digest(path: &Path) -> Result<Option<String>, FileError> {
    path.is_file().then(|| digest::of_file(path)).transpose()
}

/// Adds the files of a directory to its manifest, writes it, and syncs all of it to the disk.
fn seal(dir: &Path, mut manifest: Manifest) -> Result<(), FileError> {
    let (dirs, files): (Vec<PathBuf>, Vec<PathBuf>) = entries_below(dir)?;
    for path in files {
        manifest.files.insert(name_in(dir, &path), entry(&path)?);
        sync_file(&path).map_err(FileError::io(&path, "write"))?;
    }
    write_json(&dir.join(MANIFEST), &manifest)?;
    // Those inside come before what they are in.
    dirs.iter().rev().try_for_each(|it| sync_dir(it).map_err(FileError::io(it, "write")))
}

fn read_manifest(dir: &Path) -> Result<Manifest, FileError> {
    read_json(&dir.join(MANIFEST))
}

/// Compares a directory with its manifest.
fn check(dir: &Path) -> Result<(), RunDirError> {
    let manifest = read_manifest(dir)?;
    let mut missing: BTreeSet<&String> = manifest.files.keys().collect();
    // A manifest of strangers names files here and nowhere else.
    for path in entries_below(dir)?.1 {
        let name = name_in(dir, &path);
        if name == MANIFEST {
            continue;
        }
        let Some(expected) = manifest.files.get(&name) else {
            return Err(RunDirError::Unlisted { path });
        };
        missing.remove(&name);
        let (found, expected_bytes) = (bytes_of(&path)?, expected.bytes);
        if found != expected_bytes {
            return Err(RunDirError::Size { path, found, expected: expected_bytes });
        }
        if digest::of_file(&path)? != expected.sha256 {
            return Err(RunDirError::Digest { path });
        }
    }
    if let Some(name) = missing.first() {
        let path = dir.join(name);
        return Err(FileError::io(&path, "be read")(io::ErrorKind::NotFound.into()).into());
    }
    Ok(())
}

fn entry(path: &Path) -> Result<Entry, FileError> {
    Ok(Entry { bytes: bytes_of(path)?, sha256: digest::of_file(path)? })
}

fn bytes_of(path: &Path) -> Result<u64, FileError> {
    let metadata = open_regular(path).and_then(|it| it.metadata());
    Ok(metadata.map_err(FileError::io(path, "be read"))?.len())
}

/// Path inside a directory, with slashes.
pub(crate) fn name_in(dir: &Path, path: &Path) -> String {
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

fn sync_file(path: &Path) -> io::Result<()> {
    open_regular(path)?.sync_all()
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
        checkpoints.write(step, None, fill).unwrap();
    }

    /// Writes the checkpoint of a run that is at skipped steps.
    fn write_suspect(checkpoints: &Checkpoints, step: usize, since: usize) {
        let fill = |dir: &Path| {
            fs::write(dir.join("state"), "state").unwrap();
            Ok(())
        };
        checkpoints.write(step, Some(since), fill).unwrap();
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
    fn the_newest_healthy_one_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(scratch.path());
        (6..=10).step_by(2).for_each(|it| write(&checkpoints, it));
        // The weights of step 11 are those that steps 12 to 14 were skipped with.
        write(&checkpoints, 11);
        for (step, since) in [(14, 12), (15, 12), (16, 12), (17, 12)] {
            write_suspect(&checkpoints, step, since);
            assert_eq!(checkpoints.newest_healthy().unwrap().unwrap(), "step-000010");
        }
        assert_eq!(checkpoints.steps().unwrap(), [10, 16, 17]);
        // Steps that were not skipped any more end the suspicion.
        write(&checkpoints, 18);
        assert_eq!(checkpoints.newest_healthy().unwrap().unwrap(), "step-000018");
        write(&checkpoints, 19);
        assert_eq!(checkpoints.steps().unwrap(), [18, 19]);
        let message = checkpoints.at(10).unwrap_err().to_string();
        assert!(message.contains("there are step-000018, step-000019"), "{message}");
        assert!(checkpoints.at(18).unwrap().ends_with("step-000018"));
    }

    #[test]
    fn what_a_killed_process_has_left_goes() {
        let scratch = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(scratch.path());
        write(&checkpoints, 1);
        fs::create_dir_all(checkpoints.dir.join("step-000007.partial/policy")).unwrap();
        write(&checkpoints, 2);
        assert_eq!(fs::read_dir(&checkpoints.dir).unwrap().count(), 2);
    }

    #[test]
    fn the_manifest_knows_the_run_file() {
        let scratch = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(scratch.path());
        write(&checkpoints, 1);
        assert_eq!(checkpoints.config_sha256().unwrap(), None);
        fs::write(&checkpoints.config, "seed = 1").unwrap();
        write(&checkpoints, 2);
        let known = checkpoints.config_sha256().unwrap();
        assert!(known.is_some() && known == file_digest(&checkpoints.config).unwrap());
        fs::write(&checkpoints.config, "seed = 2").unwrap();
        assert_ne!(known, file_digest(&checkpoints.config).unwrap());
    }

    #[test]
    fn damaged_ones_are_passed_over() {
        type Damage = fn(&Path);
        let damages: [Damage; 6] = [
            |dir| fs::write(dir.join("model/weights"), "weights 5").unwrap(),
            |dir| fs::write(dir.join("model/weights"), "weigh").unwrap(),
            |dir| fs::remove_file(dir.join("state")).unwrap(),
            |dir| fs::remove_file(dir.join(MANIFEST)).unwrap(),
            |dir| fs::write(dir.join(MANIFEST), "{").unwrap(),
            |dir| {
                fs::create_dir(dir.join("reference"))
                    .and_then(|()| fs::write(dir.join("reference/weights"), "planted"))
                    .unwrap();
            },
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
        let message = with_causes(&checkpoints.write(2, None, fill).unwrap_err());
        assert!(
            message.contains("step-000002") && message.contains("no storage space"),
            "{message}"
        );
        assert_eq!(fs::read_dir(&checkpoints.dir).unwrap().count(), 1);
        check_newest(&checkpoints, Some(1));
    }
}
