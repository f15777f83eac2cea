//! Rejection sampling: which of several episodes of a question are worth imitating.

/// What an episode is selected by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Whether its answer is right.
    pub exact_match: bool,
    /// F1 of its answer.
    pub f1: f64,
    /// Its turns.
    pub num_steps: usize,
}

/// An episode that was selected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selection {
    /// Its place among the candidates.
    pub index: usize,
    /// Its score: the weight of its tokens in supervised fine-tuning.
    pub score: f64,
}

impl Candidate {
    /// How much the episode is worth imitating.
    ///
    /// ```text
    /// score = 0.70 EM + 0.20 F1 + 0.10 economy
    /// economy = 1 up to 6 steps, falling linearly to 0 at 10
    /// ```
    ///
    /// # References
    ///
    /// - [HASP](https://arxiv.org/abs/2605.17734), section 5; reference code
    ///
    /// ```
    /// use zs_rl::program::Candidate;
    ///
    /// let score = |f1, num_steps| Candidate { exact_match: true, f1, num_steps }.score();
    /// assert!((score(0.5, 8) - 0.85).abs() < 1e-12);
    /// assert!((score(1.0, 12) - 0.90).abs() < 1e-12);
    /// ```
    #[must_use]
    pub fn score(&self) -> f64 {
        let economy = ((10.0 - self.num_steps as f64) / 4.0).clamp(0.0, 1.0);
        0.70 * f64::from(u8::from(self.exact_match)) + 0.20 * self.f1 + 0.10 * economy
    }
}

/// The best right episodes of one question, at most `keep`, best first; among equals the earlier.
///
/// HASP keeps 2 of 4. An episode whose answer is wrong is never kept.
#[must_use]
pub fn select(candidates: &[Candidate], keep: usize) -> Vec<Selection> {
    let right = candidates.iter().enumerate().filter(|(_, it)| it.exact_match);
    let mut selected: Vec<Selection> =
        right.map(|(index, it)| Selection { index, score: it.score() }).collect();
    selected.sort_by(|a, b| b.score.total_cmp(&a.score));
    selected.truncate(keep);
    selected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_right_ones_are_kept() {
        let candidate = |exact_match, f1, num_steps| Candidate { exact_match, f1, num_steps };
        let group = [
            candidate(true, 1.0, 9),
            candidate(false, 0.9, 1),
            candidate(true, 1.0, 6),
            candidate(true, 1.0, 2),
        ];
        let indices = |keep| select(&group, keep).iter().map(|it| it.index).collect::<Vec<_>>();
        assert_eq!(indices(2), [2, 3]);
        assert_eq!(indices(9), [2, 3, 0]);
        assert!((select(&group, 9)[2].score - 0.925).abs() < 1e-12);
        assert!(select(&group[1..2], 2).is_empty());
    }
}
