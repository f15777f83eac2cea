//! `zs` with an algorithm, a reward, a curriculum and a search engine of one's own.

use serde::{Deserialize, Serialize};
use zs_train::prelude::*;

/// Imitates the episodes of each group within `margin` of its best return: `L = -mean_t log p_t`.
#[derive(Debug, Serialize, Deserialize)]
struct BestOfGroup {
    #[serde(default)]
    margin: f32,
}

impl Settings for BestOfGroup {
    const KIND: &'static str = "best_of_group";
}

impl Algorithm for BestOfGroup {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let is_best = |returns: &[f32]| {
            let best = returns.iter().copied().fold(f32::MIN, f32::max);
            returns.iter().map(|it| f32::from(u8::from(best - it <= self.margin))).collect()
        };
        batch.group_advantages(is_best).into()
    }

    fn policy_loss(&self, scores: &TokenScores, batch: &PolicyBatch) -> LossOutput {
        let loss = -scores.log_probs.clone() * batch.advantages.clone();
        let loss = batch.aggregate(loss.mask_fill(batch.loss_mask.clone().bool_not(), 0.0));
        LossOutput { metrics: vec![("actor/imitation_loss", loss.clone().detach())], loss }
    }
}

/// F1 of the answer and something for answering at all, less in episodes of many turns.
#[derive(Debug, Serialize, Deserialize)]
struct Frugal {}

impl Settings for Frugal {
    const KIND: &'static str = "frugal";
}

impl Reward for Frugal {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn score(&self, episode: &EpisodeView<'_>) -> RewardOutput {
        let golden = &episode.question.golden_answers;
        let of_answer = |it| (0.1 + f1(it, golden, YesNoRule::Ignore)) / episode.turns.len() as f64;
        RewardOutput::from(episode.answer().map_or(0.0, of_answer) as f32)
    }
}

/// Noisy documents in the second half of training only.
#[derive(Debug, Serialize, Deserialize)]
struct SecondHalf {
    probability: f64,
}

impl Settings for SecondHalf {
    const KIND: &'static str = "second_half";
}

impl Curriculum for SecondHalf {
    fn noise_probability(&self, progress: Progress<'_>) -> f64 {
        if progress.fraction() < 0.5 { 0.0 } else { self.probability }
    }
}

/// Finds one note for every query.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    text: String,
}

impl Settings for Note {
    const KIND: &'static str = "note";
}

impl SearchEngine for Note {
    fn name(&self) -> &str {
        Self::KIND
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        requests.iter().map(|_| Ok(vec![Document::new("Note", &self.text)])).collect()
    }
}

fn main() -> std::process::ExitCode {
    let zs = Zs::new().algorithm::<BestOfGroup>().reward::<Frugal>();
    zs.curriculum::<SecondHalf>().engine::<Note>().run()
}
