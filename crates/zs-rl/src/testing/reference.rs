//! Numbers computed by verl 0.9.1, where a checkout has them.

use std::path::Path;

use burn::tensor::{Bool, Device, Tensor, TensorData};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The reference file.
pub(crate) struct Reference(Value);

/// The reference, or `None` with a printed reason.
pub(crate) fn load() -> Option<Reference> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/rl_reference.json");
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(Reference(serde_json::from_str(&text).unwrap())),
        Err(error) => {
            eprintln!("skipped: {}: {error}", path.display());
            None
        }
    }
}

impl Reference {
    /// The value at a path such as `inputs/reward`.
    pub(crate) fn value<T: DeserializeOwned>(&self, path: &str) -> T {
        let value = path.split('/').fold(&self.0, |value, key| &value[key]);
        serde_json::from_value(value.clone()).unwrap_or_else(|it| panic!("{path}: {it}"))
    }

    pub(crate) fn vector(&self, path: &str) -> Vec<f32> {
        self.value(path)
    }

    pub(crate) fn matrix(&self, path: &str) -> Vec<Vec<f32>> {
        self.value(path)
    }

    pub(crate) fn tensor(&self, path: &str, device: &Device) -> Tensor<2> {
        tensor(&self.matrix(path), device)
    }

    /// `inputs/response_mask`.
    pub(crate) fn mask(&self, device: &Device) -> Tensor<2, Bool> {
        self.tensor("inputs/response_mask", device).greater_elem(0.5)
    }
}

/// A tensor of rows of equal length.
pub(crate) fn tensor(rows: &[Vec<f32>], device: &Device) -> Tensor<2> {
    let shape = [rows.len(), rows[0].len()];
    Tensor::from_data(TensorData::new(rows.concat(), shape), device)
}

/// A tensor's numbers.
pub(crate) fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Asserts that a tensor holds these numbers within 1e-5.
#[track_caller]
pub(crate) fn assert_close<const D: usize>(tensor: Tensor<D>, expected: &[f32], what: &str) {
    let actual = numbers(tensor);
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (index, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() < 1e-5, "{what}: {a} is not {e} at {index}");
    }
}

impl Reference {
    /// The mask as the host has it.
    pub(crate) fn masks(&self) -> Vec<Vec<bool>> {
        let rows = self.matrix("inputs/response_mask");
        rows.into_iter().map(|row| row.into_iter().map(|it| it > 0.5).collect()).collect()
    }

    /// Scalars of each group's rewards, in the order of the batch; groups need not be contiguous.
    pub(crate) fn per_group(&self, advantages: impl Fn(&[f32]) -> Vec<f32>) -> Vec<f32> {
        let rewards = self.vector("inputs/reward");
        let groups: Vec<String> = self.value("inputs/group");
        let mut members: std::collections::BTreeMap<&str, Vec<usize>> = Default::default();
        for (index, group) in groups.iter().enumerate() {
            members.entry(group).or_default().push(index);
        }
        let mut scalars = vec![0.0; rewards.len()];
        for members in members.values() {
            let of_group: Vec<f32> = members.iter().map(|&it| rewards[it]).collect();
            for (&index, advantage) in members.iter().zip(advantages(&of_group)) {
                scalars[index] = advantage;
            }
        }
        scalars
    }

    /// Checks a policy loss and its gradient.
    #[track_caller]
    pub(crate) fn check_policy_loss(&self, name: &str, loss: Tensor<1>, gradient: Tensor<2>) {
        let path = format!("policy_loss/{name}");
        assert_close(loss, &[self.value(&format!("{path}/loss"))], name);
        let expected = self.matrix(&format!("{path}/grad_log_probs")).concat();
        assert_close(gradient, &expected, name);
    }

    /// Checks an estimator that gives every token of an episode the same advantage.
    #[track_caller]
    pub(crate) fn check_group_advantages(
        &self,
        name: &str,
        advantages: impl Fn(&[f32]) -> Vec<f32>,
    ) {
        let masks = self.masks();
        let rows: Vec<Vec<f32>> = self
            .per_group(advantages)
            .iter()
            .zip(&masks)
            .map(|(&it, mask)| mask.iter().map(|&m| if m { it } else { 0.0 }).collect())
            .collect();
        assert_rows(&rows, &self.matrix(&format!("advantages/{name}")), name);
    }
}

/// Asserts that rows hold these numbers within 1e-5.
#[track_caller]
pub(crate) fn assert_rows(actual: &[Vec<f32>], expected: &[Vec<f32>], what: &str) {
    let (actual, expected) = (actual.concat(), expected.concat());
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (index, (a, e)) in actual.iter().zip(&expected).enumerate() {
        assert!((a - e).abs() < 1e-5, "{what}: {a} is not {e} at {index}");
    }
}
