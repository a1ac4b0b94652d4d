//! A sorting network: which numbers are compared and exchanged does not depend on them. So many pixels are sorted at once, each
//! in a lane of its own.
//!
//! Batcher's merge exchange, for any count: Knuth, "The Art of Computer Programming", volume 3, 5.2.2, algorithm M.

use crate::num::lanes::Lines;
use crate::num::real::Real;
use crate::simd::{apply, vectorised};

/// Pixels that are sorted at once.
pub const LANES: usize = 32;

/// A number for each of them.
pub type Row<R> = Lines<[R; LANES]>;

/// So many rows are sorted in registers.
const FEW: usize = 32;

/// How many rows to sort for so many numbers. The additional rows must hold numbers that are no larger than any other.
pub fn n_rows(n: usize) -> usize {
    if n <= FEW { n.next_multiple_of(4) } else { n }
}

/// Sorts the numbers of each lane, the largest first. There are as many rows as [`n_rows`] says.
pub fn sort<R: Real>(rows: &mut [Row<R>]) {
    macro_rules! in_registers {
        ($($n:literal)*) => {
            match rows.len() {
                $($n => few::<R, $n>(rows.first_chunk_mut().expect("as many")),)*
                _ => many(rows),
            }
        };
    }
    in_registers!(4 8 12 16 20 24 28 32);
}

/// The larger number, and the smaller one.
#[inline(always)]
fn ordered<R: Real>(a: R, b: R) -> (R, R) {
    (if a > b { a } else { b }, if b < a { b } else { a })
}

/// Exchanges numbers that lie `distance` apart, from the places on that have the bit `width`, or do not have it.
macro_rules! exchange {
    ($v:ident, $distance:literal apart, $width:literal $is:tt 0) => {
        exchange!($v, $distance, $width, $is; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30)
    };
    // Spelt out: if the compiler did not unroll the loops, nothing would stay in registers.
    ($v:ident, $distance:literal, $width:literal, $is:tt; $($i:literal)*) => { $(
        if ($i & $width) $is 0 && $i + $distance < N {
            ($v[$i], $v[$i + $distance]) = ordered($v[$i], $v[$i + $distance]);
        }
    )* };
}

/// Sorts so few rows that a lane of all of them fits in registers.
#[apply(vectorised!)]
fn few<R: Real, const N: usize>(rows: &mut [Row<R>; N]) {
    for lane in 0..LANES {
        let mut v = [R::zero(); N];
        for i in 0..N {
            v[i] = rows[i].0[lane];
        }
        exchange!(v, 16 apart, 16 == 0);
        exchange!(v, 8 apart, 8 == 0);
        exchange!(v, 8 apart, 8 != 0);
        exchange!(v, 4 apart, 4 == 0);
        exchange!(v, 12 apart, 4 != 0);
        exchange!(v, 4 apart, 4 != 0);
        exchange!(v, 2 apart, 2 == 0);
        exchange!(v, 14 apart, 2 != 0);
        exchange!(v, 6 apart, 2 != 0);
        exchange!(v, 2 apart, 2 != 0);
        exchange!(v, 1 apart, 1 == 0);
        exchange!(v, 15 apart, 1 != 0);
        exchange!(v, 7 apart, 1 != 0);
        exchange!(v, 3 apart, 1 != 0);
        exchange!(v, 1 apart, 1 != 0);
        for i in 0..N {
            rows[i].0[lane] = v[i];
        }
    }
}

/// Sorts any number of rows, of which each is loaded and stored again.
#[apply(vectorised!)]
fn many<R: Real>(rows: &mut [Row<R>]) {
    let half = rows.len().next_power_of_two() / 2;
    let mut width = half;
    while width > 0 {
        let (mut first, mut distance, mut reach) = (0, width, half);
        loop {
            for start in (first..rows.len().saturating_sub(distance)).step_by(2 * width) {
                let (upper, lower) = rows[start..].split_at_mut(distance);
                let n = width.min(lower.len());
                let (upper, lower) = (&mut upper[..n], &mut lower[..n]);
                for i in 0..n {
                    let (a, b) = (upper[i].0, lower[i].0);
                    let (mut larger, mut smaller) = (a, b);
                    for lane in 0..LANES {
                        (larger[lane], smaller[lane]) = ordered(a[lane], b[lane]);
                    }
                    // By value; else the compiler stores lane by lane.
                    (upper[i].0, lower[i].0) = (larger, smaller);
                }
            }
            if reach == width {
                break;
            }
            (first, distance) = (width, reach - width);
            reach /= 2;
        }
        width /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network that sorts all zeros and ones sorts everything.
    fn check<R: Real>(n: usize) {
        let mut bits = 1_u64;
        for _ in 0..200 {
            let mut rows = vec![Lines([R::zero(); LANES]); n_rows(n)];
            for row in &mut rows[..n] {
                for value in &mut row.0 {
                    bits =
                        bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    *value = R::round_from((bits >> 62) as f64);
                }
            }
            let mut expected: Vec<Vec<R>> =
                (0..LANES).map(|lane| rows.iter().map(|row| row.0[lane]).collect()).collect();
            sort(&mut rows);
            for (lane, expected) in expected.iter_mut().enumerate() {
                expected.sort_by(|a, b| b.partial_cmp(a).unwrap());
                let found: Vec<R> = rows.iter().map(|row| row.0[lane]).collect();
                assert_eq!(&found, expected, "{n} numbers");
            }
        }
    }

    #[test]
    fn any_count_is_sorted() {
        for n in (1..=70).chain([127, 128, 129, 150, 200, 255, 300]) {
            check::<f32>(n);
            check::<f64>(n);
        }
    }
}
