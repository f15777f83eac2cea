//! A sum over the units of a cube.

use cubecl::prelude::*;

/// The sum of a number that each unit has, for all of them; `units` is a power of two.
///
/// Every unit has to call it, and none twice without a barrier in between.
#[cube]
pub(super) fn cube_sum(number: f32, #[comptime] units: usize) -> f32 {
    let unit = UNIT_POS_X as usize;
    let mut sums = Shared::<[f32]>::new_slice(units);
    sums[unit] = number;
    sync_cube();
    let mut half = comptime!(units / 2).runtime();
    while half > 0 {
        if unit < half {
            sums[unit] = sums[unit] + sums[unit + half];
        }
        half /= 2;
        sync_cube();
    }
    sums[0]
}
