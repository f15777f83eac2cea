//! Speed of this machine at matrix products and memory reads, measured in the same run as the
//! results.

use std::hint::black_box;
use std::time::Instant;

use burn::tensor::{Device, Distribution, FloatDType, Tensor};
use zs_model::ComputeDtype;

/// Measured limits of a machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floor {
    /// Floating-point operations a second of a large matrix product.
    pub flops: f64,
    /// Bytes a second that all cores, or the accelerator, read together.
    pub bytes: f64,
}

/// Side of the square matrices, on a CPU and on an accelerator.
const SIDES: [usize; 2] = [1024, 8192];

/// Numbers that each core reads: more than caches hold.
const NUMBERS: usize = 1 << 25;

/// Numbers that an accelerator reads.
const NUMBERS_ON_DEVICE: usize = 1 << 29;

impl Floor {
    /// Takes the best of a few tries of each, about a second in all.
    ///
    /// On an accelerator these are the rates of burn's own product and sum, not what its data sheet says.
    #[must_use]
    pub fn measure(device: &Device, is_cpu: bool, products: ComputeDtype) -> Self {
        match is_cpu {
            true => Self { flops: products_on_cores(SIDES[0], products), bytes: reads() },
            false => Self {
                flops: matrix_products(device, SIDES[1], products),
                bytes: reads_on_device(device),
            },
        }
    }

    /// Seconds that some arithmetic and some reading take at least, overlapped.
    #[must_use]
    pub fn seconds(&self, flops: f64, bytes: f64) -> f64 {
        (flops / self.flops).max(bytes / self.bytes)
    }
}

fn best(tries: usize, mut work: impl FnMut()) -> f64 {
    let times = (0..tries).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

fn matrix_products(device: &Device, side: usize, products: ComputeDtype) -> f64 {
    let dtype = match products {
        ComputeDtype::Bf16 => FloatDType::BF16,
        ComputeDtype::F32 | ComputeDtype::Auto => FloatDType::F32,
    };
    let random = || Tensor::<2>::random([side, side], Distribution::Default, device).cast(dtype);
    let (a, b) = (random(), random());
    let seconds = best(5, || {
        let product = a.clone().matmul(b.clone());
        // Reading a number waits for the product.
        black_box(product.slice([0..1, 0..1]).into_scalar::<f32>());
    });
    2.0 * (side as f64).powi(3) / seconds
}

/// Products of matrices, one on each core at a time, in the number format of the network's.
fn products_on_cores(side: usize, products: ComputeDtype) -> f64 {
    use gemmkit::{GemmScalar, MatMut, MatRef, Parallelism};

    fn rate<T: GemmScalar + Copy + Send + Sync>(side: usize, zero: T, one: T) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        let (a, mut out) = (vec![one; side * side], vec![vec![zero; side * side]; cores]);
        let seconds = best(5, || {
            std::thread::scope(|scope| {
                for out in &mut out {
                    scope.spawn(|| {
                        let view = MatRef::from_row_major(&a, side, side);
                        let out = MatMut::from_row_major(out, side, side);
                        gemmkit::gemm(one, view, view, zero, out, Parallelism::Serial);
                    });
                }
            });
            black_box(&mut out);
        });
        2.0 * cores as f64 * (side as f64).powi(3) / seconds
    }
    match products {
        ComputeDtype::Bf16 => rate(side, gemmkit::bf16::ZERO, gemmkit::bf16::ONE),
        ComputeDtype::F32 | ComputeDtype::Auto => rate(side, 0.0_f32, 1.0),
    }
}

fn reads_on_device(device: &Device) -> f64 {
    let numbers = Tensor::<1>::ones([NUMBERS_ON_DEVICE], device);
    let seconds = best(5, || {
        black_box(numbers.clone().sum().into_scalar::<f32>());
    });
    (4 * NUMBERS_ON_DEVICE) as f64 / seconds
}

fn reads() -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let memory: Vec<Vec<f32>> = (0..cores).map(|core| vec![core as f32; NUMBERS]).collect();
    let seconds = best(4, || {
        std::thread::scope(|scope| {
            for part in &memory {
                scope.spawn(|| {
                    let mut sums = [0.0_f32; 32];
                    for numbers in part.as_chunks::<32>().0 {
                        sums.iter_mut().zip(numbers).for_each(|(sum, it)| *sum += it);
                    }
                    black_box(sums);
                });
            }
        });
    });
    (cores * NUMBERS * size_of::<f32>()) as f64 / seconds
}
