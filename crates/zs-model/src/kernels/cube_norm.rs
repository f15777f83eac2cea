//! Shared parts of normalisation kernels.

use cubecl::prelude::*;

/// Grid with one cube per row; a dimension of the grid is limited to 2^16.
pub(super) fn one_cube_per_row(rows: usize) -> CubeCount {
    let rows_a_line = rows.min(1 << 15);
    CubeCount::Static(rows_a_line as u32, rows.div_ceil(rows_a_line) as u32, 1)
}

/// Scale of RMS norm, given each unit's sum of squares; the result is the same for all units of the
/// cube. `units` must be a power of two.
///
/// Every unit must call it, and two calls need a barrier in between.
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
