//! Exact match, cover exact match and F1 over normalised answers, in their `SQuAD` form.

mod normalize;

use std::collections::HashMap;

pub use self::normalize::{normalize_answer, strip_answer};

/// Rule of F1 where one side is `yes`, `no` or `noanswer`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum YesNoRule {
    /// Compare words as for any other answer (`SQuAD`, and the reward of ZeroSearch).
    #[default]
    Ignore,
    /// Score 0 unless both sides are equal (HotpotQA's official script, FlashRAG).
    Strict,
}

/// Returns true if the normalised prediction equals a normalised golden answer.
///
/// # References
///
/// - `SQuAD` `exact_match_score`, max over golden answers. ZeroSearch's reference code calls
///   *containment* exact match; that is [`cover_exact_match`] here.
#[must_use]
pub fn exact_match(prediction: &str, golden_answers: &[String]) -> bool {
    let prediction = normalize_answer(prediction);
    golden_answers.iter().any(|golden| normalize_answer(golden) == prediction)
}

/// Returns true if a normalised golden answer occurs in the normalised prediction as a substring.
///
/// # References
///
/// - ZeroSearch reference code, `qa_em.py` `em_check`, published under the name EM; FlashRAG
///   `Sub_ExactMatch`
#[must_use]
pub fn cover_exact_match(prediction: &str, golden_answers: &[String]) -> bool {
    let prediction = normalize_answer(prediction);
    golden_answers.iter().any(|golden| prediction.contains(&normalize_answer(golden)))
}

/// Word-overlap F1, the best over golden answers.
///
/// ```text
/// F1 = 2 * IN / (PN + RN)
/// ```
///
/// - `IN`: words in common, as multisets, after [`normalize_answer`]
/// - `PN`, `RN`: words of the prediction and of the golden answer
///
/// No words in common is 0, also when both sides are empty, as in `SQuAD`'s script.
///
/// # References
///
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588), section 3.5
/// - `SQuAD` `f1_score`; HotpotQA `f1_score` for [`YesNoRule::Strict`]
#[must_use]
pub fn f1(prediction: &str, golden_answers: &[String], rule: YesNoRule) -> f64 {
    word_overlap(prediction, golden_answers, rule).f1
}

/// Overlap of the words of a prediction with those of its golden answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WordOverlap {
    /// `2 * IN / (PN + RN)`.
    pub f1: f64,
    /// `IN / PN`: the share of predicted words that the golden answer has.
    pub precision: f64,
    /// `IN / RN`: the share of the golden answer's words that were predicted.
    pub recall: f64,
}

/// F1, precision and recall of words, each the best over golden answers.
///
/// With the symbols of [`f1()`]: `precision = IN / PN`, `recall = IN / RN`. The three maxima may come
/// from different golden answers, as in FlashRAG.
///
/// # References
///
/// - HotpotQA `f1_score`; FlashRAG `F1_Score`, `Precision_Score`, `Recall_Score`
///
/// ```
/// use zs_core::{YesNoRule, word_overlap};
///
/// let overlap = word_overlap("the big tower", &["Eiffel Tower".to_owned()], YesNoRule::Ignore);
/// assert_eq!((overlap.precision, overlap.recall), (0.5, 0.5));
/// ```
#[must_use]
pub fn word_overlap(prediction: &str, golden_answers: &[String], rule: YesNoRule) -> WordOverlap {
    let prediction = normalize_answer(prediction);
    let mut best = WordOverlap::default();
    for golden in golden_answers {
        let overlap = pair_overlap(&prediction, &normalize_answer(golden), rule);
        best.f1 = best.f1.max(overlap.f1);
        best.precision = best.precision.max(overlap.precision);
        best.recall = best.recall.max(overlap.recall);
    }
    best
}

fn pair_overlap(prediction: &str, golden: &str, rule: YesNoRule) -> WordOverlap {
    let is_verdict = |text: &str| matches!(text, "yes" | "no" | "noanswer");
    if rule == YesNoRule::Strict
        && prediction != golden
        && (is_verdict(prediction) || is_verdict(golden))
    {
        return WordOverlap::default();
    }
    let mut unmatched: HashMap<&str, usize> = HashMap::new();
    let mut golden_len = 0_usize;
    for word in words(golden) {
        *unmatched.entry(word).or_default() += 1;
        golden_len += 1;
    }
    let (mut common, mut prediction_len) = (0_usize, 0_usize);
    for word in words(prediction) {
        prediction_len += 1;
        if let Some(left) = unmatched.get_mut(word).filter(|left| **left > 0) {
            *left -= 1;
            common += 1;
        }
    }
    if common == 0 {
        return WordOverlap::default();
    }
    let common = common as f64;
    WordOverlap {
        f1: 2.0 * common / (prediction_len + golden_len) as f64,
        precision: common / prediction_len as f64,
        recall: common / golden_len as f64,
    }
}

/// The words of a normalised text, whose only white space is one space between words.
fn words(normalized: &str) -> impl Iterator<Item = &str> {
    normalized.split(' ').filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn golden(answers: &[&str]) -> Vec<String> {
        answers.iter().map(|&it| it.to_owned()).collect()
    }

    #[track_caller]
    fn check(prediction: &str, answers: &[&str], em: bool, cover: bool, expected_f1: f64) {
        let answers = golden(answers);
        assert_eq!(exact_match(prediction, &answers), em, "exact match of {prediction:?}");
        assert_eq!(cover_exact_match(prediction, &answers), cover, "cover of {prediction:?}");
        let actual = f1(prediction, &answers, YesNoRule::Ignore);
        assert!((actual - expected_f1).abs() < 1e-12, "f1 {actual} of {prediction:?}");
    }

    #[test]
    fn scores_by_hand() {
        check("The Eiffel Tower", &["Eiffel Tower"], true, true, 1.0);
        check("the big Eiffel Tower", &["Eiffel Tower"], false, true, 0.8);
        check("Paris", &["Lyon", "paris!"], true, true, 1.0);
        check("Paris", &["Lyon"], false, false, 0.0);
        check("", &["Lyon"], false, false, 0.0);
        check("b b b", &["b b c"], false, false, 2.0 * 2.0 / 6.0);
        check("anything", &[], false, false, 0.0);
        // Nothing is left of the golden answer: equal to nothing, inside everything, no word shared.
        check("The", &["a"], true, true, 0.0);
        check("x", &["the"], false, true, 0.0);
    }

    #[test]
    fn yes_no_rules_differ_only_on_verdicts() {
        let answers = golden(&["no"]);
        assert_eq!(f1("no it is not", &answers, YesNoRule::Ignore), 0.4);
        assert_eq!(f1("no it is not", &answers, YesNoRule::Strict), 0.0);
        assert_eq!(f1("No.", &answers, YesNoRule::Strict), 1.0);
    }

    #[test]
    fn overlaps_take_each_maximum_on_its_own() {
        // Against `b c d e`: 1/2 and 1/4. Against `b`: 1/2 and 1, so F1 2/3.
        let answers = golden(&["b c d e", "b"]);
        let overlap = word_overlap("b x", &answers, YesNoRule::Ignore);
        assert_eq!((overlap.precision, overlap.recall), (0.5, 1.0));
        assert!((overlap.f1 - 2.0 / 3.0).abs() < 1e-12);
        let verdict = word_overlap("yes it is", &golden(&["yes"]), YesNoRule::Strict);
        assert_eq!(verdict, WordOverlap::default());
    }

    proptest! {
        #[test]
        fn f1_is_symmetric_and_bounded(a in "[a-d ]{0,12}", b in "[a-d ]{0,12}") {
            let ab = word_overlap(&a, &golden(&[&b]), YesNoRule::Ignore);
            let ba = word_overlap(&b, &golden(&[&a]), YesNoRule::Ignore);
            prop_assert!((ab.f1 - ba.f1).abs() < 1e-12);
            prop_assert_eq!(ab.precision, ba.recall);
            prop_assert!((0.0..=1.0).contains(&ab.f1));
        }
    }
}
