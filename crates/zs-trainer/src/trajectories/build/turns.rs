//! Episodes out of recorded searches.

use std::collections::BTreeSet;
use std::path::Path;

use zs_core::{Document, Question, normalize_answer};
use zs_data::{DataError, RecordedEpisode, RecordedTurn, open_episodes};
use zs_rl::DemonstratedTurn;
use zs_simulator::collect::{check_query, mend_documents};

use super::set::{EpisodeSet, Made};
use super::text::{as_written, found_answer, is_in_question, is_verdict, num_words, shown};
use super::{BuildError, DropReason, TrajectorySettings};

/// Adds the episodes of a file.
pub(super) fn read(
    path: &Path,
    settings: &TrajectorySettings,
    set: &mut EpisodeSet<'_>,
) -> Result<(), BuildError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default().to_owned();
    let mut rows = open_episodes(path)?;
    while let Some(row) = rows.next() {
        match row {
            Ok(episode) => {
                let id = format!("{stem}-{}", rows.row());
                let question = Question::new(id, &episode.question, episode.golden_answers.clone());
                set.add(&question, || episode_of(&episode, settings));
            }
            Err(error @ DataError::Row { .. }) => set.add_unreadable(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Least searches for an answer that documents hold whether it is right or not.
const LEAST_COMPARED: usize = 2;

/// The usable searches up to the first whose documents hold a golden answer, and that answer; all of
/// them where the answer is a verdict or a part of the question.
fn episode_of(episode: &RecordedEpisode, settings: &TrajectorySettings) -> Made {
    let drop = |reason| Err((reason, None));
    let answers = &episode.golden_answers;
    let Some(first) = answers.first() else { return drop(DropReason::NoAnswer) };
    let is_compared = is_in_question(first, &episode.question);
    let (mut turns, mut seen, mut is_long) = (Vec::new(), BTreeSet::new(), false);
    for turn in &episode.turns {
        let Some((query, documents)) = usable(turn, settings) else { continue };
        if !seen.insert(normalize_answer(&query)) {
            continue;
        }
        if turns.len() == settings.max_searches {
            break;
        }
        let found = found_answer(&documents, answers).filter(|_| !is_compared).cloned();
        let written = found.map(|it| as_written(&it, &documents));
        turns.push(DemonstratedTurn::search(&query, documents));
        match written {
            Some(answer) if num_words(&answer) <= settings.max_answer_words => {
                turns.push(DemonstratedTurn::answer(&answer));
                return Ok(turns);
            }
            Some(_) => is_long = true,
            None => {}
        }
    }
    if is_compared && turns.len() >= LEAST_COMPARED {
        let answer = if is_verdict(first) { first.to_lowercase() } else { first.clone() };
        turns.push(DemonstratedTurn::answer(&answer));
        return Ok(turns);
    }
    match turns.is_empty() {
        true => drop(DropReason::NoUsableSearch),
        false if is_compared => drop(DropReason::AnswerInQuestion),
        false if is_long => drop(DropReason::LongAnswer),
        false => drop(DropReason::AnswerNotFound),
    }
}

/// Query and documents of a search, where the query is one and documents came back.
fn usable(turn: &RecordedTurn, settings: &TrajectorySettings) -> Option<(String, Vec<Document>)> {
    let query = check_query(&turn.query).ok()?;
    let documents: Vec<Document> = mend_documents(&turn.documents)
        .iter()
        .take(settings.num_documents)
        .map(|it| shown(it, settings.document_words))
        .collect();
    let is_usable = num_words(&query) <= settings.max_query_words && !documents.is_empty();
    is_usable.then_some((query, documents))
}
