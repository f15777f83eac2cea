//! Data sets and models of the Hugging Face hub, or of a folder that holds the same, in a cache folder:
//! checksums, resumed downloads, progress.

mod catalogue;
mod client;
mod error;
mod folder;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use hf_hub::{Repo, RepoType};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

pub use hf_hub::api::Progress;

pub use self::catalogue::{Item, RepoKind, items};
pub use self::client::Hub;
pub use self::error::HubError;
pub use self::folder::copy;

use self::catalogue::is_useful;
use self::client::{Checksum, RemoteFile, check_path};
use crate::{digest, open_regular, read_json, write_json};

const MANIFEST: &str = "manifest.json";

/// Contents of the folder of an item, and their origin; kept as `manifest.json` in that folder.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Address of the repository, or the folder that was copied.
    pub source: String,
    /// Branch, tag or commit; `local` for a folder.
    pub revision: String,
    /// Commit that the revision stood for, if the hub told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Files.
    pub files: Vec<FetchedFile>,
}

impl Manifest {
    /// Reads the manifest of a folder; one that is missing or broken counts for nothing.
    #[must_use]
    pub fn read(dir: &Path) -> Option<Self> {
        read_json(&dir.join(MANIFEST)).ok()
    }
}

/// File in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchedFile {
    /// Path in the repository, and in the folder of the item.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// Checksum in hexadecimal.
    pub sha256: String,
}

/// Downloads the files of an item into `dir`; those that are there with the size and checksum of the
/// hub are kept. An interrupted download resumes.
///
/// # Errors
///
/// Fails on a repository, revision or file that is not there, on a wrong checksum, when the hub does
/// not answer in five attempts, and when a file cannot be written.
pub fn download(
    item: &Item,
    hub: &Hub,
    revision: &str,
    dir: &Path,
    progress: &mut dyn Progress,
) -> Result<Manifest, HubError> {
    let kind = match item.kind {
        RepoKind::Dataset => RepoType::Dataset,
        RepoKind::Model => RepoType::Model,
    };
    let at = |revision: &str| Repo::with_revision(item.repo.clone(), kind, revision.to_owned());
    let listing = hub.files(&at(revision))?;
    let files = chosen(item, listing.files)?;
    // A branch that moves meanwhile does not mix the files of two commits.
    let repo = at(listing.commit.as_deref().unwrap_or(revision));
    let known = Manifest::read(dir).unwrap_or_default();
    let mut manifest = Manifest {
        source: format!("{}/{}", hub.endpoint(), item.repo),
        revision: revision.to_owned(),
        files: known.files.into_iter().filter(|it| dir.join(&it.path).exists()).collect(),
        commit: listing.commit,
    };
    let mut fetched = Vec::new();
    for file in files {
        let target = dir.join(&file.path);
        let known = manifest.files.iter().find(|it| is_current(it, &file, &target)).cloned();
        let one = match known {
            Some(known) => known,
            None => fetch(hub, &repo, file, &target, progress)?,
        };
        manifest.files.retain(|it| it.path != one.path);
        manifest.files.push(one.clone());
        fetched.push(one);
        // After each file, so that an interrupted fetch keeps what it has.
        write_json(&dir.join(MANIFEST), &manifest)?;
    }
    Ok(Manifest { files: fetched, ..manifest })
}

/// Downloads one file, and compares its checksum with the hub's.
fn fetch(
    hub: &Hub,
    repo: &Repo,
    file: RemoteFile,
    target: &Path,
    progress: &mut dyn Progress,
) -> Result<FetchedFile, HubError> {
    let partial = partial(target)?;
    progress.init(usize::try_from(file.bytes).unwrap_or(usize::MAX), &file.path);
    let mut done = 0;
    hub.download(repo, &file, &partial, &mut |total| {
        progress.update(usize::try_from(total.saturating_sub(done)).unwrap_or(usize::MAX));
        done = total.max(done);
    })?;
    progress.finish();
    let sha256 = digest::of_file(&partial)?;
    let is_right = match &file.checksum {
        Checksum::Sha256(expected) => *expected == sha256,
        Checksum::GitBlob(expected) => *expected == git_blob(&partial)?,
    };
    if !is_right {
        fs::remove_file(&partial).map_err(HubError::file(&partial, "remove"))?;
        return Err(HubError::Checksum { path: file.path });
    }
    fs::rename(&partial, target).map_err(HubError::file(target, "write"))?;
    Ok(FetchedFile { path: file.path, bytes: file.bytes, sha256 })
}

/// The wanted files of a repository.
fn chosen(item: &Item, files: Vec<RemoteFile>) -> Result<Vec<RemoteFile>, HubError> {
    if let Some(missing) = item.files.iter().find(|name| !files.iter().any(|it| it.path == **name))
    {
        return Err(HubError::NoFile { place: item.repo.clone(), file: missing.clone() });
    }
    let is_wanted = |it: &RemoteFile| match item.files.is_empty() {
        true => is_useful(item.kind, &it.path),
        false => item.files.contains(&it.path),
    };
    let chosen: Vec<RemoteFile> = files.into_iter().filter(is_wanted).collect();
    if chosen.is_empty() {
        return Err(HubError::NothingUseful { place: item.repo.clone() });
    }
    chosen.iter().try_for_each(|it| check_path(&it.path))?;
    Ok(chosen)
}

/// Compares a file that was fetched before with the hub's.
fn is_current(known: &FetchedFile, file: &RemoteFile, target: &Path) -> bool {
    known.path == file.path
        && known.bytes == file.bytes
        && fs::metadata(target).is_ok_and(|it| it.len() == file.bytes)
        && match &file.checksum {
            Checksum::Sha256(expected) => *expected == known.sha256,
            Checksum::GitBlob(expected) => git_blob(target).is_ok_and(|it| it == *expected),
        }
}

/// The SHA-1 that git names the contents of a file by, in hexadecimal.
fn git_blob(path: &Path) -> Result<String, HubError> {
    let unreadable = HubError::file(path, "read");
    let bytes = fs::metadata(path).map_err(&unreadable)?.len();
    let mut hasher = Sha1::new_with_prefix(format!("blob {bytes}\0"));
    let mut file = open_regular(path).map_err(&unreadable)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(&unreadable)? {
            0 => return Ok(digest::hexadecimal(&hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Path of a file until it is complete; creates its folder.
fn partial(target: &Path) -> Result<PathBuf, HubError> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(HubError::file(parent, "create the folder"))?;
    }
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_is_checked_and_then_remembered() {
        let requests = std::sync::Arc::default();
        let hub = client::tests::hub(&requests, "secret");
        let scratch = tempfile::tempdir().unwrap();
        let item = items("dataset:o/n").unwrap().remove(0);
        let fetch = || download(&item, &hub, "main", scratch.path(), &mut ());
        let manifest = fetch().unwrap();
        assert_eq!(manifest.files[0].path, "data/a b.jsonl");
        assert_eq!(manifest.files[1].path, "data/small.jsonl");
        assert_eq!(fs::read(scratch.path().join("data/a b.jsonl")).unwrap().len(), 20);
        let count = || requests.lock().unwrap().len();
        let before = count();
        assert_eq!(fetch().unwrap(), manifest);
        assert_eq!(count(), before + 1, "only the list of files is asked for again");

        // A half that is not the beginning of this file: found out by its checksum, and dropped.
        fs::remove_file(scratch.path().join("data/a b.jsonl")).unwrap();
        let partial = scratch.path().join("data/a b.jsonl.partial");
        fs::write(&partial, "xxxxx").unwrap();
        let error = fetch().unwrap_err().to_string();
        assert!(error.contains("checksum is wrong") && !partial.exists(), "{error}");
        assert_eq!(fetch().unwrap(), manifest);
    }

    #[test]
    fn what_is_current_is_not_fetched_again() {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("a");
        fs::write(&target, "abc").unwrap();
        let known = FetchedFile { path: "a".into(), bytes: 3, sha256: "x".into() };
        let remote = |checksum| RemoteFile { path: "a".into(), bytes: 3, checksum };
        let file = remote(Checksum::Sha256("x".into()));
        assert!(is_current(&known, &file, &target));
        assert!(!is_current(&known, &remote(Checksum::Sha256("y".into())), &target));
        // Output of `git hash-object` for it.
        let small = remote(Checksum::GitBlob("f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f".into()));
        assert!(is_current(&known, &small, &target));
        fs::write(&target, "abd").unwrap();
        assert!(!is_current(&known, &small, &target));
        fs::write(&target, "ab").unwrap();
        assert!(!is_current(&known, &file, &target));
    }
}
