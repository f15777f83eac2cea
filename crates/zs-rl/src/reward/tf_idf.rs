//! Similarity of two texts: cosine of their TF-IDF vectors.

use std::collections::{BTreeMap, BTreeSet};

use zs_core::normalize_answer;

/// Weights of words, learned from some texts.
///
/// ```text
/// idf(w)  = ln((1 + N) / (1 + df(w))) + 1
/// v_w     = tf(w) * idf(w)
/// cos(a, b) = a · b / (|a| |b|)
/// ```
///
/// - `N`: texts learned from; `df(w)`: how many of them hold the word `w`, 0 for unknown words
/// - `tf(w)`: how often the text holds it
///
/// Words are those of normalised answers. Maps are sorted, so that sums do not depend on hashing.
///
/// # References
///
/// - scikit-learn `TfidfVectorizer` with its defaults, which leaves unknown words out
#[derive(Clone, Debug)]
pub(crate) struct TfIdf {
    num_texts: usize,
    document_frequencies: BTreeMap<String, usize>,
}

/// Word weights of length 1, or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct WordVector(BTreeMap<String, f64>);

impl TfIdf {
    pub(crate) fn fit<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut num_texts, mut document_frequencies) = (0, BTreeMap::new());
        for text in texts {
            num_texts += 1;
            for word in words(text).into_iter().collect::<BTreeSet<_>>() {
                *document_frequencies.entry(word).or_default() += 1;
            }
        }
        Self { num_texts, document_frequencies }
    }

    pub(crate) fn vector(&self, text: &str) -> WordVector {
        let mut weights: BTreeMap<String, f64> = BTreeMap::new();
        for word in words(text) {
            *weights.entry(word).or_default() += 1.0;
        }
        for (word, weight) in &mut weights {
            let frequency = self.document_frequencies.get(word).copied().unwrap_or(0);
            *weight *= ((1 + self.num_texts) as f64 / (1 + frequency) as f64).ln() + 1.0;
        }
        let norm = weights.values().map(|it| it * it).sum::<f64>().sqrt();
        if norm > 0.0 {
            weights.values_mut().for_each(|it| *it /= norm);
        }
        WordVector(weights)
    }
}

impl WordVector {
    /// The cosine, in `[0, 1]`; 0 where a text has no words.
    pub(crate) fn cosine(&self, other: &Self) -> f64 {
        let dot: f64 = self.0.iter().filter_map(|(word, it)| Some(it * other.0.get(word)?)).sum();
        dot.min(1.0)
    }
}

fn words(text: &str) -> Vec<String> {
    normalize_answer(text).split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_words_weigh_more() {
        let tf_idf = TfIdf::fit(["x y", "x z"]);
        // idf: x ln(3/3) + 1 = 1; y and z ln(3/2) + 1; unknown ln(3) + 1.
        let y = 1.5_f64.ln() + 1.0;
        let check = |a: &str, b: &str, expected: f64| {
            let cosine = tf_idf.vector(a).cosine(&tf_idf.vector(b));
            assert!((cosine - expected).abs() < 1e-12, "{a} {b}: {cosine}");
        };
        check("x y", "X, Y!", 1.0);
        check("x y", "x z", 1.0 / (1.0 + y * y));
        check("x", "x y", 1.0 / (1.0 + y * y).sqrt());
        check("x", "y", 0.0);
        let unknown = 3.0_f64.ln() + 1.0;
        check("x", "x w", 1.0 / (1.0 + unknown * unknown).sqrt());
        check("", "x", 0.0);
        check("x x y", "x y", (2.0 + y * y) / ((4.0 + y * y) * (1.0 + y * y)).sqrt());
    }
}
