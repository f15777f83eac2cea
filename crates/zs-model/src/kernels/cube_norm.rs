//! What kernels that normalise have in common.

use cubecl::prelude::*;

/// Cubes for so many rows, one each: a dimension of the grid holds no more than 2^16.
pub(super) fn one_cube_per_row(rows: usize) -> CubeCount {
    let rows_a_line = rows.min(1 << 15);
    CubeCount::Static(rows_a_line as u32, rows.div_ceil(rows_a_line) as u32, 1)
}

/// What RMS norm multiplies by, given the sum of squares of each unit's numbers, for all units of the
/// cube; `units` is a power of two.
///
/// Every unit has to call it, and none twice without a barrier in between.
#[cube]
pub(super) fn norm_scale(squares: f32, width: u32, eps: f32, #[comptime] units: usize) -> f32 {
    let unit = UNIT_POS_X as usize;
    let mut sums = Shared::<[f32]>::new_slice(units);
    sums[unit] = squares;
    sync_cube();
    let mut half = comptime!(units / 2).runtime();
    while half > 0 {
        if unit < half {
            sums[unit] = sums[unit] + sums[unit + half];
        }
        half /= 2;
        sync_cube();
    }
    f32::new(1.0) / (sums[0] / f32::cast_from(width) + eps).sqrt()
}
