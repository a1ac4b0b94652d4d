//! Hints to the cache, where the processor cannot guess what comes next.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
use std::ops::Range;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for the cache line of an address, which need not be valid: into the first-level cache if it is read at once.
#[inline(always)]
fn request<const AT_ONCE: bool>(address: *const i8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint to the cache, which reads nothing as far as the program can tell and fails at no address.
    #[allow(unsafe_code)]
    unsafe {
        if AT_ONCE {
            _mm_prefetch::<_MM_HINT_T0>(address);
        } else {
            _mm_prefetch::<_MM_HINT_T1>(address);
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for values that will be read soon; the range may go beyond the end.
pub fn prefetch<T>(values: &[T], range: Range<usize>) {
    let ahead = values.get(range.start..range.end.min(values.len())).unwrap_or_default();
    for value in ahead.iter().step_by((LINE / size_of::<T>()).max(1)) {
        request::<false>(std::ptr::from_ref(value).cast());
    }
}

/// How many bytes [`ahead`] is before the reader. Half and twice as much are nearly as good.
const DISTANCE: usize = 1 << 10;

/// Asks for the cache lines that lie [`DISTANCE`] bytes after some numbers, whether they are valid or not.
#[inline(always)]
pub(crate) fn ahead<T, const N: usize>(numbers: &[T; N]) {
    for line in 0..size_of::<[T; N]>().div_ceil(LINE) {
        request::<true>(numbers.as_ptr().cast::<i8>().wrapping_add(DISTANCE + line * LINE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_may_be_asked_for() {
        let values = [0_u16; 100];
        for range in [0..0, 0..100, 90..200, 100..130, 300..400] {
            prefetch(&values, range);
        }
        prefetch(&[[0_u8; 200]; 3], 1..2);
    }

    #[test]
    fn what_lies_ahead_need_not_be_ours() {
        ahead(&[0.0_f32; 16]);
        ahead(&[0_u8; 1]);
        ahead::<f64, 0>(&[]);
    }
}
