//! Lane: a block of episodes that advance turn by turn; only the sampling step of a turn needs the
//! policy model.

use tracing::info_span;
use zs_model::{SamplingParams, SequenceRequest, Session};

use super::consult::{consult, part_key};
use super::observation::ObservationWriter;
use super::row::{RolloutRow, Rules, Written};
use super::search::search;
use super::{Rollout, RolloutError, RolloutEvent};
use crate::Trajectory;

/// Values that all lanes of a rollout share.
pub(super) struct Table<'a> {
    pub(super) rollout: &'a Rollout<'a>,
    pub(super) rules: Rules<'a>,
    pub(super) observations: ObservationWriter<'a>,
}

/// Episodes that are sampled in one session, and whose queries go to the engine together.
///
/// ```text
/// while has_work:
///     sample     the policy writes turns, or their parts up to a request to a helper model
///     respond    helper models reply; or the engine answers, and rows get their observations
///     report     the observer gets the events
/// ```
pub(super) struct Lane<'e> {
    rows: Vec<RolloutRow<'e>>,
    /// The first row's index among all episodes.
    first: usize,
    /// Requests to helper models in this turn so far.
    part: u32,
    /// The rows of this turn.
    active: Vec<usize>,
    /// Rows that the policy writes next, or, once it has, that await a helper model's reply.
    writing: Vec<usize>,
}

impl<'e> Lane<'e> {
    pub(super) fn new(first: usize, rows: Vec<RolloutRow<'e>>) -> Self {
        let active: Vec<usize> = (0..rows.len()).collect();
        let writing = active.iter().copied().filter(|&it| rows[it].is_writing()).collect();
        Self { rows, first, part: 0, active, writing }
    }

    pub(super) fn num_rows(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn into_trajectories(self) -> impl Iterator<Item = Trajectory> {
        self.rows.into_iter().map(|it| it.trajectory)
    }

    /// Returns true if an episode of the lane is unfinished.
    pub(super) fn has_work(&self) -> bool {
        !self.active.is_empty()
    }

    /// Samples the next part, up to the end of a turn or a request to a helper model.
    pub(super) fn sample(
        &mut self,
        session: &mut dyn Session,
        table: &Table<'_>,
        observer: &mut dyn FnMut(RolloutEvent<'_>),
    ) -> Result<(), RolloutError> {
        let Self { rows, first, part, writing, .. } = self;
        if writing.is_empty() {
            return Ok(());
        }
        let (first, part) = (*first, *part);
        let turns: Vec<u32> = writing.iter().map(|&it| rows[it].num_turns()).collect();
        let params = sampling_params(rows, writing, table);
        let requests: Vec<SequenceRequest<'_>> = writing
            .iter()
            .zip(&turns)
            .map(|(&it, &turn)| SequenceRequest {
                sequence: it,
                append: &rows[it].append,
                key: part_key(rows[it].policy_key, turn, part),
            })
            .collect();
        let mut on_token = |index: usize, token| {
            let (episode, turn) = (first + writing[index], turns[index]);
            observer(RolloutEvent::Token { episode, turn, token });
        };
        let completions = {
            let _span =
                info_span!("generate", turn = turns[0], sequences = requests.len()).entered();
            session.extend(&requests, &params, &mut on_token)?
        };
        let written: Vec<(usize, Written)> = writing
            .iter()
            .zip(completions)
            .map(|(&it, completion)| (it, rows[it].write(completion, &table.rules)))
            .collect();
        let asking = written.into_iter().filter(|(_, it)| *it == Written::Consult);
        *writing = asking.map(|(index, _)| index).collect();
        Ok(())
    }

    /// Replies to the sampled text: replies of helper models where a row waits for one, else
    /// documents and other observations. Does not need the policy model.
    pub(super) fn respond(&mut self, table: &Table<'_>) -> Result<(), RolloutError> {
        let Self { rows, part, active, writing, .. } = self;
        let Rollout { engine, config, consultants, noise_probability, .. } = table.rollout;
        let rules = &table.rules;
        if let Some(registry) = consultants.filter(|_| !writing.is_empty()) {
            let max_tokens = config.max_observation_tokens;
            return consult(rows, writing, registry, rules, max_tokens, *part);
        }
        search(rows, active, *engine, noise_probability, config)?;
        for &index in active.iter() {
            rows[index].observe(&table.observations, rules.observation_limit)?;
        }
        Ok(())
    }

    /// Reports the replies to the observer, and advances to the next part.
    pub(super) fn report(&mut self, table: &Table<'_>, observer: &mut dyn FnMut(RolloutEvent<'_>)) {
        let Self { rows, first, .. } = self;
        if !self.writing.is_empty() {
            for &index in &self.writing {
                if let Some(record) = rows[index].trajectory.consults.last() {
                    observer(RolloutEvent::Consult { episode: *first + index, record });
                }
            }
            self.part += 1;
            return;
        }
        for &index in &self.active {
            let (episode, trajectory) = (*first + index, &rows[index].trajectory);
            if let Some(record) = trajectory.turns.last() {
                let turn = rows[index].num_turns() - 1;
                observer(RolloutEvent::Turn { episode, turn, record });
            }
            if rows[index].is_finished {
                observer(RolloutEvent::Finished { episode, trajectory });
            }
        }
        let max_turns = table.rules.max_turns;
        self.active.retain(|&it| !rows[it].is_finished && rows[it].num_turns() < max_turns);
        self.writing.clone_from(&self.active);
        self.part = 0;
    }
}

/// Sampling parameters of a turn, or of a part of one.
fn sampling_params(
    rows: &[RolloutRow<'_>],
    writing: &[usize],
    table: &Table<'_>,
) -> SamplingParams {
    let mut params = table.rollout.config.sampling_params();
    params.stop.extend(table.rules.agents.iter().map(|it| it.closing_tag().to_owned()));
    // Each row is cut at its own budget afterwards; this only saves what all would throw away.
    let most = writing.iter().map(|&it| rows[it].budget()).max().unwrap_or(0);
    params.max_new_tokens = params.max_new_tokens.min(most);
    params
}
