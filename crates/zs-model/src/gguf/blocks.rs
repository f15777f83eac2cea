//! Decoding of GGML's tensor types to f32, block by block.
//!
//! Every value is computed as the reference (`ggml-quants.c`, and `gguf/quants.py`, which
//! transformers uses) computes it, in f32 and in the same order, so results are bit-exact.

use gguf_rs_lib::format::GGUFTensorType;
use half::{bf16, f16};

/// Types that can be decoded.
pub(super) const SUPPORTED: [GGUFTensorType; 9] = [
    GGUFTensorType::F32,
    GGUFTensorType::F16,
    GGUFTensorType::BF16,
    GGUFTensorType::Q8_0,
    GGUFTensorType::Q4_0,
    GGUFTensorType::Q4_1,
    GGUFTensorType::Q4_K,
    GGUFTensorType::Q5_K,
    GGUFTensorType::Q6_K,
];

/// Values of whole blocks of a type of [`SUPPORTED`].
pub(super) fn dequantize(kind: GGUFTensorType, bytes: &[u8]) -> Vec<f32> {
    match kind {
        GGUFTensorType::F32 => each(bytes, |it| [f32::from_le_bytes(*it)]),
        GGUFTensorType::F16 => each(bytes, |it| [f16::from_le_bytes(*it).to_f32()]),
        GGUFTensorType::BF16 => each(bytes, |it| [bf16::from_le_bytes(*it).to_f32()]),
        GGUFTensorType::Q8_0 => each(bytes, q8_0),
        GGUFTensorType::Q4_0 => each(bytes, q4_0),
        GGUFTensorType::Q4_1 => each(bytes, q4_1),
        GGUFTensorType::Q4_K => each(bytes, q4_k),
        GGUFTensorType::Q5_K => each(bytes, q5_k),
        GGUFTensorType::Q6_K => each(bytes, q6_k),
        _ => unreachable!("the types of a file are checked when it is opened"),
    }
}

/// Decodes blocks of `B` bytes to `N` values each.
fn each<const B: usize, const N: usize>(
    bytes: &[u8],
    decode: impl Fn(&[u8; B]) -> [f32; N],
) -> Vec<f32> {
    let blocks = bytes.as_chunks::<B>().0;
    let mut values = vec![0.0; blocks.len() * N];
    for (out, block) in values.as_chunks_mut::<N>().0.iter_mut().zip(blocks) {
        *out = decode(block);
    }
    values
}

/// f16 at a byte of a block.
fn scale(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// ```text
/// y_i = d q_i            q_i in -128 .. 127, layout: d (f16), q (32 bytes)
/// ```
fn q8_0(block: &[u8; 34]) -> [f32; 32] {
    let d = scale(block, 0);
    std::array::from_fn(|at| f32::from(block[2 + at].cast_signed()) * d)
}

/// Value of 4 bits: byte `at` of 16 holds value `at` in its lower half and `at + 16` in its upper.
fn nibble(bytes: &[u8], at: usize) -> u8 {
    if at < 16 { bytes[at] & 15 } else { bytes[at - 16] >> 4 }
}

/// ```text
/// y_i = d (q_i - 8)      q_i in 0 .. 15, layout: d (f16), q (16 bytes)
/// ```
fn q4_0(block: &[u8; 18]) -> [f32; 32] {
    let d = scale(block, 0);
    std::array::from_fn(|at| d * (f32::from(nibble(&block[2..], at)) - 8.0))
}

/// ```text
/// y_i = d q_i + m        q_i in 0 .. 15, layout: d (f16), m (f16), q (16 bytes)
/// ```
fn q4_1(block: &[u8; 20]) -> [f32; 32] {
    let (d, m) = (scale(block, 0), scale(block, 2));
    std::array::from_fn(|at| d * f32::from(nibble(&block[4..], at)) + m)
}

/// Scale and minimum of each group of 32 values, of 6 bits each in 12 bytes.
///
/// Groups 0 to 3 have their scale in the lower 6 bits of bytes 0 to 3 and their minimum in those of
/// bytes 4 to 7. Groups 4 to 7 have the lower 4 bits of both in bytes 8 to 11 (scale below, minimum
/// above), and the upper 2 bits in the upper 2 of bytes 0 to 3 and 4 to 7.
fn scales_and_minima(bytes: &[u8]) -> [(u8, u8); 8] {
    std::array::from_fn(|group| match group {
        0..4 => (bytes[group] & 63, bytes[group + 4] & 63),
        _ => {
            let low = bytes[group + 4];
            let (scale, minimum) = (bytes[group - 4], bytes[group]);
            (low & 15 | scale >> 6 << 4, low >> 4 | minimum >> 6 << 4)
        }
    })
}

/// ```text
/// y_i = (d s_g) q_i - (e m_g)    g = i / 32, q_i in 0 .. 15
/// layout: d (f16), e (f16), s and m (12 bytes), q (128 bytes)
/// ```
fn q4_k(block: &[u8; 144]) -> [f32; 256] {
    super_block(block, |group, at| four_bits(&block[16..], group, at))
}

/// As [`q4_k`] with `q_i` in 0 .. 31; its upper bit is bit `g` of byte `i % 32`.
///
/// ```text
/// layout: d (f16), e (f16), s and m (12 bytes), upper bits (32 bytes), lower bits (128 bytes)
/// ```
fn q5_k(block: &[u8; 176]) -> [f32; 256] {
    super_block(block, |group, at| {
        four_bits(&block[48..], group, at) | ((block[16 + at] >> group & 1) << 4)
    })
}

/// Value `at` of a group of 32: even groups have the lower halves of 32 bytes, odd ones the upper.
fn four_bits(bytes: &[u8], group: usize, at: usize) -> u8 {
    let byte = bytes[group / 2 * 32 + at];
    if group.is_multiple_of(2) { byte & 15 } else { byte >> 4 }
}

/// Eight groups of 32 values with a scale and a minimum each.
fn super_block(block: &[u8], quant: impl Fn(usize, usize) -> u8) -> [f32; 256] {
    let (d, e) = (scale(block, 0), scale(block, 2));
    let groups =
        scales_and_minima(&block[4..16]).map(|(s, m)| (d * f32::from(s), e * f32::from(m)));
    std::array::from_fn(|at| {
        let (scale, minimum) = groups[at / 32];
        scale * f32::from(quant(at / 32, at % 32)) - minimum
    })
}

/// ```text
/// y_i = (d s_g) (q_i - 32)   g = i / 16, s_g in -128 .. 127, q_i in 0 .. 63
/// layout: lower 4 bits (128 bytes), upper 2 bits (64 bytes), s (16 bytes), d (f16)
/// ```
///
/// Each half of 128 values has 64 bytes of lower bits (values 0 to 63 in the lower halves of the
/// bytes, 64 to 127 in the upper) and 32 bytes of upper bits (value `i` in bits `2 (i / 32)` of
/// byte `i % 32`).
fn q6_k(block: &[u8; 210]) -> [f32; 256] {
    let d = scale(block, 208);
    std::array::from_fn(|at| {
        let (half, within) = (at / 128, at % 128);
        let low = block[half * 64 + within % 64];
        let low = if within < 64 { low & 15 } else { low >> 4 };
        let high = block[128 + half * 32 + within % 32] >> (within / 32 * 2) & 3;
        let scale = d * f32::from(block[192 + at / 16].cast_signed());
        scale * (f32::from(low | high << 4) - 32.0)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Checks two blocks of bytes `37 i + 11` with these scales, the second block's twice as large,
    /// against `gguf/quants.py` (gguf 0.19, numpy): some values, and FNV-1a of the bits of all.
    #[track_caller]
    fn check(
        kind: GGUFTensorType,
        scales: &[(usize, f32)],
        expected: &[(usize, f32)],
        checksum: u64,
    ) {
        let length = kind.block_size_bytes().unwrap();
        let mut bytes: Vec<u8> = (0..2 * length).map(|it| (it * 37 + 11) as u8).collect();
        for block in 0..2 {
            for (at, value) in scales {
                let value = f16::from_f32(value * (block + 1) as f32);
                bytes[block * length + at..][..2].copy_from_slice(&value.to_le_bytes());
            }
        }
        let values = dequantize(kind, &bytes);
        assert_eq!(values.len(), 2 * kind.block_size());
        for (at, expected) in expected {
            assert_eq!(values[*at], *expected, "{kind:?}, value {at}");
        }
        let found = values
            .iter()
            .flat_map(|it| it.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        assert_eq!(found, checksum, "{kind:?}");
    }

    #[test]
    fn blocks_decode_to_the_bits_of_the_reference() {
        check(
            GGUFTensorType::Q8_0,
            &[(0, 0.75)],
            &[(0, 63.75), (1, 91.5), (16, -68.25), (31, -36.0), (42, -118.5), (63, -105.0)],
            0x5c4f_e81f_d2fb_46a5,
        );
        check(
            GGUFTensorType::Q4_0,
            &[(0, -0.375)],
            &[(0, 1.125), (1, -0.75), (16, 1.125), (31, -0.0), (42, 5.25), (63, 5.25)],
            0xc4fa_0dff_3783_8af2,
        );
        check(
            GGUFTensorType::Q4_1,
            &[(0, 0.0123), (2, -1.5)],
            &[(0, -1.315_521_2), (1, -1.450_805_7), (16, -1.389_312_7), (63, -2.754_028_3)],
            0x75ac_1705_bba9_4d6d,
        );
        check(
            GGUFTensorType::Q4_K,
            &[(0, 0.0123), (2, 0.321)],
            &[(0, -12.179_474), (1, -16.373_291), (128, 1.423_553_5), (511, 0.352_539_06)],
            0xbd40_57c2_00ce_6731,
        );
        check(
            GGUFTensorType::Q5_K,
            &[(0, 0.0123), (2, 0.321)],
            &[(0, -6.079_376), (1, -16.373_291), (128, 9.097_87), (511, 0.072_753_906)],
            0x62e2_117b_3956_90fc,
        );
        check(
            GGUFTensorType::Q6_K,
            &[(208, -0.0123)],
            &[(0, 17.599_274), (1, -20.858_398), (128, 4.316_803), (511, 39.355_47)],
            0xfba2_b8c3_385e_92ea,
        );
    }

    #[test]
    fn floats_decode_to_themselves() {
        let bits = |kind, bytes: &[u8]| dequantize(kind, bytes);
        assert_eq!(bits(GGUFTensorType::F32, &1.5_f32.to_le_bytes()), [1.5]);
        // f16: sign 1, exponent 15 (a factor of 1), mantissa 1/2. bf16: the upper half of -2.5.
        assert_eq!(bits(GGUFTensorType::F16, &[0x00, 0xbe]), [-1.5]);
        assert_eq!(bits(GGUFTensorType::BF16, &[0x20, 0xc0]), [-2.5]);
    }

    /// Puts the lower 4 bits of values, in groups of twice `half`, into bytes: the first half of a
    /// group below, the second half above.
    fn pack_nibbles(quants: &[u8], half: usize) -> Vec<u8> {
        let group = |it: &[u8]| (0..half).map(|at| it[at] & 15 | it[half + at] << 4).collect();
        quants.chunks(2 * half).flat_map::<Vec<u8>, _>(group).collect()
    }

    fn f16_bytes(value: f32) -> Vec<u8> {
        f16::from_f32(value).to_le_bytes().to_vec()
    }

    /// Scales and minima of 8 groups in 12 bytes, as one string of bits: see `scales_and_minima`.
    fn pack_scales(scales: &[u8], minima: &[u8]) -> Vec<u8> {
        let upper = |it: &[u8], at: usize| it[at] | it[at + 4] >> 4 << 6;
        let first = (0..4).map(|at| upper(scales, at));
        let second = (0..4).map(|at| upper(minima, at));
        let third = (4..8).map(|at| scales[at] & 15 | minima[at] << 4);
        first.chain(second).chain(third).collect()
    }

    /// A value that f16 holds.
    fn scale() -> impl Strategy<Value = f32> {
        (-2048_i32..2048, 0_i32..12).prop_map(|(it, power)| it as f32 / 2_f32.powi(power))
    }

    fn quants(bits: u32, count: usize) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0..=(u8::MAX >> (8 - bits)), count)
    }

    proptest! {
        #[test]
        fn blocks_of_32_hold_what_was_packed(d in scale(), m in scale(), q in quants(4, 32)) {
            let packed = pack_nibbles(&q, 16);
            let found = dequantize(GGUFTensorType::Q4_0, &[f16_bytes(d), packed.clone()].concat());
            let expected: Vec<f32> = q.iter().map(|&it| d * (f32::from(it) - 8.0)).collect();
            prop_assert_eq!(found, expected);
            let bytes = [f16_bytes(d), f16_bytes(m), packed].concat();
            let expected: Vec<f32> = q.iter().map(|&it| d * f32::from(it) + m).collect();
            prop_assert_eq!(dequantize(GGUFTensorType::Q4_1, &bytes), expected);
        }

        #[test]
        fn blocks_of_8_bits_hold_what_was_packed(d in scale(), q in quants(8, 32)) {
            let expected: Vec<f32> = q.iter().map(|&it| f32::from(it as i8) * d).collect();
            prop_assert_eq!(dequantize(GGUFTensorType::Q8_0, &[f16_bytes(d), q].concat()), expected);
        }

        #[test]
        fn super_blocks_hold_what_was_packed(
            d in scale(),
            e in scale(),
            s in quants(6, 8),
            m in quants(6, 8),
            q in quants(5, 256),
        ) {
            let head = [f16_bytes(d), f16_bytes(e), pack_scales(&s, &m)].concat();
            let value = |(at, q): (usize, f32)| {
                (d * f32::from(s[at / 32])) * q - e * f32::from(m[at / 32])
            };
            let low = pack_nibbles(&q, 32);
            let four: Vec<f32> = q.iter().map(|it| f32::from(it & 15)).enumerate().map(value).collect();
            let bytes = [&head[..], &low].concat();
            prop_assert_eq!(dequantize(GGUFTensorType::Q4_K, &bytes), four);
            let five: Vec<f32> = q.iter().map(|&it| f32::from(it)).enumerate().map(value).collect();
            let mut high = vec![0; 32];
            q.iter().enumerate().for_each(|(at, it)| high[at % 32] |= it >> 4 << (at / 32));
            let bytes = [head, high, low].concat();
            prop_assert_eq!(dequantize(GGUFTensorType::Q5_K, &bytes), five);
        }

        #[test]
        fn super_blocks_of_6_bits_hold_what_was_packed(
            d in scale(),
            s in quants(8, 16),
            q in quants(6, 256),
        ) {
            let mut high = vec![0; 64];
            for (at, it) in q.iter().enumerate() {
                high[at / 128 * 32 + at % 32] |= it >> 4 << (at % 128 / 32 * 2);
            }
            let bytes = [pack_nibbles(&q, 64), high, s.clone(), f16_bytes(d)].concat();
            let value = |(at, it): (usize, &u8)| {
                d * f32::from(s[at / 16] as i8) * (f32::from(*it) - 32.0)
            };
            let expected: Vec<f32> = q.iter().enumerate().map(value).collect();
            prop_assert_eq!(dequantize(GGUFTensorType::Q6_K, &bytes), expected);
        }
    }
}
