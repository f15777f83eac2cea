//! Inspection of a run: it as one self-contained page, with curves, settings, costs, alarms and every
//! recorded episode.

mod curves;
mod data;
mod error;
mod page;
mod rollouts;

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use zs_data::{DataError, FileError, read_regular_text, read_whole_rows, write_atomic};
use zs_model::Tokenizer;
use zs_trainer::alarm::{ALARMS, AlarmRecord};
use zs_trainer::config::TrainConfig;
use zs_trainer::files::SUMMARY;
use zs_trainer::{Console, Metrics, engines};

pub use self::error::InspectError;

use self::data::Episodes;
use self::page::Page;
use self::rollouts::read_all;

/// Choices of an inspection page.
#[derive(Clone, Debug)]
pub struct InspectOptions {
    /// Run directory, finished or not.
    pub run: PathBuf,
    /// Page to write; `inspect.html` in the run directory by default.
    pub out: Option<PathBuf>,
    /// Model whose tokenizer the episodes were written with; the run's own by default.
    pub model: Option<PathBuf>,
    /// Episodes at most. Where there are more, whole groups are left out, evenly over the run.
    pub episodes: usize,
}

/// Writes the page of a run.
///
/// # Errors
///
/// Fails on a directory that holds no run, on files that cannot be read, and when the page cannot be
/// written.
pub fn inspect(args: &InspectOptions, console: &dyn Console) -> Result<(), InspectError> {
    let run = &args.run;
    let metrics: Vec<Metrics> = json_lines(&run.join("metrics.jsonl"))?
        .ok_or_else(|| InspectError::NotARun { run: run.clone() })?;
    let config = optional_text(&run.join("config.toml"))?;
    let tokenizer = tokenizer(args, config.as_deref())?;
    if tokenizer.is_none() {
        console.note(
            "no tokenizer found, so episodes are shown by turn and not by token; name one with --model",
        );
    }
    let (episodes, num_recorded) = episodes(args, tokenizer.as_ref())?;
    if episodes.len() < num_recorded {
        console.note(&format!("{} of {num_recorded} episodes are shown", episodes.len()));
    }
    let costs = match run.join(engines::COSTS).exists() {
        true => engines::read_costs(run)?,
        false => Vec::new(),
    };
    let page = Page {
        name: run.canonicalize().unwrap_or_else(|_| run.clone()),
        timings: json_lines(&run.join("timings.jsonl"))?.unwrap_or_default(),
        alarms: json_lines::<AlarmRecord>(&run.join(ALARMS))?,
        summary: optional_text(&run.join(SUMMARY))?,
        metrics,
        config,
        costs,
        episodes,
        num_recorded,
    };
    let out = args.out.clone().unwrap_or_else(|| run.join("inspect.html"));
    write_atomic(&out, page.render()?.as_bytes())?;
    console.print(&format!("{}\n", out.display()));
    Ok(())
}

/// The episodes to show, and how many there are.
fn episodes(
    args: &InspectOptions,
    tokenizer: Option<&Tokenizer>,
) -> Result<(Episodes, usize), InspectError> {
    let sizes: Vec<usize> = read_all(&args.run)?
        .map(|it| it.map(|it| it.group.trajectories.len()))
        .collect::<Result<_, _>>()?;
    let num_recorded: usize = sizes.iter().sum();
    let mut shown = Episodes::default();
    let mut passed = 0;
    for (recorded, size) in read_all(&args.run)?.zip(&sizes) {
        // A group is shown when the share of the limit that has passed takes it in whole.
        let due = |passed: usize| passed * args.episodes.min(num_recorded) / num_recorded.max(1);
        let is_shown = shown.len() + size <= due(passed + size);
        passed += size;
        if is_shown {
            shown.add(&args.run, &recorded?, tokenizer)?;
        }
    }
    Ok((shown, num_recorded))
}

/// The tokenizer that is named, or that of a checkpoint of the run, or that of the policy that it
/// started from.
fn tokenizer(
    args: &InspectOptions,
    config: Option<&str>,
) -> Result<Option<Tokenizer>, InspectError> {
    let load = |dir: &Path| {
        Tokenizer::from_dir(dir)
            .map_err(|source| InspectError::Tokenizer { dir: dir.to_owned(), source })
    };
    if let Some(dir) = &args.model {
        return load(dir).map(Some);
    }
    // A kept model is in a checkpoint's own directory; a resumable checkpoint has it one level below.
    let mut dirs: Vec<PathBuf> = match fs::read_dir(args.run.join("checkpoints")) {
        Ok(entries) => entries
            .filter_map(|it| Some(it.ok()?.path()))
            .flat_map(|it| [it.join("policy"), it])
            .collect(),
        Err(_) => Vec::new(),
    };
    dirs.sort();
    if let Some(config) = config.and_then(|it| toml::from_str::<TrainConfig>(it).ok()) {
        dirs.push(config.policy);
    }
    let found = dirs.into_iter().find(|it| it.join("tokenizer.json").exists());
    found.as_deref().map(load).transpose()
}

/// The rows of a file of the run, if it is there. A last line that an interrupted run has not
/// finished is left out.
fn json_lines<T: DeserializeOwned + 'static>(path: &Path) -> Result<Option<Vec<T>>, DataError> {
    path.exists().then(|| read_whole_rows(path)).transpose()
}

fn optional_text(path: &Path) -> Result<Option<String>, FileError> {
    path.exists().then(|| read_regular_text(path).map_err(FileError::io(path, "read"))).transpose()
}
