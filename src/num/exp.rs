//! The exponential of numbers of at most 0, written so that the compiler vectorises it. Without fused multiply-adds (except in
//! [`odds`]), the bits are the same on any processor.
//!
//! `e^x = 2^n e^r` with `n` the whole number nearest to `x / ln 2`, and `|r| <= ln 2 / 2`; `e^r` is a Taylor polynomial whose
//! remainder is below the rounding of the type.
//!
//! Where `2^n` would be subnormal the result is exactly 0: the *tail* of the softmax. A logit that is further below the
//! largest of its pixel has probability 0, in every kernel and on every device, and among labels of equal probability
//! ranks go by the lowest class.

/// The last `x` at which the float32 `e^x` is above 0.
pub const SINGLE_TAIL: f32 = -87.0;

/// The last `x` at which the float64 `e^x` is above 0.
pub const DOUBLE_TAIL: f64 = -708.0;

const LN2_DOUBLE: (f64, f64) = (0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10);

macro_rules! impl_exp {
    ($name:ident, $real:ty, $bits:ty, $terms:literal, $tail:ident, $ln2:expr) => {
        #[doc = concat!("`e^x` for `x <= 0`, and 0 below [`", stringify!($tail), "`]; NaN stays NaN.")]
        #[inline(always)]
        pub fn $name(x: $real) -> $real {
            const MANTISSA: u32 = <$real>::MANTISSA_DIGITS - 1;
            const BIAS: $bits = (<$real>::MAX_EXP - 1) as $bits;
            // Adding it rounds to whole numbers, which are then in the last bits.
            const SHIFTER: $real = 1.5 / <$real>::EPSILON;
            // The natural logarithm of 2 in two parts: products of the first with n are exact.
            const LN2: ($real, $real) = $ln2;
            const COEFFICIENTS: [$real; $terms] = {
                let mut coefficients = [1.0; $terms];
                let (mut k, mut factorial) = (1, 1.0);
                while k < $terms {
                    factorial *= k as f64;
                    coefficients[k] = (1.0 / factorial) as $real;
                    k += 1;
                }
                coefficients
            };
            let shifted = x * (std::f64::consts::LOG2_E as $real) + SHIFTER;
            let n = shifted - SHIFTER;
            let r = (x - n * LN2.0) - n * LN2.1;
            let mut sum = COEFFICIENTS[$terms - 1];
            for k in (0..$terms - 1).rev() {
                sum = sum * r + COEFFICIENTS[k];
            }
            let power = shifted.to_bits().wrapping_sub(SHIFTER.to_bits()).wrapping_add(BIAS) << MANTISSA;
            if x < $tail { 0.0 } else { sum * <$real>::from_bits(power) }
        }
    };
}

impl_exp!(single, f32, u32, 8, SINGLE_TAIL, (355.0 / 512.0, -2.121_944_4e-4));
impl_exp!(double, f64, u64, 14, DOUBLE_TAIL, LN2_DOUBLE);

/// `e^x` in float64 for sums whose last bits may differ from processor to processor, in half the time of [`double`]; 0 below
/// [`DOUBLE_TAIL`], and NaN stays NaN.
///
/// `fused` says that the caller is compiled for processors with fused multiply-adds. `e^r` is `1 + r + r^2 q(r)`, where q
/// meets `(e^r - 1 - r) / r^2` at Chebyshev's nodes.
#[inline(always)]
pub fn odds(fused: bool, x: f64) -> f64 {
    #[inline(always)]
    fn add_product(fused: bool, sum: f64, x: f64, y: f64) -> f64 {
        if fused { x.mul_add(y, sum) } else { sum + x * y }
    }
    const SHIFTER: f64 = 1.5 / f64::EPSILON;
    const COEFFICIENTS: [f64; 12] = [
        1.0,
        1.0,
        0.500_000_000_000_000_1,
        0.166_666_666_666_666_69,
        0.041_666_666_666_624_13,
        0.008_333_333_333_330_062,
        0.001_388_888_891_721_371_7,
        0.000_198_412_698_630_536_18,
        2.480_152_129_595_437_6e-5,
        2.755_726_845_999_706_4e-6,
        2.762_008_844_540_974_6e-7,
        2.510_038_549_551_032e-8,
    ];
    let shifted = add_product(fused, SHIFTER, x, std::f64::consts::LOG2_E);
    let n = shifted - SHIFTER;
    let r = add_product(fused, add_product(fused, x, n, -LN2_DOUBLE.0), n, -LN2_DOUBLE.1);
    // Four terms at a time, in pairs, so that few sums wait for each other.
    let (square, mut sum) = (r * r, 0.0);
    let fourth = square * square;
    for k in (0..COEFFICIENTS.len()).step_by(4).rev() {
        let low = add_product(fused, COEFFICIENTS[k], COEFFICIENTS[k + 1], r);
        let high = add_product(fused, COEFFICIENTS[k + 2], COEFFICIENTS[k + 3], r);
        sum = add_product(fused, add_product(fused, low, high, square), sum, fourth);
    }
    let power = shifted.to_bits().wrapping_sub(SHIFTER.to_bits()).wrapping_add(1023) << 52;
    if x < DOUBLE_TAIL { 0.0 } else { sum * f64::from_bits(power) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_to_the_library() {
        for i in 0..=870_000 {
            let x = f64::from(-i) / 10_000.0;
            let (found, expected) = (f64::from(single(x as f32)), f64::from(x as f32).exp());
            assert!(
                (found / expected - 1.0).abs() < 2.0 * f64::from(f32::EPSILON),
                "{x}: {found}, {expected}"
            );
            assert!((double(x) / x.exp() - 1.0).abs() < 4.0 * f64::EPSILON, "{x}");
            for fused in [false, true] {
                assert!((odds(fused, x) / x.exp() - 1.0).abs() < 4.0 * f64::EPSILON, "{x}");
            }
        }
        assert_eq!((single(0.0), double(0.0)), (1.0, 1.0));
        assert_eq!((single(-1e30), single(f32::NEG_INFINITY), double(-709.0)), (0.0, 0.0, 0.0));
        assert!(single(SINGLE_TAIL).is_normal() && double(DOUBLE_TAIL).is_normal());
        assert_eq!((single(SINGLE_TAIL.next_down()), double(DOUBLE_TAIL.next_down())), (0.0, 0.0));
        assert!(single(f32::NAN).is_nan() && double(f64::NAN).is_nan());
        for fused in [false, true] {
            assert_eq!(
                (odds(fused, 0.0), odds(fused, -1e30), odds(fused, f64::NEG_INFINITY)),
                (1.0, 0.0, 0.0)
            );
            assert!(odds(fused, f64::NAN).is_nan() && odds(fused, DOUBLE_TAIL).is_normal());
        }
    }
}
