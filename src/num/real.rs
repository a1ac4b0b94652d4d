//! Number types: what arrays hold ([`Element`]) and what kernels compute with ([`Real`]).

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;
use num_traits::Float;

use crate::error::Result;
use crate::maps::transpose;
use crate::memory;
use crate::num::exp;
use crate::simd::{apply, vectorised};

/// The float a kernel computes with: `f32`, or `f64` for `f64` input.
pub trait Real:
    Float + Into<f64> + std::ops::AddAssign + Default + Send + Sync + std::fmt::Debug + 'static
{
    /// The bit pattern, as an integer of the same width.
    type Bits: Copy + Ord + std::ops::BitOrAssign + Default;

    /// The bit pattern.
    fn bits(self) -> Self::Bits;

    /// Whether the sign bit is set.
    fn sign_bit(bits: Self::Bits) -> bool;

    /// `e^x` for `x <= 0`.
    #[must_use]
    fn exp_of_nonpositive(self) -> Self;

    /// The nearest value to `x`.
    fn round_from(x: f64) -> Self;

    /// The smallest value that is at least `x`, which must not be NaN.
    fn at_least(x: f64) -> Self;

    /// Channel-last to class by class: see `transpose::by_columns`.
    fn transpose(values: &[Self], n_classes: usize, stride: usize, out: &mut [Self]);

    /// The values, which are of this type, in a box that knows its width; `what` is what errors call them.
    fn store(values: impl ExactSizeIterator<Item = f64>, what: &'static str) -> Result<Stored>;

    /// A copy of the values in a box that knows their width; `what` is what errors call them.
    fn boxed(values: &[Self], what: &'static str) -> Result<Stored>;

    /// The smallest `p` in `[0, inf]` for which `holds(p)`, where `holds` is false below some point and true above.
    /// `inf` if it holds nowhere.
    fn smallest(holds: impl Fn(f64) -> bool) -> Self;

    /// The largest finite `s >= 0` for which `holds(s)`, where `holds` is true up to some point and false above.
    /// `-inf` if it holds nowhere.
    fn largest(holds: impl Fn(f64) -> bool) -> Self;
}

/// Values kept as wide as the input was.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// From float16 and float32 input.
    Single(Box<[f32]>),
    /// From float64 input.
    Double(Box<[f64]>),
}

impl Stored {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Single(values) => values.len(),
            Self::Double(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of the values, widened.
    pub fn get(&self, index: usize) -> f64 {
        match self {
            Self::Single(values) => values[index].into(),
            Self::Double(values) => values[index],
        }
    }

    /// The values, widened.
    pub fn to_doubles(&self) -> Box<dyn Iterator<Item = f64> + '_> {
        match self {
            Self::Single(values) => Box::new(values.iter().map(|&value| value.into())),
            Self::Double(values) => Box::new(values.iter().copied()),
        }
    }

    /// A copy of a run of values; `what` is what errors call them.
    pub fn slice(&self, run: Range<usize>, what: &'static str) -> Result<Self> {
        Ok(match self {
            Self::Single(values) => {
                Self::Single(memory::collected(values[run].iter().copied(), what)?.into())
            }
            Self::Double(values) => {
                Self::Double(memory::collected(values[run].iter().copied(), what)?.into())
            }
        })
    }
}

macro_rules! impl_real {
    ($real:ty, $bits:ty, $stored:path, $transpose:path, $exp:path) => {
        impl Real for $real {
            type Bits = $bits;

            #[inline(always)]
            fn bits(self) -> $bits {
                self.to_bits()
            }

            #[inline(always)]
            fn sign_bit(bits: $bits) -> bool {
                bits >> (<$bits>::BITS - 1) != 0
            }

            #[inline(always)]
            fn exp_of_nonpositive(self) -> Self {
                $exp(self)
            }

            fn round_from(x: f64) -> Self {
                x as $real
            }

            fn at_least(x: f64) -> Self {
                let nearest = x as $real;
                if f64::from(nearest) < x { nearest.next_up() } else { nearest }
            }

            fn transpose(values: &[Self], n_classes: usize, stride: usize, out: &mut [Self]) {
                $transpose(values, n_classes, stride, out);
            }

            fn store(values: impl ExactSizeIterator<Item = f64>, what: &'static str) -> Result<Stored> {
                Ok($stored(memory::collected(values.map(|value| value as $real), what)?.into()))
            }

            fn boxed(values: &[Self], what: &'static str) -> Result<Stored> {
                let mut copy = memory::with_room(values.len(), what)?;
                copy.extend_from_slice(values);
                Ok($stored(copy.into()))
            }

            fn smallest(holds: impl Fn(f64) -> bool) -> Self {
                // Non-negative floats are ordered as their bit patterns: bisect on those.
                let (mut low, mut high) = (0, <$real>::INFINITY.to_bits());
                while low < high {
                    let middle = low + (high - low) / 2;
                    if holds(f64::from(<$real>::from_bits(middle))) {
                        high = middle;
                    } else {
                        low = middle + 1;
                    }
                }
                <$real>::from_bits(high)
            }

            fn largest(holds: impl Fn(f64) -> bool) -> Self {
                let first_out = Self::smallest(|s| !holds(s));
                if first_out > 0.0 { first_out.next_down() } else { Self::NEG_INFINITY }
            }
        }
    };
}

impl_real!(f32, u32, Stored::Single, transpose::by_blocks, exp::single);
impl_real!(f64, u64, Stored::Double, transpose::by_columns, exp::double);

/// A float that arrays of scores may hold.
pub trait Element: Copy + Send + Sync + 'static {
    /// The float its kernels compute with; widening loses nothing.
    type Real: Real;

    /// One value, widened.
    fn widen(self) -> Self::Real;

    /// Fills `out` with widened values.
    fn widen_slice(values: &[Self], out: &mut [Self::Real]);

    /// The slice itself where nothing needs widening.
    fn as_real(values: &[Self]) -> Option<&[Self::Real]>;
}

macro_rules! impl_element {
    ($real:ty) => {
        impl Element for $real {
            type Real = $real;

            #[inline(always)]
            fn widen(self) -> $real {
                self
            }

            fn widen_slice(values: &[$real], out: &mut [$real]) {
                out.copy_from_slice(values);
            }

            fn as_real(values: &[$real]) -> Option<&[$real]> {
                Some(values)
            }
        }
    };
}

impl_element!(f32);
impl_element!(f64);

impl Element for f16 {
    type Real = f32;

    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }

    fn widen_slice(values: &[f16], out: &mut [f32]) {
        widen_halves(values.reinterpret_cast(), out);
    }

    fn as_real(_: &[f16]) -> Option<&[f32]> {
        None
    }
}

/// The bits of a bfloat16, the upper half of a float32: no array of scores holds whole numbers.
impl Element for u16 {
    type Real = f32;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }

    fn widen_slice(values: &[u16], out: &mut [f32]) {
        widen_bits(values, out);
    }

    fn as_real(_: &[u16]) -> Option<&[f32]> {
        None
    }
}

#[apply(vectorised!)]
fn widen_bits(values: &[u16], out: &mut [f32]) {
    for (out, &bits) in out.iter_mut().zip(values) {
        *out = Element::widen(bits);
    }
}

/// Half to single precision, by the processor's instruction if there is one. The conversions of the crate `half` would check
/// the processor again for every eight values.
fn widen_halves(values: &[u16], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") {
        // SAFETY: the processor has the features that the function is compiled for. Otherwise the function is safe.
        #[allow(unsafe_code)]
        return unsafe { half_instruction::widen(values, out) };
    }
    widen_halves_portably(values, out);
}

#[cfg(target_arch = "x86_64")]
mod half_instruction {
    use std::arch::x86_64::{__m128i, _mm256_cvtph_ps};

    use zerocopy::transmute;

    use super::widen_halves_portably;

    #[target_feature(enable = "avx2,f16c")]
    pub fn widen(values: &[u16], out: &mut [f32]) {
        let ((eights, rest), (out_eights, out_rest)) = (values.as_chunks::<8>(), out.as_chunks_mut::<8>());
        for (&eight, out) in eights.iter().zip(out_eights) {
            let eight: __m128i = transmute!(eight);
            *out = transmute!(_mm256_cvtph_ps(eight));
        }
        widen_halves_portably(rest, out_rest);
    }
}

/// Half to single precision by integer arithmetic, without a branch.
fn widen_halves_portably(values: &[u16], out: &mut [f32]) {
    const EXPONENT: u32 = 0x7c00 << 13;
    const REBIAS: u32 = (127 - 15) << 23;
    for (&value, out) in values.iter().zip(out) {
        let bits = u32::from(value);
        let magnitude = (bits & 0x7fff) << 13;
        let exponent = magnitude & EXPONENT;
        let normal = magnitude + REBIAS;
        // Infinity and NaN keep the largest exponent. A subnormal is what lies above 2^-14: no denormal float is touched.
        let special = normal + REBIAS;
        let subnormal = f32::from_bits(normal + (1 << 23)) - f32::from_bits(113 << 23);
        let finite = if exponent == 0 { subnormal.to_bits() } else { normal };
        let widened = if exponent == EXPONENT { special } else { finite };
        *out = f32::from_bits(widened | (bits & 0x8000) << 16);
    }
}

/// Masks: 0 and 1.
impl Element for bool {
    type Real = f32;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from(u8::from(self))
    }

    fn widen_slice(values: &[bool], out: &mut [f32]) {
        out.iter_mut().zip(values).for_each(|(out, value)| *out = value.widen());
    }

    fn as_real(_: &[bool]) -> Option<&[f32]> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smallest_finds_the_boundary() {
        assert_eq!(f32::smallest(|p| p >= 0.25), 0.25);
        assert_eq!(f32::smallest(|p| p > 0.25), f32::from_bits(0.25_f32.to_bits() + 1));
        assert_eq!(f64::smallest(|_| true), 0.0);
        assert_eq!(f64::smallest(|_| false), f64::INFINITY);
        assert_eq!(f32::largest(|s| s <= 0.25), 0.25);
        assert_eq!(f32::largest(|s| s <= 0.1), 0.1_f32.next_down());
        assert_eq!(f64::largest(|s| s <= 0.0), 0.0);
        assert_eq!(f64::largest(|_| true), f64::MAX);
        assert_eq!(f64::largest(|_| false), f64::NEG_INFINITY);
    }

    #[test]
    fn at_least_rounds_up() {
        for x in [0.0, 5e-324, 1e-50, 0.1, 0.25, 1.0, 1.0_f64.next_up(), 1e300, f64::INFINITY] {
            assert_eq!(f32::at_least(x), f32::smallest(|p| p >= x), "{x}");
            assert_eq!(f64::at_least(x), x);
        }
    }

    #[test]
    fn bits_of_bfloat16_widen_exactly() {
        let values: Vec<u16> = (0..=u16::MAX).collect();
        let mut wide = vec![0.0; values.len()];
        u16::widen_slice(&values, &mut wide);
        for (&bits, value) in values.iter().zip(wide) {
            let expected = half::bf16::from_bits(bits).to_f32();
            assert!(value == expected || value.is_nan() && expected.is_nan(), "{bits:#x}");
        }
    }

    #[test]
    fn half_widens_exactly() {
        let values: Vec<u16> = (0..=u16::MAX).collect();
        for widen in [widen_halves, widen_halves_portably] {
            // Not a whole number of vectors.
            let mut out = vec![0.0; values.len() - 3];
            widen(&values[3..], &mut out);
            for (&value, out) in values[3..].iter().zip(out) {
                let value = f16::from_bits(value);
                assert!(
                    value.is_nan() && out.is_nan() || value.to_f32().to_bits() == out.to_bits(),
                    "{value} as {out}"
                );
            }
        }
    }
}
