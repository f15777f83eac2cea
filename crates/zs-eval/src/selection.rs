//! Selection of the questions of an evaluation.

use std::collections::BTreeMap;

use zs_core::Question;

use crate::{Protocol, Quirk};

/// Number of questions of a set that [`Quirk::Subset`] keeps.
const SUBSET: usize = 500;
/// Batch size of [`Quirk::DropLast`].
const BATCH: usize = 64;

/// Selects the questions of a protocol, in the order of the file.
///
/// # References
///
/// - ZeroSearch reference code, `ray_trainer.py` 419-423: batches of 64, the last one dropped. Its
///   published numbers are multiples of 1/500, and of 1/72 for Bamboogle: 6 x 500 + 125 questions
///   less the 53 of a short batch. Which 500 is not published; here they are the first.
#[must_use]
pub fn select_questions(protocol: &Protocol, mut questions: Vec<Question>) -> Vec<Question> {
    if protocol.has(Quirk::Subset) {
        let mut counts: BTreeMap<Option<String>, usize> = BTreeMap::new();
        questions.retain(|it| {
            let count = counts.entry(it.data_source.clone()).or_default();
            *count += 1;
            *count <= SUBSET
        });
    }
    if protocol.has(Quirk::DropLast) {
        questions.truncate(questions.len() / BATCH * BATCH);
    }
    questions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(protocol: &str, sets: &[(&str, usize)], expected: usize) {
        let questions = sets.iter().flat_map(|&(set, count)| {
            (0..count).map(move |it| Question {
                data_source: Some(set.to_owned()),
                ..Question::new(format!("{set}{it}"), "?", ["a"])
            })
        });
        let selected = select_questions(&protocol.parse().unwrap(), questions.collect());
        assert_eq!(selected.len(), expected, "{protocol}");
    }

    #[test]
    fn the_reference_keeps_72_of_bamboogle() {
        let sets = [
            ("nq", 510),
            ("a", 500),
            ("b", 500),
            ("c", 500),
            ("d", 500),
            ("e", 500),
            ("bamboogle", 125),
        ];
        check("strict", &sets, 3135);
        check("zs-compat", &sets, 3125);
        check("zs-compat + drop-last", &sets, 3072);
        check("strict + drop-last", &[("nq", 63)], 0);
    }
}
