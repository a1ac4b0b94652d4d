//! From maps to lambda-hat: it is the infimum in rational numbers, and the masks then have the risk that was promised.

#![no_main]

use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use ndarray::{Array2, Array3};
use num_rational::BigRational;
use num_traits::{One, ToPrimitive, Zero};

use _core::maps::{Inputs, ScoreMaps};
use _core::profile::{ExactProfile, build};
use _core::risk::binned::BinnedProfile;
use _core::risk::curve::loss_sums;
use _core::risk::{corrected, correction, lambda_hat};
use _core::score::{Lambdas, Spec};
use _core::sets::{threshold, true_label_scores};
use _core::threads::Cancel;
use conformask_fuzz::arrays::Laid;
use conformask_fuzz::labels::Labels;
use conformask_fuzz::maps::{Kind, Number, inputs_of, laid};
use conformask_fuzz::twins::{LossTwin, Pixels, counts, ratio, tiny};
use conformask_fuzz::{fuzz, losses, on_any_threads, scores, with_type};

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz(data, |u| {
    let choice: u8 = u.arbitrary()?;
    with_type!(choice, calibrate(u))
}));

/// The mark of void pixels: it is no class of any map here, and fits all types of labels.
const VOID: i64 = 100;

fn calibrate<E: Number>(u: &mut Unstructured<'_>) -> Result<()> {
    let kind =
        *u.choose(&[Kind::Probabilities, Kind::Probabilities, Kind::Logits, Kind::Weights, Kind::Unit])?;
    let n_classes = u.int_in_range(2..=6)?;
    let shape = [u.int_in_range(1..=4)?, n_classes, u.int_in_range(1..=6)?, u.int_in_range(1..=9)?];
    // With half of the bits, sums are farther from 1.
    let is_coarse = kind == Kind::Probabilities && size_of::<E>() == 2;
    let inputs = if is_coarse { Inputs::CoarseProbabilities } else { inputs_of(kind, 0) };
    let spec = scores::any(u, inputs)?;
    let labels = Labels::any(u, &[shape[0], shape[2], shape[3]], n_classes, &[VOID], false)?;
    let twin = losses::any(u, n_classes)?;
    let palette = [ratio(1, 1), ratio(1, 1), ratio(2, 3), ratio(0, 1), ratio(7, 1), ratio(1, 1 << 40)];
    let shares = (0..shape[0]).map(|_| Ok(u.choose(&palette)?.clone())).collect::<Result<Vec<_>>>()?;
    let (at, any_budget, budget_of_bins): (u16, u16, u16) = (u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
    let (has_activations, is_binned) = (u.ratio(1, 4)?, u.ratio(1, 4)?); // tables take most of the time
    let scores: Laid<E> = laid(u, &shape, kind)?;

    let cancel = Cancel::default();
    let Ok(maps) = ScoreMaps::new(scores.view(), inputs, 0) else { return Ok(()) };
    let maps = &maps;
    let labels_of = labels.maps(&[VOID], maps.label_space()).expect("labels fit");
    let score = spec.build(n_classes);
    let n_pixels = maps.n_pixels();
    let mut criticals = Array2::from_elem((shape[0], n_pixels), -9.0);
    if true_label_scores(maps, &labels_of, &*score, criticals.view_mut(), &cancel).is_err() {
        // Scores beyond the largest critical value, or logits beyond float16.
        return Ok(());
    }
    let plain = labels.plain();
    let plain = plain.as_slice().expect("row by row");
    let images: Vec<Pixels> = criticals
        .outer_iter()
        .enumerate()
        .map(|(image, row)| {
            let labelled = row.iter().enumerate().filter(|(_, critical)| !critical.is_nan());
            labelled.map(|(j, &critical)| (plain[image * n_pixels + j] as usize, critical)).collect()
        })
        .collect();

    let profile = on_any_threads(|| {
        let grid = Arc::from([0.0, 0.5 * score.coding().lambda_max()]);
        let profile =
            build(maps, &labels_of, &*score, has_activations, Some(&grid), &cancel).expect("good maps");
        profile.to_flat(&cancel).expect("room")
    });
    let profile = ExactProfile::from_flat(score.coding(), profile, &cancel).expect("its own arrays");
    let loss = twin.loss();

    let all: Vec<f64> = images.iter().flatten().map(|(_, critical)| *critical).chain([0.0]).collect();
    let met = twin.risk(&images, &shares, all[usize::from(at) % all.len()]);
    let any = ratio(i64::from(any_budget), 7000);
    for budget in [&met - tiny(), met.clone(), met + tiny(), any] {
        let expected = twin.lambda_hat(&images, &shares, &budget);
        let found =
            on_any_threads(|| lambda_hat(&profile, &loss, Some(&shares), &budget, &cancel).expect("no stop"));
        assert_eq!(found, expected, "{twin:?} {shares:?} {budget}");
        let Some(lambda) = found else { continue };
        check_masks(maps, plain, spec, lambda, &twin, &shares, &budget);

        // One number for all images, without offsets: the result is the same.
        let zeros = vec![0.0; shape[0]];
        let shifted = correction(&profile, &loss, &zeros, Some(&shares), &budget, &cancel).expect("no stop");
        let shifted = shifted.expect("a budget that is not negative");
        let largest = score.coding().lambda_max();
        assert!(shifted == lambda || (lambda == 0.0 && shifted <= 0.0), "{shifted} {lambda}");
        assert_eq!(corrected(&zeros, shifted, largest), vec![lambda; shape[0]]);
    }
    if is_binned {
        check_binned(&profile, &twin, &images, n_classes, budget_of_bins);
    }
    check_curve(&profile, &twin, &images, n_classes, &shares, &all);
    Ok(())
}

/// The masks at lambda-hat have the risk that was promised.
fn check_masks<R: _core::num::real::Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &[i128],
    spec: Spec,
    lambda: f64,
    twin: &LossTwin,
    shares: &[BigRational],
    budget: &BigRational,
) {
    let (n, n_classes, n_pixels) = (maps.n_images(), maps.n_classes(), maps.n_pixels());
    let mut masks = Array3::from_elem((n, n_classes, n_pixels), 9);
    let score = spec.build(n_classes);
    let lambda = Lambdas::One(lambda);
    if threshold(maps, &lambda, &*score, masks.view_mut(), &Cancel::default()).is_err() {
        return; // void pixels may hold what is no probability: calibration does not look at them
    }
    let mut sum = BigRational::zero();
    for image in 0..n {
        let (mut missed, mut totals) = (vec![0; n_classes], vec![0; n_classes]);
        for pixel in 0..n_pixels {
            let label = labels[image * n_pixels + pixel];
            if label != i128::from(VOID) {
                totals[label as usize] += 1;
                missed[label as usize] += u64::from(masks[[image, label as usize, pixel]] == 0);
            }
        }
        if let Some(value) = twin.value(&missed, &totals) {
            sum += value * &shares[image];
        }
    }
    assert!(sum <= *budget, "masks lose {sum} of {budget}");
}

/// A binned profile errs upwards, and only a little.
fn check_binned(profile: &ExactProfile, twin: &LossTwin, images: &[Pixels], n_classes: usize, budget: u16) {
    let (cancel, ones) = (Cancel::default(), vec![BigRational::one(); images.len()]);
    let budget = ratio(i64::from(budget), 20_000);
    let new = || BinnedProfile::new(profile.coding(), n_classes, vec![twin.loss()]).expect("as many classes");
    let binned = on_any_threads(|| {
        let mut binned = new();
        binned.add(profile, &cancel).expect("one score");
        binned
    });
    let found = binned.lambda_hat(0, &budget, &cancel).expect("no stop").expect("not negative");
    let exact = twin.lambda_hat(images, &ones, &budget).expect("not negative");
    assert!(found >= exact && found <= profile.coding().lambda_max(), "{found} {exact}");
    assert!(twin.risk(images, &ones, found) <= budget);
    for lambda in [0.0, exact, found] {
        let true_sum = twin.risk(images, &ones, lambda).to_f64().expect("a float");
        assert!(binned.loss_sum(0, lambda) >= true_sum * (1.0 - 1e-12), "no loss is understated at {lambda}");
    }
    // The same in two parts, merged.
    let half = images.len() / 2;
    let [first, second] = [0..half, half..images.len()].map(|range| {
        let mut part = new();
        part.add(&profile.take(&range.collect::<Vec<_>>()), &cancel).expect("one score");
        part
    });
    let mut merged = first;
    merged.merge(&second).expect("one score");
    assert_eq!(merged, binned);
}

/// The curve is the correctly rounded sum of losses.
fn check_curve(
    profile: &ExactProfile,
    twin: &LossTwin,
    images: &[Pixels],
    n_classes: usize,
    shares: &[BigRational],
    lambdas: &[f64],
) {
    let mut lambdas: Vec<f64> = lambdas.iter().copied().step_by(1 + lambdas.len() / 8).collect();
    lambdas.sort_by(f64::total_cmp);
    let total = ratio(images.len() as i64 + 1, 1);
    let cancel = Cancel::default();
    let found = on_any_threads(|| {
        let sums =
            loss_sums(profile, &twin.loss(), &lambdas, Some(shares), &total, &cancel).expect("no stop");
        sums.into_iter().map(f64::to_bits).collect::<Vec<_>>()
    });
    for (&lambda, found) in lambdas.iter().zip(found) {
        let mut sum = BigRational::zero();
        for (pixels, share) in images.iter().zip(shares) {
            let [missed, totals] = counts(pixels, n_classes, lambda);
            let exact = twin.value(&missed, &totals);
            let rounded = twin.loss().value(&missed, &totals);
            assert_eq!(exact.is_some(), rounded.is_some());
            if let (Some(exact), Some(rounded)) = (exact, rounded) {
                let error = rounded - exact.to_f64().expect("a float");
                assert!(error.abs() <= 1e-12, "{rounded} is {exact}");
                sum += BigRational::from_float(rounded).expect("finite") * share;
            }
        }
        let expected = (sum / &total).to_f64().expect("a float");
        assert_eq!(f64::from_bits(found), expected, "at {lambda}");
    }
}
