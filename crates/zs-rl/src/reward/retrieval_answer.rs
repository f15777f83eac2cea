//! Reward of searches whose documents contain the answer.

use serde::{Deserialize, Serialize};
use zs_core::registry::Settings;
use zs_core::{Document, normalize_answer};

use super::{EpisodeView, RetrievalReward, RewardOutput};

/// 1 when a document of the episode holds a golden answer, else 0.
///
/// Both sides are normalised as answers are, and the answer must stand there in whole words: "no"
/// is not in "nothing". Documents count as the engine returned them, also where the observation had
/// room for fewer. The reward does not depend on the use of the documents, so it is meant for a sum
/// with a small weight: Search-R1's `retrieval_score`, 0 in the published runs, 0.1 in its
/// ablation.
///
/// # References
///
/// - [Search-R1](https://arxiv.org/abs/2503.09516), code v0.3, `is_retrieval_correct`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetrievalAnswer {}

impl Settings for RetrievalAnswer {
    const KIND: &'static str = "retrieval_answer";
}

impl RetrievalReward for RetrievalAnswer {
    fn name(&self) -> &'static str {
        "retrieval_answer"
    }

    fn score(&self, episode: &EpisodeView<'_>, documents: &[&[Document]]) -> RewardOutput {
        let in_words = |text: &str| format!(" {} ", normalize_answer(text));
        let golden: Vec<String> =
            episode.question.golden_answers.iter().map(|it| in_words(it)).collect();
        let holds_answer = |document: &Document| {
            let text = in_words(&format!("{} {}", document.title, document.text));
            golden.iter().any(|it| !it.trim().is_empty() && text.contains(it))
        };
        RewardOutput::from(documents.iter().copied().flatten().any(holds_answer))
    }
}

#[cfg(test)]
mod tests {
    use zs_core::Question;

    use super::*;
    use crate::Trajectory;

    #[track_caller]
    fn check(golden: &str, text: &str, expected: f32) {
        let question = Question::new("q", "?", [golden]);
        let trajectory = Trajectory::new("q", vec![0]);
        let documents = [Document::new("", "nothing"), Document::new("", text)];
        let view = EpisodeView::new(&question, &trajectory);
        let earned = RetrievalAnswer {}.score(&view, &[&[], &documents]);
        assert_eq!(earned.total, expected, "{golden} in {text}");
    }

    #[test]
    fn answers_stand_in_whole_words() {
        check("Paris", "The capital is paris.", 1.0);
        check("the U.S.", "made in the US of A", 1.0);
        check("Par", "The capital is Paris.", 0.0);
        check("no", "I know", 0.0);
        check("the", "the", 0.0);
    }
}
