//! Channel-last to class by class.

/// Writes class `k` of each pixel, `values` being pixel by pixel, to the run at `k * stride` of `out`.
pub fn by_columns<R: Copy>(values: &[R], n_classes: usize, stride: usize, out: &mut [R]) {
    for class in 0..n_classes.min(values.len()) {
        let column = values[class..].iter().step_by(n_classes);
        for (out, &value) in out[class * stride..].iter_mut().zip(column) {
            *out = value;
        }
    }
}

/// [`by_columns`] for float32, in blocks of 8 pixels by 8 classes where the processor has vectors of that size.
pub fn by_blocks(values: &[f32], n_classes: usize, stride: usize, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the features that the function is compiled for. Otherwise the function is safe.
        #[allow(unsafe_code)]
        return unsafe { blocks::transpose(values, n_classes, stride, out) };
    }
    by_columns(values, n_classes, stride, out);
}

#[cfg(target_arch = "x86_64")]
mod blocks {
    use std::arch::x86_64::{
        __m256, _mm256_permute2f128_ps, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_unpackhi_ps,
        _mm256_unpacklo_ps,
    };

    use zerocopy::transmute;

    use super::by_columns;

    /// Side of a block.
    const SIDE: usize = 8;

    #[target_feature(enable = "avx2")]
    pub fn transpose(values: &[f32], n_classes: usize, stride: usize, out: &mut [f32]) {
        // A row of a block may reach into the next pixel, where there are few classes, but not beyond the end.
        let first_class_of_last = n_classes.saturating_sub(SIDE);
        let n_rows = (values.len() + n_classes).saturating_sub(first_class_of_last + SIDE) / n_classes;
        let n_whole = n_rows / SIDE * SIDE;
        for class in (0..n_classes).step_by(SIDE) {
            // The last block overlaps the one before.
            let class = class.min(first_class_of_last);
            let mut runs: [&mut [[f32; SIDE]]; SIDE] = Default::default();
            for (run, plane) in runs.iter_mut().zip(out.chunks_mut(stride).skip(class)) {
                *run = plane[..n_whole].as_chunks_mut().0;
            }
            for block in 0..n_whole / SIDE {
                let pixels = &values[block * SIDE * n_classes + class..];
                let mut rows = [_mm256_setzero_ps(); SIDE];
                for (i, row) in rows.iter_mut().enumerate() {
                    *row = load(&pixels[i * n_classes..]);
                }
                for (run, column) in runs.iter_mut().zip(transpose_block(rows)) {
                    // Where there are fewer classes than columns, some have no run.
                    if let Some(run) = run.get_mut(block) {
                        *run = transmute!(column);
                    }
                }
            }
        }
        by_columns(&values[n_whole * n_classes..], n_classes, stride, &mut out[n_whole..]);
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(values: &[f32]) -> __m256 {
        transmute!(*values.first_chunk::<SIDE>().expect("a row of a block"))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn transpose_block(rows: [__m256; SIDE]) -> [__m256; SIDE] {
        const LOW: i32 = 0x44;
        const HIGH: i32 = 0xee;
        let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
        // Pairs of rows, then fours, then all eight, within each half of a vector first.
        let (a0, a1) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
        let (a2, a3) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
        let (a4, a5) = (_mm256_unpacklo_ps(r4, r5), _mm256_unpackhi_ps(r4, r5));
        let (a6, a7) = (_mm256_unpacklo_ps(r6, r7), _mm256_unpackhi_ps(r6, r7));
        let (b0, b1) = (_mm256_shuffle_ps::<LOW>(a0, a2), _mm256_shuffle_ps::<HIGH>(a0, a2));
        let (b2, b3) = (_mm256_shuffle_ps::<LOW>(a1, a3), _mm256_shuffle_ps::<HIGH>(a1, a3));
        let (b4, b5) = (_mm256_shuffle_ps::<LOW>(a4, a6), _mm256_shuffle_ps::<HIGH>(a4, a6));
        let (b6, b7) = (_mm256_shuffle_ps::<LOW>(a5, a7), _mm256_shuffle_ps::<HIGH>(a5, a7));
        [
            _mm256_permute2f128_ps::<0x20>(b0, b4),
            _mm256_permute2f128_ps::<0x20>(b1, b5),
            _mm256_permute2f128_ps::<0x20>(b2, b6),
            _mm256_permute2f128_ps::<0x20>(b3, b7),
            _mm256_permute2f128_ps::<0x31>(b0, b4),
            _mm256_permute2f128_ps::<0x31>(b1, b5),
            _mm256_permute2f128_ps::<0x31>(b2, b6),
            _mm256_permute2f128_ps::<0x31>(b3, b7),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_gets_its_run() {
        for n_classes in [2, 3, 7, 8, 9, 16, 19, 150] {
            for n_pixels in [1, 2, 7, 8, 9, 16, 100] {
                let values: Vec<f32> = (0..n_pixels * n_classes).map(|i| i as f32).collect();
                let stride = n_pixels + 3;
                let mut expected = vec![-1.0; n_classes * stride];
                for (i, &value) in values.iter().enumerate() {
                    expected[i % n_classes * stride + i / n_classes] = value;
                }
                for transpose in [by_columns, by_blocks] {
                    let mut out = vec![-1.0; n_classes * stride];
                    transpose(&values, n_classes, stride, &mut out);
                    assert_eq!(out, expected, "{n_classes} classes, {n_pixels} pixels");
                }
            }
        }
    }
}
