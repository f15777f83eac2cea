//! The episodes of a training step, played and scored, and zero-variance groups replaced where the
//! algorithm asks for it.

use tracing::info_span;
use zs_core::StreamKey;
use zs_model::LanguageModel;
use zs_rl::{
    DynamicSampling, Episode, RewardFunction, Rollout, RolloutConfig, RolloutError, RolloutStats,
    Trajectory, TrajectoryGroup, TurnNoise,
};

use super::Trainer;
use crate::config::TrainingConfig;
use crate::order::EpochOrder;
use crate::rollouts::RecordedGroup;

/// Plays the episodes of one step after the other.
pub(super) struct Collector<'a> {
    trainer: &'a Trainer,
    reward: RewardFunction,
    sampling: Option<DynamicSampling>,
    order: EpochOrder,
}

/// The episodes of one step.
pub(super) struct Collected {
    /// Groups to learn from.
    pub(super) groups: Vec<TrajectoryGroup>,
    /// Groups that were replaced since all their rewards are equal.
    pub(super) dropped: Vec<TrajectoryGroup>,
    /// Counts over all episodes that were played.
    pub(super) stats: RolloutStats,
    /// The temperature that they were sampled at.
    pub(super) temperature: f32,
    /// Rollouts besides the first; `None` where groups are not replaced.
    pub(super) num_refills: Option<usize>,
    /// Episodes that were played again since a search had failed.
    pub(super) num_resampled: usize,
    /// Episodes that were left out since a search failed each time.
    pub(super) num_failed: usize,
    /// Error of the first search that failed.
    pub(super) first_error: Option<String>,
    /// The place in the order of the question after the last.
    pub(super) next_question: usize,
}

impl Collected {
    /// The groups as they are recorded: those learned from, with their advantages and what a teacher
    /// on servers said, and those that were replaced.
    pub(super) fn into_records(
        self,
        step: usize,
        noise_probability: f64,
        advantages: Vec<Vec<f32>>,
        teacher_log_probs: Option<Vec<Vec<f32>>>,
    ) -> Vec<RecordedGroup> {
        let mut advantages = advantages.into_iter();
        let mut teacher_log_probs = teacher_log_probs.into_iter().flatten();
        let learned = self.groups.into_iter().map(|group| (group, false));
        let dropped = self.dropped.into_iter().map(|group| (group, true));
        let record = |(group, dropped): (TrajectoryGroup, bool)| {
            let count = if dropped { 0 } else { group.trajectories.len() };
            let advantages = advantages.by_ref().take(count).collect();
            let teacher_log_probs = teacher_log_probs.by_ref().take(count).collect();
            RecordedGroup { step, noise_probability, dropped, group, advantages, teacher_log_probs }
        };
        learned.chain(dropped).map(record).collect()
    }
}

impl<'a> Collector<'a> {
    pub(super) fn new(trainer: &'a Trainer) -> Self {
        // Where no reward is learned from, groups of equal rewards are as good as others.
        let is_alone = trainer.config.update.distillation.is_some_and(|it| it.is_alone());
        let sampling = trainer.algorithm.requirements().dynamic_sampling.filter(|_| !is_alone);
        let order = EpochOrder::new(trainer.seed, trainer.questions.len());
        Self { trainer, reward: trainer.reward.clone(), sampling, order }
    }

    /// Plays the episodes of a step with the policy as it is, on questions from `next_question` on.
    ///
    /// Without dynamic sampling that is one rollout. With it, groups whose rewards are all equal are
    /// replaced by those of the next questions, in at most so many further rollouts as it allows; a
    /// batch that is still short stays short, and one without any difference is kept as it is.
    pub(super) fn collect(
        &mut self,
        step: usize,
        policy: &LanguageModel,
        noise: &TurnNoise,
        mut next_question: usize,
    ) -> Result<Collected, RolloutError> {
        let _span = info_span!("rollout", step).entered();
        let wanted = self.trainer.config.schedule.questions_per_step;
        let (mut groups, mut dropped) = (Vec::new(), Vec::new());
        let config = self.rollout_config(step);
        self.reward.set_step(step);
        let stage = Stage { trainer: self.trainer, policy, noise, config: &config };
        let mut played = Played::default();
        let (mut num_groups, mut num_rollouts) = (0, 0);
        let max_refills = self.sampling.map_or(0, |it| it.max_refills);
        while groups.len() < wanted && num_rollouts <= max_refills {
            let missing = wanted - groups.len();
            let questions = self.order.range(next_question, missing);
            next_question += missing;
            let episodes = self.episodes(step, num_groups, &questions);
            num_groups += missing;
            num_rollouts += 1;
            let new = self.group(stage.play(&episodes, &mut played)?, &episodes);
            let is_dropped =
                |it: &TrajectoryGroup| self.sampling.is_some() && it.has_zero_variance();
            let (even, informative): (Vec<_>, Vec<_>) = new.into_iter().partition(is_dropped);
            groups.extend(informative);
            dropped.extend(even);
        }
        if groups.is_empty() {
            std::mem::swap(&mut groups, &mut dropped);
        }
        Ok(Collected {
            groups,
            dropped,
            stats: RolloutStats::of(&played.all),
            temperature: config.temperature,
            num_refills: self.sampling.map(|_| num_rollouts - 1),
            num_resampled: played.num_resampled,
            num_failed: played.num_failed,
            first_error: first_error(&played.all),
            next_question,
        })
    }

    /// Settings of the rollouts of a step.
    fn rollout_config(&self, step: usize) -> RolloutConfig {
        let TrainingConfig { rollout, temperature, schedule, .. } = &self.trainer.config;
        let mut config = rollout.clone();
        if let Some(temperatures) = temperature {
            config.temperature = temperatures.temperature(step, schedule.steps);
        }
        config
    }

    /// `group_size` episodes of each question, each under its own key.
    fn episodes(&self, step: usize, first_group: usize, questions: &[usize]) -> Vec<Episode<'a>> {
        let Trainer { config, questions: all, seed, .. } = self.trainer;
        let seed = *seed;
        let group_size = config.schedule.group_size as u32;
        (first_group as u32..)
            .zip(questions)
            .flat_map(|(group, &question)| {
                (0..group_size).map(move |sample| Episode {
                    question: &all[question],
                    key: StreamKey { seed, step: step as u64, group, sample, turn: 0 },
                })
            })
            .collect()
    }

    /// Puts episodes back into the groups of their questions, scored. Groups of which none is left
    /// are left out.
    fn group(
        &self,
        played: Vec<Option<Trajectory>>,
        episodes: &[Episode<'_>],
    ) -> Vec<TrajectoryGroup> {
        let _span = info_span!("reward").entered();
        let group_size = self.trainer.config.schedule.group_size;
        let mut played = played.into_iter();
        let groups = episodes.chunks(group_size).map(|episodes| {
            let members: Vec<Trajectory> = played.by_ref().take(episodes.len()).flatten().collect();
            (episodes[0].question, members)
        });
        let kept = groups.filter(|(_, members)| !members.is_empty());
        kept.map(|(question, members)| {
            TrajectoryGroup::score(question.clone(), members, &self.reward)
        })
        .collect()
    }
}

fn first_error(played: &[Trajectory]) -> Option<String> {
    played.iter().flat_map(Trajectory::searches).find_map(|it| it.error.clone())
}

/// Shared inputs of the rollouts of one step.
struct Stage<'a> {
    trainer: &'a Trainer,
    policy: &'a LanguageModel,
    noise: &'a TurnNoise,
    config: &'a RolloutConfig,
}

/// Episodes played in a step.
#[derive(Default)]
struct Played {
    /// Every episode, those that were replaced included.
    all: Vec<Trajectory>,
    num_resampled: usize,
    num_failed: usize,
}

impl Stage<'_> {
    /// Plays episodes, and repeats those in which a search failed, as often as the fault policy
    /// allows. Returns `None` for those that failed each time.
    fn play(
        &self,
        episodes: &[Episode<'_>],
        played: &mut Played,
    ) -> Result<Vec<Option<Trajectory>>, RolloutError> {
        let TrainingConfig { schedule, faults, .. } = &self.trainer.config;
        let resamples = faults.resamples();
        let mut current = self.rollout(episodes, played)?;
        let has_failed = |it: &Trajectory| it.searches().any(|search| search.error.is_some());
        let failed = |current: &[Trajectory]| -> Vec<usize> {
            (0..current.len()).filter(|&at| has_failed(&current[at])).collect()
        };
        for attempt in 1..=resamples {
            let again = failed(&current);
            if again.is_empty() || self.trainer.engine.exhausted().is_some() {
                break;
            }
            // Samples that no other episode of the group has.
            let shift = attempt * schedule.group_size as u32;
            let retried: Vec<Episode<'_>> = again
                .iter()
                .map(|&at| {
                    let Episode { question, key } = episodes[at];
                    Episode { question, key: StreamKey { sample: key.sample + shift, ..key } }
                })
                .collect();
            played.num_resampled += again.len();
            for (at, trajectory) in again.into_iter().zip(self.rollout(&retried, played)?) {
                current[at] = trajectory;
            }
        }
        let left_out = |it: &Trajectory| resamples > 0 && has_failed(it);
        let kept: Vec<Option<Trajectory>> =
            current.into_iter().map(|it| (!left_out(&it)).then_some(it)).collect();
        played.num_failed += kept.iter().filter(|it| it.is_none()).count();
        Ok(kept)
    }

    fn rollout(
        &self,
        episodes: &[Episode<'_>],
        played: &mut Played,
    ) -> Result<Vec<Trajectory>, RolloutError> {
        let output = Rollout {
            noise_probability: self.noise.clone(),
            harness: Some(&self.trainer.harness),
            consultants: self.trainer.helper_models.as_ref(),
            ..Rollout::new(self.policy, self.trainer.engine.as_ref(), self.config)
        }
        .play(episodes, &mut |_| {})?;
        played.all.extend_from_slice(&output.trajectories);
        Ok(output.trajectories)
    }
}
