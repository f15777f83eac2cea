//! `zs data fetch`: data and models into a cache folder, with progress, checksums and resume.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use zs_data::hub::{self, Hub};
use zs_trainer::{Console, Progress};

use crate::report_table::table;
use crate::session::Session;

/// Arguments of `zs data fetch`.
#[derive(Debug, Args)]
pub struct DataFetchArgs {
    /// nq, triviaqa, popqa, hotpotqa, 2wiki, musique, bamboogle, or test-sets for all seven; train,
    /// zerosearch, simulation-tuning, wiki-18, or all; dataset:OWNER/NAME, model:OWNER/NAME.
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// The directory to store the files in, with one folder per name.
    #[arg(long, value_name = "DIR")]
    pub cache: PathBuf,
    /// Copy the files from this directory instead of the hub.
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Branch, tag or commit of the repositories.
    #[arg(long, default_value = "main")]
    pub revision: String,
    /// Address of the hub.
    #[arg(long, env = "HF_ENDPOINT", default_value = "https://huggingface.co")]
    pub endpoint: String,
}

/// Fetches every name; files that are there already, with the right checksum, are kept.
pub(crate) fn data_fetch(args: &DataFetchArgs, session: &Session) -> Result<()> {
    let console = session.console.as_ref();
    let mut wanted = Vec::new();
    for name in &args.names {
        wanted.extend(hub::items(name)?);
    }
    let client = Hub::from_env(&args.endpoint)?;
    let mut rows = table(["name", "file", "MB", "questions", "sha256"]);
    for item in &wanted {
        let dir = args.cache.join(&item.name);
        let mut bar = Bar::new(console);
        let manifest = match &args.from {
            Some(from) => hub::copy(item, from, &dir, &mut bar),
            None => hub::download(item, &client, &args.revision, &dir, &mut bar),
        };
        let manifest = manifest.with_context(|| item.name.clone())?;
        for file in &manifest.files {
            let questions = match item.questions {
                Some(expected) => count_questions(&dir.join(&file.path), expected, console)?,
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
    console.print(&format!("{rows}\n"));
    Ok(())
}

/// Counts the questions of a test set; a set that is not at full size is reported.
fn count_questions(path: &Path, expected: usize, console: &dyn Console) -> Result<String> {
    let count = zs_data::read_questions(path)?.len();
    if count != expected {
        console.note(&format!(
            "warning: {}: {count} questions, but the set has {expected} at full size",
            path.display()
        ));
    }
    Ok(format!("{count} of {expected}"))
}

/// Progress of one file on the console.
pub(crate) struct Bar<'a> {
    console: &'a dyn Console,
    progress: Option<Box<dyn Progress>>,
}

impl<'a> Bar<'a> {
    /// Creates a bar that is shown from the first file on.
    pub(crate) fn new(console: &'a dyn Console) -> Self {
        Self { console, progress: None }
    }
}

impl hub::Progress for Bar<'_> {
    fn init(&mut self, size: usize, filename: &str) {
        self.progress = Some(self.console.progress(filename, size));
    }

    fn update(&mut self, size: usize) {
        if let Some(progress) = &self.progress {
            progress.advance(size, "bytes");
        }
    }

    fn finish(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.finish("fetched");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        let manifest = fs::read_to_string(model.join("manifest.json")).unwrap();
        let sha256 = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert!(manifest.contains(sha256), "{manifest}");
        let error = data_fetch(&args(&["nq"], &cache, &from), &Session::quiet()).unwrap_err();
        assert!(format!("{error:#}").contains("nq/test.jsonl"), "{error:#}");
    }
}
