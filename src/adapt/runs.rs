//! Runs of 64 elements, of which a word tells with a bit each which are looked at.

/// Elements of a run.
pub(super) const RUN: usize = u64::BITS as usize;

/// The bits of the elements that are looked at.
#[inline(always)]
pub(super) fn bits<T: Copy>(run: &[T; RUN], is_looked_at: impl Fn(T) -> bool) -> u64 {
    run.iter().enumerate().fold(0, |bits, (j, &element)| bits | u64::from(is_looked_at(element)) << j)
}

/// The places of the bits that are set, ascending.
#[inline(always)]
pub(super) fn places(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = bits.trailing_zeros() as usize;
        bits &= bits.checked_sub(1)?;
        Some(place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_their_places() {
        let mut run = [0; RUN];
        assert_eq!(bits(&run, |element| element > 0), 0);
        assert_eq!(bits(&run, |element| element == 0), u64::MAX);
        for j in [0, 1, 31, 32, 62, 63] {
            run[j] = 1;
        }
        let found = bits(&run, |element| element > 0);
        assert_eq!(places(found).collect::<Vec<_>>(), [0, 1, 31, 32, 62, 63]);
        assert_eq!(places(u64::MAX).collect::<Vec<_>>(), (0..RUN).collect::<Vec<_>>());
        assert_eq!(places(0).next(), None);
    }
}
