//! Hints to the cache, where the processor cannot guess what comes next.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use std::ops::Range;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for values that will soon be read, as far as there are any.
pub fn prefetch<T>(values: &[T], range: Range<usize>) {
    let ahead = values.get(range.start..range.end.min(values.len())).unwrap_or_default();
    #[cfg(target_arch = "x86_64")]
    for value in ahead.iter().step_by((LINE / size_of::<T>()).max(1)) {
        // SAFETY: a hint to the cache, which reads nothing as far as the program can tell, at an address that is ours.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(value).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = ahead;
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
}
