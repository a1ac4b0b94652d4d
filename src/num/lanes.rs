//! Sums in eight interleaved parts, which are vectors of the processor.

use std::hint::black_box;
use std::ops::{Deref, DerefMut};

use crate::error::Result;
use crate::memory;

/// Parts of a sum.
pub const LANES: usize = 8;

/// Numbers that begin where a cache line does: vectors of the processor that lie across two are twice as slow to read.
pub struct Aligned {
    numbers: Vec<f64>,
    start: usize,
}

impl Aligned {
    /// That many zeros.
    pub fn zeros(len: usize) -> Result<Self> {
        let mut numbers = Vec::new();
        memory::resize(&mut numbers, len + LANES, 0.0, "a block of the matrix")?;
        // If the offset is not known, reading is only slower.
        let start = numbers.as_ptr().align_offset(size_of::<Lanes>()).min(LANES);
        Ok(Self { numbers, start })
    }
}

impl Deref for Aligned {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.numbers[self.start..][..self.numbers.len() - LANES]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f64] {
        let len = self.numbers.len() - LANES;
        &mut self.numbers[self.start..][..len]
    }
}

/// The numbers of one or a few vectors of the processor. They are passed by value; else the compiler gathers across lanes.
pub type Lanes = [f64; LANES];

/// The first numbers of some.
#[inline(always)]
pub fn lanes(numbers: &[f64]) -> Lanes {
    *numbers.first_chunk().expect("whole lanes")
}

/// `sum + x y`, by one instruction with one rounding if `fused`. In a function that is compiled without this instruction, or in
/// a closure that is not inlined, it would be a slow call.
#[inline(always)]
pub fn add_product(fused: bool, mut sum: Lanes, x: Lanes, y: Lanes) -> Lanes {
    for lane in 0..LANES {
        sum[lane] = if fused { x[lane].mul_add(y[lane], sum[lane]) } else { sum[lane] + x[lane] * y[lane] };
    }
    sum
}

/// Whole cache lines, so that the parts of a vector that was just written can be read at once.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Lines<T>(pub T);

/// The sums of all lanes. It is not inlined: together with the loop, the compiler would cut vectors in pairs.
#[inline(always)]
pub fn totals<const N: usize, const M: usize>(sums: [[Lanes; N]; M]) -> [[f64; N]; M] {
    black_box(Lines(sums))
        .0
        .map(|sums| sums.map(|[a, b, c, d, e, f, g, h]| ((a + e) + (c + g)) + ((b + f) + (d + h))))
}

/// Scalar products of x with columns as long as it, a multiple of [`LANES`].
#[inline(always)]
pub fn products<const N: usize>(fused: bool, x: &[f64], columns: [&[f64]; N]) -> [f64; N] {
    let columns = columns.map(|column| &column[..x.len()]);
    let mut sums = [[0.0; LANES]; N];
    for (i, xs) in x.as_chunks::<LANES>().0.iter().enumerate() {
        for (sum, column) in sums.iter_mut().zip(columns) {
            *sum = add_product(fused, *sum, *xs, lanes(&column[i * LANES..]));
        }
    }
    let [sums] = totals([sums]);
    sums
}
