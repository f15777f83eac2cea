//! Whitening over the tokens that the policy wrote, and over no others.

/// Shifts and scales values so that those under the mask have mean 0 and variance 1.
///
/// ```text
/// x_it <- (x_it - mean) / sqrt(var + 1e-8)
/// ```
///
/// - `mean`, `var`: over all positions of all rows where the mask is true; `var` divides by `n - 1`
///
/// Positions under a false mask are shifted and scaled like the others but never counted. With fewer
/// than two positions, or where all are equal, values under the mask become exactly 0.
///
/// # Shapes
///
/// - rows, masks: `[batch][tokens]`, rows of any lengths
///
/// # Panics
///
/// When a mask's length differs from its row's.
///
/// # References
///
/// - verl 0.9.1 `masked_whiten`. ZeroSearch's code whitens over document tokens too
///   (`ray_trainer.py` 123-134).
///
/// ```
/// let mut rows = [vec![1.0, 100.0], vec![3.0]];
/// zs_rl::advantage::whiten(&mut rows, &[vec![true, false], vec![true]]);
/// let half = std::f32::consts::FRAC_1_SQRT_2;
/// assert!((rows[0][0] + half).abs() < 1e-6 && (rows[1][0] - half).abs() < 1e-6);
/// ```
pub fn whiten(rows: &mut [Vec<f32>], masks: &[Vec<bool>]) {
    assert_eq!(rows.len(), masks.len(), "one mask a row");
    let mut counted = Vec::new();
    for (row, mask) in rows.iter().zip(masks) {
        assert_eq!(row.len(), mask.len(), "one mask value a token");
        counted.extend(row.iter().zip(mask).filter(|(_, mask)| **mask).map(|(value, _)| *value));
    }
    let mean = super::mean(&counted);
    let variance = super::sample_std(&counted, mean).powi(2);
    let scale = 1.0 / (variance + 1e-8).sqrt();
    for value in rows.iter_mut().flatten() {
        *value = ((f64::from(*value) - mean) * scale) as f32;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn by_hand() {
        // Under the mask 1, 2, 3: mean 2, variance 1.
        let mut rows = [vec![1.0, 9.0, 2.0], vec![3.0]];
        whiten(&mut rows, &[vec![true, false, true], vec![true]]);
        for (a, e) in rows.concat().iter().zip([-1.0, 7.0, 0.0, 1.0]) {
            assert!((a - e).abs() < 1e-6, "{rows:?}");
        }
        let mut single = [vec![5.0, 1.0]];
        whiten(&mut single, &[vec![true, false]]);
        assert_eq!(single[0][0], 0.0);
        let mut nothing = [vec![5.0], vec![]];
        whiten(&mut nothing, &[vec![false], vec![]]);
        assert!(nothing[0][0].is_finite());
    }

    proptest! {
        #[test]
        fn moments_are_zero_and_one(
            values in proptest::collection::vec((-50.0_f32..50.0, any::<bool>()), 3..40)
        ) {
            let masks = [values.iter().map(|it| it.1).collect::<Vec<_>>()];
            let mut rows = [values.iter().map(|it| it.0).collect::<Vec<_>>()];
            whiten(&mut rows, &masks);
            let kept: Vec<f64> = rows[0]
                .iter()
                .zip(&masks[0])
                .filter(|(_, mask)| **mask)
                .map(|(it, _)| f64::from(*it))
                .collect();
            let n = kept.len() as f64;
            if n >= 2.0 {
                prop_assert!((kept.iter().sum::<f64>() / n).abs() < 1e-4);
                let variance = kept.iter().map(|it| it * it).sum::<f64>() / (n - 1.0);
                prop_assert!((variance - 1.0).abs() < 1e-3 || variance < 1e-3);
            }
        }
    }
}
