//! Settings with which a run learns nothing, found by trying components on made-up episodes.

use zs_core::caught;
use zs_core::registry::RegistryError;
use zs_curriculum::{Curriculum, Progress};
use zs_model::{OptimizerConfig, Tokenizer};
use zs_rl::{Algorithm, Counterfactual, RewardFunction, RewardResources};

use super::TrainingConfig;
use super::made_up::{advantages, episode, question};
use crate::components::Components;

/// Warnings about the settings of a run file with which a run would learn nothing. The reward is tried
/// where it needs neither a corpus nor a judge; limits are held against tags in the policy's tokens
/// where its tokenizer is given.
///
/// # Errors
///
/// Fails where a component cannot be built.
pub fn futile_settings_of(
    config: &TrainingConfig,
    tokenizer: Option<&Tokenizer>,
    components: &Components,
) -> Result<Vec<String>, RegistryError> {
    let algorithm = components.algorithms.build(&config.algorithm, &())?;
    let reward = components.rewards.build(&config.reward, &RewardResources::default()).ok();
    let curriculum = components.curricula.build(&config.curriculum, &())?;
    let mut warnings = futile_settings(config, &*algorithm, reward.as_ref(), &*curriculum);
    warnings.extend(tokenizer.into_iter().flat_map(|it| futile_for_policy(config, it)));
    Ok(warnings)
}

/// Warnings about settings with which a run would learn nothing.
#[must_use]
pub(crate) fn futile_settings(
    config: &TrainingConfig,
    algorithm: &dyn Algorithm,
    reward: Option<&RewardFunction>,
    curriculum: &dyn Curriculum,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let steps = config.schedule.steps;
    let is_greedy = match config.temperature {
        Some(schedule) => (1..=steps).all(|it| schedule.temperature(it, steps) < GREEDY),
        None => config.rollout.temperature < GREEDY,
    };
    if is_greedy {
        warnings.push(format!(
            "the sampling temperature is 0, or nearly, throughout, so the {} episodes of a question are equal and \
             nothing is explored; set `training.rollout.temperature` to 1",
            config.schedule.group_size
        ));
    }
    if config.rollout.top_p < NARROW {
        warnings.push(format!(
            "`training.rollout.top_p` is {}, which leaves little but the likeliest token, so nothing is \
             explored; set it to 1",
            config.rollout.top_p
        ));
    }
    let distillation = config.update.distillation;
    let has_teacher = distillation.is_some_and(|it| it.kl_coef > 0.0);
    if distillation.is_some_and(|it| it.is_alone() && !has_teacher) {
        warnings.push(
            "neither the reward nor the teacher has a weight, so nothing is learned; set `kl_coef` or \
             `reward_coef` of `training.update.distillation` above 0"
                .to_owned(),
        );
    }
    // What panics here will be reported by the run.
    if !has_teacher && reward.is_some_and(|it| caught(|| is_constant(config, it)) == Ok(true)) {
        warnings.push(
            "the reward is the same for right, wrong and missing answers, with and without searches, so \
             nothing is learned; change `training.reward`"
                .to_owned(),
        );
    }
    if !has_teacher && has_no_advantages(config, algorithm) {
        warnings.push(format!(
            "with {} questions per step and {} episodes each, the advantages of `{}` are all 0, so \
             nothing is learned; raise `training.schedule.questions_per_step` or `group_size`",
            config.schedule.questions_per_step,
            config.schedule.group_size,
            algorithm.name()
        ));
    }
    let max_turns = config.rollout.max_searches as usize + 1;
    let group_size = config.schedule.group_size;
    let branching = algorithm.requirements().branching;
    if branching.is_some_and(|it| it.max_continuations(group_size, max_turns) == 0) {
        warnings.push(format!(
            "no episode is branched, so `{}` compares whole episodes only; set the `share` of its \
             `branching`, `training.schedule.group_size` or `training.rollout.max_searches` higher",
            algorithm.name()
        ));
    }
    let noise = |step| curriculum.noise_probability(Progress::new(step, steps));
    if config.rollout.max_searches > 0 && steps > 0 && (1..=steps).all(|it| noise(it) >= 1.0) {
        warnings.push(
            "the noise probability is 1 throughout, so every document is noise and searching never \
             helps; change `training.curriculum`"
                .to_owned(),
        );
    }
    if config.optimizer.warmup_steps > steps {
        warnings.push(format!(
            "the warm-up of the learning rate takes {} steps, but the run has {steps}; lower \
             `training.optimizer.warmup_steps`",
            config.optimizer.warmup_steps
        ));
    }
    let OptimizerConfig { learning_rate, epsilon, max_grad_norm, .. } = config.optimizer;
    if learning_rate < LOWEST_RATE {
        warnings.push(format!(
            "`training.optimizer.learning_rate` is {learning_rate}, with which weights in f32 do not \
             change; set it higher"
        ));
    }
    if learning_rate >= HIGHEST_RATE {
        warnings.push(format!(
            "`training.optimizer.learning_rate` is {learning_rate}, about as much as each weight moves in \
             a step, which destroys the model; set it lower"
        ));
    }
    if epsilon >= LARGE_EPSILON {
        warnings.push(format!(
            "`training.optimizer.epsilon` is {epsilon}, far above the gradients, so updates vanish; set \
             it to 1e-8"
        ));
    }
    if max_grad_norm <= epsilon {
        warnings.push(format!(
            "`training.optimizer.max_grad_norm` is {max_grad_norm}, not above `epsilon`, so updates \
             vanish; set it to 1"
        ));
    }
    warnings
}

/// Temperature below which all but ties are greedy.
const GREEDY: f32 = 1e-3;
/// Nucleus mass that the likeliest token has nearly everywhere.
const NARROW: f32 = 0.05;
/// Learning rates below this are less than half of a unit in the last place of a weight of 0.01.
const LOWEST_RATE: f64 = 1e-10;
/// Learning rates from here on are as large as weights.
const HIGHEST_RATE: f64 = 0.1;
const LARGE_EPSILON: f64 = 1e-2;

/// Warnings about a policy whose tokens cannot hold what a run needs: tags that the tokenizer loses, and
/// limits that are shorter than a tag with one word.
pub(crate) fn futile_for_policy(config: &TrainingConfig, tokenizer: &Tokenizer) -> Vec<String> {
    let rollout = &config.rollout;
    let count = |text: &str| tokenizer.encode(text).map_or(0, |it| it.len());
    let answer = count("<answer>a</answer>");
    let budget = rollout.token_budget.as_ref();
    let budgets = budget.into_iter().flat_map(|it| it.by_hops.iter().copied().chain([it.tokens]));
    let mut warnings = Vec::new();
    if let Some((tag, back)) = tokenizer.lost_tags().first() {
        warnings.push(format!(
            "the policy's tokenizer gives `a {tag} b` back as `{back}`, so no action is valid and nothing is \
             learned; add the tags as tokens"
        ));
    }
    let mut warn = |key: &str, limit: usize, needed: usize, text: &str, effect: &str| {
        if limit < needed {
            warnings.push(format!(
                "`training.rollout.{key}` is {limit}, but {text} alone is {needed} tokens of the policy, so \
                 {effect}; set it higher"
            ));
        }
    };
    let effect = "no episode can be answered";
    warn("max_new_tokens", rollout.max_new_tokens, answer, "`<answer>a</answer>`", effect);
    if let Some(most) = budgets.max() {
        warn("token_budget", most, answer, "`<answer>a</answer>`", effect);
    }
    if rollout.max_searches > 0 && rollout.max_new_tokens >= answer {
        let search = count("<search>a</search>");
        let effect = "no search can be written";
        warn("max_new_tokens", rollout.max_new_tokens, search, "`<search>a</search>`", effect);
    }
    if rollout.max_searches > 0 {
        let tags = count("<information></information>") + 1;
        let effect = "no document is seen";
        let limit = rollout.max_observation_tokens;
        warn("max_observation_tokens", limit, tags, "`<information>a</information>`", effect);
    }
    warnings
}

/// Returns true if the advantages are zero whatever the rewards are.
fn has_no_advantages(config: &TrainingConfig, algorithm: &dyn Algorithm) -> bool {
    let rewards = [0.0, 1.0, 0.5, 0.25];
    let size = config.schedule.group_size.min(rewards.len());
    let first: Vec<f32> = (0..size).map(|it| rewards[it]).collect();
    let second: Vec<f32> = (0..size).map(|it| rewards[(it + 1) % rewards.len()]).collect();
    let groups = [first.as_slice(), second.as_slice()];
    let groups = &groups[..config.schedule.questions_per_step.min(groups.len())];
    // A single reward may be that which has no advantage.
    let other: Vec<Vec<f32>> =
        groups.iter().map(|it| it.iter().map(|it| 1.0 - it).collect()).collect();
    let other: Vec<&[f32]> = other.iter().map(Vec::as_slice).collect();
    let is_zero = |groups: &[&[f32]]| {
        advantages(algorithm, groups).is_some_and(|it| it.iter().flatten().all(|it| *it == 0.0))
    };
    is_zero(groups) && is_zero(&other)
}

/// Returns true if every kind of episode has the same reward.
fn is_constant(config: &TrainingConfig, reward: &RewardFunction) -> bool {
    const THOUGHT: &str = "<think> b </think>";
    let search = format!("{THOUGHT} <search> capital of France </search>");
    let answer = |text: &str| format!("{THOUGHT} <answer> {text} </answer>");
    let (right, wrong, close) = (answer("Paris"), answer("Rome"), answer("Paris in France"));
    let bare = "<answer> Paris </answer>";
    let longest = config.rollout.max_new_tokens;
    let mut episodes = vec![
        episode(&[&right], 8),
        episode(&[&wrong], 8),
        episode(&[&close], 16),
        episode(&[bare], 4),
        episode(&["Paris"], 1),
        episode(&[&right], longest),
    ];
    let mut cut = episode(&["Paris"], longest);
    cut.truncated = true;
    cut.over_budget = config.rollout.token_budget.is_some();
    episodes.push(cut);
    let searches = config.rollout.max_searches as usize;
    for count in [1, 2, searches.min(8)].into_iter().filter(|it| (1..=searches).contains(it)) {
        for last in [&right, &wrong] {
            let turns = std::iter::repeat_n(search.as_str(), count).chain([last.as_str()]);
            let mut searching = episode(&turns.collect::<Vec<_>>(), longest);
            let lost = |documents| Counterfactual {
                turn: 0,
                documents,
                answer: None,
                tokens_sampled: longest,
            };
            searching.counterfactuals = reward.counterfactuals().into_iter().map(lost).collect();
            episodes.push(searching);
        }
    }
    let scores = reward.score_group(&question(), &episodes);
    let first = scores.first().map(|it| (it.total, &it.turns));
    scores.iter().all(|it| it.total.is_finite() && Some((it.total, &it.turns)) == first)
}

#[cfg(test)]
mod tests {
    use zs_core::registry::Spec;
    use zs_curriculum::ConstantCurriculum;
    use zs_rl::{DistillationConfig, RolloutConfig, TokenBudget};

    use super::*;

    fn spec(toml: &str) -> Spec {
        toml::from_str(toml).unwrap()
    }

    /// Checks the number of warnings, and that one holds a text.
    #[track_caller]
    fn check(change: impl FnOnce(&mut TrainingConfig), noise: f64, expected: &[&str]) {
        let components = Components::built_in();
        let mut config = TrainingConfig::default();
        change(&mut config);
        let algorithm = components.algorithms.build(&config.algorithm, &()).unwrap();
        let reward = components.rewards.build(&config.reward, &RewardResources::default()).unwrap();
        let curriculum = ConstantCurriculum { probability: noise };
        let warnings = futile_settings(&config, &*algorithm, Some(&reward), &curriculum);
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(warning.contains(expected), "{warning}");
        }
    }

    #[test]
    fn futile_settings_are_named() {
        check(|_| {}, 0.5, &[]);
        check(|it| it.rollout.temperature = 0.0, 0.0, &["temperature is 0"]);
        check(|it| it.rollout.temperature = 1e-6, 0.0, &["or nearly"]);
        check(|it| it.rollout.top_p = 1e-6, 0.0, &["top_p"]);
        check(|it| it.optimizer.learning_rate = 1e-30, 0.0, &["weights in f32 do not change"]);
        check(|it| it.optimizer.learning_rate = 10.0, 0.0, &["destroys the model"]);
        check(|it| it.optimizer.epsilon = 0.5, 0.0, &["epsilon"]);
        check(|it| it.optimizer.max_grad_norm = 1e-20, 0.0, &["max_grad_norm"]);
        check(|_| {}, 1.0, &["noise probability is 1"]);
        check(|it| it.rollout.max_searches = 0, 1.0, &[]);
        let distilled = |it: &mut TrainingConfig, coefficients: [f64; 2]| {
            let [kl_coef, reward_coef] = coefficients;
            let distillation =
                DistillationConfig { kl_coef, reward_coef, ..DistillationConfig::default() };
            it.update.distillation = Some(distillation);
            it.reward = spec("kind = \"over_budget\"");
        };
        check(|it| distilled(it, [1.0, 0.0]), 0.0, &[]);
        let both = ["neither the reward nor the teacher", "the reward is the same"];
        check(|it| distilled(it, [0.0, 0.0]), 0.0, &both);
        check(|it| it.optimizer.warmup_steps = 204, 0.0, &["warmup_steps"]);
        check(|it| it.reward = spec("kind = \"over_budget\""), 0.0, &["the reward is the same"]);
        let nothing = "kind = \"sum\"\n[[terms]]\nweight = 0.0\nreward = { kind = \"f1\" }";
        check(|it| it.reward = spec(nothing), 0.0, &["the reward is the same"]);
        let single = |it: &mut TrainingConfig| {
            it.algorithm = spec("kind = \"reinforce\"\nbaseline = \"batch_mean\"");
            it.schedule.questions_per_step = 1;
            it.schedule.group_size = 1;
        };
        check(single, 0.0, &["advantages of `reinforce` are all 0"]);
        let branched = |share| {
            move |it: &mut TrainingConfig| {
                let settings = format!("kind = \"branched\"\nbranching = {{ share = {share} }}");
                it.algorithm = spec(&settings);
            }
        };
        check(branched("0.2"), 0.0, &[]);
        // A twentieth of five episodes is none.
        check(branched("0.05"), 0.0, &["no episode is branched"]);
    }

    #[test]
    fn limits_are_held_against_tags() {
        let check = |change: &dyn Fn(&mut RolloutConfig), expected: &[&str]| {
            let mut config = TrainingConfig::default();
            change(&mut config.rollout);
            // A byte a token: 18 for an answer or a search, 28 for an observation.
            let warnings = futile_for_policy(&config, &zs_model::testing::byte_tokenizer());
            assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
            for (warning, expected) in warnings.iter().zip(expected) {
                assert!(warning.contains(expected), "{warning}");
            }
        };
        check(&|_| {}, &[]);
        check(&|it| it.max_new_tokens = 18, &[]);
        check(&|it| it.max_new_tokens = 17, &["no episode can be answered"]);
        check(&|it| it.max_observation_tokens = 27, &["no document is seen"]);
        let budget = |tokens| Some(TokenBudget { tokens, by_hops: vec![3] });
        check(&|it| it.token_budget = budget(17), &["`training.rollout.token_budget` is 17"]);
        check(&|it| it.token_budget = budget(18), &[]);
        let no_search = |it: &mut RolloutConfig| {
            it.max_searches = 0;
            it.max_observation_tokens = 0;
        };
        check(&no_search, &[]);
    }

    #[test]
    fn no_shipped_reward_is_constant() {
        let components = Components::built_in();
        let config = TrainingConfig::default();
        for kind in [
            "f1",
            "exact_match",
            "cover_exact_match",
            "format",
            "search_r1",
            "turn_penalty",
            "redundancy",
            "invalid_action",
            "retrieval_answer",
            "length",
            "search_value",
        ] {
            let needed = if kind == "turn_penalty" { "\nfree_turns = 2" } else { "" };
            let reward = components
                .rewards
                .build(&spec(&format!("kind = \"{kind}\"{needed}")), &RewardResources::default());
            assert!(!is_constant(&config, &reward.unwrap()), "{kind}");
        }
    }
}
