//! A pretrained model that learns to search, on the user's questions and passages: cold start, simulation
//! LLM, training on both engines, and evaluation, each a command of `zs`.

mod charts;
mod data;
mod report;
mod stages;

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use zs_data::{FileError, read_json};
use zs_trainer::RunContext;
use zs_trainer::files::{RunDir, SUMMARY};

pub use self::data::{RealData, TestSet};
pub use self::report::{ArmScores, Difference, RealReport};
pub use self::stages::Stage;

use self::data::DATA_FILE;
use self::stages::{PROMPT, PROMPT_FILE, Plan, RUN_FILES};
use crate::arguments::ReproduceArgs;
use crate::error::{ReproduceError, Result};
use crate::output::claim_directory;

/// The stages and the files that they read, kept beside their results.
const SETTINGS: &str = "settings.json";
/// Seconds of every finished stage.
const FINISHED: &str = "finished.json";

/// All that the results depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    stages: Vec<Stage>,
    run_files: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
}

/// `zs reproduce --preset real`.
///
/// # Errors
///
/// Fails on missing models or data, on results of other settings in the output directory, and where a
/// stage fails.
pub fn command(args: &ReproduceArgs, context: &RunContext) -> Result<()> {
    let given = |what: &Option<PathBuf>, name: &str, content: &str| {
        let problem = || format!("`--preset real` needs `--{name} DIR`, {content}");
        what.clone().ok_or_else(|| ReproduceError::arguments(problem()))
    };
    let model = given(&args.model, "model", "a model of `zs model pull` or `zs model import`")?;
    let folder = given(&args.data, "data", &format!("a folder with {DATA_FILE}"))?;
    let data = RealData::read(&folder, &context.components)?;
    let out = args.out.clone().unwrap_or_else(|| "target/reproduce/real".into());
    let plan = Plan {
        model: &model,
        data: &data,
        out: &out,
        seed: args.seed.unwrap_or(1),
        smoke: args.smoke,
    };
    let stages = plan.stages();
    let wanted = wanted(&stages, &args.only)?;
    if args.dry_run {
        let commands: String = wanted.iter().map(|it| command_line(&it.arguments)).collect();
        context.print(&commands);
        return Ok(());
    }
    let run_files = RUN_FILES.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let settings = Settings { stages: stages.clone(), run_files, files: data.digests()? };
    claim_directory(&out)?;
    keep_settings(&out, &settings)?;
    let run = RunDir::open(&out)?;
    let mut finished = finished(&out)?;
    for stage in wanted.iter().filter(|_| !args.report_only) {
        if finished.contains_key(&stage.name) {
            continue;
        }
        let clock = Instant::now();
        carry_out(stage, context)?;
        finished.insert(stage.name.clone(), clock.elapsed().as_secs_f64());
        run.write_json(FINISHED, &finished)?;
    }
    let report = RealReport::new(&plan, &stages, finished, settings.files)?;
    report.write(&run)?;
    let page = out.join("report.html");
    context.print(&format!("{}\nThe report: {}\n", report.summary(), page.display()));
    Ok(())
}

/// The stages that `--only` names: by name, or by the part before a slash.
fn wanted(stages: &[Stage], only: &[String]) -> Result<Vec<Stage>> {
    let is_in = |stage: &Stage, name: &String| {
        stage.name == *name
            || stage.name.strip_prefix(name.as_str()).is_some_and(|it| it.starts_with('/'))
    };
    if let Some(unknown) = only.iter().find(|name| !stages.iter().any(|it| is_in(it, name))) {
        let known: Vec<&str> = stages.iter().map(|it| it.name.as_str()).collect();
        let known = known.join(", ");
        let problem = format!("`--only {unknown}`: there is no such stage; there are {known}");
        return Err(ReproduceError::arguments(problem));
    }
    let is_wanted = |it: &&Stage| only.is_empty() || only.iter().any(|name| is_in(it, name));
    Ok(stages.iter().filter(is_wanted).cloned().collect())
}

/// Writes settings and run files down; results of other settings are refused.
fn keep_settings(out: &Path, settings: &Settings) -> Result<()> {
    let path = out.join(SETTINGS);
    if path.exists() {
        let kept: Settings = read_json(&path)?;
        let changed = |problem: &str| {
            let out = out.display();
            let problem = format!(
                "{out}: holds results of other settings ({problem}); name another directory with `--out`"
            );
            Err(ReproduceError::arguments(problem))
        };
        let digests = kept.files.iter().find(|it| settings.files.get(it.0) != Some(it.1));
        if let Some((file, _)) = digests {
            return changed(&format!("{file} has changed"));
        }
        let stage = kept.stages.iter().zip(&settings.stages).find(|(a, b)| a != b);
        if let Some((stage, _)) = stage {
            return changed(&format!("stage {}", stage.name));
        }
        if kept != *settings {
            return changed("run files, tests or stages");
        }
        return Ok(());
    }
    let folder = RunDir::open(out)?;
    std::fs::create_dir_all(out.join("run_files"))
        .map_err(FileError::io(&out.join("run_files"), "create the directory"))?;
    for (name, text) in RUN_FILES {
        folder.write_text(&format!("run_files/{name}.toml"), text)?;
    }
    folder.write_text(&format!("run_files/{PROMPT_FILE}"), PROMPT)?;
    Ok(folder.write_json(SETTINGS, settings)?)
}

/// Seconds of the stages that have ended.
fn finished(out: &Path) -> Result<BTreeMap<String, f64>> {
    let path = out.join(FINISHED);
    Ok(if path.exists() { read_json(&path)? } else { BTreeMap::new() })
}

/// Runs a stage as a process of its own, which gives its memory back.
fn carry_out(stage: &Stage, context: &RunContext) -> Result<()> {
    let mut arguments = &stage.arguments;
    if let Some((run, resume)) = &stage.resume {
        if run.join(SUMMARY).exists() {
            return Ok(());
        }
        if run.join("config.toml").exists() {
            arguments = resume;
        }
    }
    let line = command_line(arguments);
    context.note(&format!("{}: {}", stage.name, line.trim_end()));
    let failed = |problem: String| ReproduceError::FailedWork {
        work: format!("{}: {problem}: {}", stage.name, line.trim_end()),
    };
    let program = env::current_exe().map_err(|it| failed(it.to_string()))?;
    let status = Command::new(program).args(arguments).status();
    let status = status.map_err(|it| failed(it.to_string()))?;
    if status.success() {
        return Ok(());
    }
    Err(failed(format!("ended with {status}; repeat the call to resume")))
}

/// The command as it would be typed.
fn command_line(arguments: &[String]) -> String {
    let quoted = arguments.iter().map(|it| match it.contains(|it: char| "\"' [{$".contains(it)) {
        true => format!("'{}'", it.replace('\'', r"'\''")),
        false => it.clone(),
    });
    format!("zs {}\n", quoted.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_for_a_shell() {
        let words = ["sft", "a.toml", "--set", "data.train=[\"a\"]", "it's"].map(str::to_owned);
        let line = command_line(&words);
        assert_eq!(line, "zs sft a.toml --set 'data.train=[\"a\"]' 'it'\\''s'\n");
    }

    #[test]
    fn stages_are_chosen_by_name_or_group() {
        let stage =
            |name: &str| Stage { name: name.to_owned(), arguments: Vec::new(), resume: None };
        let stages = ["bm25", "evaluation/a/base", "evaluation/b/base"].map(stage);
        let count = |only: &str| wanted(&stages, &[only.to_owned()]).map(|it| it.len());
        assert_eq!(count("evaluation").unwrap(), 2);
        assert_eq!(count("evaluation/a").unwrap(), 1);
        assert_eq!(count("bm25").unwrap(), 1);
        let error = count("bm2").unwrap_err().to_string();
        assert!(error.contains("there are bm25, evaluation/a/base"), "{error}");
        assert_eq!(wanted(&stages, &[]).unwrap().len(), 3);
    }
}
