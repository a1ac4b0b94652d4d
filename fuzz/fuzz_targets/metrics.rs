//! Any label maps: metrics agree with counting pixel by pixel.

#![no_main]

use std::collections::HashMap;

use arbitrary::{Result, Unstructured};
use ndarray::{Array3, ArrayD};

use _core::maps::{Ignored, ScoreMaps};
use _core::metric::accuracy::Truth;
use _core::metric::agreement::{agreement, correlation};
use _core::metric::boundary::{BOUNDARY, mark};
use _core::metric::calibration::{Settings, count};
use _core::metric::richness::richness;
use _core::metric::stack::LabelStack;
use _core::threads::Cancel;
use conformask_fuzz::labels::{IGNORED, Labels};
use conformask_fuzz::maps::{Kind, Number, double, inputs_of, laid, shape};
use conformask_fuzz::{fuzz, on_any_threads, with_labels, with_type};

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz(data, |u| {
    let choice: u8 = u.arbitrary()?;
    if choice & 0x80 == 0 { stacks(u) } else { with_type!(choice, calibration(u)) }
}));

/// Maps of one image, one above the other.
fn stacks(u: &mut Unstructured<'_>) -> Result<()> {
    let shape = [u.int_in_range(1..=6)?, u.int_in_range(1..=9)?, u.int_in_range(1..=40)?];
    let n_labels = *u.choose(&[1, 2, 3, 200, 70_000])?;
    let ignored: Vec<i64> = vec![*u.choose(&IGNORED)?];
    let samples = Labels::any(u, &shape, n_labels, &ignored, true)?;
    let truth = Labels::any(u, &[1, shape[1], shape[2]], n_labels, &ignored, true)?;
    let (plain, cancel) = (samples.plain(), Cancel::default());
    let n_pixels = shape[1] * shape[2];
    let values = plain.as_slice().expect("row by row");
    let maps: Vec<&[i128]> = values.chunks(n_pixels).collect();

    let found = on_any_threads(|| {
        with_labels!(&samples, |laid| {
            let stack = LabelStack::new(laid.view(), "samples").expect("not empty");
            let of_pixels = [false, true].map(|varying_only| {
                correlation(&stack, varying_only, &cancel).map(f64::to_bits).map_err(|e| e.to_string())
            });
            (richness(&stack, &cancel).expect("room"), agreement(&stack, &cancel).expect("room"), of_pixels)
        })
    });
    let (drawn, agreeing, of_pixels) = found;
    let mut times = HashMap::<&[i128], u64>::new();
    maps.iter().for_each(|map| *times.entry(map).or_default() += 1);
    let n_drawn = |n| times.values().filter(|times| **times == n).count() as u64;
    assert_eq!(
        (drawn.observed, drawn.singletons, drawn.doubletons),
        (times.len() as u64, n_drawn(1), n_drawn(2))
    );
    let mut expected = 0_u128;
    for first in 0..maps.len() {
        for second in (0..maps.len()).filter(|second| *second != first) {
            expected += maps[first].iter().zip(maps[second]).filter(|(a, b)| a == b).count() as u128;
        }
    }
    assert_eq!(agreeing, expected);
    let is_varying = |j: usize| maps.iter().any(|map| map[j] != maps[0][j]);
    for (varying_only, found) in [false, true].into_iter().zip(of_pixels) {
        assert!(maps.len() > 1 || found.is_err(), "one map has no pair");
        let Ok(found) = found else { continue };
        let counted: Vec<usize> = (0..n_pixels).filter(|&j| !varying_only || is_varying(j)).collect();
        let (found, expected) = (f64::from_bits(found), mean_correlation(&maps, &counted));
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }

    let found = with_labels!(&truth, |laid| {
        let stack = LabelStack::new(laid.view(), "y_true").expect("not empty");
        Truth::new(&stack, &Ignored::from(ignored.clone()), &cancel).expect("room")
    });
    let hits = on_any_threads(|| {
        with_labels!(&samples, |laid| {
            let stack = LabelStack::new(laid.view(), "predictions").expect("not empty");
            found.hits(&stack, &cancel).expect("as many pixels")
        })
    });
    let truth = truth.plain();
    let truth = truth.as_slice().expect("row by row");
    let mut labels: Vec<i128> =
        truth.iter().copied().filter(|label| *label != i128::from(ignored[0])).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(found.labels, labels);
    for (code, &label) in labels.iter().enumerate() {
        assert_eq!(found.totals[code], truth.iter().filter(|y| **y == label).count() as u64);
        for (map, labels) in maps.iter().enumerate() {
            let expected =
                truth.iter().zip(*labels).filter(|(y, l)| **y == label && **l == label).count() as u64;
            assert_eq!(hits[[map, code]], expected);
        }
    }
    Ok(())
}

/// Pearson's correlation over all pairs of maps; 0 where it is undefined.
fn mean_correlation(maps: &[&[i128]], counted: &[usize]) -> f64 {
    let n = counted.len() as f64;
    // Differences to the first label are small where the labels are large.
    let origin = maps[0][0];
    let centred = |map: &&[i128]| {
        let values: Vec<f64> = counted.iter().map(|&j| (map[j] - origin) as f64).collect();
        let mean = values.iter().sum::<f64>() / n;
        values.into_iter().map(|value| value - mean).collect::<Vec<f64>>()
    };
    let is_constant = |map: &&[i128]| counted.iter().all(|&j| map[j] == map[counted[0]]);
    let (mut sum, mut n_pairs) = (0.0, 0.0);
    for (i, first) in maps.iter().enumerate() {
        for second in &maps[i + 1..] {
            n_pairs += 1.0;
            if counted.is_empty() || is_constant(first) || is_constant(second) {
                continue;
            }
            let (a, b) = (centred(first), centred(second));
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
            sum += dot(&a, &b) / (dot(&a, &a).sqrt() * dot(&b, &b).sqrt());
        }
    }
    sum / n_pairs
}

/// The counts by which calibration is measured.
fn calibration<E: Number>(u: &mut Unstructured<'_>) -> Result<()> {
    let kind = *u.choose(&[Kind::Probabilities, Kind::Logits, Kind::Any])?;
    let (choice, shape) = (u.arbitrary()?, shape(u)?);
    let n_classes = shape[1];
    let objects = if u.arbitrary()? {
        Some((0..n_classes).map(|_| u.arbitrary()).collect::<Result<_>>()?)
    } else {
        None
    };
    let settings = Settings {
        n_bins: *u.choose(&[1, 2, 15, 100])?,
        radius: *u.choose(&[None, Some(0), Some(1), Some(3), Some(1000)])?,
        of_prediction: u.arbitrary()?,
        objects,
        threshold: *u.choose(&[None, Some(0.0), Some(0.5), Some(1e-3)])?,
        scores: u.arbitrary()?,
    };
    let of_labels: Vec<usize> =
        shape.iter().enumerate().filter(|(axis, _)| *axis != 1).map(|(_, &n)| n).collect();
    let labels = Labels::any(u, &of_labels, n_classes, &[1000], true)?;
    let scores = laid::<E>(u, &shape, kind)?;
    let inputs = inputs_of(kind, choice);
    let (plain, cancel) = (scores.plain(), Cancel::default());
    let find = |view| {
        let text = |error: _core::error::Error| format!("{error:?}");
        let maps = ScoreMaps::new(view, inputs, 0).map_err(text)?;
        let labels = labels.maps(&[1000], maps.label_space()).map_err(text)?;
        let (images, pooled) = count(&maps, &labels, &settings, &cancel).map_err(text)?;
        let images =
            images.into_iter().map(|i| (i.bins, i.sums, i.totals, i.predicted, i.hits)).collect::<Vec<_>>();
        let marks =
            settings.radius.map(|radius| mark(&maps, &labels, radius, settings.of_prediction, None, &cancel));
        let marks = marks.transpose().map_err(text)?;
        Ok::<_, String>((images, pooled.ranks, pooled.confusion, pooled.classes, marks))
    };
    let found = on_any_threads(|| find(scores.view()));
    assert_eq!(find(plain.view()), found, "row by row");
    let Ok((images, ranks, confusion, _, marks)) = found else { return Ok(()) };

    let labels = labels.plain();
    let labels = labels.as_slice().expect("row by row");
    let (n, n_pixels) = (shape[0], shape[2..].iter().product::<usize>());
    let mut expected = vec![0_u64; n_classes * n_classes];
    let mut predicted = vec![usize::MAX; n * n_pixels];
    for (j, &label) in labels.iter().enumerate().filter(|(_, label)| **label != 1000) {
        let (image, pixel) = (j / n_pixels, j % n_pixels);
        let first = first_class(&plain, image, pixel, n_classes, n_pixels);
        predicted[j] = first;
        expected[label as usize * n_classes + first] += 1;
    }
    // Softmax may make two different logits equal; maps without a transform are unambiguous.
    if kind == Kind::Probabilities {
        assert_eq!(confusion, expected);
    }
    let n_valid = expected.iter().sum::<u64>();
    assert_eq!(confusion.iter().sum::<u64>(), n_valid);
    assert_eq!(images.iter().flat_map(|image| &image.0).map(|bin| bin.n).sum::<u64>(), n_valid);
    if settings.scores {
        assert_eq!(ranks.iter().map(|sums| sums.n).sum::<u64>(), n_valid);
    }
    for (image, (bins, _, totals, _, hits)) in images.iter().enumerate() {
        let of_image = &labels[image * n_pixels..][..n_pixels];
        for class in 0..n_classes {
            assert_eq!(
                totals[class],
                of_image.iter().filter(|label| **label == class as i128).count() as u64
            );
            assert!(hits[class] <= totals[class]);
        }
        assert_eq!(bins.iter().map(|bin| bin.right).sum::<u64>(), hits.iter().sum::<u64>());
    }
    if let (Some(marks), Some(radius), false) = (marks, settings.radius, settings.of_prediction) {
        check_marks(&marks, labels, &shape, radius);
    }
    Ok(())
}

/// The lowest of the most probable classes.
fn first_class<E: Number>(
    scores: &ArrayD<E>,
    image: usize,
    pixel: usize,
    n_classes: usize,
    n_pixels: usize,
) -> usize {
    let values = scores.as_slice().expect("row by row");
    let at = |class: usize| double(values[(image * n_classes + class) * n_pixels + pixel]);
    let largest = (0..n_classes).map(at).fold(f64::NEG_INFINITY, f64::max);
    (0..n_classes).find(|&class| at(class) == largest).unwrap_or(0)
}

/// A labelled pixel is at a boundary if another label is in the cube around it.
fn check_marks(marks: &[u8], labels: &[i128], shape: &[usize], radius: usize) {
    let depth = if shape.len() == 5 { shape[2] } else { 1 };
    let (height, width) = (shape[shape.len() - 2], shape[shape.len() - 1]);
    let labels = Array3::from_shape_vec((shape[0] * depth, height, width), labels.to_vec()).expect("as many");
    let near = |at: usize, len: usize| at.saturating_sub(radius)..(at + radius + 1).min(len);
    for (j, ((slice, row, column), &label)) in
        labels.indexed_iter().enumerate().filter(|(_, (_, l))| **l != 1000)
    {
        let (image, z) = (slice / depth, slice % depth);
        let mut has_other = false;
        for z in near(z, depth) {
            for r in near(row, height) {
                has_other |=
                    near(column, width).any(|c| ![label, 1000].contains(&labels[[image * depth + z, r, c]]));
            }
        }
        assert_eq!(marks[j] == BOUNDARY, has_other, "at {slice} {row} {column}");
    }
}
