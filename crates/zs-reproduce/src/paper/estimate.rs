//! Expected hours of a run of the paper: an estimate, not a measurement.

use zs_model::ModelConfig;

use zs_trainer::config::TrainingConfig;

/// Bytes of a number: weights and arithmetic are f32.
const BYTES: f64 = 4.0;

/// Assumed speed of an accelerator.
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

/// Assumed lengths of an episode, where a run file gives limits only.
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

/// Models that an algorithm needs beside the policy.
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
/// - `t` turns, `n` tokens a turn, `o` of an observation, `a` of the simulator's prompt: [`Episode`];
///   `E` episodes a step, `T` tokens of one, `P`, `S` parameters of policy and simulator, `b` 4 bytes
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
    let p = policy.num_parameters() as f64;
    let decode = |p: f64| (p * BYTES / rates.bandwidth).max(2.0 * p * e / rates.flops);
    let Episode { turns, written, observed, asked, .. } = EPISODE;
    let tokens = e * EPISODE.tokens();
    let play = turns * written * decode(p) + 2.0 * p * tokens / rates.flops;
    let simulate = simulator.map_or(0.0, |it| {
        let s = it.num_parameters() as f64;
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
    fn more_to_do_takes_longer() {
        let training = TrainingConfig::default();
        let policy = qwen_3b();
        let hours = |simulator, needs| hours(&policy, simulator, &training, needs, H100);
        let plain = hours(None, Needs::default());
        // Learning alone: 203 steps of 320 episodes of 1,010 tokens at 6 P operations each.
        let learn =
            203.0 * 6.0 * policy.num_parameters() as f64 * 320.0 * 1010.0 / H100.flops / 3600.0;
        assert!(plain > learn && plain < 10.0 * learn, "{plain} {learn}");
        assert!(hours(Some(&policy), Needs::default()) > plain);
        assert!(hours(None, Needs { reference: true, critic: false }) > plain);
    }
}
