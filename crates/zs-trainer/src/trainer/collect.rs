//! The episodes of a training step, played and scored, and zero-variance groups replaced where the
//! algorithm asks for it.

use tracing::info_span;
use zs_core::StreamKey;
use zs_model::Generator;
use zs_rl::{
    Branch, Branching, DynamicSampling, Episode, PlayedEpisode, ReplacedDocuments, RewardFunction,
    Rollout, RolloutConfig, RolloutError, RolloutOutput, RolloutStats, Trajectory, TrajectoryGroup,
    TurnNoise,
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
    branching: Option<Branching>,
    /// Documents with which the reward asks for counterfactuals.
    replaced: Vec<ReplacedDocuments>,
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
    /// Counts over all continuations of them; `None` where episodes are not branched.
    pub(super) of_branches: Option<RolloutStats>,
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
    /// Searches that were carried out.
    pub(super) fn num_searches(&self) -> usize {
        self.stats.num_searches + self.of_branches.map_or(0, |it| it.num_searches)
    }

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
        let requirements = trainer.algorithm.requirements();
        // Where no reward is learned from, groups of equal rewards are as good as others.
        let is_alone = trainer.config.update.distillation.is_some_and(|it| it.is_alone());
        let sampling = requirements.dynamic_sampling.filter(|_| !is_alone);
        let branching = requirements.branching;
        let order = EpochOrder::new(trainer.seed, trainer.questions.len());
        let reward = trainer.reward.clone();
        let replaced = reward.counterfactuals();
        Self { trainer, reward, sampling, branching, replaced, order }
    }

    /// Plays the episodes of a step with the policy as it is, on questions from `next_question` on.
    ///
    /// Without dynamic sampling that is one rollout. With it, groups whose rewards are all equal are
    /// replaced by those of the next questions, in at most so many further rollouts as it allows; a
    /// batch that is still short stays short, and one without any difference is kept as it is.
    pub(super) fn collect(
        &mut self,
        step: usize,
        policy: &dyn Generator,
        noise: &TurnNoise,
        mut next_question: usize,
    ) -> Result<Collected, RolloutError> {
        let _span = info_span!("rollout", step).entered();
        let wanted = self.trainer.config.schedule.questions_per_step;
        let (mut groups, mut dropped) = (Vec::new(), Vec::new());
        let config = self.rollout_config(step);
        self.reward.set_step(step);
        let stage = Stage { trainer: self.trainer, policy, noise, config: &config };
        let (mut played, mut continued) = (Played::default(), Played::default());
        let (mut num_groups, mut num_rollouts) = (0, 0);
        let max_refills = self.sampling.map_or(0, |it| it.max_refills);
        while groups.len() < wanted && num_rollouts <= max_refills {
            let missing = wanted - groups.len();
            let questions = self.order.range(next_question, missing);
            next_question += missing;
            let episodes = self.episodes(step, num_groups, &questions);
            num_groups += missing;
            num_rollouts += 1;
            let mut new = stage.play(&episodes, &mut played)?;
            if let Some(branching) = self.branching {
                stage.branch(branching, &mut new, &mut continued)?;
            }
            stage.replace_searches(&self.replaced, &mut new)?;
            let new = self.score(new);
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
            of_branches: self.branching.map(|_| RolloutStats::of(&continued.all)),
            temperature: config.temperature,
            num_refills: self.sampling.map(|_| num_rollouts - 1),
            num_resampled: played.num_resampled + continued.num_resampled,
            num_failed: played.num_failed + continued.num_failed,
            first_error: first_error(&played.all).or_else(|| first_error(&continued.all)),
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

    /// Scores the groups of their questions. Groups of which no episode is left are left out.
    fn score(&self, groups: Vec<Vec<Member<'_>>>) -> Vec<TrajectoryGroup> {
        let _span = info_span!("reward").entered();
        let of_group = |members: Vec<Member<'_>>| {
            let question = members.first()?.episode.question.clone();
            let members = members.into_iter().map(|it| it.trajectory).collect();
            Some(TrajectoryGroup::score(question, members, &self.reward))
        };
        groups.into_iter().filter_map(of_group).collect()
    }
}

/// A trajectory of a group, with the keys that it was played with.
struct Member<'a> {
    episode: Episode<'a>,
    policy_key: StreamKey,
    trajectory: Trajectory,
}

impl Member<'_> {
    fn as_played(&self) -> PlayedEpisode<'_> {
        let Self { episode, policy_key, ref trajectory } = *self;
        PlayedEpisode { episode, policy_key, trajectory }
    }
}

fn first_error(played: &[Trajectory]) -> Option<String> {
    played.iter().flat_map(Trajectory::searches).find_map(|it| it.error.clone())
}

/// Shared inputs of the rollouts of one step.
struct Stage<'a> {
    trainer: &'a Trainer,
    policy: &'a dyn Generator,
    noise: &'a TurnNoise,
    config: &'a RolloutConfig,
}

/// Episodes, or continuations of them, played in a step.
#[derive(Default)]
struct Played {
    /// All of them, those that were replaced included.
    all: Vec<Trajectory>,
    num_resampled: usize,
    num_failed: usize,
}

impl Stage<'_> {
    /// Plays episodes, `group_size` of each question; returns those of each question, without those in
    /// which a search failed each time.
    fn play<'a>(
        &self,
        episodes: &[Episode<'a>],
        played: &mut Played,
    ) -> Result<Vec<Vec<Member<'a>>>, RolloutError> {
        let play = |it: &[Episode<'_>]| self.rollout().play(it, &mut |_| {});
        let resampled = |it: &Episode<'a>, shift| {
            let key = StreamKey { sample: it.key.sample + shift, ..it.key };
            Episode { key, ..*it }
        };
        let member = |(episode, trajectory): (Episode<'a>, Trajectory)| Member {
            episode,
            policy_key: episode.key,
            trajectory,
        };
        let kept = self.repeat(episodes, play, resampled, played)?.into_iter();
        let mut kept = kept.map(|it| it.map(member));
        let group_size = self.trainer.config.schedule.group_size;
        let groups = episodes.chunks(group_size);
        Ok(groups.map(|it| kept.by_ref().take(it.len()).flatten().collect()).collect())
    }

    /// Plays continuations of the episodes of each question, and adds them to its group.
    fn branch(
        &self,
        branching: Branching,
        groups: &mut [Vec<Member<'_>>],
        played: &mut Played,
    ) -> Result<(), RolloutError> {
        if self.trainer.engine.exhausted().is_some() {
            return Ok(());
        }
        let (mut sizes, mut keys) = (Vec::new(), Vec::new());
        let continued: Vec<Option<Trajectory>> = {
            let mut branches = Vec::new();
            for group in &*groups {
                let members: Vec<PlayedEpisode<'_>> = group.iter().map(Member::as_played).collect();
                let of_group = branching.branches(&members);
                sizes.push(of_group.len());
                branches.extend(of_group);
            }
            let play = |it: &[Branch<'_>]| self.rollout().continue_from(it, &mut |_| {});
            let kept = self.repeat(&branches, play, Branch::resampled, played)?;
            keys.extend(kept.iter().map(|it| it.as_ref().map(|(it, _)| it.played.policy_key)));
            kept.into_iter().map(|it| it.map(|(_, it)| it)).collect()
        };
        let mut continued = continued.into_iter().zip(keys);
        for (group, size) in groups.iter_mut().zip(sizes) {
            for (trajectory, policy_key) in continued.by_ref().take(size) {
                let (Some(trajectory), Some(policy_key)) = (trajectory, policy_key) else {
                    continue;
                };
                let parent = trajectory.branch.map_or(0, |it| it.parent);
                let Member { episode, .. } = group[parent];
                group.push(Member { episode, policy_key, trajectory });
            }
        }
        Ok(())
    }

    /// Plays the counterfactuals of every search that the reward asks for.
    fn replace_searches(
        &self,
        with: &[ReplacedDocuments],
        groups: &mut [Vec<Member<'_>>],
    ) -> Result<(), RolloutError> {
        if with.is_empty() || self.trainer.engine.exhausted().is_some() {
            return Ok(());
        }
        let members: Vec<PlayedEpisode<'_>> =
            groups.iter().flatten().map(Member::as_played).collect();
        let counterfactuals = self.rollout().counterfactuals(&members, with)?;
        for (member, counterfactuals) in groups.iter_mut().flatten().zip(counterfactuals) {
            member.trajectory.counterfactuals = counterfactuals;
        }
        Ok(())
    }

    /// Plays, and repeats under other samples what has a failed search, as often as the fault policy
    /// allows. Returns `None` for what failed each time.
    fn repeat<T: Copy>(
        &self,
        wanted: &[T],
        play: impl Fn(&[T]) -> Result<RolloutOutput, RolloutError>,
        resampled: impl Fn(&T, u32) -> T,
        played: &mut Played,
    ) -> Result<Vec<Option<(T, Trajectory)>>, RolloutError> {
        let TrainingConfig { schedule, faults, .. } = &self.trainer.config;
        let resamples = faults.resamples();
        let play = |it: &[T], all: &mut Vec<Trajectory>| {
            let trajectories = play(it)?.trajectories;
            all.extend_from_slice(&trajectories);
            Ok::<_, RolloutError>(it.iter().copied().zip(trajectories).collect::<Vec<_>>())
        };
        let mut current = play(wanted, &mut played.all)?;
        let has_failed = |(_, it): &(T, Trajectory)| {
            let own = &it.turns[it.num_shared_turns()..];
            own.iter().any(|it| it.search.as_ref().is_some_and(|it| it.error.is_some()))
        };
        for attempt in 1..=resamples {
            let again: Vec<usize> =
                (0..current.len()).filter(|&at| has_failed(&current[at])).collect();
            if again.is_empty() || self.trainer.engine.exhausted().is_some() {
                break;
            }
            // Samples that no other episode of the group has.
            let shift = attempt * schedule.group_size as u32;
            let retried: Vec<T> = again.iter().map(|&at| resampled(&wanted[at], shift)).collect();
            played.num_resampled += again.len();
            for (at, it) in again.into_iter().zip(play(&retried, &mut played.all)?) {
                current[at] = it;
            }
        }
        let left_out = |it: &(T, Trajectory)| resamples > 0 && has_failed(it);
        let kept: Vec<Option<(T, Trajectory)>> =
            current.into_iter().map(|it| (!left_out(&it)).then_some(it)).collect();
        played.num_failed += kept.iter().filter(|it| it.is_none()).count();
        Ok(kept)
    }

    fn rollout(&self) -> Rollout<'_> {
        Rollout {
            noise_probability: self.noise.clone(),
            harness: Some(&self.trainer.harness),
            consultants: self.trainer.helper_models.as_ref(),
            ..Rollout::new(self.policy, self.trainer.engine.as_ref(), self.config)
        }
    }
}
