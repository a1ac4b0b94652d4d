//! Any arrays that claim to be a profile, as they come from a file: an error, or a profile that gives them back.

#![no_main]

use arbitrary::{Result, Unstructured};
use ndarray::{Array2, Array3};

use _core::num::real::Stored;
use _core::profile::{ExactProfile, Flat, repeats_within};
use _core::risk::binned::{BinnedProfile, Collected, N_BINS, Part};
use _core::risk::budget::jumps;
use _core::risk::lambda_hat;
use _core::score::{Coding, N_CELLS};
use _core::threads::Cancel;
use conformask_fuzz::twins::{Pixels, ratio};
use conformask_fuzz::{Numbers, fuzz, losses, on_any_threads};

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz(data, |u| {
    if u.ratio(3, 4)? { exact(u) } else { binned(u) }
}));

fn any_coding(u: &mut Unstructured<'_>) -> Result<Coding> {
    let max = *u.choose(&[1.0, 1.35, 1e6, 1e-300])?;
    Ok(if u.arbitrary()? { Coding::Complement } else { Coding::Direct { max } })
}

/// Counts that fit each other, with some faults.
fn any_flat(u: &mut Unstructured<'_>, coding: Coding, n_faults: u8) -> Result<Flat> {
    let (n, n_classes) = (u.int_in_range(0..=4)?, u.int_in_range(2..=5)?);
    let (is_single, has_activations, has_grid): (bool, bool, bool) =
        (u.arbitrary()?, u.ratio(1, 8)?, u.arbitrary()?);
    let faults: Vec<u8> = (0..n_faults).map(|_| u.arbitrary()).collect::<Result<_>>()?;
    let mut numbers = Numbers::new(u)?;
    let (mut totals, mut lengths, mut values, mut labels) =
        (Array2::zeros((n, n_classes)), vec![], vec![], vec![]);
    for image in 0..n {
        let length = usize::from(numbers.byte() % 12);
        for _ in 0..length {
            let (class, share) =
                (numbers.word() as usize % n_classes, numbers.pick(&[0.25, 0.5, 1e-7, 0.999, 0.3]));
            totals[[image, class]] += 1;
            labels.push(class as u16);
            values.push(if coding == Coding::Complement { share } else { share * coding.lambda_max() });
        }
        for class in 0..n_classes {
            totals[[image, class]] += u64::from(numbers.byte() % 4);
        }
        lengths.push(length as u64);
    }
    let mut activations = has_activations.then(|| {
        let mut cells = Array2::zeros((n, N_CELLS + 1));
        for image in 0..n {
            let n_valid: u64 = totals.row(image).sum();
            cells[[image, numbers.word() as usize % (N_CELLS + 1)]] = n_valid * n_classes as u64;
        }
        cells
    });
    let mut grid = has_grid.then(|| vec![0.0, 0.5 * coding.lambda_max()]);
    let mut held = grid.as_ref().map(|grid| {
        Array3::from_shape_fn((n, n_classes, grid.len()), |(image, _, _)| totals.row(image).sum())
    });
    for fault in faults {
        let (at, bits) = (numbers.word() as usize, numbers.word());
        let number = numbers.pick(&[0, 1, bits, u64::MAX, 1 << 47, 1 << 63]);
        let value = numbers.pick(&[f64::NAN, -1.0, 0.0, 1.0, 2.0, -0.0, f64::INFINITY, f64::from_bits(bits)]);
        match fault % 12 {
            0 if !totals.is_empty() => {
                let len = totals.len();
                totals.as_slice_mut().expect("row by row")[at % len] = number;
            }
            1 if n > 0 => lengths[at % n] = number,
            2 if !values.is_empty() => {
                let place = at % values.len();
                values[place] = value;
            }
            3 if !labels.is_empty() => {
                let place = at % labels.len();
                labels[place] = number as u16;
            }
            4 => lengths.push(number),
            5 => drop(values.pop()),
            6 => drop(labels.pop()),
            7 => {
                if let Some(cells) = activations.as_mut().filter(|cells| !cells.is_empty()) {
                    let len = cells.len();
                    cells.as_slice_mut().expect("row by row")[at % len] = number;
                }
            }
            8 => {
                if let Some(grid) = &mut grid {
                    let len = grid.len();
                    grid[at % len] = value;
                }
            }
            9 => {
                if let Some(held) = held.as_mut().filter(|held| !held.is_empty()) {
                    let len = held.len();
                    held.as_slice_mut().expect("row by row")[at % len] = number;
                }
            }
            10 => held = None,
            _ => totals = Array2::from_elem((n, at % 3), number),
        }
    }
    let values = if is_single {
        Stored::Single(values.into_iter().map(|value| value as f32).collect())
    } else {
        Stored::Double(values.into())
    };
    Ok(Flat { totals, lengths, values, labels, activations, grid, held })
}

fn exact(u: &mut Unstructured<'_>) -> Result<()> {
    let (cancel, coding, n_faults) = (Cancel::default(), any_coding(u)?, u.int_in_range(0..=3)?);
    let flat = any_flat(u, coding, n_faults)?;
    let profile = match ExactProfile::from_flat(coding, flat.clone(), &cancel) {
        Ok(profile) => profile,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            // A float32 next to the largest value may be rounded beyond it.
            assert!(n_faults > 0 || matches!(flat.values, Stored::Single(_)), "{error}");
            return Ok(());
        }
    };
    let again = profile.to_flat(&cancel).expect("room");
    if profile.images().is_empty() {
        return Ok(());
    }
    assert_eq!((&again.totals, &again.lengths, &again.labels), (&flat.totals, &flat.lengths, &flat.labels));
    assert_eq!((&again.values, &again.grid, &again.held), (&flat.values, &flat.grid, &flat.held));
    assert_eq!(again.activations, flat.activations);

    let (n, n_classes) = flat.totals.dim();
    let images: Vec<Pixels> = profile
        .images()
        .iter()
        .map(|image| {
            let mut pixels = Vec::new();
            image
                .for_each(&cancel, |stored, label| pixels.push((usize::from(label), coding.decode(stored))))
                .expect("no stop");
            pixels
        })
        .collect();
    // Pixels that are in from the start are only counted: an image may have too many of them for the twin.
    let mut lambdas: Vec<f64> = images.iter().flatten().map(|(_, critical)| *critical).collect();
    lambdas.extend([0.0, coding.lambda_max()]);
    lambdas.sort_by(f64::total_cmp);
    let missed = on_any_threads(|| profile.missed_of_classes(&lambdas, &cancel).expect("no stop"));
    let sums = profile.missed_at(&lambdas, &cancel).expect("no stop");
    for (image, pixels) in images.iter().enumerate() {
        for (j, &lambda) in lambdas.iter().enumerate() {
            let expected = |class| {
                pixels.iter().filter(|&&(of, critical)| of == class && critical > lambda).count() as u64
            };
            (0..n_classes).for_each(|class| assert_eq!(missed[[image, class, j]], expected(class)));
            assert_eq!(sums[[image, j]], (0..n_classes).map(expected).sum::<u64>());
        }
    }
    // Parts, and all of them joined.
    let halves: Vec<usize> = (0..n / 2).collect();
    let others: Vec<usize> = (n / 2..n).collect();
    let joined =
        ExactProfile::concatenate(&profile.take(&halves), &[&profile.take(&others)]).expect("one score");
    assert_eq!(joined.images(), profile.images());
    let whole = profile.joined(&cancel).expect("room");
    assert_eq!(whole.n_values(), profile.n_values());
    let part_of: Vec<Option<usize>> = (0..n_classes).map(|class| (class > 0).then_some(class % 2)).collect();
    let parts = profile.parted(&part_of, 2, &cancel).expect("room");
    let n_parted: usize = parts.iter().map(ExactProfile::n_values).sum();
    assert_eq!(n_parted, images.iter().flatten().filter(|(class, _)| *class > 0).count());
    let hashes = profile.hashes().expect("room");
    for (first, second) in repeats_within(&hashes.as_slice().into(), &cancel).expect("no stop") {
        assert!(first < second && hashes[first] == hashes[second]);
    }

    let twin = losses::any(u, n_classes)?;
    let (loss, budget) = (twin.loss(), ratio(u.int_in_range(0..=400)?, 100));
    let found = on_any_threads(|| lambda_hat(&profile, &loss, None, &budget, &cancel).expect("no stop"));
    assert!(jumps(&profile, &loss, 7, &cancel).expect("no stop").len() <= 7);
    if flat.totals.iter().all(|&total| total < 64) {
        let mut whole = images;
        for (pixels, totals) in whole.iter_mut().zip(flat.totals.outer_iter()) {
            for (class, &total) in totals.iter().enumerate() {
                let n_missed = pixels.iter().filter(|(of, _)| *of == class).count() as u64;
                pixels.extend((n_missed..total).map(|_| (class, 0.0)));
            }
        }
        let expected = twin.lambda_hat(&whole, &vec![ratio(1, 1); n], &budget);
        assert_eq!(found, expected);
    }
    Ok(())
}

/// Any numbers that claim to be a binned profile.
fn binned(u: &mut Unstructured<'_>) -> Result<()> {
    let (cancel, coding, n_classes) = (Cancel::default(), any_coding(u)?, u.int_in_range(1..=4)?);
    let n_images: u64 = *u.choose(&[0, 1, 5, 1 << 48, (1 << 48) + 1, u64::MAX])?;
    let hashes: Vec<u64> = (0..u.int_in_range(0..=6)?).map(|_| u.arbitrary()).collect::<Result<_>>()?;
    let mut parts = Vec::new();
    for _ in 0..u.int_in_range(0..=2)? {
        let n_of_loss = if u.ratio(1, 16)? { n_classes + 1 } else { n_classes };
        let loss = losses::any(u, n_of_loss)?.loss();
        let n_defined = *u.choose(&[n_images, 0, 1, 3, u64::MAX])?;
        let collected = if u.ratio(1, 8)? == loss.tolerance().is_some() {
            let mut bins = vec![0_u128; if u.ratio(1, 16)? { 7 } else { N_BINS }];
            for _ in 0..u.int_in_range(0..=5)? {
                let (at, bits): (u32, u128) = (u.arbitrary()?, u.arbitrary()?);
                let len = bins.len();
                bins[at as usize % len] = *u.choose(&[1 << 44, 1, bits, u128::MAX, bits >> 80])?;
            }
            Collected::Rate(bins)
        } else {
            let n = u.int_in_range(0..=5)?;
            let steps = (0..n)
                .map(|_| Ok(*u.choose(&[0.0, 0.5, 1.0, 1e9, -1.0, f64::NAN])?))
                .collect::<Result<_>>()?;
            Collected::Steps(steps)
        };
        parts.push(Part { loss, n_defined, collected });
    }
    let n_parts = parts.len();
    let Ok(profile) = BinnedProfile::from_parts(coding, n_classes, n_images, hashes, parts) else {
        return Ok(());
    };
    let budget = ratio(u.int_in_range(0..=1000)?, 100);
    let mut twice = profile.clone();
    twice.merge(&profile).expect("one score");
    for part in 0..n_parts {
        let max = coding.lambda_max();
        let found = profile.lambda_hat(part, &budget, &cancel).expect("no stop").expect("not negative");
        assert!((0.0..=max).contains(&found), "{found}");
        let jumps = profile.jumps(part).expect("room");
        assert!(jumps.iter().all(|jump| (0.0..=max).contains(jump)));
        let sums: Vec<f64> = [0.0, found, max].iter().map(|&lambda| profile.loss_sum(part, lambda)).collect();
        assert!(sums.iter().all(|sum| *sum >= 0.0) && sums.is_sorted_by(|a, b| a >= b), "{sums:?}");
        let more = twice.lambda_hat(part, &budget, &cancel).expect("no stop").expect("not negative");
        assert!(more >= found, "with more losses {more} is not below {found}");
    }
    Ok(())
}
