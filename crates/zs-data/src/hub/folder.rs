//! A folder in the place of the hub.

use std::fs;
use std::path::{Path, PathBuf};

use super::catalogue::is_useful;
use super::{FetchedFile, HubError, Item, MANIFEST, Manifest, Progress, partial};
use crate::{digest, write_json};

/// Copies the files of an item from a folder that is laid out as the hub is, as the cache is, or
/// flat, into `dir`.
///
/// # Errors
///
/// Fails when the folder lacks a file of the item, and when a file cannot be read or written.
pub fn copy(
    item: &Item,
    from: &Path,
    dir: &Path,
    progress: &mut dyn Progress,
) -> Result<Manifest, HubError> {
    let sources = sources(item, from)?;
    let source = from.display().to_string();
    let revision = "local".to_owned();
    let mut manifest = Manifest { source, revision, ..Manifest::default() };
    for (path, source) in sources {
        let target = dir.join(&path);
        let partial = partial(&target)?;
        let size = fs::metadata(&source).map_or(0, |it| it.len());
        progress.init(usize::try_from(size).unwrap_or(usize::MAX), &source.display().to_string());
        let bytes = fs::copy(&source, &partial).map_err(HubError::file(&source, "copy"))?;
        progress.update(usize::try_from(bytes).unwrap_or(usize::MAX));
        progress.finish();
        let sha256 = digest::of_file(&partial)?;
        fs::rename(&partial, &target).map_err(HubError::file(&target, "write"))?;
        manifest.files.push(FetchedFile { path, bytes, sha256 });
    }
    write_json(&dir.join(MANIFEST), &manifest)?;
    Ok(manifest)
}

/// Paths in the repository, and where the folder has them.
fn sources(item: &Item, from: &Path) -> Result<Vec<(String, PathBuf)>, HubError> {
    let roots = [from.join(&item.repo), from.join(&item.name), from.to_owned()];
    let mut sources = Vec::new();
    if item.files.is_empty() {
        let root = roots[..2].iter().find(|it| it.is_dir()).ok_or_else(|| HubError::NoFile {
            place: from.display().to_string(),
            file: format!("{}` or `{}", item.repo, item.name),
        })?;
        for path in files_below(root)? {
            let name =
                path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            if is_useful(item.kind, &name) {
                sources.push((name, path));
            }
        }
    }
    for file in &item.files {
        let base = file.rsplit('/').next().unwrap_or(file);
        let below = roots.iter().map(|it| it.join(file));
        let candidates: Vec<PathBuf> =
            below.chain(roots[..2].iter().map(|it| it.join(base))).collect();
        let found = candidates.iter().find(|it| it.is_file()).ok_or_else(|| HubError::NoFile {
            place: from.display().to_string(),
            file: candidates
                .iter()
                .map(|it| it.display().to_string())
                .collect::<Vec<_>>()
                .join("` or `"),
        })?;
        sources.push((file.clone(), found.clone()));
    }
    if sources.is_empty() {
        return Err(HubError::NothingUseful { place: from.display().to_string() });
    }
    Ok(sources)
}

fn files_below(root: &Path) -> Result<Vec<PathBuf>, HubError> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        let unlisted = HubError::file(&folder, "list");
        for entry in fs::read_dir(&folder).map_err(&unlisted)? {
            let path = entry.map_err(&unlisted)?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}
