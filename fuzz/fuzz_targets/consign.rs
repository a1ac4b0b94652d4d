//! Any samples and fields: components are those of the differences from the mean, label maps are those of the argmax, and
//! statements about a box of coefficients, or about all coefficients, hold for those that are drawn.

#![no_main]

use std::collections::BTreeSet;
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use ndarray::{Array1, Array2, ArrayViewD, Axis, Ix2};
use num_rational::BigRational;
use num_traits::One;

use _core::consign::decomposition::{Decomposition, Request, Weight, decompose};
use _core::consign::field::Field;
use _core::consign::possible::{Coefficients, count_open};
use _core::consign::sample::sample;
use _core::consign::search::{Image, Question, Status, Stop, VOID, search};
use _core::error::Error;
use _core::num::philox::{Philox, unit};
use _core::place::{Grid, Place};
use _core::threads::Cancel;
use conformask_fuzz::arrays::Laid;
use conformask_fuzz::maps::{Number, double};
use conformask_fuzz::matrices::{numbers, scale_of, singular_values, skew};
use conformask_fuzz::twins::ratio;
use conformask_fuzz::{Numbers, fuzz, on_any_threads, with_type};

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz(data, |u| {
    let choice: u8 = u.arbitrary()?;
    if choice & 0x80 == 0 { with_type!(choice, samples(u)) } else { fields(u) }
}));

/// Samples of an image are decomposed.
fn samples<E: Number>(u: &mut Unstructured<'_>) -> Result<()> {
    let (n_samples, n_labels) = (u.int_in_range(1..=12)?, u.int_in_range(1..=4)?);
    let n_pixels = if u.ratio(1, 16)? { u.int_in_range(1..=400)? } else { u.int_in_range(1..=20)? };
    let request = Request {
        n_components: *u.choose(&[1, 2, 3, 12, 0])?,
        level: *u.choose(&[0.25, 0.0, 0.05, 0.5])?,
        weight: *u.choose(&[Weight::Sigma, Weight::Relative, Weight::None])?,
    };
    let layout: [u8; 16] = u.arbitrary()?;
    let mut spread = numbers::<f64>(u, [n_samples, n_labels * n_pixels])?;
    let mut draw = Numbers::new(u)?;
    for mut entry in spread.axis_iter_mut(Axis(1)) {
        let (base, factor) =
            (draw.pick(&[0.0, 0.5, 0.3, 1e4, -1e30]), draw.pick(&[1.0, 1.0, 0.1, 0.0, 1e-13]));
        entry.mapv_inplace(|x| base + factor * x);
    }
    let laid = Laid::new(&mut Unstructured::new(&layout), &spread.mapv(E::of), E::of(f64::NAN))?;
    let (plain, place) =
        (laid.plain(), Place { image: 3, grid: Grid::flat(1, n_pixels), pixels: 0..n_pixels });
    let find = |view: ArrayViewD<'_, E>| {
        let view = view.into_dimensionality::<Ix2>().expect("two axes");
        decompose(&view, n_labels, &request, &place, &Cancel::default()).map_err(|error| format!("{error:?}"))
    };
    let bits = |found: std::result::Result<Decomposition, String>| found.map(|found| format!("{found:?}"));
    let expected = on_any_threads(|| bits(find(laid.view())));
    let found = find(plain.view());
    let of_plain = found.as_ref().map(|found| format!("{found:?}")).map_err(Clone::clone);
    assert_eq!(of_plain, expected, "row by row");

    let a = plain.mapv(double).into_dimensionality::<Ix2>().expect("two axes");
    if let Some(((sample, entry), &value)) = a.indexed_iter().find(|(_, x)| !x.is_finite()) {
        let (class, pixel) = (entry / n_pixels, place.pixel(entry % n_pixels));
        let error = Error::SampleNotFinite { image: 3, sample, class, pixel, value };
        assert_eq!(of_plain, Err(format!("{error:?}")));
        return Ok(());
    }
    let most = a.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    match found {
        Ok(found) if most < 1e140 => check(&a, &found, &request),
        Ok(_) => {}
        Err(error) => assert!(most >= 1e140, "{error}"),
    }
    Ok(())
}

/// The mean of each column, and the differences from it that are more than rounding errors.
fn differences(a: &Array2<f64>) -> (Vec<f64>, Array2<f64>) {
    let (mut mean, mut differences) = (Vec::new(), a.clone());
    for mut column in differences.columns_mut() {
        let first = column[0];
        let shift = column.iter().map(|x| x - first).fold(0.0, |sum, x| sum + x) / column.len() as f64;
        column.mapv_inplace(|x| x - first - shift);
        mean.push(first + shift);
        if column.iter().all(|x| x.abs() <= 4.0 * f64::EPSILON * (first + shift).abs()) {
            column.fill(0.0);
        }
    }
    (mean, differences)
}

fn check(a: &Array2<f64>, found: &Decomposition, request: &Request) {
    let ((mean, d), field) = (differences(a), &found.field);
    let (n_labels, rank) = (field.n_labels(), found.values.len());
    let planes = |k: usize| (0..n_labels).flat_map(move |label| field.component(k, label)).copied();
    assert!((0..n_labels).flat_map(|label| field.mean(label)).eq(&mean), "the mean");
    let scale = scale_of(&d);
    let expected: Vec<f64> = singular_values(&(&d * scale)).iter().map(|value| value / scale).collect();
    let slack = 1e-13 * expected[0] + f64::from_bits(4);
    let norm = mean
        .iter()
        .zip(d.columns())
        .filter(|(_, d)| d.iter().any(|x| *x != 0.0))
        .map(|(mean, _)| mean * mean);
    let noise = f64::EPSILON * (a.nrows() as f64 * norm.sum::<f64>()).sqrt();
    let least = noise.max(1e-6 * expected[0]) * (1.0 + 1e-9) + slack;
    assert!(rank <= request.n_components.min(a.nrows() - 1), "{rank} components");
    for (value, expected) in found.values.iter().zip(&expected) {
        assert!((value - expected).abs() <= slack, "{:?} are {expected:?}", found.values);
    }
    if rank < request.n_components.min(a.nrows() - 1).min(expected.len()) {
        assert!(expected[rank] <= least, "{expected:?} has more than {rank} above {least:e}");
    }
    let rows: Vec<f64> = (0..rank).flat_map(planes).collect();
    let rows = Array2::from_shape_vec((rank, a.ncols()), rows).expect("as many");
    assert!(skew(&rows) <= 1e-13, "off by {:e}", skew(&rows));
    for (k, component) in rows.rows().into_iter().enumerate() {
        let mut along: Vec<f64> = (&d * scale).dot(&component).iter().map(|x| x / scale).collect();
        along.sort_by(f64::total_cmp);
        let quantile = |level: f64| {
            let place = (along.len() - 1) as f64 * level;
            let (below, t) = (place.floor() as usize, place.fract());
            along[below] * (1.0 - t) + along[(below + 1).min(along.len() - 1)] * t
        };
        let (low, high) = (quantile(request.level), quantile(1.0 - request.level));
        let factor = match request.weight {
            Weight::Sigma => found.values[k],
            Weight::Relative => found.values[k] / found.values[0],
            Weight::None => 1.0,
        };
        let half = factor * (high - low) / 2.0;
        assert!((found.centre[k] - (low + high) / 2.0).abs() <= slack, "{along:?}: {}", found.centre[k]);
        assert!(
            (found.half[k] - half).abs() <= factor * slack + f64::from_bits(4),
            "{along:?}: {}",
            found.half[k]
        );
    }
}

/// An image with few different numbers, so that there are ties, or with any numbers.
fn image(u: &mut Unstructured<'_>) -> Result<Image> {
    let (n_labels, n_pixels) = (u.int_in_range(1..=4)?, u.int_in_range(1..=20)?);
    let n_components = *u.choose(&[1, 2, 2, 3, 0, 7])?;
    let mut draw = Numbers::new(u)?;
    let is_coarse = draw.byte() & 1 == 0;
    let number = |draw: &mut Numbers<'_, '_>| {
        let (coarse, any) = (f64::from(draw.byte() % 9) / 4.0 - 1.0, 2.0 * draw.unit() - 1.0);
        let any = if is_coarse { coarse } else { any };
        draw.pick(&[any, any, any, any, any, any, 0.0, 1e-9, any * 1e3, coarse])
    };
    let n = n_labels * n_pixels;
    let mut mean: Vec<f64> = (0..n).map(|_| number(&mut draw)).collect();
    mean.iter_mut().filter(|_| draw.byte() < 8).for_each(|x| *x = -1e30);
    let components = (0..n * n_components).map(|_| number(&mut draw)).collect();
    let centre = (0..n_components).map(|_| draw.pick(&[0.0, 0.0, 0.5, -0.3])).collect();
    let half = (0..n_components).map(|_| draw.pick(&[1.0, 0.25, 0.3, 0.0, 30.0, 1e-6])).collect();
    let labels = (0..n_pixels).map(|_| draw.pick(&[0, 1, 2, 3, VOID]).min(n_labels as i32 - 1)).collect();
    Ok(Image { field: Arc::new(Field::new(n_labels, n_components, mean, components)), centre, half, labels })
}

/// The labels at some coefficients: the lowest with the largest sum, term by term.
fn label_map(field: &Field, coefficients: &[f64]) -> Vec<u16> {
    let score = |label: usize, pixel: usize| {
        let add = |sum, (k, c): (usize, &f64)| sum + c * field.component(k, label)[pixel];
        coefficients.iter().enumerate().fold(field.mean(label)[pixel], add)
    };
    let best = |pixel: usize| {
        (1..field.n_labels()).fold(0, |best, l| if score(l, pixel) > score(best, pixel) { l } else { best })
    };
    (0..field.n_pixels()).map(|pixel| best(pixel) as u16).collect()
}

fn fields(u: &mut Unstructured<'_>) -> Result<()> {
    let (image, reach) = (image(u)?, *u.choose(&[1.0, 0.5, 3.0, 0.0])?);
    let mut draw = Numbers::new(u)?;
    check_box(&image, reach, &mut draw);
    check_search(&image, &mut draw);
    Ok(())
}

/// Checks the possible labels in a box, and the labels that are drawn from it.
fn check_box(image: &Image, reach: f64, draw: &mut Numbers<'_, '_>) {
    let (field, n, cancel) = (&image.field, image.centre.len(), Cancel::default());
    let end = |sign: f64| (0..n).map(|k| image.centre[k] + sign * reach * image.half[k]).collect();
    let (lower, upper): (Vec<f64>, Vec<f64>) = (end(-1.0), end(1.0));
    let inside = |share: &mut dyn FnMut(usize) -> f64| -> Vec<f64> {
        (0..n).map(|k| (lower[k] + (upper[k] - lower[k]) * share(k)).min(upper[k])).collect()
    };
    let key = u128::from(draw.word());
    let (drawn, open) = on_any_threads(|| {
        let mut out = Array2::from_elem((9, field.n_pixels()), 99_u16);
        sample(field, &lower, &upper, Philox::new(key), out.view_mut(), &cancel).expect("nobody stops it");
        let open = count_open(field, &Coefficients::between(&lower, &upper), &cancel);
        (out, open.expect("nobody stops it"))
    });
    let mut maps = BTreeSet::new();
    for (j, map) in drawn.rows().into_iter().enumerate() {
        let random = |t: usize| unit(Philox::new(key).block(t as u64 / 4)[t % 4]);
        let coefficients = inside(&mut |k| random(j * n + k));
        let expected = label_map(field, &coefficients);
        assert_eq!(field.label_map(&coefficients, &cancel).as_ref(), Ok(&expected));
        assert_eq!(map, Array1::from_vec(expected.clone()), "drawn at {coefficients:?}");
        maps.insert(expected);
    }
    for _ in 0..60 {
        let coefficients = inside(&mut |_| {
            let any = draw.unit();
            draw.pick(&[0.0, 0.5, 1.0, any, any])
        });
        maps.insert(label_map(field, &coefficients));
    }
    let seen = |pixel: usize| maps.iter().map(|map| map[pixel]).collect::<BTreeSet<_>>().len();
    let seen: Vec<usize> = (0..field.n_pixels()).map(seen).collect();
    assert_eq!(open.n_pixels.iter().sum::<u64>(), field.n_pixels() as u64);
    for least in 1..=field.n_labels() {
        let n_seen = seen.iter().filter(|n| **n >= least).count() as u64;
        assert!(n_seen <= open.n_pixels[least..].iter().sum(), "{open:?} {seen:?}");
    }
    let n_moving = lower.iter().zip(&upper).filter(|(a, b)| a < b).count();
    let (mut cells, mut term) = (1.0, 1.0);
    for i in 0..n_moving {
        term *= (open.n_hyperplanes as f64 - i as f64).max(0.0) / (i as f64 + 1.0);
        cells += term;
    }
    assert!(maps.len() as f64 <= cells + 0.5, "{} maps in {cells} cells", maps.len());
}

/// The accuracy of a label map: the mean over groups of labelled pixels of the share that is right.
fn accuracy(image: &Image, z: &[f64], pixelwise: bool) -> BigRational {
    let coefficients: Vec<f64> = (0..z.len()).map(|k| image.centre[k] + image.half[k] * z[k]).collect();
    let map = label_map(&image.field, &coefficients);
    let labelled = || image.labels.iter().zip(&map).filter(|(label, _)| **label != VOID);
    let group = |label: i32| if pixelwise { 0 } else { label };
    let groups: BTreeSet<i32> = labelled().map(|(&label, _)| group(label)).collect();
    let share = |of: &i32| {
        let pixels = || labelled().filter(|(label, _)| group(**label) == *of);
        ratio(pixels().filter(|(label, l)| **label == i32::from(**l)).count() as i64, pixels().count() as i64)
    };
    groups.iter().map(share).sum::<BigRational>() / ratio(groups.len() as i64, 1)
}

fn norm(z: &[f64]) -> f64 {
    z.iter().fold(0.0, |most, x| most.max(x.abs()))
}

/// The bracket of the nearest point that is accurate enough.
fn check_search(image: &Image, draw: &mut Numbers<'_, '_>) {
    let cancel = Cancel::default();
    let beta = draw.pick(&[ratio(1, 2), ratio(2, 3), ratio(9, 10), ratio(1, 1), ratio(0, 1), ratio(3, 4)]);
    let question = Question {
        beta: beta.clone(),
        strict: draw.byte() & 1 == 0,
        pixelwise: draw.byte() & 1 == 0,
        lambda_max: draw.pick(&[8.0, 1.0, 100.0, 1e-3]),
        node_budget: draw.pick(&[1, 40, 300]),
    };
    let near = draw.pick(&[0.1, 0.5, 2.0]);
    let stop = draw.pick(&[
        Stop::Beyond(f64::INFINITY),
        Stop::Beyond(f64::INFINITY),
        Stop::Beyond(near),
        Stop::Decided(near),
    ]);
    let (bracket, achieved) = {
        let found = search(image, &question, &cancel).expect("nobody stops it");
        assert_eq!(found.is_none(), image.labels.iter().all(|&label| label == VOID));
        let Some(mut found) = found else { return };
        found.warm_start(stop, &cancel).expect("nobody stops it");
        found.refine(stop, &cancel).expect("nobody stops it");
        (found.bracket(), found.achieved())
    };
    let accuracy = |z: &[f64]| accuracy(image, z, question.pixelwise);
    let is_met = |z: &[f64]| {
        let found = accuracy(z);
        found > beta || (found == beta && !question.strict)
    };
    assert!(0.0 <= bracket.lower && bracket.lower <= bracket.upper, "{bracket:?}");
    assert_eq!(bracket.witness.is_some(), bracket.upper.is_finite());
    assert!(achieved <= BigRational::one());
    if let Some(z) = &bracket.witness {
        assert!(is_met(z) && norm(z) == bracket.upper && bracket.upper <= question.lambda_max, "{bracket:?}");
        assert!(achieved >= beta);
    }
    match (bracket.status, stop) {
        (Status::Open, _) => panic!("it was searched"),
        (Status::Infeasible, _) => assert_eq!(bracket.upper, f64::INFINITY),
        (Status::NotNeeded, Stop::Beyond(bound)) => assert!(bracket.lower > bound, "{bracket:?}"),
        (Status::NotNeeded, Stop::Decided(_)) => panic!("a side was asked for"),
        (Status::Exact, Stop::Beyond(_)) => {
            assert!(bracket.upper - bracket.lower <= 1e-6 + 1e-3 * bracket.upper, "{bracket:?}");
        }
        _ => {}
    }
    let radii =
        [bracket.lower, bracket.upper, question.lambda_max, near, 1.0].map(|r| r.min(question.lambda_max));
    for _ in 0..80 {
        let radius = draw.pick(&radii) * draw.pick(&[1.0, 1.0, 0.999, 0.5]);
        let z: Vec<f64> = (0..image.centre.len())
            .map(|k| {
                let any = radius * (2.0 * draw.unit() - 1.0);
                let like = bracket.witness.as_ref().map_or(any, |z| z[k]).clamp(-radius, radius);
                draw.pick(&[any, any, like, like, radius, -radius, 0.0])
            })
            .collect();
        assert!(norm(&z) >= bracket.lower || !is_met(&z), "{z:?} is nearer than {bracket:?}");
        assert!(bracket.status != Status::Infeasible || !is_met(&z), "{z:?} is accurate enough");
    }
}
