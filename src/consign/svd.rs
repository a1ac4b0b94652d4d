//! Truncated singular value decomposition of a tall matrix, without a copy of it and without its Gram matrix, which would
//! lose half of the digits.
//!
//! Rows come in blocks that stay in cache. Householder reflections work each block into the triangular factor of its chunk,
//! and the factors of the chunks into one, R, pair by pair (TSQR). One-sided Jacobi rotations decompose R, which has the
//! singular values and the right singular vectors of A. The left ones are `A v / s`. Where singular values are far apart
//! these are orthogonal to few digits only, so they are made so once more by the Cholesky factor of their Gram matrix, which
//! is near 1: in order, the vectors of large singular values first, so that each loses only what rounding gave it.
//!
//! Blocks and chunks depend on the shape alone, and sums run in eight interleaved parts on any processor: the same bits for
//! any number of threads and any memory layout.
//!
//! Demmel, Grigori, Hoemmen, Langou, "Communication-optimal parallel and sequential QR and LU factorizations", SIAM J. Sci.
//! Comput. 34(1), 2012. Hestenes, "Inversion of matrices by biorthogonalization and related results", J. SIAM 6(1), 1958.

use std::cmp::Ordering;
use std::hint::black_box;
use std::ops::{Deref, DerefMut, Range};

use multiversion::multiversion;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::real::Element;
use crate::threads::Cancel;

/// Numbers of a parallel task.
const CHUNK: usize = 1 << 17;
/// Numbers of a block: what the caches nearest to a core hold.
const BLOCK: usize = 1 << 13;
/// Parts of a sum.
const LANES: usize = 8;
/// Columns are padded with zeros to a multiple of it.
const STRIP: usize = 2 * LANES;
/// Columns that are worked on at once.
const WIDTH: usize = 4;
/// If the largest number is between 2 to this and its reciprocal, no square that matters overflows or vanishes.
const SAFE_EXPONENT: i32 = 300;
/// Columns and rows whose square is below this (2^-900) count as 0. Repeated rows leave such: every block makes the rest of the
/// one before it smaller by the rounding unit, until reciprocals overflow.
const NOTHING: f64 = f64::from_bits((1023 - 900) << 52);
/// Left vectors whose Gram matrix is this near to 1 stay as they are.
const ORTHOGONAL: f64 = 1e-14;
/// The left vector of a singular value of a tiny matrix that is nearly 0 may point anywhere. It counts if this share of its
/// square is left without what it has of the vectors before it.
const DISTINCT: f64 = 0.1;
/// Some ten sweeps do; this is for what nobody has thought of.
const MAX_SWEEPS: usize = 60;

/// The largest singular values and their vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Svd {
    /// Left singular vectors, one per row. The entry of largest magnitude, the first if there are several, is positive.
    pub left: Array2<f64>,
    /// Singular values, largest first.
    pub values: Vec<f64>,
    /// Right singular vectors, one per row.
    pub right: Array2<f64>,
}

/// The `k` largest singular values of a matrix `(m, n)` and their vectors. Fewer if fewer are above `eps * s_1 * max(m, n)`:
/// what is not is what rounding makes of 0.
pub fn truncated_svd<E: Element>(a: &ArrayView2<'_, E>, k: usize, cancel: &Cancel) -> Result<Svd> {
    let is_wide = a.nrows() < a.ncols();
    let tall = if is_wide { a.t() } else { a.view() };
    let Some(mut svd) = decompose(Tall { a: tall, scale: 1.0 }, k, cancel)? else {
        return Err(not_finite(a));
    };
    if is_wide {
        std::mem::swap(&mut svd.left, &mut svd.right);
    }
    fix_signs(&mut svd);
    Ok(svd)
}

/// The first number, in row-major order, that is not finite.
fn not_finite<E: Element>(a: &ArrayView2<'_, E>) -> Error {
    let numbers = a.indexed_iter().map(|(place, &value)| (place, value.widen().into()));
    let (place, value) =
        numbers.into_iter().find(|(_, value): &(_, f64)| !value.is_finite()).expect("one is not");
    Error::MatrixNotFinite { row: place.0, column: place.1, value }
}

/// `None` if not all is finite.
fn decompose<E: Element>(mut tall: Tall<'_, E>, k: usize, cancel: &Cancel) -> Result<Option<Svd>> {
    let (m, n) = tall.a.dim();
    let (mut r, largest) = tall.triangle(cancel)?;
    if !largest.is_finite() {
        return Ok(None);
    }
    // The limits keep the scale and its reciprocal finite. The logarithm of 0 is far below them.
    let exponent = largest.log2().clamp(-1000.0, 1000.0) as i32;
    if largest > 0.0 && exponent.abs() > SAFE_EXPONENT {
        tall.scale = 2.0_f64.powi(-exponent);
        r = tall.triangle(cancel)?.0;
    }
    let (mut values, right) = decompose_triangle(&r, n, cancel)?;
    let limit = f64::EPSILON * values.first().copied().unwrap_or(0.0) * m.max(n) as f64;
    let mut rank = values.iter().take(k).take_while(|&&value| value > limit).count();

    let (mut left, gram) = tall.times(&right.slice(s![..rank, ..]), &values[..rank], cancel)?;
    if distance_from_one(&gram) > ORTHOGONAL {
        let inverse = inverse_cholesky(&gram);
        rank = inverse.nrows();
        left = left.slice_move(s![..rank, ..]);
        tall.transform(&mut left, &inverse, cancel)?;
    }
    values.truncate(rank);
    for value in &mut values {
        *value /= tall.scale;
        if value.is_infinite() {
            return Err(Error::MatrixTooLarge);
        }
    }
    Ok(Some(Svd { left, values, right: right.slice_move(s![..rank, ..]) }))
}

/// Turns the pairs of vectors so that the largest entry of the left one is positive.
fn fix_signs(svd: &mut Svd) {
    let pairs = svd.left.axis_iter_mut(Axis(0)).into_par_iter().zip(svd.right.axis_iter_mut(Axis(0)));
    pairs.for_each(|(mut left, mut right)| {
        let entries = left.as_slice_mut().expect("rows are contiguous");
        let largest = f64::from_bits(largest_magnitude(entries));
        if entries.iter().find(|entry| entry.abs() == largest).is_some_and(|&entry| entry < 0.0) {
            // Not `-entry`: 0 stays 0.
            left.mapv_inplace(|entry| 0.0 - entry);
            right.mapv_inplace(|entry| 0.0 - entry);
        }
    });
}

// ------------------------------------------------------------------------------------------------- passes over the matrix

/// Numbers that begin where a cache line does: vectors of the processor that lie across two are twice as slow to read.
struct Aligned {
    numbers: Vec<f64>,
    start: usize,
}

impl Aligned {
    fn zeros(len: usize) -> Self {
        let numbers = vec![0.0; len + LANES];
        // An offset that cannot be told is no more than slow.
        let start = numbers.as_ptr().align_offset(size_of::<Lanes>()).min(LANES);
        Self { numbers, start }
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

/// A matrix with at least as many rows as columns, and what its numbers are multiplied by.
struct Tall<'a, E> {
    a: ArrayView2<'a, E>,
    scale: f64,
}

impl<E: Element> Tall<'_, E> {
    /// Rows of a block. Its columns lie one after the other, [`STRIP`] by [`STRIP`].
    fn block_rows(&self) -> usize {
        (BLOCK / self.a.ncols() / STRIP * STRIP).clamp(4 * STRIP, 64 * STRIP)
    }

    /// Rows of a chunk: so many that the triangular factors of all are small beside the matrix.
    fn chunk_rows(&self) -> usize {
        let n = self.a.ncols();
        (CHUNK / n).max(4 * n).next_multiple_of(self.block_rows())
    }

    /// The first rows of the chunks.
    fn chunks(&self) -> impl IndexedParallelIterator<Item = Range<usize>> {
        let (m, chunk_rows) = (self.a.nrows(), self.chunk_rows());
        (0..m.div_ceil(chunk_rows))
            .into_par_iter()
            .map(move |chunk| chunk * chunk_rows..m.min((chunk + 1) * chunk_rows))
    }

    /// The blocks of a chunk.
    fn blocks(&self, chunk: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<E> {
        let block_rows = self.block_rows();
        chunk.clone().step_by(block_rows).map(move |first| first..chunk.end.min(first + block_rows))
    }

    /// Copies rows into a block, scaled, in float64, with zeros below.
    fn gather(&self, rows: Range<usize>, block: &mut [f64]) {
        let (rows, stride) = (self.a.slice(s![rows, ..]), self.block_rows());
        let len = rows.nrows();
        let is_row_major = rows.row(0).as_slice().is_some();
        for (c, column) in block.chunks_exact_mut(stride).enumerate() {
            column[len..].fill(0.0);
            if !is_row_major {
                let values = rows.column(c);
                column.iter_mut().zip(values).for_each(|(number, value)| *number = value.widen().into());
            }
        }
        if is_row_major {
            for (i, row) in rows.rows().into_iter().enumerate() {
                let row = row.to_slice().expect("contiguous");
                let places = block[i..].iter_mut().step_by(stride);
                places.zip(row).for_each(|(number, value)| *number = value.widen().into());
            }
        }
        if self.scale != 1.0 {
            for number in block {
                *number *= self.scale;
            }
        }
    }

    /// R of the QR decomposition, row by row, and the largest magnitude: not finite if some number is not, and then there is
    /// no R.
    fn triangle(&self, cancel: &Cancel) -> Result<(Vec<f64>, f64)> {
        let (n, stride) = (self.a.ncols(), self.block_rows());
        let chunks: Vec<Result<(Vec<f64>, u64)>> = self
            .chunks()
            .map_init(
                || Aligned::zeros(n * stride),
                |block, chunk| {
                    let (mut r, mut largest) = (vec![0.0; n * n], 0);
                    for rows in self.blocks(chunk) {
                        cancel.check()?;
                        self.gather(rows, block);
                        largest = largest_magnitude(block).max(largest);
                        absorb(&mut r, n, block, stride, false);
                    }
                    Ok((r, largest))
                },
            )
            .collect();
        let (mut triangles, mut largest) = (Vec::with_capacity(chunks.len()), 0);
        for chunk in chunks {
            let (r, magnitude) = chunk?;
            triangles.push(r);
            largest = magnitude.max(largest);
        }
        while triangles.len() > 1 {
            cancel.check()?;
            triangles.par_chunks_mut(2).for_each(|pair| {
                if let [first, second] = pair {
                    merge(first, second, n);
                }
            });
            triangles = triangles.into_iter().step_by(2).collect();
        }
        Ok((triangles.pop().unwrap_or_default(), f64::from_bits(largest)))
    }

    /// `A v / s` for the rows `v` of `right`, one per row, and the Gram matrix of these.
    fn times(
        &self,
        right: &ArrayView2<'_, f64>,
        values: &[f64],
        cancel: &Cancel,
    ) -> Result<(Array2<f64>, Array2<f64>)> {
        let (rank, n) = right.dim();
        let stride = self.block_rows();
        let coefficients = right / &ArrayView2::from_shape((rank, 1), values).expect("one per row");
        let coefficients = coefficients.as_standard_layout();
        let coefficients = coefficients.as_slice().expect("standard layout");
        let mut left = Array2::zeros((rank, self.a.nrows()));
        let mut gram = Array2::zeros((rank, rank));
        if rank == 0 {
            return Ok((left, gram));
        }
        let chunks: Vec<Result<Vec<f64>>> = self
            .chunks()
            .zip(left.axis_chunks_iter_mut(Axis(1), self.chunk_rows()))
            .map_init(
                || (Aligned::zeros(n * stride), Aligned::zeros(rank * stride)),
                |(block, vectors), (chunk, mut left)| {
                    let mut gram = vec![0.0; rank * rank];
                    for (index, rows) in self.blocks(chunk).enumerate() {
                        cancel.check()?;
                        self.gather(rows.clone(), block);
                        combine(block, stride, coefficients, vectors);
                        add_products(&mut gram, vectors, stride);
                        write(vectors, stride, &mut left, index * stride, rows.len());
                    }
                    Ok(gram)
                },
            )
            .collect();
        for chunk in chunks {
            gram += &ArrayView2::from_shape((rank, rank), &chunk?).expect("as many elements");
        }
        Ok((left, gram))
    }

    /// Replaces vectors, the rows, by their combinations: row `t` of the result has the coefficients in row `t`.
    fn transform(&self, left: &mut Array2<f64>, coefficients: &Array2<f64>, cancel: &Cancel) -> Result<()> {
        let (rank, stride) = (left.nrows(), self.block_rows());
        let coefficients = coefficients.as_slice().expect("standard layout");
        if rank == 0 {
            return Ok(());
        }
        left.axis_chunks_iter_mut(Axis(1), self.chunk_rows()).into_par_iter().try_for_each_init(
            || (Aligned::zeros(rank * stride), Aligned::zeros(rank * stride)),
            |(block, vectors), mut left| {
                for rows in self.blocks(0..left.ncols()) {
                    cancel.check()?;
                    for (column, row) in block.chunks_exact_mut(stride).zip(left.rows()) {
                        let row = &row.to_slice().expect("rows are contiguous")[rows.clone()];
                        column[..row.len()].copy_from_slice(row);
                        column[row.len()..].fill(0.0);
                    }
                    combine(block, stride, coefficients, vectors);
                    write(vectors, stride, &mut left, rows.start, rows.len());
                }
                Ok(())
            },
        )
    }
}

/// Copies the columns of a block to the places from `first` on.
fn write(block: &[f64], stride: usize, left: &mut ArrayViewMut2<'_, f64>, first: usize, len: usize) {
    for (column, mut row) in block.chunks_exact(stride).zip(left.rows_mut()) {
        let row = row.as_slice_mut().expect("rows are contiguous");
        row[first..][..len].copy_from_slice(&column[..len]);
    }
}

/// The bits of the largest magnitude. Infinity and NaN are larger than any number.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn largest_magnitude(numbers: &[f64]) -> u64 {
    numbers.iter().map(|number| number.to_bits() & !(1 << 63)).fold(0, u64::max)
}

// ------------------------------------------------------------------------------------------------------- the triangular R

/// Joins rows to a triangular factor: R becomes the one of R over the block. Column `c` of a triangular block ends with
/// element `c`.
///
/// Some columns at a time become reflections, which then go over the rest together: what they read is read once.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn absorb(r: &mut [f64], n: usize, block: &mut [f64], stride: usize, is_triangular: bool) {
    for first in (0..n).step_by(WIDTH) {
        let width = WIDTH.min(n - first);
        let end = first + width;
        let (head, rest) = block.split_at_mut(end * stride);
        let len = if is_triangular { end.next_multiple_of(LANES) } else { stride };
        let mut reflections = Reflections::default();
        for i in 0..width {
            let (done, others) = head[first * stride..].split_at_mut((i + 1) * stride);
            let xs = done.chunks_exact(stride).map(|x| &x[..len]);
            let row = &mut r[(first + i) * n..][first + i..end];
            reflections.push(i, &mut row[0], xs);
            let x = &done[i * stride..][..len];
            for (entry, column) in row[1..].iter_mut().zip(others.chunks_exact_mut(stride)) {
                reflections.apply_one(i, x, entry, &mut column[..len]);
            }
        }
        // Those that are not there reflect nothing.
        let xs = std::array::from_fn(|i| &head[(first + i.min(width - 1)) * stride..][..len]);
        let rows = &mut r[first * n..end * n];
        let mut pairs = rest.chunks_exact_mut(2 * stride);
        let mut c = end;
        for pair in &mut pairs {
            let (one, other) = pair.split_at_mut(stride);
            reflections.apply(xs, rows, n, c, [&mut one[..len], &mut other[..len]]);
            c += 2;
        }
        for column in pairs.into_remainder().chunks_exact_mut(stride) {
            reflections.apply(xs, rows, n, c, [&mut column[..len]]);
        }
    }
}

/// Householder reflections, one after the other. The one of a column x of the block and the entry `alpha` of R above it is by
/// `(v, x)` and takes `(alpha, x)` to `(-norm, 0)`, with `v = alpha + norm` and the norm of both, of the sign of alpha.
#[derive(Default)]
struct Reflections {
    v: [f64; WIDTH],
    /// 2 over the square of `(v, x)`; 0 reflects nothing.
    factors: [f64; WIDTH],
    /// Scalar products of each x with those before it.
    cross: [[f64; WIDTH]; WIDTH],
}

impl Reflections {
    /// The reflection of the last of some columns, which has the index `i`.
    #[inline(always)]
    fn push<'x>(&mut self, i: usize, alpha: &mut f64, xs: impl ExactSizeIterator<Item = &'x [f64]> + Clone) {
        let x = xs.clone().last().expect("one at least");
        for (product, before) in self.cross[i].iter_mut().zip(xs.take(i)) {
            *product = products(x, [before])[0];
        }
        let [square] = products(x, [x]);
        if square < NOTHING {
            return;
        }
        let norm = (*alpha * *alpha + square).sqrt().copysign(*alpha);
        self.v[i] = *alpha + norm;
        self.factors[i] = 1.0 / (norm * self.v[i]);
        *alpha = -norm;
    }

    /// Reflects one column by one reflection.
    #[inline(always)]
    fn apply_one(&self, i: usize, x: &[f64], entry: &mut f64, column: &mut [f64]) {
        let [product] = products(x, [column]);
        let weight = (self.v[i] * *entry + product) * self.factors[i];
        *entry -= weight * self.v[i];
        for (number, x) in column.iter_mut().zip(x) {
            *number -= weight * x;
        }
    }

    /// Reflects N columns, whose entries in R are those from `c` on in the rows, by all reflections. What a later one sees of
    /// an earlier one follows from their scalar product.
    #[inline(always)]
    fn apply<const N: usize>(
        &self,
        xs: [&[f64]; WIDTH],
        rows: &mut [f64],
        n: usize,
        c: usize,
        mut columns: [&mut [f64]; N],
    ) {
        let mut sums = [[[0.0; LANES]; N]; WIDTH];
        for first in (0..columns[0].len()).step_by(LANES) {
            let numbers = columns.each_ref().map(|column| lanes(&column[first..]));
            for (sums, x) in sums.iter_mut().zip(xs) {
                let x = lanes(&x[first..]);
                *sums = std::array::from_fn(|k| add_product(sums[k], x, numbers[k]));
            }
        }
        let sums = totals(sums);
        let mut weights = [[0.0; N]; WIDTH];
        for (i, row) in rows.chunks_exact_mut(n).enumerate() {
            for (k, entry) in row[c..][..N].iter_mut().enumerate() {
                let mut product = self.v[i] * *entry + sums[i][k];
                for (cross, weights) in self.cross[i].iter().zip(&weights[..i]) {
                    product -= cross * weights[k];
                }
                weights[i][k] = product * self.factors[i];
                *entry -= weights[i][k] * self.v[i];
            }
        }
        for first in (0..columns[0].len()).step_by(LANES) {
            let xs = xs.map(|x| lanes(&x[first..]));
            for (k, column) in columns.iter_mut().enumerate() {
                let mut numbers = lanes(&column[first..]);
                for (x, weights) in xs.into_iter().zip(weights) {
                    numbers = add_product(numbers, [-weights[k]; LANES], x);
                }
                column[first..][..LANES].copy_from_slice(&numbers);
            }
        }
    }
}

/// What one vector of the processor holds, or some of them. Written by value, or the compiler gathers across lanes.
type Lanes = [f64; LANES];

#[inline(always)]
fn lanes(numbers: &[f64]) -> Lanes {
    *numbers.first_chunk().expect("whole lanes")
}

#[inline(always)]
fn add_product(sum: Lanes, x: Lanes, y: Lanes) -> Lanes {
    std::array::from_fn(|lane| sum[lane] + x[lane] * y[lane])
}

/// Whole cache lines, so that the parts of a vector that was just written can be read at once.
#[repr(align(64))]
struct Lines<T>(T);

/// The sums of all lanes. The compiler must not see them together with the loop: it would cut vectors in pairs for them.
#[inline(always)]
fn totals<const N: usize, const M: usize>(sums: [[Lanes; N]; M]) -> [[f64; N]; M] {
    black_box(Lines(sums))
        .0
        .map(|sums| sums.map(|[a, b, c, d, e, f, g, h]| ((a + e) + (c + g)) + ((b + f) + (d + h))))
}

/// Scalar products of x with columns as long as it, a multiple of [`LANES`].
#[inline(always)]
fn products<const N: usize>(x: &[f64], columns: [&[f64]; N]) -> [f64; N] {
    let columns = columns.map(|column| &column[..x.len()]);
    let mut sums = [[0.0; LANES]; N];
    for (i, xs) in x.as_chunks::<LANES>().0.iter().enumerate() {
        for (sum, column) in sums.iter_mut().zip(columns) {
            *sum = add_product(*sum, *xs, lanes(&column[i * LANES..]));
        }
    }
    let [sums] = totals([sums]);
    sums
}

/// Joins a second triangular factor to the first.
fn merge(first: &mut [f64], second: &[f64], n: usize) {
    let stride = n.next_multiple_of(LANES);
    let mut block = Aligned::zeros(n * stride);
    for (c, column) in block.chunks_exact_mut(stride).enumerate() {
        for (row, number) in column[..=c].iter_mut().enumerate() {
            *number = second[row * n + c];
        }
    }
    absorb(first, n, &mut block, stride, true);
}

/// Singular values of R, `(n, n)` row by row, largest first, and its right singular vectors, one per row.
fn decompose_triangle(r: &[f64], n: usize, cancel: &Cancel) -> Result<(Vec<f64>, Array2<f64>)> {
    let stride = n.next_multiple_of(LANES);
    let mut rows = Aligned::zeros(n * stride);
    for (row, numbers) in rows.chunks_exact_mut(stride).zip(r.chunks_exact(n)) {
        row[..n].copy_from_slice(numbers);
    }
    // Once all rows are orthogonal to one another they are s v.
    for _ in 0..MAX_SWEEPS {
        let mut done = true;
        for i in 0..n {
            cancel.check()?;
            done &= rotate(&mut rows[i * stride..], stride, n);
        }
        if done {
            break;
        }
    }
    let rows: Vec<&[f64]> = rows.chunks_exact(stride).collect();
    let values: Vec<f64> = rows.iter().map(|row| products(row, [row])[0].sqrt()).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| values[j].partial_cmp(&values[i]).unwrap_or(Ordering::Equal));
    let right = Array2::from_shape_fn((n, n), |(t, c)| rows[order[t]][c] / values[order[t]]);
    Ok((order.iter().map(|&i| values[i]).collect(), right))
}

/// Rotates the first row against each that follows, so that the two are orthogonal. Whether all were so already.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn rotate(rows: &mut [f64], stride: usize, n: usize) -> bool {
    let tolerance = f64::EPSILON * (n as f64).sqrt();
    let (first, others) = rows.split_at_mut(stride);
    let mut done = true;
    for other in others.chunks_exact_mut(stride) {
        let [a, c] = products(first, [first, other]);
        let [b] = products(other, [other]);
        if c.abs() <= tolerance * a.sqrt() * b.sqrt() || a.min(b) < NOTHING {
            continue;
        }
        done = false;
        let zeta = (b - a) / (2.0 * c);
        let tangent = 1.0_f64.copysign(zeta) / (zeta.abs() + zeta.hypot(1.0));
        let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
        let sine = cosine * tangent;
        for (x, y) in first.iter_mut().zip(other) {
            (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
        }
    }
    done
}

// ------------------------------------------------------------------------------------------------------- the left vectors

/// For each column of `out`, the sum of the block's columns times one row of coefficients.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn combine(block: &[f64], stride: usize, coefficients: &[f64], out: &mut [f64]) {
    let n = block.len() / stride;
    let outs = out.chunks_mut(WIDTH * stride).zip(coefficients.chunks(WIDTH * n));
    for (out, coefficients) in outs {
        if let Ok(rows) = <[&[f64]; WIDTH]>::try_from(coefficients.chunks_exact(n).collect::<Vec<_>>()) {
            combine_rows(block, stride, rows, out);
        } else {
            for (out, row) in out.chunks_exact_mut(stride).zip(coefficients.chunks_exact(n)) {
                combine_rows(block, stride, [row], out);
            }
        }
    }
}

#[inline(always)]
fn combine_rows<const N: usize>(block: &[f64], stride: usize, rows: [&[f64]; N], out: &mut [f64]) {
    for first in (0..stride).step_by(STRIP) {
        let mut sums = [[[0.0; LANES]; 2]; N];
        for (c, column) in block.chunks_exact(stride).enumerate() {
            let numbers = [lanes(&column[first..]), lanes(&column[first + LANES..])];
            for (sums, row) in sums.iter_mut().zip(rows) {
                let coefficient = [row[c]; LANES];
                *sums = [0, 1].map(|half| add_product(sums[half], coefficient, numbers[half]));
            }
        }
        for (out, sums) in out.chunks_exact_mut(stride).zip(&sums) {
            out[first..][..STRIP].copy_from_slice(sums.as_flattened());
        }
    }
}

/// Adds the scalar products of the columns of a block to the lower triangle of a Gram matrix.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn add_products(gram: &mut [f64], block: &[f64], stride: usize) {
    let rank = block.len() / stride;
    let columns = |t: usize| &block[t * stride..][..stride];
    for t in 0..rank {
        let row = &mut gram[t * rank..][..=t];
        let (fours, ones) = row.as_chunks_mut::<WIDTH>();
        let n_fours = fours.len() * WIDTH;
        for (first, sums) in fours.iter_mut().enumerate() {
            let found =
                products(columns(t), std::array::from_fn::<_, WIDTH, _>(|i| columns(first * WIDTH + i)));
            sums.iter_mut().zip(found).for_each(|(sum, product)| *sum += product);
        }
        for (u, sum) in ones.iter_mut().enumerate() {
            *sum += products(columns(t), [columns(n_fours + u)])[0];
        }
    }
}

/// The largest entry of the lower triangle of a matrix less 1.
fn distance_from_one(gram: &Array2<f64>) -> f64 {
    let entries = gram.indexed_iter().filter(|((t, u), _)| u <= t);
    entries.map(|((t, u), &entry)| if t == u { (entry - 1.0).abs() } else { entry.abs() }).fold(0.0, f64::max)
}

/// The lower Cholesky factor, and how many of its leading rows are distinct.
fn cholesky(gram: &Array2<f64>) -> (Array2<f64>, usize) {
    let rank = gram.nrows();
    let mut factor = Array2::<f64>::zeros((rank, rank));
    for t in 0..rank {
        for u in 0..=t {
            let taken: f64 = (0..u).map(|i| factor[[t, i]] * factor[[u, i]]).sum();
            let left = gram[[t, u]] - taken;
            if u < t {
                factor[[t, u]] = left / factor[[u, u]];
            } else if left > DISTINCT * gram[[t, t]] {
                factor[[t, t]] = left.sqrt();
            } else {
                return (factor, t);
            }
        }
    }
    (factor, rank)
}

/// The inverse of the lower Cholesky factor, of as many leading rows as are distinct.
fn inverse_cholesky(gram: &Array2<f64>) -> Array2<f64> {
    let (factor, rank) = cholesky(gram);
    let mut inverse = Array2::<f64>::zeros((rank, rank));
    for t in 0..rank {
        for u in 0..=t {
            let one = f64::from(u8::from(t == u));
            let taken: f64 = (u..t).map(|i| factor[[t, i]] * inverse[[i, u]]).sum();
            inverse[[t, u]] = (one - taken) / factor[[t, t]];
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, array};

    use super::*;

    fn svd(a: &Array2<f64>, k: usize) -> Svd {
        truncated_svd(&a.view(), k, &Cancel::default()).unwrap()
    }

    fn assert_near(found: &Array2<f64>, expected: &Array2<f64>, tolerance: f64) {
        assert_eq!(found.dim(), expected.dim());
        let error = (found - expected).iter().fold(0.0_f64, |max, error| max.max(error.abs()));
        assert!(error <= tolerance, "off by {error:e}");
    }

    #[test]
    fn a_matrix_of_one_column() {
        let found = svd(&array![[-3.0], [0.0], [4.0]], 1);
        assert_near(&found.left, &array![[-0.6, 0.0, 0.8]], 1e-15);
        assert_eq!((found.values, found.right), (vec![5.0], array![[1.0]]));
    }

    #[test]
    fn three_samples_of_two_pixels() {
        // The centred samples of a worked example: singular values 0.2 and twice 0.
        let d = array![[0.1, 0.0, -0.1], [0.0, 0.0, 0.0], [-0.1, 0.0, 0.1], [0.0, 0.0, 0.0]];
        let found = svd(&d, 3);
        assert_eq!(found.values.len(), 1);
        assert!((found.values[0] - 0.2).abs() < 1e-16);
        let half = 0.5_f64.sqrt();
        assert_near(&found.left, &array![[half, 0.0, -half, 0.0]], 1e-15);
        assert_near(&found.right, &array![[half, 0.0, -half]], 1e-15);
    }

    #[test]
    fn the_zero_matrix_has_no_singular_values() {
        let found = svd(&Array2::zeros((7, 3)), 2);
        assert_eq!((found.left.dim(), found.values.len(), found.right.dim()), ((0, 7), 0, (0, 3)));
    }

    #[test]
    fn numbers_of_any_size() {
        let a = array![[3.0, 0.0], [0.0, 2.0], [4.0, 0.0]];
        for exponent in [-1022, -600, -301, -299, 0, 299, 301, 600, 1020] {
            let scale = 2.0_f64.powi(exponent);
            let found = svd(&(&a * scale), 2);
            assert_eq!(found.values, [5.0 * scale, 2.0 * scale]);
            assert_near(&found.left, &array![[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]], 1e-15);
        }
        let found = truncated_svd(&Array2::from_elem((9, 2), f64::MAX).view(), 1, &Cancel::default());
        assert_eq!(found, Err(Error::MatrixTooLarge));
    }

    #[test]
    fn the_first_number_that_is_not_finite_is_named() {
        let mut a = Array2::<f64>::zeros((4000, 50));
        a[[3999, 0]] = f64::INFINITY;
        a[[3998, 7]] = f64::NEG_INFINITY;
        let error = Error::MatrixNotFinite { row: 3998, column: 7, value: f64::NEG_INFINITY };
        assert_eq!(truncated_svd(&a.view(), 1, &Cancel::default()), Err(error));
        let error = Error::MatrixNotFinite { row: 0, column: 3999, value: f64::INFINITY };
        assert_eq!(truncated_svd(&a.t(), 1, &Cancel::default()), Err(error));
    }

    #[test]
    fn the_largest_entry_is_positive_the_first_of_several() {
        let mut svd = Svd {
            left: array![[0.1, -0.7, 0.7], [-0.6, 0.0, 0.8]],
            values: vec![2.0, 1.0],
            right: array![[1.0, 0.0], [0.0, 1.0]],
        };
        fix_signs(&mut svd);
        assert_eq!(svd.left, array![[-0.1, 0.7, -0.7], [-0.6, 0.0, 0.8]]);
        assert_eq!(svd.right, array![[-1.0, 0.0], [0.0, 1.0]]);
    }

    #[test]
    fn many_equal_rows() {
        let found = svd(&Array2::from_shape_fn((6000, 50), |(_, j)| j as f64), 50);
        assert_eq!(found.values.len(), 1);
        assert!((found.values[0] / (6000.0 * 40425.0_f64).sqrt() - 1.0).abs() < 1e-14);
    }

    #[test]
    fn vectors_that_are_not_distinct_end_the_cholesky_factor() {
        let gram = array![[1.0, 0.0, 0.0], [0.6, 1.0, 0.0], [1.0, 0.6, 1.0]];
        let inverse = inverse_cholesky(&gram);
        assert_near(&inverse, &array![[1.0, 0.0], [-0.75, 1.25]], 1e-15);
    }

    #[test]
    fn columns_of_very_different_size_have_orthogonal_vectors() {
        let mixing = array![[1.0, 1.0, 1.0], [1.0, -1.0, 2.0], [1.0, 0.0, -3.0]];
        let a = Array2::from_shape_fn((500, 3), |(i, j)| {
            (i as f64 * (j + 1) as f64).sin() * 1e-6_f64.powi(j as i32)
        });
        let found = svd(&a.dot(&mixing), 3);
        assert!(found.values[0] > 1e10 * found.values[2]);
        assert_near(&found.left.dot(&found.left.t()), &Array2::eye(3), 1e-14);
        assert_near(&found.right.dot(&found.right.t()), &Array2::eye(3), 1e-14);
    }

    #[test]
    fn chunks_join_to_the_whole() {
        // Several chunks, the last one short, and an odd number of them.
        let a = Array2::from_shape_fn((7 * 2800 + 3, 50), |(i, j)| {
            let hash = (i * 50 + j).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (hash >> 40) as f64 / f64::from(1 << 24) - 0.5
        });
        let found = svd(&a, 50);
        let scaled = &found.left.t() * &Array1::from(found.values.clone());
        assert_near(&scaled.dot(&found.right), &a, 1e-13);
        assert_near(&found.left.dot(&found.left.t()), &Array2::eye(50), 1e-14);
        assert_near(&found.right.dot(&found.right.t()), &Array2::eye(50), 1e-14);
    }
}
