//! The episodes of a training step, played and scored, and groups that teach nothing replaced where
//! the algorithm asks for it.

use anyhow::Result;
use zs_core::StreamKey;
use zs_model::LanguageModel;
use zs_rl::{
    DynamicSampling, Episode, RewardFunction, Rollout, RolloutStats, Trajectory, TrajectoryGroup,
    TurnNoise,
};

use super::EpochOrder;
use super::rl::Training;

/// Plays the episodes of one step after the other.
pub(super) struct Collector<'a> {
    training: &'a Training<'a>,
    reward: RewardFunction,
    sampling: Option<DynamicSampling>,
    order: EpochOrder,
    /// The place in the order of the next question.
    next_question: usize,
}

/// The episodes of one step.
pub(super) struct Collected {
    /// What is learned from.
    pub(super) groups: Vec<TrajectoryGroup>,
    /// Groups that were replaced since all their rewards are equal.
    pub(super) dropped: Vec<TrajectoryGroup>,
    /// Counts over all episodes that were played.
    pub(super) stats: RolloutStats,
    /// The temperature that they were sampled at.
    pub(super) temperature: f32,
    /// Rollouts besides the first; nothing where groups are not replaced.
    pub(super) num_refills: Option<usize>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(
        training: &'a Training<'a>,
        sampling: Option<DynamicSampling>,
    ) -> Result<Self> {
        let reward = training.config.reward.build_with(&training.aids.resources)?;
        let order = EpochOrder::new(training.seed, training.questions.len());
        Ok(Self { training, reward, sampling, order, next_question: 0 })
    }

    /// Plays the episodes of a step with the policy as it is.
    ///
    /// Without dynamic sampling that is one rollout. With it, groups whose rewards are all equal are
    /// replaced by those of the next questions, in at most so many further rollouts as it allows; a
    /// batch that is still short stays short, and one without any difference is kept as it is.
    pub(super) fn collect(
        &mut self,
        step: usize,
        policy: &LanguageModel,
        noise: &TurnNoise,
    ) -> Result<Collected> {
        let wanted = self.training.config.schedule.questions_per_step;
        let mut played: Vec<Trajectory> = Vec::new();
        let (mut groups, mut dropped) = (Vec::new(), Vec::new());
        let config = self.training.rollout_config(step);
        self.reward.set_step(step);
        let mut num_groups = 0;
        let mut num_rollouts = 0;
        let max_refills = self.sampling.map_or(0, |it| it.max_refills);
        while groups.len() < wanted && num_rollouts <= max_refills {
            let missing = wanted - groups.len();
            let questions = self.order.range(self.next_question, missing);
            self.next_question += missing;
            let episodes = self.episodes(step, num_groups, &questions);
            num_groups += missing;
            num_rollouts += 1;
            let output = Rollout {
                noise_probability: noise.clone(),
                consultants: self.training.aids.consultants.as_ref(),
                ..Rollout::new(policy, self.training.engine, &config)
            }
            .play(&episodes, &mut |_| {})?;
            let new = self.group(&output.trajectories, &episodes);
            played.extend(output.trajectories);
            let is_dropped = |it: &TrajectoryGroup| self.sampling.is_some() && it.is_even();
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
            stats: RolloutStats::of(&played),
            temperature: config.temperature,
            num_refills: self.sampling.map(|_| num_rollouts - 1),
        })
    }

    /// `group_size` episodes of each question, each under its own key.
    fn episodes(&self, step: usize, first_group: usize, questions: &[usize]) -> Vec<Episode<'a>> {
        let Training { config, questions: all, seed, .. } = *self.training;
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

    /// Puts episodes back into the groups of their questions, scored.
    fn group(&self, played: &[Trajectory], episodes: &[Episode<'_>]) -> Vec<TrajectoryGroup> {
        let group_size = self.training.config.schedule.group_size;
        let groups = episodes.chunks(group_size).zip(played.chunks(group_size));
        groups
            .map(|(episodes, played)| {
                TrajectoryGroup::score(episodes[0].question.clone(), played.to_vec(), &self.reward)
            })
            .collect()
    }
}
