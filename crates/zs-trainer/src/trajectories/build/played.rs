//! Selection among episodes that were played or written before.

use std::collections::BTreeMap;
use std::path::Path;

use zs_core::{Action, Question, YesNoRule, f1, parse_action};
use zs_data::DataError;
use zs_rl::{DemonstratedTurn, Demonstration};

use super::set::{EpisodeSet, Made};
use super::{BuildError, DropReason, TrajectorySettings};
use crate::trajectories::source::{SourceEpisode, open_source_episodes};

/// Adds the episodes of a file; `questions` are those that records name by id alone.
pub(super) fn read(
    path: &Path,
    questions: &BTreeMap<&str, &Question>,
    settings: &TrajectorySettings,
    set: &mut EpisodeSet<'_>,
) -> Result<(), BuildError> {
    for row in open_source_episodes(path)? {
        match row {
            Ok(episodes) => {
                for episode in episodes {
                    add(episode, questions, settings, set);
                }
            }
            Err(error @ DataError::Row { .. }) => set.add_unreadable(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn add(
    episode: SourceEpisode,
    questions: &BTreeMap<&str, &Question>,
    settings: &TrajectorySettings,
    set: &mut EpisodeSet<'_>,
) {
    let episode = match episode {
        SourceEpisode::Written(mut it) => {
            // Episodes of others seldom hold the answers.
            if let Some(known) = questions.get(it.question.id.as_str())
                && it.question.golden_answers.is_empty()
            {
                it.question.golden_answers.clone_from(&known.golden_answers);
            }
            it
        }
        SourceEpisode::Played { trajectory, question } => {
            let id = trajectory.question_id.as_str();
            match question.or_else(|| questions.get(id).map(|it| (*it).clone())) {
                Some(question) => Demonstration::of(&trajectory, question),
                None => {
                    let unknown = Question::new(id, "", [""; 0]);
                    let detail = format!("question `{id}`: give its file with --questions");
                    return set.add(&unknown, || Err((DropReason::UnknownQuestion, Some(detail))));
                }
            }
        }
    };
    set.add(&episode.question, || selected(&episode, settings));
}

/// The turns of an episode that is good enough.
fn selected(episode: &Demonstration, settings: &TrajectorySettings) -> Made {
    let drop = |reason| Err((reason, None));
    if let Err(error) = episode.check(usize::MAX) {
        return Err((DropReason::Format, Some(error.to_string())));
    }
    let searches = episode.turns.len() - 1;
    if searches < settings.min_searches {
        return drop(DropReason::FewSearches);
    }
    if searches > settings.max_searches {
        return drop(DropReason::ManySearches);
    }
    let answers = &episode.question.golden_answers;
    let answer = match episode.turns.last().map(|it| parse_action(&it.text)) {
        Some(Action::Answer(answer)) if !answers.is_empty() => answer,
        _ => return drop(DropReason::NoAnswer),
    };
    if f1(&answer, answers, YesNoRule::Strict) < settings.min_f1 {
        return drop(DropReason::LowF1);
    }
    Ok(episode.turns.iter().map(in_full).collect())
}

/// The turn without what a rollout cuts off.
fn in_full(turn: &DemonstratedTurn) -> DemonstratedTurn {
    DemonstratedTurn { text: turn.text.trim_end().to_owned(), documents: turn.documents.clone() }
}
