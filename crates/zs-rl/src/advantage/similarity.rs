//! Similarity of two texts by the matching blocks of Ratcliff and Obershelp as Python's
//! `difflib.SequenceMatcher` finds them, whose numbers published thresholds refer to.

use std::collections::HashMap;

/// From this length of the second text on, frequent characters anchor no block.
const AUTOJUNK_LENGTH: usize = 200;

/// The share of characters in matching blocks.
///
/// ```text
/// ratio = 2 M / (|a| + |b|)
/// ```
///
/// - `M`: characters in the longest common block, plus those to its left and to its right, found in
///   the same way
///
/// In a second text of 200 characters or more, a character that makes up more than 1 % of it (of its
/// length / 100 + 1 occurrences) starts no block, as in Python's default `autojunk`; it may still
/// extend one. Not symmetric: the order of arguments breaks ties. Two empty texts are equal.
///
/// # References
///
/// - Python 3 `difflib.SequenceMatcher(None, a, b).ratio()`, which GiGPO's code calls with the new
///   text first and the representative of a group second
///
/// ```
/// use zs_rl::advantage::sequence_ratio;
///
/// assert_eq!(sequence_ratio("tide", "diet"), 0.25);
/// assert_eq!(sequence_ratio("diet", "tide"), 0.5);
/// ```
#[must_use]
pub fn sequence_ratio(a: &str, b: &str) -> f64 {
    let a: Vec<char> = a.chars().collect();
    Matcher::new(b).ratio(&a)
}

/// The second text, indexed once for many comparisons.
#[derive(Debug)]
pub(super) struct Matcher {
    text: Vec<char>,
    /// Positions of each character that may start a block, ascending.
    places: HashMap<char, Vec<usize>>,
    /// Number of occurrences of each character.
    counts: HashMap<char, usize>,
}

impl Matcher {
    pub(super) fn new(text: &str) -> Self {
        let text: Vec<char> = text.chars().collect();
        let mut places: HashMap<char, Vec<usize>> = HashMap::new();
        for (at, &character) in text.iter().enumerate() {
            places.entry(character).or_default().push(at);
        }
        let counts = places.iter().map(|(&character, at)| (character, at.len())).collect();
        if text.len() >= AUTOJUNK_LENGTH {
            let frequent = text.len() / 100 + 1;
            places.retain(|_, at| at.len() <= frequent);
        }
        Self { text, places, counts }
    }

    /// Returns true if the ratio reaches a threshold; tests cheap upper bounds first.
    pub(super) fn reaches(&self, a: &[char], threshold: f64) -> bool {
        let total = a.len() + self.text.len();
        let by_length = ratio(a.len().min(self.text.len()), total);
        by_length >= threshold && self.bound(a) >= threshold && self.ratio(a) >= threshold
    }

    /// No ratio is above that of the characters that both have, in any order.
    fn bound(&self, a: &[char]) -> f64 {
        let mut left = self.counts.clone();
        let take = |character: &&char| match left.get_mut(*character) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        };
        ratio(a.iter().filter(take).count(), a.len() + self.text.len())
    }

    fn ratio(&self, a: &[char]) -> f64 {
        let mut matched = 0;
        let mut lengths = Lengths::new(self.text.len());
        let mut open = vec![(0, a.len(), 0, self.text.len())];
        while let Some((a_start, a_end, b_start, b_end)) = open.pop() {
            let (i, j, size) = self.longest(a, [a_start, a_end], [b_start, b_end], &mut lengths);
            if size > 0 {
                matched += size;
                open.push((a_start, i, b_start, j));
                open.push((i + size, a_end, j + size, b_end));
            }
        }
        ratio(matched, a.len() + self.text.len())
    }

    /// The longest block inside of two ranges: the first in `a`, then the first in the second text.
    fn longest(
        &self,
        a: &[char],
        [a_start, a_end]: [usize; 2],
        [b_start, b_end]: [usize; 2],
        lengths: &mut Lengths,
    ) -> (usize, usize, usize) {
        let (mut best_i, mut best_j, mut best) = (a_start, b_start, 0);
        lengths.clear();
        for (i, character) in a.iter().enumerate().take(a_end).skip(a_start) {
            let places = self.places.get(character).map_or(&[][..], Vec::as_slice);
            let first = places.partition_point(|&it| it < b_start);
            for &j in places[first..].iter().take_while(|&&it| it < b_end) {
                let length = lengths.before(j) + 1;
                lengths.set(j, length);
                if length > best {
                    (best_i, best_j, best) = (i + 1 - length, j + 1 - length, length);
                }
            }
            lengths.next_row();
        }
        // Characters that start no block may still extend one.
        while best_i > a_start && best_j > b_start && a[best_i - 1] == self.text[best_j - 1] {
            (best_i, best_j, best) = (best_i - 1, best_j - 1, best + 1);
        }
        while best_i + best < a_end
            && best_j + best < b_end
            && a[best_i + best] == self.text[best_j + best]
        {
            best += 1;
        }
        (best_i, best_j, best)
    }
}

/// Lengths of the blocks that end at each character of the second text, for this and the last row.
struct Lengths {
    last: Vec<usize>,
    last_set: Vec<usize>,
    this: Vec<usize>,
    this_set: Vec<usize>,
}

impl Lengths {
    fn new(len: usize) -> Self {
        let row = vec![0; len];
        Self { last: row.clone(), last_set: Vec::new(), this: row, this_set: Vec::new() }
    }

    fn before(&self, j: usize) -> usize {
        if j == 0 { 0 } else { self.last[j - 1] }
    }

    fn set(&mut self, j: usize, length: usize) {
        self.this[j] = length;
        self.this_set.push(j);
    }

    /// Makes this row the last; only what was set is reset, so a row costs its matches.
    fn next_row(&mut self) {
        for j in self.last_set.drain(..) {
            self.last[j] = 0;
        }
        std::mem::swap(&mut self.last, &mut self.this);
        std::mem::swap(&mut self.last_set, &mut self.this_set);
    }

    fn clear(&mut self) {
        self.next_row();
        self.next_row();
    }
}

fn ratio(matched: usize, total: usize) -> f64 {
    if total == 0 { 1.0 } else { 2.0 * matched as f64 / total as f64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(a: &str, b: &str, expected: f64) {
        let actual = sequence_ratio(a, b);
        assert!((actual - expected).abs() < 1e-12, "{a:?} {b:?}: {actual} is not {expected}");
    }

    /// Values of CPython 3.11's `SequenceMatcher(None, a, b).ratio()`.
    #[test]
    fn agrees_with_python() {
        check("", "", 1.0);
        check("a", "", 0.0);
        check("abcdefghij", "abcdefghiX", 0.9);
        check("abcdefghiX", "abcdefghXY", 0.9);
        check("abcdefghij", "abcdefghXY", 0.8);
        check("tide", "diet", 0.25);
        check("diet", "tide", 0.5);
        check("été à", "ete a", 0.4);
        check("private Thread currentThread;", "private volatile Thread currentThread;", PRIVATE);
    }

    const PRIVATE: f64 = 0.865_671_641_791_044_8;

    #[test]
    fn frequent_characters_of_long_texts_anchor_nothing() {
        let text = "ab".repeat(100);
        let changed = format!("X{}", &text[1..]);
        check(&changed, &text, 0.0);
        check(&changed[..198], &text[..198], 2.0 * 197.0 / 396.0);
        // They extend what a rare character has begun: X anchors, the rest follows.
        let with_anchor = format!("{text}X{text}");
        check(&with_anchor, &with_anchor, 1.0);
    }

    proptest! {
        #[test]
        fn ratios_are_shares_and_bounds_hold(a in "[abc ]{0,30}", b in "[abc ]{0,30}") {
            let ratio = sequence_ratio(&a, &b);
            prop_assert!((0.0..=1.0).contains(&ratio));
            prop_assert_eq!(sequence_ratio(&a, &a), 1.0);
            let characters: Vec<char> = a.chars().collect();
            let matcher = Matcher::new(&b);
            prop_assert!(matcher.bound(&characters) >= ratio);
            prop_assert!(matcher.reaches(&characters, ratio));
            prop_assert!(!matcher.reaches(&characters, ratio + 1e-9));
        }
    }
}
