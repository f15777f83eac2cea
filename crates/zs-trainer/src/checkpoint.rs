//! Checkpoints of a run, written atomically, with a manifest that reveals damaged ones.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::RunContext;
use crate::digest;
use crate::files::RunDir;

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
    pub(crate) fn write(&self, step: usize, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let place = self.place(step);
        let partial = self.dir.join(format!("{PREFIX}{step:06}{PARTIAL}"));
        let context = || format!("{}: cannot write the checkpoint", place.display());
        remove(&partial).with_context(context)?;
        fs::create_dir_all(&partial).with_context(context)?;
        let written = fill(&partial).and_then(|()| seal(&partial));
        if let Err(error) = written {
            // What is left of it must not fill the disk further.
            let _ = fs::remove_dir_all(&partial);
            return Err(error.context(context()));
        }
        remove(&place).with_context(context)?;
        fs::rename(&partial, &place).and_then(|()| sync(&self.dir)).with_context(context)?;
        self.prune(step)
    }

    /// Newest complete checkpoint and its step; `None` where none was ever written. Newer ones that are
    /// damaged are reported on the console.
    ///
    /// # Errors
    ///
    /// Fails when all are damaged.
    pub(crate) fn newest(&self, context: &RunContext) -> Result<Option<(usize, PathBuf)>> {
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
    ) -> Result<Option<(usize, PathBuf)>> {
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
                    context.note(&format!("skipping a damaged checkpoint: {error:#}"));
                }
            }
        }
        bail!(
            "{}: holds no complete checkpoint to resume from; start a new run with another `out`",
            self.dir.display()
        )
    }

    fn place(&self, step: usize) -> PathBuf {
        self.dir.join(format!("{PREFIX}{step:06}"))
    }

    /// The steps that have a checkpoint, oldest first.
    fn steps(&self) -> Result<Vec<usize>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("{}: cannot list", self.dir.display()))?,
        };
        let mut steps = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|it| it.strip_prefix(PREFIX));
            steps.extend(number.and_then(|it| it.parse::<usize>().ok()));
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// Removes old checkpoints, and those of later steps that a resumed run leaves behind.
    fn prune(&self, step: usize) -> Result<()> {
        let (kept, later): (Vec<usize>, Vec<usize>) =
            self.steps()?.into_iter().partition(|it| *it <= step);
        let old = kept.len().saturating_sub(self.keep_last);
        for step in kept[..old].iter().chain(&later) {
            let place = self.place(*step);
            remove(&place)
                .with_context(|| format!("{}: cannot remove an old checkpoint", place.display()))?;
        }
        Ok(())
    }
}

/// Writes the manifest of a directory and syncs all of it to the disk.
fn seal(dir: &Path) -> Result<()> {
    let mut files = BTreeMap::new();
    for path in files_below(dir)? {
        files.insert(name_in(dir, &path), entry(&path)?);
        File::open(&path)
            .and_then(|it| it.sync_all())
            .with_context(|| path.display().to_string())?;
    }
    let mut text = serde_json::to_string_pretty(&Manifest { files })?;
    text.push('\n');
    let manifest = dir.join(MANIFEST);
    fs::write(&manifest, text)
        .and_then(|()| sync(&manifest))
        .and_then(|()| sync(dir))
        .with_context(|| manifest.display().to_string())
}

/// Compares a directory with its manifest.
fn check(dir: &Path) -> Result<()> {
    let path = dir.join(MANIFEST);
    let text = fs::read(&path).with_context(|| path.display().to_string())?;
    let manifest: Manifest =
        serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    for (name, expected) in &manifest.files {
        let path = dir.join(name);
        let found = entry(&path)?;
        if found.bytes != expected.bytes {
            let (found, expected) = (found.bytes, expected.bytes);
            bail!("{}: has {found} bytes instead of {expected}", path.display());
        }
        if found != *expected {
            bail!("{}: its bytes have changed since it was written", path.display());
        }
    }
    Ok(())
}

fn entry(path: &Path) -> Result<Entry> {
    let bytes = fs::metadata(path).with_context(|| path.display().to_string())?.len();
    Ok(Entry { bytes, sha256: digest::of_file(path)? })
}

/// Every file below a directory.
fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(dir).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    Ok(files)
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
            fs::create_dir(dir.join("model"))?;
            fs::write(dir.join("model/weights"), format!("weights {step}"))?;
            Ok(fs::write(dir.join("state"), "state")?)
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
            fs::write(dir.join("state"), "half")?;
            bail!("no space left on device")
        };
        let message = format!("{:#}", checkpoints.write(2, fill).unwrap_err());
        assert!(message.contains("step-000002") && message.contains("no space"), "{message}");
        assert_eq!(fs::read_dir(&checkpoints.dir).unwrap().count(), 1);
        check_newest(&checkpoints, Some(1));
    }
}
