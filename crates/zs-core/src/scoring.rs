//! Exact match, cover exact match and F1 over normalised answers, in their `SQuAD` form.

/// What F1 does when one side is `yes`, `no` or `noanswer`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum YesNoRule {
    /// Compare words as for any other answer (`SQuAD`, and the reward of ZeroSearch).
    #[default]
    Ignore,
    /// Score 0 unless both sides are equal (HotpotQA's official script).
    Strict,
}

/// Normalises an answer as `SQuAD`'s evaluation script does.
///
/// ```text
/// lower-case -> drop ASCII punctuation -> drop the words a, an, the -> squeeze white space
/// ```
///
/// Punctuation is that of Python's `string.punctuation`; lower-casing is Unicode's; articles are
/// dropped on word boundaries, where a word is a run of letters, digits and `_` (Python's `\b`).
///
/// # References
///
/// - [SQuAD 1.1 evaluation script](https://rajpurkar.github.io/SQuAD-explorer/), `normalize_answer`
///
/// ```
/// assert_eq!(zs_core::normalize_answer("The  U.S.A.!"), "usa");
/// ```
#[must_use]
pub fn normalize_answer(text: &str) -> String {
    let kept: String =
        text.to_lowercase().chars().filter(|it| !it.is_ascii_punctuation()).collect();
    // Each maximal run of word characters is one token; articles among them become a space.
    let mut without_articles = String::with_capacity(kept.len());
    let mut word = String::new();
    for ch in kept.chars().chain(std::iter::once(' ')) {
        if is_word_character(ch) {
            word.push(ch);
            continue;
        }
        if matches!(word.as_str(), "a" | "an" | "the") {
            without_articles.push(' ');
        } else {
            without_articles.push_str(&word);
        }
        word.clear();
        without_articles.push(ch);
    }
    without_articles.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Python's `\w` for the characters left after punctuation is gone.
fn is_word_character(ch: char) -> bool {
    ch.is_alphanumeric() || ch == '_'
}

/// Whether the normalised prediction equals a normalised golden answer.
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

/// Whether a normalised golden answer occurs in the normalised prediction as a substring.
///
/// # References
///
/// - ZeroSearch reference code, `qa_em.py` `em_check`, published under the name EM
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
    let prediction = normalize_answer(prediction);
    golden_answers
        .iter()
        .map(|golden| pair_f1(&prediction, &normalize_answer(golden), rule))
        .fold(0.0, f64::max)
}

fn pair_f1(prediction: &str, golden: &str, rule: YesNoRule) -> f64 {
    let is_verdict = |text: &str| matches!(text, "yes" | "no" | "noanswer");
    if rule == YesNoRule::Strict
        && prediction != golden
        && (is_verdict(prediction) || is_verdict(golden))
    {
        return 0.0;
    }
    let predicted: Vec<&str> = prediction.split_whitespace().collect();
    let mut unmatched: Vec<&str> = golden.split_whitespace().collect();
    let golden_len = unmatched.len();
    let mut common = 0_usize;
    for word in &predicted {
        if let Some(at) = unmatched.iter().position(|it| it == word) {
            unmatched.swap_remove(at);
            common += 1;
        }
    }
    if common == 0 {
        return 0.0;
    }
    2.0 * common as f64 / (predicted.len() + golden_len) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn golden(answers: &[&str]) -> Vec<String> {
        answers.iter().map(|&it| it.to_owned()).collect()
    }

    #[test]
    fn normalises_like_squad() {
        // Expected values printed by SQuAD's `normalize_answer` under Python 3.11.
        let cases = [
            ("The Cat", "cat"),
            ("  An  apple , a day ", "apple day"),
            ("U.S.A.", "usa"),
            ("theatre a-the b", "theatre athe b"),
            ("ÉCOLE the Élan", "école élan"),
            ("“quoted”", "“quoted”"),
            ("the", ""),
            ("a\u{a0}b", "b"),
            ("1,000", "1000"),
            ("the_end", "theend"),
        ];
        for (text, expected) in cases {
            assert_eq!(normalize_answer(text), expected, "{text:?}");
        }
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
    }

    #[test]
    fn yes_no_rules_differ_only_on_verdicts() {
        let answers = golden(&["no"]);
        assert_eq!(f1("no it is not", &answers, YesNoRule::Ignore), 0.4);
        assert_eq!(f1("no it is not", &answers, YesNoRule::Strict), 0.0);
        assert_eq!(f1("No.", &answers, YesNoRule::Strict), 1.0);
    }

    proptest! {
        #[test]
        fn f1_is_symmetric_and_bounded(a in "[a-d ]{0,12}", b in "[a-d ]{0,12}") {
            let ab = f1(&a, &golden(&[&b]), YesNoRule::Ignore);
            let ba = f1(&b, &golden(&[&a]), YesNoRule::Ignore);
            prop_assert!((ab - ba).abs() < 1e-12);
            prop_assert!((0.0..=1.0).contains(&ab));
        }

        #[test]
        fn normalising_twice_changes_nothing(text in "\\PC{0,24}") {
            let once = normalize_answer(&text);
            prop_assert_eq!(normalize_answer(&once), once);
        }
    }
}
