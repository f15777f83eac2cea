//! The directory of a report: built beside its place and moved there when it is complete.

use std::fs;
use std::path::{Path, PathBuf};

use zs_data::FileError;
use zs_trainer::files::RunDir;

use crate::error::{ReproduceError, Result};

/// Marks a directory as ours to replace.
const MARKER: &str = ".zs-reproduce";

/// A report in the making.
#[derive(Debug)]
pub(crate) struct Output {
    target: PathBuf,
    work: RunDir,
}

impl Output {
    /// Begins `target.partial`; what an interrupted job left there is removed.
    pub(crate) fn begin(target: &Path) -> Result<Self> {
        check_ours(target)?;
        let work = suffixed(target, ".partial");
        check_ours(&work)?;
        remove(&work)?;
        claim_directory(&work)?;
        Ok(Self { target: target.to_owned(), work: RunDir::open(&work)? })
    }

    /// The directory to write into.
    pub(crate) fn run(&self) -> &RunDir {
        &self.work
    }

    /// Takes the place of the earlier report.
    pub(crate) fn finish(self) -> Result<()> {
        remove(&self.target)?;
        fs::rename(self.work.path(), &self.target).map_err(FileError::io(&self.target, "write"))?;
        Ok(())
    }
}

/// Makes a directory ours, or refuses it; what is in it stays.
pub(crate) fn claim_directory(path: &Path) -> Result<()> {
    check_ours(path)?;
    fs::create_dir_all(path).map_err(FileError::io(path, "create the directory"))?;
    RunDir::open(path)?
        .write_text(MARKER, "Written by `zs reproduce`, which may replace this directory.\n")?;
    Ok(())
}

/// Refuses a directory that holds something else than a report of ours.
fn check_ours(path: &Path) -> Result<()> {
    let is_empty = || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if !path.exists() || path.join(MARKER).exists() || is_empty() {
        return Ok(());
    }
    Err(ReproduceError::NotAReport { path: path.to_owned() })
}

fn remove(path: &Path) -> Result<(), FileError> {
    if !path.exists() {
        return Ok(());
    }
    fs::remove_dir_all(path).map_err(FileError::io(path, "remove the earlier report"))
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_replace_reports_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("quick");
        let write = |text: &str| {
            let output = Output::begin(&target).unwrap();
            output.run().write_text("report.md", text).unwrap();
            output
        };
        write("one").finish().unwrap();
        // An interrupted job leaves the earlier report alone.
        drop(write("two"));
        assert_eq!(fs::read_to_string(target.join("report.md")).unwrap(), "one");
        write("three").finish().unwrap();
        assert_eq!(fs::read_to_string(target.join("report.md")).unwrap(), "three");
        assert!(!suffixed(&target, ".partial").exists());

        let theirs = scratch.path().join("thesis");
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("chapter.tex"), "x").unwrap();
        assert!(
            Output::begin(&theirs).unwrap_err().to_string().contains("nothing was overwritten")
        );
        assert!(theirs.join("chapter.tex").exists());
    }
}
