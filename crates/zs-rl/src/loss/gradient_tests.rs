//! Every loss against finite differences of itself.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use proptest::prelude::*;

use super::*;
use crate::testing::reference::{numbers, tensor};

const OLD: [[f32; 4]; 2] = [[-1.2, -0.4, -2.1, -0.9], [-0.3, -1.7, -0.8, -1.1]];
const NEW: [[f32; 4]; 2] = [[-1.0, -0.7, -1.6, -1.35], [-0.45, -1.2, -1.15, -0.7]];
const ADVANTAGES: [[f32; 4]; 2] = [[0.7, -1.1, 0.4, -0.6], [-0.9, 1.3, 0.8, -0.2]];
const MASK: [[f32; 4]; 2] = [[1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 1.0]];

/// A step that balances rounding against curvature in 32 bits.
const STEP: f32 = 0.01;

fn rows(values: [[f32; 4]; 2], device: &Device) -> Tensor<2> {
    tensor(&values.map(|it| it.to_vec()), device)
}

/// Asserts that the gradient of a loss is its central difference, and zero where the mask is false.
#[track_caller]
fn check(name: &str, loss: impl Fn(Tensor<2>, &Tensor<2, Bool>) -> Tensor<2>) {
    let device = Device::flex().autodiff();
    let mask = rows(MASK, &device).greater_elem(0.5);
    let leaf = rows(NEW, &device).require_grad();
    let grads = loss(leaf.clone(), &mask).sum().backward();
    let gradient = numbers(leaf.grad(&grads).unwrap());
    let value = |values| numbers(loss(rows(values, &device), &mask).sum())[0];
    let mut is_flat = true;
    for (row, column) in (0..2).flat_map(|row| (0..4).map(move |column| (row, column))) {
        let moved = |by: f32| {
            let mut values = NEW;
            values[row][column] += by;
            value(values)
        };
        let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
        let actual = gradient[row * 4 + column];
        assert!(
            (actual - difference).abs() < 2e-3,
            "{name} at {row}, {column}: {actual} {difference}"
        );
        if MASK[row][column] < 0.5 {
            assert_eq!(actual, 0.0, "{name} at {row}, {column} is masked");
        }
        is_flat &= actual == 0.0;
    }
    assert!(!is_flat, "{name}: a gradient that says nothing");
}

fn old(like: &Tensor<2>) -> Tensor<2> {
    rows(OLD, &like.device())
}

fn advantages(like: &Tensor<2>) -> Tensor<2> {
    rows(ADVANTAGES, &like.device())
}

#[test]
fn surrogates() {
    for (name, dual) in [("clipped surrogate", None), ("with a dual clip", Some(1.05))] {
        let clip = ClipOptions { low: 0.3, high: 0.3, dual };
        check(name, |it, mask| {
            let (old, advantages) = (old(&it), advantages(&it));
            clipped_surrogate(it, old, advantages, mask, clip).loss
        });
    }
}

#[test]
fn squared_regrets_and_values() {
    check("squared regret", |it, mask| {
        let (old, advantages) = (old(&it), advantages(&it));
        squared_regret(it, old, advantages, mask, 0.5)
    });
    check("value loss", |it, mask| {
        let (old, returns) = (old(&it), advantages(&it));
        clipped_value_loss(it, old, returns, mask, 0.42).loss
    });
    check("entropy bonus", |it, mask| entropy_bonus(it.square(), mask));
}

#[test]
fn divergences() {
    for estimator in
        [KlEstimator::K1, KlEstimator::Abs, KlEstimator::K2, KlEstimator::K3, KlEstimator::LowVarKl]
    {
        check(&format!("{estimator:?}"), |it, mask| {
            let reference = old(&it);
            kl_divergence(it, reference, mask, estimator)
        });
    }
}

#[test]
fn displacement() {
    check("likelihood displacement", |it, mask| {
        let ids = TensorData::new(vec![1_i32, 1, 0, 2, 3, 0, 4, 4], [2, 4]);
        let ids = Tensor::<2, Int>::from_data(ids, &it.device());
        let (old, advantages) = (old(&it), advantages(&it));
        likelihood_displacement(it, old, advantages.abs(), mask, ids, 4)
    });
}

/// Losses whose weights are constants are compared with the difference of the loss in which they
/// stay what they are.
#[test]
fn losses_with_constants() {
    let constant = NEW;
    check("clipped importance", |it, mask| {
        let fixed = rows(constant, &it.device());
        let (old, advantages) = (old(&it), advantages(&it));
        let clip = ClipOptions { low: 0.3, high: 0.3, dual: None };
        let is_leaf = it.is_require_grad();
        let actual =
            clipped_importance(it.clone(), old.clone(), advantages.clone(), mask, clip).loss;
        if is_leaf {
            return actual;
        }
        let weight = (fixed - old).exp().clamp(0.7, 1.3);
        (-weight * advantages * it).mask_fill(mask.clone().bool_not(), 0.0)
    });
    check("straight-through k3", |it, mask| {
        let reference = old(&it);
        // The gradient is that of k2.
        let is_leaf = it.is_require_grad();
        let estimator = if is_leaf { KlEstimator::K3Plus } else { KlEstimator::K2 };
        kl_divergence(it, reference, mask, estimator)
    });
    check("sequence surrogate", |it, mask| {
        let (old, advantages) = (old(&it), advantages(&it).abs());
        let is_leaf = it.is_require_grad();
        let clip = ClipOptions { low: 0.9, high: 9.0, dual: None };
        if is_leaf {
            return sequence_clipped_surrogate(it, old, advantages, mask, clip).loss;
        }
        // s_it = sg(s_i) exp(log p_it - sg(log p_it)), with the constants of the point itself.
        let fixed = rows(constant, &it.device());
        let float = mask.clone().float();
        let mean = ((fixed.clone() - old) * float.clone()).sum_dim(1) / float.clone().sum_dim(1);
        -(mean.exp() * (it - fixed).exp() * advantages * float)
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Whatever stands at masked positions, and however far apart the models are elsewhere.
    #[test]
    fn masked_positions_cost_nothing(
        values in proptest::collection::vec((-90.0_f32..0.0, -90.0_f32..0.0, any::<bool>()), 1..9),
        poison in prop_oneof![Just(0.0_f32), Just(f32::INFINITY), Just(f32::NAN)],
    ) {
        let device = Device::flex().autodiff();
        let width = values.len();
        let row = |pick: &dyn Fn(&(f32, f32, bool)) -> f32| {
            tensor(&[values.iter().map(pick).collect()], &device)
        };
        let mask = row(&|it| f32::from(u8::from(it.2))).greater_elem(0.5);
        let old = row(&|it| if it.2 { it.1 } else { poison });
        let advantages = row(&|it| if it.2 { it.1 + 45.0 } else { poison });
        let clip = ClipOptions::default();
        let ids: Vec<i32> = values.iter().map(|it| i32::from(it.2)).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, width]), &device);
        let losses: [(&str, &dyn Fn(Tensor<2>) -> Tensor<2>); 5] = [
            ("sequence surrogate", &|it| {
                sequence_clipped_surrogate(it, old.clone(), advantages.clone(), &mask, clip).loss
            }),
            ("clipped importance", &|it| {
                clipped_importance(it, old.clone(), advantages.clone(), &mask, clip).loss
            }),
            ("squared regret", &|it| {
                squared_regret(it, old.clone(), advantages.clone(), &mask, 0.1)
            }),
            ("value loss", &|it| {
                clipped_value_loss(it, old.clone(), advantages.clone(), &mask, 0.5).loss
            }),
            ("likelihood displacement", &|it| {
                likelihood_displacement(it, old.clone(), advantages.clone(), &mask, ids.clone(), 1)
            }),
        ];
        for (name, loss) in losses {
            let leaf = row(&|it| it.0).require_grad();
            let loss = loss(leaf.clone());
            let grads = loss.clone().sum().backward();
            let gradient = leaf.grad(&grads).map_or_else(|| vec![0.0; width], numbers);
            prop_assert!(numbers(loss.clone()).iter().all(|it| it.is_finite()), "{}", name);
            for (index, (gradient, value)) in gradient.iter().zip(&values).enumerate() {
                prop_assert!(gradient.is_finite(), "{}", name);
                prop_assert!(value.2 || *gradient == 0.0, "{} at {}", name, index);
            }
            if loss.dims() == [1, width] {
                for (loss, value) in numbers(loss).iter().zip(&values) {
                    prop_assert!(value.2 || *loss == 0.0, "{}", name);
                }
            }
        }
    }
}
