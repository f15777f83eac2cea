//! How much memory and time a run of the paper is expected to take: a model on paper, not a
//! measurement.

use zs_model::ModelConfig;

use crate::config::TrainingConfig;

/// Bytes of a number: weights and arithmetic are f32.
const BYTES: f64 = 4.0;

/// Numbers that training keeps of a trained weight: the weight, its gradient, AdamW's two moments.
const TRAINED: f64 = 4.0;

/// What an accelerator is assumed to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Its name.
    pub name: &'static str,
    /// Floating-point operations a second that matrix products reach.
    pub flops: f64,
    /// Bytes a second that weights are read with.
    pub bandwidth: f64,
}

/// NVIDIA's data sheet of the H100 SXM: 495 TFLOP/s of dense TF32, of which 30 % are assumed, and
/// 3.35 TB/s of memory, of which 50 % are assumed.
pub const H100: Rates = Rates { name: "H100 SXM", flops: 0.3 * 495e12, bandwidth: 0.5 * 3.35e12 };

/// What an episode is assumed to be like, where a run file gives limits only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Episode {
    /// Tokens of the prompt.
    pub prompt: f64,
    /// Turns, the last of which answers.
    pub turns: f64,
    /// Tokens that the policy writes in a turn.
    pub written: f64,
    /// Tokens of an observation, which the simulation LLM writes.
    pub observed: f64,
    /// Tokens of the simulation LLM's prompt.
    pub asked: f64,
}

/// Turns as in the paper's figure 2 (1.6 to 2.2 searches), the lengths of its prompts, five documents
/// of 30 words; the tokens of a turn are ours.
pub const EPISODE: Episode =
    Episode { prompt: 150.0, turns: 3.0, written: 120.0, observed: 250.0, asked: 150.0 };

impl Episode {
    /// Tokens of a whole episode.
    #[must_use]
    pub fn tokens(self) -> f64 {
        self.prompt + self.turns * self.written + (self.turns - 1.0) * self.observed
    }
}

/// Parameters of a model.
///
/// ```text
/// P = V h (1 + untied) + L (h (n_q + 2 n_kv) d + n_q d h + 3 h i + 2 h) + h
/// ```
///
/// - `V` vocabulary, `h` hidden, `i` intermediate size, `L` layers, `n_q`, `n_kv` heads, `d` their
///   width; biases are left out, fewer than one in ten thousand
#[must_use]
pub fn num_parameters(config: &ModelConfig) -> f64 {
    let [v, h, i, layers] =
        [config.vocab_size, config.hidden_size, config.intermediate_size, config.num_hidden_layers]
            .map(|it| it as f64);
    let d = config.head_dim as f64;
    let (queries, keys) = (config.num_attention_heads as f64, config.num_key_value_heads as f64);
    let embeddings = if config.tie_word_embeddings { 1.0 } else { 2.0 };
    let block = h * (queries + 2.0 * keys) * d + queries * d * h + 3.0 * h * i + 2.0 * h;
    v * h * embeddings + layers * block + h
}

/// Memory in GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Policy, gradients, moments.
    pub policy: f64,
    /// The reference model.
    pub reference: f64,
    /// The value model with its own gradients and moments.
    pub critic: f64,
    /// The simulation LLM.
    pub simulator: f64,
    /// Keys and values of the episodes of a step, while they are played.
    pub cache: f64,
    /// Activations of a micro-batch.
    pub activations: f64,
}

impl Memory {
    /// ```text
    /// policy      4 P b                      weights, gradients, two moments
    /// reference   P b                        with a KL term
    /// critic      4 P b                      with a value model
    /// simulator   S b                        where it runs in this process
    /// cache       E T 2 L n_kv d b           or the micro-batch's activations, whichever is larger
    /// activations M L (10 h + 3 i + 2 (n_q + 2 n_kv) d) b
    /// ```
    ///
    /// - `P`, `S` parameters of policy and simulator, `b` 4 bytes, `E` episodes a step, `T` tokens of
    ///   an episode, `M` tokens of a micro-batch; weights that adapters leave alone have neither
    ///   gradients nor moments
    #[must_use]
    pub fn estimate(
        policy: &ModelConfig,
        simulator: Option<&ModelConfig>,
        training: &TrainingConfig,
        needs: Needs,
    ) -> Self {
        let gib = |numbers: f64| numbers * BYTES / 1024.0_f64.powi(3);
        let p = num_parameters(policy);
        let trained = if training.lora.is_some() { 1.0 } else { TRAINED };
        let schedule = &training.schedule;
        let episodes = (schedule.questions_per_step * schedule.group_size) as f64;
        let (layers, d) = (policy.num_hidden_layers as f64, policy.head_dim as f64);
        let (queries, keys) =
            (policy.num_attention_heads as f64, policy.num_key_value_heads as f64);
        let (h, i) = (policy.hidden_size as f64, policy.intermediate_size as f64);
        let micro_batch = training.update.micro_batch_tokens as f64;
        let kept_layers = if training.memory.recompute_blocks { 1.0 } else { layers };
        let of_token = 10.0 * h + 3.0 * i + 2.0 * (queries + 2.0 * keys) * d;
        Self {
            policy: gib(trained * p),
            reference: if needs.reference { gib(p) } else { 0.0 },
            critic: if needs.critic { gib(TRAINED * p) } else { 0.0 },
            simulator: simulator.map_or(0.0, |it| gib(num_parameters(it))),
            cache: gib(episodes * EPISODE.tokens() * 2.0 * layers * keys * d),
            activations: gib(micro_batch * kept_layers * of_token),
        }
    }

    /// What must be there at once: the episodes are played before they are learned from.
    #[must_use]
    pub fn peak(&self) -> f64 {
        let models = self.policy + self.reference + self.critic + self.simulator;
        models + self.cache.max(self.activations)
    }
}

/// Which models an algorithm needs beside the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// A reference model.
    pub reference: bool,
    /// A value model.
    pub critic: bool,
}

/// Expected hours of a run.
///
/// ```text
/// step    = play + simulate + learn
/// play    = t n decode(P, E) + 2 P E T / F
/// simulate= (t - 1) (o decode(S, E) + 2 S E a / F)
/// learn   = (6 P + 2 P [reference] + 8 P [critic]) E T / F
/// decode(P, E) = max(P b / B, 2 P E / F)      one token of all episodes
/// ```
///
/// - `t` turns, `n` tokens a turn, `o` of an observation, `a` of the simulator's prompt; `E`, `T`,
///   `P`, `S`, `b` as in [`Memory::estimate`]
/// - `F` operations, `B` bytes a second: [`Rates`]
#[must_use]
pub fn hours(
    policy: &ModelConfig,
    simulator: Option<&ModelConfig>,
    training: &TrainingConfig,
    needs: Needs,
    rates: Rates,
) -> f64 {
    let schedule = &training.schedule;
    let e = (schedule.questions_per_step * schedule.group_size) as f64;
    let p = num_parameters(policy);
    let decode = |p: f64| (p * BYTES / rates.bandwidth).max(2.0 * p * e / rates.flops);
    let Episode { turns, written, observed, asked, .. } = EPISODE;
    let tokens = e * EPISODE.tokens();
    let play = turns * written * decode(p) + 2.0 * p * tokens / rates.flops;
    let simulate = simulator.map_or(0.0, |it| {
        let s = num_parameters(it);
        (turns - 1.0) * (observed * decode(s) + 2.0 * s * e * asked / rates.flops)
    });
    let passes =
        6.0 + if needs.reference { 2.0 } else { 0.0 } + if needs.critic { 8.0 } else { 0.0 };
    let learn = passes * p * tokens / rates.flops;
    schedule.steps as f64 * (play + simulate + learn) / 3600.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Qwen2.5-3B, as its `config.json` says.
    fn qwen_3b() -> ModelConfig {
        let json = r#"{"architectures":["Qwen2ForCausalLM"],"model_type":"qwen2","vocab_size":151936,
            "hidden_size":2048,"intermediate_size":11008,"num_hidden_layers":36,
            "num_attention_heads":16,"num_key_value_heads":2,"max_position_embeddings":32768,
            "rms_norm_eps":1e-06,"rope_theta":1000000.0,"tie_word_embeddings":true,
            "hidden_act":"silu","bos_token_id":151643,"eos_token_id":151643}"#;
        ModelConfig::from_json(json, std::path::Path::new("config.json")).unwrap()
    }

    #[test]
    fn parameters_are_those_of_the_model_card() {
        // The card says 3.09 billion.
        let p = num_parameters(&qwen_3b());
        assert!((p - 3.0857e9).abs() < 1e6, "{p}");
    }

    #[test]
    fn estimates_by_hand() {
        let mut training = TrainingConfig::default();
        let policy = qwen_3b();
        let both = Needs { reference: true, critic: true };
        let memory = Memory::estimate(&policy, Some(&policy), &training, both);
        let whole = num_parameters(&policy) * 4.0 / 1024.0_f64.powi(3);
        assert!((memory.policy - 4.0 * whole).abs() < 1e-9);
        assert!((memory.reference - whole).abs() < 1e-9 && memory.simulator == memory.reference);
        assert_eq!(memory.critic, memory.policy);
        // 320 episodes of 150 + 360 + 500 tokens, 36 layers, 2 heads of 128, keys and values.
        let cache = 320.0 * 1010.0 * 2.0 * 36.0 * 2.0 * 128.0 * 4.0 / 1024.0_f64.powi(3);
        assert!((memory.cache - cache).abs() < 1e-9);
        let none = Memory::estimate(&policy, None, &training, Needs::default());
        assert_eq!((none.reference, none.critic, none.simulator), (0.0, 0.0, 0.0));
        assert!(none.peak() < memory.peak());
        training.memory.recompute_blocks = true;
        let less = Memory::estimate(&policy, None, &training, Needs::default());
        assert!((less.activations * 36.0 - none.activations).abs() < 1e-9);
    }

    #[test]
    fn more_to_do_takes_longer() {
        let training = TrainingConfig::default();
        let policy = qwen_3b();
        let hours = |simulator, needs| hours(&policy, simulator, &training, needs, H100);
        let plain = hours(None, Needs::default());
        // Learning alone: 203 steps of 320 episodes of 1,010 tokens at 6 P operations each.
        let learn = 203.0 * 6.0 * num_parameters(&policy) * 320.0 * 1010.0 / H100.flops / 3600.0;
        assert!(plain > learn && plain < 10.0 * learn, "{plain} {learn}");
        assert!(hours(Some(&policy), Needs::default()) > plain);
        assert!(hours(None, Needs { reference: true, critic: false }) > plain);
    }
}
