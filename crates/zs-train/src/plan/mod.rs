//! What a training run is going to do and need: printed by `--dry-run`, and checked before a run
//! begins.

pub(crate) mod memory;

use std::fmt::Write;

use anyhow::{Result, bail};
use sysinfo::{CGroupLimits, System};
use zs_model::ModelConfig;

use self::memory::{Part, Phase};
use crate::config::TrainConfig;
use crate::device;

/// Tokens of a prompt, where nothing is known about it: the template of ZeroSearch and a question.
const PROMPT_TOKENS: usize = 256;

/// A run before anything of it is loaded.
pub(crate) struct Plan<'a> {
    config: &'a TrainConfig,
    shape: ModelConfig,
    parts: Vec<Part>,
    available: u64,
}

impl<'a> Plan<'a> {
    /// Reads the shapes of the models and the memory of the machine, or of the GPU that is chosen.
    ///
    /// # Errors
    ///
    /// Fails where a model directory has no readable `config.json`.
    pub(crate) fn new(config: &'a TrainConfig) -> Result<Self> {
        let shape = ModelConfig::from_dir(&config.policy)?;
        let workers = device::workers();
        let available = device::memory_of_gpu().unwrap_or_else(|| memory_of_machine().1);
        Ok(Self { config, shape, parts: memory::parts(config, workers)?, available })
    }

    /// The peak of the estimate, in bytes.
    fn peak(&self) -> u64 {
        memory::peak(&self.parts)
    }

    /// Refuses a run whose estimate exceeds the memory that is free.
    ///
    /// # Errors
    ///
    /// Fails with both numbers, and what to change.
    pub(crate) fn check(&self) -> Result<()> {
        let peak = self.peak();
        if peak <= self.available {
            return Ok(());
        }
        bail!(
            "the run needs about {} of memory and {} is free; set `training.update.\\
             micro_batch_tokens` lower, `training.memory.recompute_blocks`, adapters \\
             (`training.lora`), or --force (see --dry-run for the parts)",
            gib(peak),
            gib(self.available)
        )
    }

    /// One line about the memory.
    pub(crate) fn summary(&self) -> String {
        format!("about {}, {} is free", gib(self.peak()), gib(self.available))
    }

    /// The plan as text: settings, steps, tokens and memory.
    ///
    /// # Errors
    ///
    /// Fails where the settings have no TOML form.
    pub(crate) fn describe(&self) -> Result<String> {
        let schedule = &self.config.training.schedule;
        let episodes = schedule.questions_per_step * schedule.group_size;
        let tokens = episode_tokens(self.config, &self.shape);
        let mut text = toml::to_string_pretty(self.config)?;
        let _ = writeln!(text, "\n# {} parameters", grouped(self.shape.num_parameters() as u64));
        let _ = writeln!(
            text,
            "# {} steps of {episodes} episodes ({} questions, {} each)",
            schedule.steps, schedule.questions_per_step, schedule.group_size
        );
        let _ = writeln!(
            text,
            "# up to {} tokens a step ({} an episode)",
            grouped((episodes * tokens) as u64),
            grouped(tokens as u64)
        );
        let _ = writeln!(text, "# memory, estimated:");
        for Part { name, bytes, phase } in &self.parts {
            let when = match phase {
                None => "",
                Some(Phase::Rollout) => "  (while episodes are played)",
                Some(Phase::Update) => "  (while the policy learns)",
            };
            let _ = writeln!(text, "#   {:>10}  {name}{when}", gib(*bytes));
        }
        let _ = writeln!(
            text,
            "#   {:>10}  at the peak; {} is free",
            gib(self.peak()),
            gib(self.available)
        );
        Ok(text)
    }
}

/// Tokens that an episode holds at most.
pub(crate) fn episode_tokens(config: &TrainConfig, shape: &ModelConfig) -> usize {
    let rollout = &config.training.rollout;
    let searches = rollout.max_searches as usize;
    let written = (searches + 1) * rollout.max_new_tokens;
    let read = searches * rollout.max_observation_tokens;
    (PROMPT_TOKENS + written + read).min(shape.max_position_embeddings)
}

/// The memory that there is, and how much of it is free; no more than the control group allows.
pub(crate) fn memory_of_machine() -> (u64, u64) {
    let mut system = System::new();
    system.refresh_memory();
    let group = system.cgroup_limits();
    let limit = |of: fn(&CGroupLimits) -> u64| group.as_ref().map_or(u64::MAX, of);
    let total = system.total_memory().min(limit(|it| it.total_memory));
    (total, system.available_memory().min(limit(|it| it.free_memory)))
}

/// Bytes in the unit that models are counted in.
pub(crate) fn gib(bytes: u64) -> String {
    match bytes as f64 / (1_u64 << 30) as f64 {
        it if it >= 0.1 => format!("{it:.1} GiB"),
        it => format!("{:.1} MiB", it * 1024.0),
    }
}

/// A count with its thousands apart.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn config(extra: &str) -> TrainConfig {
        let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/zs-tiny");
        let text = format!(
            "seed = 1\nout = \"o\"\npolicy = '{}'\n\
             questions = {{ kind = \"world\", world = {{ seed = 1, split = \"train\" }}, per_hop = 5 }}\n\
             engine = {{ kind = \"fixed\", documents = [{{ text = \"x\" }}] }}\n{extra}",
            policy.display()
        );
        parse(&text, "run.toml").unwrap()
    }

    #[track_caller]
    fn part(config: &TrainConfig, name: &str) -> Option<u64> {
        let parts = memory::parts(config, 1).unwrap();
        parts.iter().find(|it| it.name == name).map(|it| it.bytes)
    }

    #[test]
    fn parts_follow_the_settings() {
        let plain = config("");
        let weights = part(&plain, "weights").unwrap();
        // The shipped model: 863,872 parameters.
        assert_eq!(
            weights,
            4 * ModelConfig::from_dir(&plain.policy).unwrap().num_parameters() as u64
        );
        assert_eq!(part(&plain, "optimizer"), Some(2 * weights));
        assert_eq!(part(&plain, "value model and its optimizer"), None);
        let critic = config("[training.algorithm]\nkind = \"ppo\"\n");
        assert_eq!(part(&critic, "value model and its optimizer"), Some(3 * weights));
        let adapters =
            config("[training.lora]\nr = 2\nalpha = 4.0\ntarget_modules = [\"q_proj\"]\n");
        assert!(part(&adapters, "optimizer").unwrap() < weights / 50);
        assert_eq!(part(&adapters, "reference model"), None);
        let recomputed = config("[training.memory]\nrecompute_blocks = true\n");
        assert!(part(&recomputed, "activations") < part(&plain, "activations"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let config = config("[training.update]\nmicro_batch_tokens = 100000000\n");
        let message = Plan::new(&config).unwrap().check().unwrap_err().to_string();
        assert!(message.contains("micro_batch_tokens") && message.contains("--force"), "{message}");
    }

    #[test]
    fn the_plan_names_steps_tokens_and_memory() {
        let config = config("");
        let text = Plan::new(&config).unwrap().describe().unwrap();
        for expected in ["seed = 1", "203 steps of 320 episodes", "tokens a step", "at the peak"] {
            assert!(text.contains(expected), "{text}");
        }
        // What is printed is a run file.
        assert_eq!(parse::<TrainConfig>(&text, "printed").unwrap(), config);
    }

    #[test]
    fn counts_are_readable() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
        assert_eq!((gib(3 << 30), gib(5 << 20)), ("3.0 GiB".to_owned(), "5.0 MiB".to_owned()));
    }
}
