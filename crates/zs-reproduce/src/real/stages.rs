//! Stages of the preset: commands of `zs`, in order, that a user could give one by one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::data::{RealData, TestSet};

macro_rules! run_files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../presets/real/", $name, ".toml")))),*]
    };
}

/// Files of `presets/real/`.
pub(super) const RUN_FILES: [(&str, &str); 4] =
    run_files!["cold_start", "bm25", "simulator", "simulated"];

/// The prompt of cold start, training and evaluation, as the run files have it.
pub(super) const PROMPT: &str = "Question: {{ question }}\n";

/// The file of the prompt, beside the run files.
pub(super) const PROMPT_FILE: &str = "prompt.jinja";

/// Fraction of the training questions that validate training.
const VALIDATION_SHARE: &str = "0.1";

/// The model itself, among policies.
pub(super) const BASE: &str = "base";

/// Policies that are evaluated, each named after the stage that trains it, and the methods of `zs eval`.
pub(super) const ARMS: [(&str, &[&str]); 4] = [
    (BASE, &["direct", "rag", "trained"]),
    ("cold_start", &["trained"]),
    ("bm25", &["trained"]),
    ("simulated", &["trained"]),
];

/// Settings of `--smoke`: every stage, as short as it can be.
const SMOKE: [(&str, &[&str]); 5] = [
    ("cold_start", SMOKE_TUNING),
    ("simulator", SMOKE_TUNING),
    ("bm25", SMOKE_TRAINING),
    ("simulated", SMOKE_TRAINING),
    ("simulated", &["engine.sampling.max_new_tokens=16"]),
];
const SMOKE_TUNING: &[&str] =
    &["tuning.steps=2", "tuning.tokens_per_step=200", "tuning.eval_every=2"];
const SMOKE_TRAINING: &[&str] = &[
    "training.schedule.steps=2",
    "training.schedule.questions_per_step=2",
    "training.schedule.group_size=2",
    "training.schedule.eval_every=2",
    "training.rollout.max_new_tokens=16",
];

/// One command of `zs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Name, for `--only` and the report.
    pub name: String,
    /// Arguments of `zs`.
    pub arguments: Vec<String>,
    /// The run directory and the arguments that resume the run in it; other stages are resumed by the same
    /// arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<(PathBuf, Vec<String>)>,
}

impl Stage {
    /// A stage that the same arguments resume.
    fn new(name: &str, arguments: Vec<String>) -> Self {
        Self { name: name.to_owned(), arguments, resume: None }
    }
}

/// Model, data and settings of the stages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan<'a> {
    pub(super) model: &'a Path,
    pub(super) data: &'a RealData,
    pub(super) out: &'a Path,
    pub(super) seed: u64,
    pub(super) smoke: bool,
}

impl Plan<'_> {
    /// All stages.
    pub(super) fn stages(&self) -> Vec<Stage> {
        let data = self.data;
        let (turns, questions) = (self.place("episodes/turns"), self.place("episodes/questions"));
        let (index, searches) = (self.place("index"), self.place("searches"));
        let tests: Vec<&Path> = data.tests.iter().map(|it| it.questions.as_path()).collect();
        let seed = self.seed.to_string();

        let episodes = |name, out: &Path, source: Vec<String>| {
            let mut arguments = words(&["data", "trajectories"]);
            arguments.extend(source);
            arguments.extend(listed("--exclude", tests.iter().copied()));
            arguments.extend(words(&["--out", &text(out), "--seed", &seed]));
            Stage::new(name, arguments)
        };
        let from_turns = listed("--turns", data.turns.iter().map(PathBuf::as_path));
        let mut from_questions = listed("--questions", data.questions.iter().map(PathBuf::as_path));
        from_questions.extend(words(&["--corpus", &text(&data.corpus)]));
        from_questions.extend(words(&["--validation-share", VALIDATION_SHARE]));

        let build = ["index", "build", "--corpus", &text(&data.corpus), "--out", &text(&index)];
        let mut collect = words(&["simulate", "collect", "--k", "3"]);
        collect.extend(listed("--turns", data.turns.iter().map(PathBuf::as_path)));
        collect.extend(words(&["--out", &text(&searches), "--seed", &seed]));

        let file = |folder: &Path, name: &str| text(&folder.join(name));
        let train = |folder: &Path| file(folder, "train.jsonl");
        let validation = |folder: &Path| file(folder, "validation.jsonl");
        let model = text(self.model);
        let cold_start = [
            format!("base={model}"),
            format!("data.train={:?}", [train(&turns), train(&questions)]),
            format!("data.validation={:?}", [validation(&turns)]),
        ];
        let simulator = [
            format!("base={model}"),
            format!("data.path={}", train(&searches)),
            format!("data.validation={}", validation(&searches)),
        ];
        let policy = [
            format!("policy={}", text(&self.model_of("cold_start"))),
            format!("questions.path={}", train(&questions)),
            format!("validation.questions.path={}", validation(&questions)),
        ];
        let on_bm25 = [format!("engine.index={}", text(&index))];
        let on_simulator = [
            format!("engine.model={}", text(&self.model_of("simulator"))),
            format!("validation.engine.index={}", text(&index)),
        ];
        let mut stages = vec![
            episodes("episodes_of_turns", &turns, from_turns),
            episodes("episodes_of_questions", &questions, from_questions),
            Stage::new("index", words(&build)),
            self.run("sft", "cold_start", &[&cold_start]),
            self.run("train", "bm25", &[&policy, &on_bm25]),
            Stage::new("searches", collect),
            self.run("sft", "simulator", &[&simulator]),
            self.run("train", "simulated", &[&policy, &on_simulator]),
        ];
        for test in &data.tests {
            for (arm, methods) in ARMS {
                let model = if arm == BASE { self.model.to_owned() } else { self.model_of(arm) };
                stages.extend(methods.iter().map(|it| self.evaluation(arm, it, &model, test)));
            }
        }
        stages
    }

    fn place(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// The model that a stage ends with; of training, the best on the validation questions.
    fn model_of(&self, stage: &str) -> PathBuf {
        let is_trained = ["bm25", "simulated"].contains(&stage);
        self.place(stage).join(if is_trained { "checkpoints/best" } else { "checkpoints/final" })
    }

    /// A stage that a run file describes.
    fn run(&self, command: &str, name: &str, sets: &[&[String]]) -> Stage {
        let out = self.place(name);
        let file = self.out.join(format!("run_files/{name}.toml"));
        let mut arguments = words(&[command, &text(&file)]);
        let smoke = SMOKE.iter().filter(|it| self.smoke && it.0 == name).flat_map(|it| it.1);
        let sets = sets.iter().copied().flatten().cloned();
        let sets = sets.chain(smoke.map(|it| (*it).to_owned()));
        let ours = [format!("out={}", text(&out)), format!("seed={}", self.seed)];
        for set in sets.chain(ours) {
            arguments.extend(["--set".to_owned(), set]);
        }
        let resume = match command {
            "train" => words(&["train", "--resume", &text(&out)]),
            _ => [&arguments[..], &words(&["--resume"])].concat(),
        };
        Stage { name: name.to_owned(), arguments, resume: Some((out, resume)) }
    }

    fn evaluation(&self, arm: &str, method: &str, model: &Path, test: &TestSet) -> Stage {
        let name = evaluation_name(arm, method, &test.name);
        let out = self.place(&name);
        let corpus = if test.corpus.is_dir() { "--index" } else { "--corpus" };
        let mut arguments = words(&[
            "eval",
            "--model",
            &text(model),
            "--compute-dtype",
            "auto",
            corpus,
            &text(&test.corpus),
            "--questions",
            &text(&test.questions),
            "--method",
            method,
            "--titles",
            "--max-new-tokens",
            "64",
            "--max-searches",
            "3",
            "--k",
            "3",
            "--seed",
            &self.seed.to_string(),
            "--out",
            &text(&out),
        ]);
        if method == "trained" {
            let prompt = self.out.join("run_files").join(PROMPT_FILE);
            arguments.extend(words(&["--prompt", &text(&prompt)]));
        }
        if self.smoke {
            arguments.extend(words(&["--limit", "8"]));
        }
        Stage::new(&name, arguments)
    }
}

/// The stage, and the folder, of an evaluation.
pub(super) fn evaluation_name(arm: &str, method: &str, test: &str) -> String {
    match method {
        "trained" => format!("evaluation/{test}/{arm}"),
        _ => format!("evaluation/{test}/{arm}_{method}"),
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|it| (*it).to_owned()).collect()
}

fn listed<'a>(option: &str, paths: impl Iterator<Item = &'a Path>) -> Vec<String> {
    std::iter::once(option.to_owned()).chain(paths.map(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zs_trainer::Components;
    use zs_trainer::config::{SftConfig, TrainConfig, TrainingConfig, parse};

    #[test]
    fn run_files_are_valid_and_share_prompt_and_limits() {
        let components = Components::built_in();
        let file = |name: &str| RUN_FILES.iter().find(|it| it.0 == name).unwrap().1;
        let train = |name| parse::<TrainConfig>(file(name), name, &components).unwrap();
        let tuning = |name| parse::<SftConfig>(file(name), name, &components).unwrap();
        let (bm25, simulated) = (train("bm25").training, train("simulated").training);
        assert_eq!(bm25.rollout.prompt_template, PROMPT);
        assert_ne!(bm25.curriculum, simulated.curriculum);
        let TrainingConfig { curriculum, .. } = bm25.clone();
        assert_eq!(bm25, TrainingConfig { curriculum, ..simulated }, "alike but for the noise");
        let cold_start = toml::Value::try_from(tuning("cold_start")).unwrap();
        let shared = cold_start["data"]["rollout"].as_table().unwrap();
        let rollout = toml::Value::try_from(&bm25.rollout).unwrap();
        for key in ["prompt_template", "max_searches", "num_documents", "max_observation_tokens"] {
            assert_eq!(shared[key], rollout[key], "{key}");
        }
        tuning("simulator");
    }
}
