//! What interventions were worth: signals of each step, and one number an episode.

use zs_core::{Action, parse_action};

use super::ProgramOutcome;
use crate::Trajectory;

/// What a step is scored by.
#[derive(Clone, Copy, Debug)]
pub struct StepFacts<'a> {
    /// What the policy wanted to do.
    pub proposed: &'a Action,
    /// What was carried out.
    pub executed: &'a Action,
    /// Whether a function stepped in.
    pub fired: bool,
    /// The step, from 0.
    pub step: usize,
    /// Steps of the episode.
    pub num_steps: usize,
    /// Whether the policy had been shown a document before this step.
    pub has_read: bool,
    /// Whether the last search before this step brought up nothing.
    pub after_empty_search: bool,
    /// Whether the episode ended with the right answer.
    pub is_right: bool,
}

/// How good the interventions of a step were, in four families and in all.
///
/// ```text
/// family      = sum_k w_k v_k / sum_k |w_k|
///
/// timing      = (0.25 tp - 0.10 fp - 0.10 fn + 0.05 phase) / 0.50
/// modality    =  0.35 pre + 0.35 post
/// correctness =  0.20 syntactic + 0.50 semantic + 0.30 domain
/// outcome     =  0.40 local + 0.40 downstream - 0.10 cost - 0.10 side_effect
/// total       =  0.15 timing + 0.10 modality + 0.25 correctness + 0.50 outcome
/// ```
///
/// - `tp`, `fp`, `fn`: a function stepped in where it was risky, where it was not, or none did where
///   it was. Risky *proposals* are an answer before any document was read, an answer before step 3,
///   and a search after one that brought up nothing
/// - `phase`: step / steps
/// - `pre`: a function stepped in before the action; `post`, after the observation, never happens
///   here, and two further weights of 0.15 are reserved
/// - `syntactic`: the action can be carried out; `semantic`: 0.7 where an answer became a search, 0.5
///   where an action was rewritten otherwise, 0.3 else; `domain`: 0
/// - `local`: 0.7 where an answer became a search, 0.5 search to search, 0.3 other rewrites
/// - `downstream`: the episode ended right; `side_effect`: it was rewritten and ended wrong
/// - `cost`: `clip((steps - 15) / 10, 0, 1)`
///
/// # Differences
///
/// There is no READ among our actions, so the values for it (answer to read 0.8) have no place here;
/// HASP can ask a helper model for `semantic`, of which this is the fallback.
///
/// # References
///
/// - [HASP](https://arxiv.org/abs/2605.17734), section 4; reference code HolaYan/ExecutableSkills-HASP
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepSignals {
    /// Whether functions stepped in when it was called for.
    pub timing: f64,
    /// Where they stepped in.
    pub modality: f64,
    /// Whether what they did makes sense.
    pub correctness: f64,
    /// What came of it.
    pub outcome: f64,
    /// All of it: `A_t`.
    pub total: f64,
}

impl StepSignals {
    /// The signals of a step.
    #[must_use]
    pub fn of(facts: &StepFacts<'_>) -> Self {
        let is_answer = matches!(facts.proposed, Action::Answer(_));
        let is_search = matches!(facts.proposed, Action::Search(_));
        let is_risky = (is_answer && (!facts.has_read || facts.step < 3))
            || (is_search && facts.after_empty_search);
        let is_modified = facts.proposed != facts.executed;
        let becomes_search = matches!(facts.executed, Action::Search(_));

        let phase = facts.step as f64 / facts.num_steps.max(1) as f64;
        let timing = (0.25 * one(facts.fired && is_risky)
            - 0.10 * one(facts.fired && !is_risky)
            - 0.10 * one(!facts.fired && is_risky)
            + 0.05 * phase)
            / 0.50;
        let modality = 0.35 * one(facts.fired);
        let semantic = match is_modified {
            true if is_answer && becomes_search => 0.7,
            true => 0.5,
            false => 0.3,
        };
        let correctness = 0.20 * one(*facts.executed != Action::Invalid) + 0.50 * semantic;
        let local = match is_modified {
            true if is_answer && becomes_search => 0.7,
            true if is_search && becomes_search => 0.5,
            true => 0.3,
            false => 0.0,
        };
        let cost = ((facts.num_steps as f64 - 15.0) / 10.0).clamp(0.0, 1.0);
        let outcome = 0.40 * local + 0.40 * one(facts.is_right)
            - 0.10 * cost
            - 0.10 * one(is_modified && !facts.is_right);
        let total = 0.15 * timing + 0.10 * modality + 0.25 * correctness + 0.50 * outcome;
        Self { timing, modality, correctness, outcome, total }
    }
}

fn one(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// The scores of an episode.
#[derive(Clone, Debug, PartialEq)]
pub struct EpisodeSignals {
    /// One a turn.
    pub steps: Vec<StepSignals>,
    /// `Q = 0.5 * mean step total + 0.5 * right`.
    pub total: f64,
}

/// Scores an episode from its audit log; `is_right` is its exact match.
///
/// # References
///
/// - as [`StepSignals`]
#[must_use]
pub fn score_episode(trajectory: &Trajectory, is_right: bool) -> EpisodeSignals {
    let (mut has_read, mut after_empty_search) = (false, false);
    let mut steps = Vec::with_capacity(trajectory.turns.len());
    for (step, turn) in trajectory.turns.iter().enumerate() {
        let fired = trajectory.programs.iter().any(|it| {
            let steps_in = matches!(
                it.outcome,
                ProgramOutcome::Modified { .. } | ProgramOutcome::Injected { .. }
            );
            it.turn == step && steps_in
        });
        steps.push(StepSignals::of(&StepFacts {
            proposed: &parse_action(&turn.text),
            executed: &turn.action,
            fired,
            step,
            num_steps: trajectory.turns.len(),
            has_read,
            after_empty_search,
            is_right,
        }));
        if let Some(search) = &turn.search {
            after_empty_search = search.documents.is_empty();
            has_read |= !after_empty_search;
        }
    }
    let mean = steps.iter().map(|it| it.total).sum::<f64>() / steps.len().max(1) as f64;
    EpisodeSignals { steps, total: 0.5 * mean + 0.5 * one(is_right) }
}

/// What a program function is worth: its episodes' mean score and what it adds to exact match.
///
/// ```text
/// S = Q + 0.5 * delta_EM
/// ```
///
/// # References
///
/// - as [`StepSignals`]
#[must_use]
pub fn skill_score(mean_episode_score: f64, exact_match_gain: f64) -> f64 {
    mean_episode_score + 0.5 * exact_match_gain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::ProgramCheck;
    use crate::reward::testing::trajectory;

    #[track_caller]
    fn check(facts: StepFacts<'_>, expected: [f64; 5]) {
        let it = StepSignals::of(&facts);
        let actual = [it.timing, it.modality, it.correctness, it.outcome, it.total];
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() < 1e-12, "{actual:?} is not {expected:?}");
        }
    }

    #[test]
    fn golden_steps() {
        let (answer, search) = (Action::Answer("a".into()), Action::Search("q".into()));
        let facts = StepFacts {
            proposed: &answer,
            executed: &search,
            fired: true,
            step: 0,
            num_steps: 4,
            has_read: false,
            after_empty_search: false,
            is_right: true,
        };
        check(facts, [0.5, 0.35, 0.55, 0.68, 0.5875]);
        check(StepFacts { is_right: false, ..facts }, [0.5, 0.35, 0.55, 0.18, 0.3375]);
        let nothing = StepFacts { executed: &answer, fired: false, is_right: false, ..facts };
        check(nothing, [-0.2, 0.0, 0.35, 0.0, 0.0575]);
        let needless =
            StepFacts { proposed: &search, step: 2, executed: &search, has_read: true, ..facts };
        check(needless, [-0.15, 0.35, 0.35, 0.4, 0.3]);
        // 20 steps cost half, an invalid action loses its syntax, a search after nothing is risky.
        let late = StepFacts {
            proposed: &search,
            executed: &Action::Invalid,
            fired: false,
            num_steps: 20,
            after_empty_search: true,
            is_right: true,
            ..facts
        };
        check(late, [-0.2, 0.0, 0.25, 0.4 * 0.3 + 0.4 - 0.05, -0.03 + 0.0625 + 0.235]);
    }

    #[test]
    fn episodes_are_read_from_their_audit_log() {
        let texts = ["<answer> a </answer>", "<answer> a </answer>"];
        let mut trajectory = trajectory(&texts);
        trajectory.turns[0].action = Action::Search("q".into());
        let outcome = ProgramOutcome::Modified {
            before: Action::Answer("a".into()),
            after: Action::Search("q".into()),
            reason: String::new(),
        };
        trajectory.programs.push(ProgramCheck { turn: 0, function: "f".into(), outcome });
        let signals = score_episode(&trajectory, true);
        assert!((signals.steps[0].total - 0.5875).abs() < 1e-12);
        // Then an answer before anything was read, and nothing fired.
        let second = 0.15 * (-0.10 + 0.025) / 0.5 + 0.25 * 0.35 + 0.5 * 0.4;
        assert!((signals.steps[1].total - second).abs() < 1e-12, "{signals:?}");
        assert!((signals.total - (0.25 * (0.5875 + second) + 0.5)).abs() < 1e-12);
        assert_eq!(score_episode(&super::Trajectory::new("q", vec![0]), false).total, 0.0);
        assert!((skill_score(0.4, -0.1) - 0.35).abs() < 1e-12);
    }
}
