//! Comparison of two states of the same weights.

use crate::CausalLm;
use crate::digest::trained_parameters;

/// Difference between recorded weights and the same weights computed again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeightDifference {
    /// The first value that differs in a bit, in the order of the tensors' names.
    pub first: Option<DifferentValue>,
    /// Values that differ in a bit.
    pub num_different: usize,
    /// Largest absolute difference of a value.
    pub max_abs: f64,
    /// L2 norm of the difference, over that of the change by which the recorded weights came about.
    pub relative_to_update: f64,
}

/// A weight that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct DifferentValue {
    /// Tensor, by its path in the network.
    pub tensor: String,
    /// Index of the value in the tensor as it is in a checkpoint, row by row.
    pub index: usize,
    /// Recorded value.
    pub recorded: f32,
    /// Value that was computed again.
    pub now: f32,
}

/// Compares the weights that training changes: as recorded `before` a step and after it, with those
/// computed again.
///
/// # Panics
///
/// Panics if the networks have different shapes.
#[must_use]
pub fn compare_weights(before: &CausalLm, recorded: &CausalLm, now: &CausalLm) -> WeightDifference {
    let [before, recorded, now] = [before, recorded, now].map(trained_parameters);
    let mut difference = WeightDifference::default();
    let (mut squares, mut update_squares) = (0.0, 0.0);
    for ((before, recorded), now) in before.iter().zip(&recorded).zip(&now) {
        let tensor = &recorded.entry;
        assert_eq!(tensor, &now.entry, "networks of different shapes are compared");
        let values = [before, recorded, now].map(|it| it.to_vec());
        for (index, &recorded) in values[1].iter().enumerate() {
            let (before, now) = (values[0][index], values[2][index]);
            update_squares += (f64::from(recorded) - f64::from(before)).powi(2);
            if recorded.to_bits() == now.to_bits() {
                continue;
            }
            let by = f64::from(now) - f64::from(recorded);
            squares += by * by;
            difference.num_different += 1;
            difference.max_abs = difference.max_abs.max(by.abs());
            difference.first.get_or_insert_with(|| {
                let tensor = tensor.name.clone();
                DifferentValue { tensor, index, recorded, now }
            });
        }
    }
    if squares > 0.0 {
        difference.relative_to_update = (squares / update_squares).sqrt();
    }
    difference
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::LanguageModel;
    use crate::checkpoint::fill;
    use crate::testing::{byte_tokenizer, tiny_config};

    /// The network with a number added to one value of its final norm.
    fn moved(network: &CausalLm, by: f32) -> CausalLm {
        let width = tiny_config().hidden_size;
        let filled = fill(network.clone(), |entry| {
            let mut values = vec![1.0; width];
            values[3] += by;
            Ok::<_, ()>((entry.name == "model.norm.weight").then_some(values))
        });
        filled.unwrap()
    }

    #[test]
    fn the_first_value_that_differs_is_named() {
        let model =
            LanguageModel::initialize(tiny_config(), byte_tokenizer(), 1, &Device::default());
        let before = moved(model.network(), 0.0);
        let recorded = moved(&before, 0.5);
        let same = compare_weights(&before, &recorded, &recorded.clone());
        assert_eq!(same, WeightDifference::default());
        let found = compare_weights(&before, &recorded, &moved(&before, 0.625));
        assert_eq!((found.num_different, found.max_abs), (1, 0.125));
        assert_eq!(found.relative_to_update, 0.25);
        let first = found.first.unwrap();
        assert_eq!((first.tensor.as_str(), first.index), ("model.norm.weight", 3));
        assert_eq!((first.recorded, first.now), (1.5, 1.625));
    }
}
