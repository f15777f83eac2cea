//! The canary of a device: a small computation whose result is known, before anything depends on it.

use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::ComputeDtype;
use crate::kernels::{matmul_dtype, product, rms_norm, rounded_to};

/// Rows of the products: one token is decoded, and many are scored.
const ROWS: [usize; 2] = [1, 64];
const DEPTH: usize = 96;
const WIDTH: usize = 128;
const EPS: f64 = 1e-6;

/// Failure of a canary: the device computes something else than it should.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "the canary of the device fails: {problem}; no number of this device can be trusted: set \
     CUBECL_AUTOTUNE_LEVEL=0, empty the folder of kernels (--kernel-cache), or choose another device"
)]
pub struct CanaryFailed {
    problem: String,
}

/// Computes products and norms of a few small numbers on a device, through the kernels that models are
/// computed with, and compares them with results that are known.
///
/// Kernels that are tuned while they are used may fail without a word, and leave what was in memory
/// before in place of a result ([burn issue 5352](https://github.com/tracel-ai/burn/issues/5352)).
///
/// # Errors
///
/// Fails at the first number that is another, and where a kernel panics.
///
/// ```
/// zs_model::canary(&burn::tensor::Device::flex())?;
/// # Ok::<(), zs_model::CanaryFailed>(())
/// ```
pub fn canary(device: &Device) -> Result<(), CanaryFailed> {
    compare(|rows, dtype| compute(rows, dtype, device))
}

/// Products, and the norms of their rows.
struct Computed {
    product: Vec<f32>,
    norm: Vec<f32>,
}

/// Compares what `compute` returns for every number of rows and dtype with what is known.
fn compare(compute: impl Fn(usize, ComputeDtype) -> Computed) -> Result<(), CanaryFailed> {
    for (rows, dtype) in ROWS
        .into_iter()
        .flat_map(|it| [ComputeDtype::F32, ComputeDtype::Bf16].map(|dtype| (it, dtype)))
    {
        let expected = expected(rows);
        let found = zs_core::caught(|| compute(rows, dtype));
        let place = || format!("of {rows} rows in {}", name(dtype));
        let found = found.map_err(|panic| CanaryFailed {
            problem: format!("the product {} {panic}", place()),
        })?;
        // Sums of small whole numbers are exact in every dtype and order.
        let parts = [
            ("product", &found.product, &expected.product, 0.0),
            ("norm", &found.norm, &expected.norm, 1e-3),
        ];
        for (what, found, expected, tolerance) in parts {
            if found.len() != expected.len() {
                let problem = format!("the {what} {} has {} numbers", place(), found.len());
                return Err(CanaryFailed { problem });
            }
            let differs = |(found, expected): (&f32, &f32)| {
                found.is_nan() || (found - expected).abs() > tolerance
            };
            if let Some(at) = found.iter().zip(expected).position(differs) {
                let (found, expected) = (found[at], expected[at]);
                let place = place();
                let (row, column) = (at / WIDTH, at % WIDTH);
                return Err(CanaryFailed {
                    problem: format!(
                        "the {what} {place} is {found} in place of {expected} in row {row}, column \
                         {column}"
                    ),
                });
            }
        }
    }
    Ok(())
}

fn name(dtype: ComputeDtype) -> &'static str {
    if dtype == ComputeDtype::Bf16 { "bf16" } else { "f32" }
}

/// Whole number between -2 and 2.
fn number(row: usize, column: usize) -> f32 {
    ((row * 31 + column * 17 + row * column) % 5) as f32 - 2.0
}

fn numbers(rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|it| number(it / columns, it % columns)).collect()
}

fn compute(rows: usize, dtype: ComputeDtype, device: &Device) -> Computed {
    let tensor = |rows, columns| {
        Tensor::<2>::from_data(TensorData::new(numbers(rows, columns), [rows, columns]), device)
    };
    let rounded = |it: Tensor<2>| match dtype {
        ComputeDtype::Bf16 => rounded_to(it, matmul_dtype(device)),
        _ => it,
    };
    let (x, weight) = (rounded(tensor(rows, DEPTH)), rounded(tensor(DEPTH, WIDTH)));
    let product = product(x, weight, false, dtype);
    // Backends with fusion merge this with the product, which is where a failure is swallowed.
    let sum = product.clone() * 0.5 + 1.0;
    let norm = rms_norm(sum, Tensor::ones([WIDTH], device), EPS);
    let values =
        |it: Tensor<2>| it.cast(DType::F32).into_data().try_to_vec::<f32>().unwrap_or_default();
    Computed { product: values(product), norm: values(norm) }
}

fn expected(rows: usize) -> Computed {
    let sum = |row, column| (0..DEPTH).map(|it| number(row, it) * number(it, column)).sum::<f32>();
    let product: Vec<f32> = (0..rows * WIDTH).map(|it| sum(it / WIDTH, it % WIDTH)).collect();
    let norm = product.chunks(WIDTH).flat_map(|row| {
        let row: Vec<f64> = row.iter().map(|it| f64::from(*it) * 0.5 + 1.0).collect();
        let mean = row.iter().map(|it| it * it).sum::<f64>() / row.len() as f64;
        row.into_iter().map(move |it| (it / (mean + EPS).sqrt()) as f32)
    });
    Computed { norm: norm.collect(), product }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(damage: impl Fn(&mut Computed, ComputeDtype), expected: &str) {
        let device = Device::default();
        let found = compare(|rows, dtype| {
            let mut computed = compute(rows, dtype, &device);
            if rows == 64 {
                damage(&mut computed, dtype);
            }
            computed
        });
        let message = found.map_or_else(|it| it.to_string(), |()| "well".to_owned());
        assert!(message.contains(expected), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }

    #[test]
    fn a_device_that_computes_is_well() {
        check(|_, _| {}, "well");
    }

    #[test]
    fn wrong_numbers_and_panics_are_named() {
        check(|it, _| it.product[130] += 1.0, "the product of 64 rows in f32 is");
        check(|it, _| it.product[130] += 1.0, "in row 1, column 2");
        check(|it, _| it.norm[0] = f32::NAN, "the norm of 64 rows in f32 is NaN in place of");
        // What a kernel leaves that has not run.
        check(
            |it, dtype| {
                if dtype == ComputeDtype::Bf16 {
                    it.product.fill(0.0);
                }
            },
            "in bf16 is 0 in",
        );
        check(|it, _| it.norm.clear(), "has 0 numbers");
        check(
            |_, _| panic!("Should run when selected by autotune."),
            "the product of 64 rows in f32 panicked: Should run when selected by autotune.",
        );
    }
}
