//! Kernels that go through the planes of a tile.

use super::prefetch::ahead;

/// Hands the planes of a tile to a kernel, eight at a time with the class of the first: the per-pixel state is then loaded
/// and stored an eighth as often, and memory is read in several streams.
macro_rules! stream {
    ($tile:expr, |$planes:ident, $k:ident| $call:expr) => {{
        let mut $k = 0;
        macro_rules! step {
            ($n:literal) => {{
                let $planes: [&[R]; $n] = std::array::from_fn(|i| $tile.plane($k + i));
                $call;
                #[allow(unused_assignments)]
                {
                    $k += $n;
                }
            }};
        }
        while $k + 8 <= $tile.n_classes() {
            step!(8);
        }
        match $tile.n_classes() - $k {
            1 => step!(1),
            2 => step!(2),
            3 => step!(3),
            4 => step!(4),
            5 => step!(5),
            6 => step!(6),
            7 => step!(7),
            _ => {}
        }
    }};
}
pub(crate) use stream;

/// Pixels of a strip: a cache line of float32.
pub(crate) const STRIP: usize = 16;

/// The loop of such a kernel over its pixels, each with its lane, which is its place in a strip. It goes strip by strip, as
/// arrays, so that no bound is checked in between, and asks for each plane's numbers some way ahead.
///
/// A processor runs far ahead of the memory that it waits for only if few operations wait. A loop with one operation for each
/// value reads memory at full speed without help; one with eight operations takes a third longer.
macro_rules! strips {
    ($len:ident, $planes:ident, [$($read:ident),*], [$($written:ident),*], |$j:ident, $lane:ident| $body:block) => {{
        let n_whole = $len / $crate::maps::STRIP;
        {
            let $planes = $crate::maps::in_strips(&$planes, n_whole);
            $(let $read = &$read.as_chunks::<{ $crate::maps::STRIP }>().0[..n_whole];)*
            $(let $written = &mut $written.as_chunks_mut::<{ $crate::maps::STRIP }>().0[..n_whole];)*
            for strip in 0..n_whole {
                let $planes = $crate::maps::strip(&$planes, strip);
                $(let $read = &$read[strip];)*
                $(let $written = &mut $written[strip];)*
                for $lane in 0..$crate::maps::STRIP {
                    let $j = $lane;
                    $body
                }
            }
        }
        for $lane in 0..$len % $crate::maps::STRIP {
            let $j = n_whole * $crate::maps::STRIP + $lane;
            $body
        }
    }};
}
pub(crate) use strips;

/// The whole strips of planes. It loops over indices, like [`strip`]: closures of iterators are not always inlined into
/// functions for certain processors, and then the compiler does not know that all strips have the same length.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
pub(crate) fn in_strips<'a, R, const N: usize>(
    planes: &[&'a [R]; N],
    n_whole: usize,
) -> [&'a [[R; STRIP]]; N] {
    let mut strips: [&[[R; STRIP]]; N] = [&[]; N];
    for i in 0..N {
        strips[i] = &planes[i].as_chunks().0[..n_whole];
    }
    strips
}

/// A strip of each plane; asks for the numbers some way ahead first.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
pub(crate) fn strip<'a, R, const N: usize>(
    planes: &[&'a [[R; STRIP]]; N],
    strip: usize,
) -> [&'a [R; STRIP]; N] {
    let mut strips = [&planes[0][strip]; N];
    for i in 0..N {
        strips[i] = &planes[i][strip];
        ahead(strips[i]);
    }
    strips
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pixel_is_met_once_in_its_lane() {
        for len in [0, 1, STRIP - 1, STRIP, STRIP + 1, 5 * STRIP + 3] {
            let (first, second): (Vec<usize>, Vec<usize>) = (0..len).map(|j| (j, 2 * j)).unzip();
            let planes = [first.as_slice(), second.as_slice()];
            let factors = vec![3; len];
            let mut sums = vec![0; len];
            let (read, written) = (factors.as_slice(), sums.as_mut_slice());
            let mut met = [0; STRIP];
            strips!(len, planes, [read], [written], |j, lane| {
                written[j] += read[j] * (planes[0][j] + planes[1][j]);
                met[lane] += 1;
            });
            assert!(sums.iter().enumerate().all(|(j, &sum)| sum == 9 * j), "{sums:?}");
            assert!(
                met.iter().enumerate().all(|(lane, &n)| n == (len + STRIP - 1 - lane) / STRIP),
                "{met:?}"
            );
        }
    }
}
