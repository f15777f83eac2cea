//! `zs data fetch`: data and models into a cache folder, with progress, checksums and resume.

mod catalogue;
mod hub;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::catalogue::{Item, is_useful, items};
use self::hub::{Hub, RemoteFile, check_path};
use crate::command::report_table::table;
use crate::session::Session;
use zs_data::{digest, write_atomic};

const MANIFEST: &str = "manifest.json";

/// Arguments of `zs data fetch`.
#[derive(Debug, Args)]
pub struct DataFetchArgs {
    /// nq, triviaqa, popqa, hotpotqa, 2wiki, musique, bamboogle, or test-sets for all seven; train,
    /// zerosearch, simulation-tuning, wiki-18, or all; dataset:OWNER/NAME, model:OWNER/NAME.
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// The folder that everything is put into, a folder a name.
    #[arg(long, value_name = "DIR")]
    pub cache: PathBuf,
    /// A folder that has the files already, instead of the hub.
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Branch, tag or commit of the repositories.
    #[arg(long, default_value = "main")]
    pub revision: String,
    /// Address of the hub.
    #[arg(long, env = "HF_ENDPOINT", default_value = "https://huggingface.co")]
    pub endpoint: String,
}

/// What lies in the folder of a name, and where it is from.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    source: String,
    revision: String,
    files: Vec<FetchedFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FetchedFile {
    path: String,
    bytes: u64,
    sha256: String,
}

/// Fetches every name; what is there already, with the right checksum, is not fetched again.
pub(crate) fn data_fetch(args: &DataFetchArgs, session: &Session) -> Result<()> {
    let mut wanted = Vec::new();
    for name in &args.names {
        wanted.extend(items(name)?);
    }
    let token = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]
        .iter()
        .find_map(|it| std::env::var(it).ok().filter(|it| !it.is_empty()));
    let hub = Hub::new(&args.endpoint, token, Duration::from_secs(1));
    let mut rows = table(["name", "file", "MB", "questions", "sha256"]);
    for item in &wanted {
        let dir = args.cache.join(&item.name);
        let manifest = match &args.from {
            Some(from) => copy(item, from, &dir, session),
            None => download(item, &hub, &args.revision, &dir, session),
        };
        let manifest = manifest.with_context(|| item.name.clone())?;
        for file in &manifest.files {
            let questions = match item.questions {
                Some(expected) => count_questions(&dir.join(&file.path), expected, session)?,
                None => String::new(),
            };
            rows.add_row([
                item.name.clone(),
                dir.join(&file.path).display().to_string(),
                format!("{:.1}", file.bytes as f64 / 1e6),
                questions,
                file.sha256.chars().take(12).collect(),
            ]);
        }
    }
    session.print(&format!("{rows}\n"));
    Ok(())
}

/// How many questions a test set has; a set that is not at full size is told of.
fn count_questions(path: &Path, expected: usize, session: &Session) -> Result<String> {
    let count = zs_eval::read_questions(path)?.len();
    if count != expected {
        session.console.note(&format!(
            "warning: {}: {count} questions, but the set has {expected} at full size",
            path.display()
        ));
    }
    Ok(format!("{count} of {expected}"))
}

fn download(
    item: &Item,
    hub: &Hub,
    revision: &str,
    dir: &Path,
    session: &Session,
) -> Result<Manifest> {
    let files = hub.files(item.kind, &item.repo, revision)?;
    let files = chosen(item, files)?;
    let known = read_manifest(dir);
    let source = format!("{}/{}", hub.endpoint(), item.repo);
    let mut manifest = Manifest { source, revision: revision.to_owned(), files: Vec::new() };
    for file in files {
        let target = dir.join(&file.path);
        if let Some(known) = known.iter().find(|it| is_current(it, &file, &target)) {
            manifest.files.push(known.clone());
            continue;
        }
        let partial = partial(&target)?;
        let progress =
            session.console.progress(&file.path, usize::try_from(file.bytes).unwrap_or(usize::MAX));
        let mut done = 0;
        hub.download(item.kind, &item.repo, revision, &file, &partial, &mut |total| {
            let total = usize::try_from(total).unwrap_or(usize::MAX);
            progress.advance(total.saturating_sub(done), "bytes");
            done = total.max(done);
        })?;
        progress.finish("downloaded");
        let sha256 = digest::of_file(&partial)?;
        if file.sha256.as_ref().is_some_and(|it| *it != sha256) {
            fs::remove_file(&partial)?;
            bail!("{}: the checksum is wrong; fetch it again", file.path);
        }
        put(&partial, &target)?;
        manifest.files.push(FetchedFile { path: file.path, bytes: file.bytes, sha256 });
        // After each file, so that an interrupted fetch knows what it has.
        write_manifest(dir, &manifest)?;
    }
    write_manifest(dir, &manifest)?;
    Ok(manifest)
}

/// The files of a repository that are wanted.
fn chosen(item: &Item, files: Vec<RemoteFile>) -> Result<Vec<RemoteFile>> {
    for name in &item.files {
        if !files.iter().any(|it| it.path == *name) {
            bail!("{} has no file `{name}`", item.repo);
        }
    }
    let is_wanted = |it: &RemoteFile| match item.files.is_empty() {
        true => is_useful(item.kind, &it.path),
        false => item.files.contains(&it.path),
    };
    let chosen: Vec<RemoteFile> = files.into_iter().filter(is_wanted).collect();
    if chosen.is_empty() {
        bail!("{} has no file of use", item.repo);
    }
    chosen.iter().try_for_each(|it| check_path(&it.path))?;
    Ok(chosen)
}

/// Whether a file that was fetched before is what the hub has now.
fn is_current(known: &FetchedFile, file: &RemoteFile, target: &Path) -> bool {
    known.path == file.path
        && known.bytes == file.bytes
        && file.sha256.as_ref().is_none_or(|it| *it == known.sha256)
        && fs::metadata(target).is_ok_and(|it| it.len() == file.bytes)
}

/// Takes the files from a folder that is laid out as the hub is, as the cache is, or flat.
fn copy(item: &Item, from: &Path, dir: &Path, session: &Session) -> Result<Manifest> {
    let roots = [from.join(&item.repo), from.join(&item.name), from.to_owned()];
    let mut sources: Vec<(String, PathBuf)> = Vec::new();
    if item.files.is_empty() {
        let root = roots[..2].iter().find(|it| it.is_dir()).with_context(|| {
            format!("{}: no folder `{}` or `{}`", from.display(), item.repo, item.name)
        })?;
        for path in files_below(root)? {
            let name = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
            if is_useful(item.kind, &name) {
                sources.push((name, path));
            }
        }
    }
    for file in &item.files {
        let base = file.rsplit('/').next().unwrap_or(file);
        let candidates: Vec<PathBuf> = roots
            .iter()
            .map(|it| it.join(file))
            .chain(roots[..2].iter().map(|it| it.join(base)))
            .collect();
        let found = candidates.iter().find(|it| it.is_file()).with_context(|| {
            let tried: Vec<String> = candidates.iter().map(|it| it.display().to_string()).collect();
            format!("no such file; tried {}", tried.join(", "))
        })?;
        sources.push((file.clone(), found.clone()));
    }
    if sources.is_empty() {
        bail!("{}: no file of use for {}", from.display(), item.repo);
    }
    let source = from.display().to_string();
    let mut manifest = Manifest { source, revision: "local".to_owned(), files: Vec::new() };
    for (name, source) in sources {
        let target = dir.join(&name);
        let partial = partial(&target)?;
        let (bytes, sha256) = copy_file(&source, &partial, session)
            .with_context(|| format!("{}: cannot copy", source.display()))?;
        put(&partial, &target)?;
        manifest.files.push(FetchedFile { path: name, bytes, sha256 });
    }
    write_manifest(dir, &manifest)?;
    Ok(manifest)
}

fn files_below(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("{}: cannot list", folder.display()))?
        {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}

fn copy_file(source: &Path, target: &Path, session: &Session) -> Result<(u64, String)> {
    let mut reader = File::open(source)?;
    let size = reader.metadata()?.len();
    let mut writer = File::create(target)?;
    let title = source.display().to_string();
    let progress = session.console.progress(&title, usize::try_from(size).unwrap_or(usize::MAX));
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        writer.write_all(&buffer[..count])?;
        total += count as u64;
        progress.advance(count, "bytes");
    }
    writer.sync_data()?;
    progress.finish("copied");
    Ok((total, digest::hexadecimal(&hash.finalize())))
}

/// Where a file lies until it is whole; makes its folder.
fn partial(target: &Path) -> Result<PathBuf> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("{}: cannot create the folder", parent.display()))?;
    }
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    Ok(name.into())
}

fn put(partial: &Path, target: &Path) -> Result<()> {
    fs::rename(partial, target).with_context(|| format!("{}: cannot write", target.display()))
}

/// What was fetched before; a manifest that is missing or broken counts for nothing.
fn read_manifest(dir: &Path) -> Vec<FetchedFile> {
    let text = fs::read_to_string(dir.join(MANIFEST)).unwrap_or_default();
    serde_json::from_str(&text).map(|it: Manifest| it.files).unwrap_or_default()
}

fn write_manifest(dir: &Path, manifest: &Manifest) -> Result<()> {
    let text = serde_json::to_string_pretty(manifest)?;
    Ok(write_atomic(&dir.join(MANIFEST), format!("{text}\n").as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAMBOOGLE: &str = "{\"id\":\"a\",\"question\":\"q\",\"golden_answers\":[\"x\"]}\n";

    fn args(names: &[&str], cache: &Path, from: &Path) -> DataFetchArgs {
        DataFetchArgs {
            names: names.iter().map(|&it| it.to_owned()).collect(),
            cache: cache.to_owned(),
            from: Some(from.to_owned()),
            revision: "main".to_owned(),
            endpoint: String::new(),
        }
    }

    #[test]
    fn a_folder_stands_in_for_the_hub() {
        let scratch = tempfile::tempdir().unwrap();
        let (cache, from) = (scratch.path().join("cache"), scratch.path().join("from"));
        fs::create_dir_all(from.join("Qwen/tiny")).unwrap();
        fs::create_dir_all(from.join("bamboogle")).unwrap();
        fs::write(from.join("bamboogle/test.jsonl"), BAMBOOGLE).unwrap();
        fs::write(from.join("Qwen/tiny/config.json"), "{}").unwrap();
        fs::write(from.join("Qwen/tiny/model.bin"), "no").unwrap();
        let names = ["bamboogle", "model:Qwen/tiny"];
        data_fetch(&args(&names, &cache, &from), &Session::quiet()).unwrap();
        let copied = cache.join("bamboogle/bamboogle/test.jsonl");
        assert_eq!(fs::read_to_string(copied).unwrap(), BAMBOOGLE);
        let model = cache.join("Qwen--tiny");
        assert!(model.join("config.json").exists() && !model.join("model.bin").exists());
        // sha256sum of `{}`.
        let known = read_manifest(&model);
        assert_eq!(
            known[0].sha256,
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
        let error = data_fetch(&args(&["nq"], &cache, &from), &Session::quiet()).unwrap_err();
        assert!(format!("{error:#}").contains("nq/test.jsonl"), "{error:#}");
    }

    #[test]
    fn a_download_is_checked_and_then_remembered() {
        let requests = std::sync::Arc::default();
        let hub = hub::tests::hub(&requests, "secret");
        let scratch = tempfile::tempdir().unwrap();
        let item = items("dataset:o/n").unwrap().remove(0);
        let fetch = || download(&item, &hub, "main", scratch.path(), &Session::quiet());
        let manifest = fetch().unwrap();
        assert_eq!(manifest.files[0].path, "data/a b.jsonl");
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
        let file = RemoteFile { path: "a".into(), bytes: 3, sha256: Some("x".into()) };
        assert!(is_current(&known, &file, &target));
        let changed = RemoteFile { sha256: Some("y".into()), ..file.clone() };
        assert!(!is_current(&known, &changed, &target));
        fs::write(&target, "ab").unwrap();
        assert!(!is_current(&known, &file, &target));
    }
}
