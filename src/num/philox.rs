//! Random numbers by counter: the `t`-th of a key is known without those before it, so that any split over threads gives the
//! same numbers. Philox4x64 with 10 rounds, in the order in which `numpy.random.Philox` gives them.
//!
//! Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.

/// Numbers of one counter.
const LANES: u64 = 4;
const ROUNDS: usize = 10;
const MULTIPLIERS: [u64; 2] = [0xd2e7_470e_e14c_6c93, 0xca5a_8263_9512_1157];
const WEYL: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xbb67_ae85_84ca_a73b];

/// The numbers of a key.
#[derive(Debug, Clone, Copy)]
pub struct Philox {
    key: [u64; 2],
}

impl Philox {
    /// The generator of a 128-bit key.
    pub fn new(key: u128) -> Self {
        Self { key: [key as u64, (key >> 64) as u64] }
    }

    /// The numbers `4 block .. 4 block + 4`.
    #[inline]
    pub fn block(self, block: u64) -> [u64; LANES as usize] {
        // NumPy counts up before it draws.
        let (first, carry) = block.overflowing_add(1);
        let mut counter = [first, u64::from(carry), 0, 0];
        let mut key = self.key;
        for round in 0..ROUNDS {
            if round > 0 {
                key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
            }
            let (low_0, high_0) = wide(MULTIPLIERS[0], counter[0]);
            let (low_1, high_1) = wide(MULTIPLIERS[1], counter[2]);
            counter = [high_1 ^ counter[1] ^ key[0], low_1, high_0 ^ counter[3] ^ key[1], low_0];
        }
        counter
    }
}

fn wide(a: u64, b: u64) -> (u64, u64) {
    let product = u128::from(a) * u128::from(b);
    (product as u64, (product >> 64) as u64)
}

/// A whole number below `n`, from a random one, uniform but for `n / 2^64`.
#[inline]
pub fn below(random: u64, n: u64) -> u64 {
    wide(random, n).1
}

/// Calls `draw` with each place in `0..len` that is `wanted`, and its random number, counted from the `first`-th on. Numbers
/// of other places are not computed.
#[inline]
pub fn draw_each(
    generator: Philox,
    first: u64,
    len: usize,
    wanted: impl Fn(usize) -> bool,
    mut draw: impl FnMut(usize, u64),
) {
    let mut at = 0;
    while at < len {
        let t = first + at as u64;
        let lane = (t % LANES) as usize;
        let end = (at + LANES as usize - lane).min(len);
        if (at..end).any(&wanted) {
            let numbers = generator.block(t / LANES);
            for j in at..end {
                draw(j, numbers[lane + j - at]);
            }
        }
        at = end;
    }
}

/// A random number in [0, 1), as NumPy makes it.
pub fn unit(number: u64) -> f64 {
    (number >> 11) as f64 * (f64::EPSILON / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_depend_on_where_one_begins() {
        let generator = Philox::new(7);
        let mut whole = vec![0; 50];
        draw_each(generator, 3, 50, |_| true, |j, number| whole[j] = number);
        for first in 0..9_usize {
            draw_each(
                generator,
                3 + first as u64,
                10,
                |j| j == 5,
                |j, number| {
                    assert_eq!(number, whole[first + j]);
                },
            );
        }
        assert_ne!(whole[0], whole[1]);
        assert_eq!((below(0, 7), below(u64::MAX, 7), below(1 << 63, 7)), (0, 6, 3));
    }
}
