//! The paper's own runs, on models and data of the user's: planned, estimated, and carried out one
//! after the other.

mod estimate;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use zs_core::registry::{Settings, Spec};
use zs_model::ModelConfig;
use zs_simulator::SimulatedSettings;

pub use self::estimate::{EPISODE, Episode, H100, Needs, Rates, hours};

use crate::arguments::ReproduceArgs;
use crate::error::{ReproduceError, Result};
use zs_data::QuestionFile;
use zs_trainer::config::{TrainConfig, parse};
use zs_trainer::plan::{gib, memory};
use zs_trainer::train::{self, ResumeOptions};
use zs_trainer::{Components, LoadError, RunContext};

macro_rules! run_files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../presets/paper/", $name, ".toml")))),*]
    };
}

/// Files of `presets/paper/`, in the order of the paper's tables.
const RUNS: [(&str, &str); 7] =
    run_files!["reinforce", "grpo", "ppo", "fixed_noise", "unmasked", "prompted", "google"];

/// One run of the paper.
#[derive(Clone, Debug, PartialEq)]
pub struct PaperRun {
    /// Its name.
    pub name: &'static str,
    /// Its settings.
    pub config: TrainConfig,
}

/// The paper's runs as their files say.
///
/// # Errors
///
/// Never: the files are part of this crate and tested.
pub fn runs(components: &Components) -> Result<Vec<PaperRun>> {
    let read = |(name, text): (&'static str, &str)| {
        let config = parse(text, &format!("presets/paper/{name}.toml"), components)?;
        Ok(PaperRun { name, config })
    };
    RUNS.into_iter().map(read).collect()
}

/// `zs reproduce --preset paper`.
///
/// # Errors
///
/// Fails on a missing model or data set, on an unknown run, and where a run fails.
pub fn command(args: &ReproduceArgs, context: &RunContext) -> Result<()> {
    let given = |what: &Option<PathBuf>, name: &str| {
        let problem = || format!("`--preset paper` needs `--{name} DIR`");
        what.clone().ok_or_else(|| ReproduceError::arguments(problem()))
    };
    let places = Places {
        model: given(&args.model, "model")?,
        simulator: given(&args.simulator, "simulator")?,
        questions: train_questions(&given(&args.data, "data")?)?,
        out: args.out.clone().unwrap_or_else(|| "target/reproduce/paper".into()),
    };
    let mut wanted = Vec::new();
    for mut run in runs(&context.components)? {
        if args.only.is_empty() || args.only.iter().any(|it| it == run.name) {
            run.config.seed = args.seed.unwrap_or(run.config.seed);
            places.apply(&mut run)?;
            wanted.push(run);
        }
    }
    if let Some(unknown) = args.only.iter().find(|it| RUNS.iter().all(|run| run.0 != **it)) {
        let known: Vec<&str> = RUNS.iter().map(|it| it.0).collect();
        let known = known.join(", ");
        let problem = format!("`--only {unknown}`: there is no such run; there are {known}");
        return Err(ReproduceError::arguments(problem));
    }
    context.print(&describe(&wanted, &places, &context.components)?);
    if args.dry_run {
        return Ok(());
    }
    for run in &wanted {
        let out = &run.config.out;
        context.note(&format!("{}: {}", run.name, out.display()));
        let outcome = match out.exists() {
            true => train::resume(out, &ResumeOptions::default(), context),
            false => train::begin(run.config.clone(), context),
        };
        outcome.map_err(ReproduceError::at(run.name))?;
    }
    Ok(())
}

/// Paths of the user's models and data.
struct Places {
    model: PathBuf,
    simulator: PathBuf,
    questions: PathBuf,
    out: PathBuf,
}

impl Places {
    fn apply(&self, run: &mut PaperRun) -> Result<()> {
        let config = &mut run.config;
        config.policy.clone_from(&self.model);
        config.out = self.out.join(run.name);
        config.questions = Spec::of(&QuestionFile { path: self.questions.clone(), limit: None })?;
        if config.engine.kind == SimulatedSettings::KIND {
            let settings: SimulatedSettings = config.engine.parse()?;
            let model = self.simulator.clone();
            config.engine = Spec::of(&SimulatedSettings { model, ..settings })?;
        }
        Ok(())
    }
}

/// The training questions in a folder of `zs data fetch`: ZeroSearch's, or those of Search-R1, which
/// merged the same sets.
fn train_questions(data: &Path) -> Result<PathBuf> {
    let places = ["zerosearch/train.parquet", "train/train.parquet", "train.parquet"];
    let found = places.iter().map(|it| data.join(it)).find(|it| it.exists());
    found.ok_or_else(|| ReproduceError::NoQuestions {
        data: data.to_owned(),
        tried: places.join(", "),
    })
}

/// The plan: each run with memory and hours, and what these are computed from.
fn describe(runs: &[PaperRun], places: &Places, components: &Components) -> Result<String> {
    let policy = ModelConfig::from_dir(&places.model).map_err(LoadError::from)?;
    let simulator = ModelConfig::from_dir(&places.simulator).map_err(LoadError::from)?;
    let billions = |it: &ModelConfig| it.num_parameters() as f64 / 1e9;
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header([
        "run",
        "algorithm",
        "engine",
        "steps",
        "episodes",
        "models",
        "playing",
        "learning",
        "peak",
        "hours",
    ]);
    let mut total = 0.0;
    for PaperRun { name, config } in runs {
        let training = &config.training;
        let algorithm = components.algorithms.build(&training.algorithm, &())?;
        let needs = Needs {
            reference: algorithm.requirements().needs_reference,
            critic: algorithm.requirements().value_clip.is_some(),
        };
        let (engine, simulator) = match config.engine.kind == SimulatedSettings::KIND {
            true => ("simulator", Some(&simulator)),
            false => ("web", None),
        };
        // An accelerator works on one micro-batch at a time.
        let parts = memory::parts(config, memory::Placement::GPU, components)?;
        let during =
            |phase| -> u64 { parts.iter().filter(|it| it.phase == phase).map(|it| it.bytes).sum() };
        let hours = hours(&policy, simulator, training, needs, H100);
        total += hours;
        let schedule = &training.schedule;
        table.add_row([
            (*name).to_owned(),
            algorithm.name().to_owned(),
            engine.to_owned(),
            schedule.steps.to_string(),
            (schedule.steps * schedule.questions_per_step * schedule.group_size).to_string(),
            gib(during(None)),
            gib(during(Some(memory::Phase::Rollout))),
            gib(during(Some(memory::Phase::Update))),
            gib(memory::peak(&parts)),
            format!("{hours:.1}"),
        ]);
    }
    let mut text = format!("{table}\n");
    let _ = writeln!(
        text,
        "Policy {:.2} billion parameters, simulator {:.2} billion; questions {}; about {total:.1} \
         hours in all.",
        billions(&policy),
        billions(&simulator),
        places.questions.display()
    );
    let Episode { prompt, turns, written, observed, asked } = EPISODE;
    let _ = writeln!(
        text,
        "These are estimates, not measurements. Memory, in f32: what is there throughout (weights, \
         reference, best policy, moments, value model, simulator), and beside it what is there while \
         episodes are played (keys and values of whole episodes, at their longest) or learned from \
         (gradients, activations and logits of a micro-batch); `zs train RUN.toml --dry-run` lists \
         the parts. Time: 2 P operations a token and pass, 6 P to learn from \
         one, decoding limited by the weights' way from memory; one {} with {:.0} TFLOP/s (30 % of \
         dense TF32) and {:.2} TB/s (50 %). An episode: {prompt} tokens of prompt, {turns} turns of \
         {written}, observations of {observed}, {asked} of the simulator's prompt. Retries, \
         validation, and waiting for a web engine are left out.",
        H100.name,
        H100.flops / 1e12,
        H100.bandwidth / 1e12,
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runs_are_valid_and_differ_where_they_should() {
        let runs = runs(&Components::built_in()).unwrap();
        let run = |name: &str| &runs.iter().find(|it| it.name == name).unwrap().config;
        let reinforce = run("reinforce");
        for other in &runs {
            assert_eq!(other.config.training.schedule, reinforce.training.schedule);
            assert_eq!(other.config.training.rollout, reinforce.training.rollout);
            assert_eq!(other.config.training.reward, reinforce.training.reward);
        }
        for name in ["grpo", "ppo"] {
            assert_ne!(run(name).training.algorithm, reinforce.training.algorithm);
            assert_eq!(run(name).training.curriculum, reinforce.training.curriculum);
        }
        // The constants are the defaults of the reference code, which the types have.
        let plain = zs_trainer::config::TrainingConfig::default();
        assert_eq!(reinforce.training.algorithm, plain.algorithm);
        assert_eq!(reinforce.training.rollout, plain.rollout);
        assert_ne!(run("unmasked").training.update, reinforce.training.update);
        assert_ne!(run("fixed_noise").training.curriculum, reinforce.training.curriculum);
        assert_eq!(run("google").engine.kind, "web");
    }

    #[test]
    fn every_number_of_a_run_file_names_its_source() {
        for (name, text) in RUNS {
            for line in text.lines() {
                let is_setting = line.split_once(" = ").is_some_and(|(key, value)| {
                    !key.starts_with('#') && value.starts_with(|it: char| it.is_ascii_digit())
                });
                assert!(!is_setting || line.contains(" # "), "{name}: {line}");
            }
        }
    }

    #[test]
    fn places_take_those_of_the_user() {
        let scratch = tempfile::tempdir().unwrap();
        let data = scratch.path();
        let error = train_questions(data).unwrap_err().to_string();
        assert!(error.contains("zs data fetch zerosearch"), "{error}");
        std::fs::create_dir(data.join("train")).unwrap();
        std::fs::write(data.join("train/train.parquet"), "").unwrap();
        let places = Places {
            model: "m".into(),
            simulator: "s".into(),
            questions: train_questions(data).unwrap(),
            out: "o".into(),
        };
        let mut run = runs(&Components::built_in()).unwrap().remove(0);
        places.apply(&mut run).unwrap();
        assert_eq!(run.config.policy, Path::new("m"));
        assert_eq!(run.config.out, Path::new("o/reinforce"));
        assert_eq!(run.config.engine.settings["model"], "s");
    }
}
