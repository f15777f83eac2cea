//! Plan of a training run: steps and memory, printed by `--dry-run` and checked before a run
//! begins.

mod available;
mod control_group;
pub mod memory;

use std::fmt::Write;

use zs_model::{ModelConfig, Tokenizer};

pub use self::available::memory_of_machine;

use self::available::Available;
use self::memory::{Part, Phase, Placement};
use crate::config::{TrainConfig, futile_settings_of};
use crate::{DeviceName, LoadError, RunContext};

/// Tokens of a prompt, where nothing is known about it: the template of ZeroSearch and a question.
const PROMPT_TOKENS: usize = 256;

/// Plan that exceeds the memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A run that needs more memory than is free.
    #[error(
        "the run needs about {needed} of memory and {available}; lower `training.update.\
         micro_batch_tokens`, set `training.memory.gradient_checkpointing = true`, train adapters \
         (`training.lora`), or pass `--force` (`--dry-run` shows the parts)"
    )]
    Memory {
        /// Estimate.
        needed: String,
        /// Clause about the memory that is free.
        available: String,
    },
    /// A simulation LLM that needs more memory than is free on its device.
    #[error(
        "the simulation LLM needs about {needed} of memory and {available}; choose another \
         `--simulator-device`, or pass `--force`"
    )]
    SimulatorMemory {
        /// Estimate.
        needed: String,
        /// Clause about the memory that is free.
        available: String,
    },
}

/// A run before anything of it is loaded.
#[derive(Debug)]
pub struct Plan<'a> {
    config: &'a TrainConfig,
    shape: ModelConfig,
    parts: Vec<Part>,
    available: Available,
    /// Continuations of a step's episodes, at most.
    continuations: usize,
    /// Warnings about settings with which nothing is learned.
    warnings: Vec<String>,
    /// Memory of a simulation LLM that has a device of its own.
    apart: Option<(u64, Available)>,
}

impl<'a> Plan<'a> {
    /// Reads the shapes of the models and the memory of the machine, or of the GPU that is chosen.
    ///
    /// # Errors
    ///
    /// Fails where a model directory has no readable `config.json`.
    pub fn new(config: &'a TrainConfig, context: &RunContext) -> Result<Self, LoadError> {
        let devices = &context.devices;
        let shape = ModelConfig::from_dir(&config.policy)?;
        let parts = memory::parts(config, Placement::of(devices), &context.components)?;
        let apart = match devices.own_simulator_name() {
            Some(name) => {
                let is_gpu = name != DeviceName::Cpu;
                let bytes = memory::simulator_bytes(config, is_gpu, &context.components)?;
                Some((bytes, Available::on(name, devices)))
            }
            None => None,
        };
        let apart = apart.filter(|(bytes, _)| *bytes > 0);
        let available = Available::on(devices.name(), devices);
        let training = &config.training;
        let algorithm = context.components.algorithms.build(&training.algorithm, &())?;
        let continuations = memory::continuations(config, algorithm.requirements().branching);
        // A broken tokenizer is reported when the policy is loaded.
        let tokenizer = Tokenizer::from_dir(&config.policy).ok();
        let warnings = futile_settings_of(training, tokenizer.as_ref(), &context.components)?;
        Ok(Self { config, shape, parts, available, continuations, warnings, apart })
    }

    /// The peak of the estimate, in bytes.
    fn peak(&self) -> u64 {
        memory::peak(&self.parts)
    }

    /// Refuses a run whose estimate exceeds the memory that is free, or all of a GPU's where it does
    /// not say what is free.
    ///
    /// # Errors
    ///
    /// Fails with both numbers, and what to change.
    pub fn check(&self) -> Result<(), PlanError> {
        if let Some((bytes, available)) = &self.apart
            && *bytes > available.bytes
        {
            let (needed, available) = (gib(*bytes), available.to_string());
            return Err(PlanError::SimulatorMemory { needed, available });
        }
        let peak = self.peak();
        if peak <= self.available.bytes {
            return Ok(());
        }
        let (needed, available) = (gib(peak), self.available.to_string());
        Err(PlanError::Memory { needed, available })
    }

    /// Summary of the memory, in one line.
    pub fn summary(&self) -> String {
        format!("about {}, {}", gib(self.peak()), self.available)
    }

    /// The plan as text: settings, steps, tokens and memory.
    ///
    /// # Errors
    ///
    /// Fails where the settings have no TOML form.
    pub fn describe(&self) -> Result<String, toml::ser::Error> {
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
        if self.continuations > 0 {
            let _ = writeln!(text, "# and up to {} continuations of them", self.continuations);
        }
        let _ = writeln!(
            text,
            "# up to {} tokens per step ({} per episode)",
            grouped(((episodes + self.continuations) * tokens) as u64),
            grouped(tokens as u64)
        );
        for it in &self.warnings {
            let _ = writeln!(text, "# warning: {it}");
        }
        let _ = writeln!(text, "# memory, estimated:");
        for Part { name, bytes, phase } in &self.parts {
            let when = match phase {
                None => "",
                Some(Phase::Rollout) => "  (while episodes are played)",
                Some(Phase::Update) => "  (while the policy learns)",
            };
            let _ = writeln!(text, "#   {:>10}  {name}{when}", gib(*bytes));
        }
        let _ = writeln!(text, "#   {:>10}  at the peak; {}", gib(self.peak()), self.available);
        if let Some((bytes, available)) = &self.apart {
            let name = memory::SIMULATOR;
            let _ = writeln!(text, "#   {:>10}  {name}, on its own; {available}", gib(*bytes));
        }
        Ok(text)
    }
}

/// Tokens that an episode holds at most.
pub fn episode_tokens(config: &TrainConfig, shape: &ModelConfig) -> usize {
    let rollout = &config.training.rollout;
    let searches = rollout.max_searches as usize;
    let written = (searches + 1) * rollout.max_new_tokens;
    let read = searches * rollout.max_observation_tokens;
    (PROMPT_TOKENS + written + read).min(shape.max_position_embeddings)
}

/// Bytes in the unit that models are counted in.
pub fn gib(bytes: u64) -> String {
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

    use super::available::Kind;
    use super::*;
    use crate::components::Components;
    use crate::config::parse;

    fn config(extra: &str) -> TrainConfig {
        let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/zs-tiny");
        let text = format!(
            "seed = 1\nout = \"o\"\npolicy = '{}'\n\
             questions = {{ kind = \"world\", world = {{ seed = 1, split = \"train\" }}, per_hop = 5 }}\n\
             engine = {{ kind = \"fixed\", documents = [{{ text = \"x\" }}] }}\n{extra}",
            policy.display()
        );
        parse(&text, "run.toml", &Components::built_in()).unwrap()
    }

    const CPU: Placement = Placement { is_gpu: false, ..Placement::GPU };

    #[track_caller]
    fn part_on(on: Placement, config: &TrainConfig, name: &str) -> Option<u64> {
        let parts = memory::parts(config, on, &Components::built_in()).unwrap();
        parts.iter().find(|it| it.name == name).map(|it| it.bytes)
    }

    #[track_caller]
    fn part(config: &TrainConfig, name: &str) -> Option<u64> {
        part_on(CPU, config, name)
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
        let policy = plain.policy.display();
        let taught = config(&format!(
            "[teacher]\nkind = \"local\"\nmodel = '{policy}'\n[training.update.distillation]\n"
        ));
        assert_eq!((part(&plain, "teacher"), part(&taught, "teacher")), (None, Some(weights)));
        let adapters =
            config("[training.lora]\nr = 2\nalpha = 4.0\ntarget_modules = [\"q_proj\"]\n");
        assert!(part(&adapters, "optimizer").unwrap() < weights / 50);
        assert_eq!(part(&adapters, "reference model"), None);
        const INVARIANT: &str = "[training.memory]\nbatch_invariant = true\n";
        let invariant = config(INVARIANT);
        assert_eq!(part(&plain, "copy for sampling"), None);
        // The embedding is there twice.
        assert!(part(&invariant, "copy for sampling").unwrap() > weights);
        assert_eq!(part_on(Placement::GPU, &invariant, "copy for sampling"), None);
        let servers =
            "[rollout.servers]\nkind = \"zs\"\nurls = [\"http://x\"]\nweights_dir = \"w\"\n";
        let elsewhere = config(&format!("{servers}{INVARIANT}"));
        for name in ["copy for sampling", "key-value cache", "a pass of sampling"] {
            assert_eq!(part(&elsewhere, name), None, "{name}");
        }
        // 64 questions: 2 of 5 episodes (rounded from 0.4), 5 turns after the first, 8 continuations.
        let branched = config(
            "[training.algorithm]\nkind = \"branched\"\n\
             branching = { share = 0.4, continuations = 8, depth = 9 }\n",
        );
        let cache = |config| part(config, "key-value cache").unwrap();
        assert_eq!(cache(&branched), cache(&plain) / 320 * (64 * 2 * 5 * 8));
    }

    #[test]
    fn checkpointing_saves_activations_on_every_device() {
        let plain = config("");
        let recomputed = config("[training.memory]\ngradient_checkpointing = true\n");
        let of = |on, config| part_on(on, config, "activations").unwrap();
        for (on, is_there) in [(CPU, false), (Placement::GPU, true)] {
            assert!(of(on, &recomputed) < of(on, &plain));
            assert_eq!(part_on(on, &plain, "key-value cache in motion").is_some(), is_there);
        }
    }

    /// Qwen2.5-3B with all weights trained, its divergence from a reference, and episodes of
    /// 256 + 2 · 128 + 500 = 1,012 tokens.
    fn qwen(extra: &str) -> (tempfile::TempDir, TrainConfig) {
        let dir = tempfile::tempdir().unwrap();
        let shape = r#"{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
            "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
            "num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 151936,
            "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
            "tie_word_embeddings": true, "hidden_act": "silu", "eos_token_id": 151643}"#;
        std::fs::write(dir.path().join("config.json"), shape).unwrap();
        let mut config = config(&format!(
            "[training.rollout]\nmax_searches = 1\nmax_new_tokens = 128\n\
             max_observation_tokens = 500\n[training.algorithm]\nkind = \"grpo\"\nkl_coef = 0.001\n\
             [training.memory]\n{extra}"
        ));
        config.policy = dir.path().to_owned();
        (dir, config)
    }

    #[test]
    fn a_fine_tune_of_three_billion_weights_fits_100_gib() {
        let (_dir, config) = qwen("compute_dtype = \"bf16\"\ngradient_checkpointing = true\n");
        // P = 3,085,938,688: 311,164,928 of the embedding, 36 blocks of 77,076,992, 2,048 of the norm.
        let expected = [
            ("weights", 12_343_754_752),
            ("reference model", 12_343_754_752),
            // 2 (36 · 77,076,992 + 311,164,928)
            ("copy for sampling", 6_171_873_280),
            ("optimizer", 24_687_509_504),
            ("gradients", 24_687_509_504),
            // a = 4 · 2,048 + 2 · 2,048 + 2 · 256 + 3 · 11,008 = 45,824, p = 2 · 2,048 + 2,048 + 11,008
            // = 17,152, s = 4 (a - p) + 2 p = 148,992, q = 2 a + 3 · 16 · 512 = 116,224:
            // 8,192 (4 · 36 · 2,048 + s + 4 q) + 2 · 77,076,992
            ("activations", 7_599_043_584),
            // 12 · 2^25
            ("logits", 402_653_184),
            // 36,864 bytes a token: 512 rows of 1,024
            ("key-value cache", 19_327_352_832),
            // 320 rows of 1,024 on their way from 512 of 396
            ("key-value cache in motion", 19_553_845_248),
            // 12 · 512 · 151,936 + 8 · 2^26
            ("a pass of sampling", 1_470_365_696),
        ];
        let parts = memory::parts(&config, Placement::GPU, &Components::built_in()).unwrap();
        let found: Vec<(&str, u64)> = parts.iter().map(|it| (it.name, it.bytes)).collect();
        assert_eq!(found, expected);
        // Playing needs 95.9e9 bytes, learning 88.2e9.
        assert_eq!(memory::peak(&parts), 95_898_456_064);
        assert!(memory::peak(&parts) < 100 << 30);
    }

    #[test]
    fn what_makes_it_fit() {
        let peak = |on, extra: &str| {
            let (_dir, config) = qwen(extra);
            memory::peak(&memory::parts(&config, on, &Components::built_in()).unwrap())
        };
        // In f32 neither the cache nor the activations of all blocks fit beside the rest.
        assert!(peak(Placement::GPU, "gradient_checkpointing = true\n") > 100 << 30);
        assert!(peak(Placement::GPU, "compute_dtype = \"bf16\"\n") > 100 << 30);
        // Five lanes of 64 rows fill their shapes, and one moves at a time.
        let (_dir, mut config) = qwen("compute_dtype = \"bf16\"\ngradient_checkpointing = true\n");
        config.training.rollout.lanes = 5;
        assert_eq!(part_on(Placement::GPU, &config, "key-value cache"), Some(320 * 1024 * 36_864));
        // Two GPUs share the rows.
        let two = Placement { num_devices: 2, ..Placement::GPU };
        config.training.rollout.lanes = 1;
        assert_eq!(part_on(two, &config, "key-value cache"), Some(256 * 1024 * 36_864));
    }

    const SMOLLM2: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 100000.0,
        "tie_word_embeddings": true, "hidden_act": "silu", "eos_token_id": 2}"#;
    const EIGHT_MILLION: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6,
        "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 4096,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": false, "hidden_act": "silu", "eos_token_id": 2}"#;

    /// Estimates are between two thirds and one and a half of the peaks of resident memory that
    /// `model_speed` has measured on 2 cores, each with its arguments.
    ///
    /// Micro-batches hold 1,024 tokens of supervised rows. Those of reinforcement learning are counted
    /// without the prompts that episodes share. Weights count twice: the measured program keeps those
    /// that it began with.
    #[test]
    fn estimates_are_near_measured_peaks() {
        #[track_caller]
        fn check(shape: &str, arguments: &str, tokens: usize, gib: f64) {
            let dir = tempfile::tempdir().unwrap();
            let is_sampling = arguments.contains("decode");
            // Each of 8 rows has 128 + 16 tokens.
            let limited = shape.replace("8192", if is_sampling { "144" } else { "8192" });
            std::fs::write(dir.path().join("config.json"), limited).unwrap();
            let lora = "[training.lora]\nr = 16\nalpha = 32.0\ntarget_modules = [\"q_proj\", \
                        \"k_proj\", \"v_proj\", \"o_proj\", \"gate_proj\", \"up_proj\", \
                        \"down_proj\"]\n";
            let is_lora = !is_sampling && !arguments.contains("--lora 0");
            let mut config = config(&format!(
                "[training.algorithm]\nkind = \"grpo\"\nkl_coef = 0.0\n\
                 [training.memory]\ncompute_dtype = \"{}\"\ngradient_checkpointing = {}\n\
                 [training.update]\nmicro_batch_tokens = {tokens}\n{}",
                if arguments.contains("--bf16") { "bf16" } else { "f32" },
                is_lora || arguments.contains("--gradient-checkpointing"),
                if is_lora { lora } else { "" },
            ));
            config.policy = dir.path().to_owned();
            config.training.schedule.questions_per_step = 1;
            config.training.schedule.group_size = 8;
            config.training.schedule.eval_batch_size = 1;
            let on = Placement { cores: 2, ..CPU };
            let parts = memory::parts(&config, on, &Components::built_in()).unwrap();
            let of = |phase: Phase| -> u64 {
                let parts = parts.iter().filter(|it| it.phase.is_none_or(|it| it == phase));
                let is_held = |name: &str| !is_sampling || !name.starts_with("optimizer");
                parts.filter(|it| is_held(it.name)).map(|it| it.bytes).sum()
            };
            let estimate = of(if is_sampling { Phase::Rollout } else { Phase::Update });
            let weights = parts.iter().find(|it| it.name == "weights").map_or(0, |it| it.bytes);
            let others = if is_sampling || is_lora { 0 } else { weights };
            let ratio = (estimate + others) as f64 / (gib * f64::from(1 << 30));
            assert!((1.0 / 1.5..1.5).contains(&ratio), "{arguments}: {ratio:.2} of {gib} GiB");
        }
        // `model_speed smollm2-135m ARGUMENTS`
        check(SMOLLM2, "--pieces prefill,decode --bf16", 1024, 1.0);
        check(SMOLLM2, "--pieces update --lora 0 --bf16", 1024, 4.9);
        check(SMOLLM2, "--pieces update --lora 0 --bf16 --gradient-checkpointing", 1024, 3.8);
        check(SMOLLM2, "--pieces update --bf16", 1024, 1.26);
        check(SMOLLM2, "--pieces rl --lora 0 --bf16", 4096, 6.7);
        // `model_speed 8m ARGUMENTS --tries 2`
        check(EIGHT_MILLION, "--lora 0 --pieces update", 1024, 0.52);
        check(EIGHT_MILLION, "--lora 0 --pieces update --bf16", 1024, 0.54);
        check(EIGHT_MILLION, "--lora 0 --pieces rl", 5376, 1.94);
        check(EIGHT_MILLION, "--pieces rl --lora 0 --bf16", 5376, 1.69);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let config = config("");
        let mut plan = Plan::new(&config, &RunContext::default()).unwrap();
        plan.parts = vec![Part { name: "weights", bytes: 3 << 30, phase: None }];
        plan.available = Available { bytes: 2 << 30, kind: Kind::Machine };
        assert_eq!(
            plan.check().unwrap_err().to_string(),
            "the run needs about 3.0 GiB of memory and 2.0 GiB is free; lower \
             `training.update.micro_batch_tokens`, set `training.memory.gradient_checkpointing = true`, \
             train adapters (`training.lora`), or pass `--force` (`--dry-run` shows the parts)"
        );
        plan.available.bytes = 3 << 30;
        plan.check().unwrap();
        plan.apart = Some((5 << 30, plan.available.clone()));
        assert_eq!(
            plan.check().unwrap_err().to_string(),
            "the simulation LLM needs about 5.0 GiB of memory and 3.0 GiB is free; choose another \
             `--simulator-device`, or pass `--force`"
        );
    }

    #[test]
    fn the_plan_names_steps_tokens_and_memory() {
        let config = config("");
        let text = Plan::new(&config, &RunContext::default()).unwrap().describe().unwrap();
        for expected in ["seed = 1", "203 steps of 320 episodes", "tokens per step", "at the peak"]
        {
            assert!(text.contains(expected), "{text}");
        }
        // What is printed is a run file.
        assert_eq!(
            parse::<TrainConfig>(&text, "printed", &Components::built_in()).unwrap(),
            config
        );
    }

    #[test]
    fn counts_are_readable() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
        assert_eq!((gib(3 << 30), gib(5 << 20)), ("3.0 GiB".to_owned(), "5.0 MiB".to_owned()));
    }
}
