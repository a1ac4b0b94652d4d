//! Any logits and weights: probabilities are near those in float64, and the same in any memory layout. Also binary masks of any
//! map.

#![no_main]

use arbitrary::{Result, Unstructured};
use ndarray::{Array2, Array3, ArrayD, ArrayViewD, IxDyn};
use num_rational::BigRational;
use num_traits::Zero;

use _core::adapt::{
    Side, build, correction, counts, cutoffs, describe, losses, masks, mass_cutoffs, mass_shares,
};
use _core::error::Error;
use _core::maps::{BinaryLabels, Inputs, LabelSpace, ScoreMaps};
use _core::num::real::Real;
use _core::scale::apply::probabilities;
use _core::threads::Cancel;
use conformask_fuzz::arrays::Laid;
use conformask_fuzz::maps::{Kind, Number, double, inputs_of, laid, shape};
use conformask_fuzz::twins::{ratio, tiny};
use conformask_fuzz::{Numbers, fuzz, on_any_threads, with_type};

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz(data, |u| {
    let choice: u8 = u.arbitrary()?;
    if choice & 0x80 == 0 { with_type!(choice, transform(u)) } else { with_type!(choice, binary(u)) }
}));

fn made<E: Number>(view: ArrayViewD<'_, E>, inputs: Inputs) -> std::result::Result<Array3<u64>, Error> {
    let maps = ScoreMaps::new(view, inputs, 0)?;
    let zero = <E::Real as Default>::default();
    let mut out = Array3::from_elem((maps.n_images(), maps.n_classes(), maps.n_pixels()), zero);
    probabilities(&maps, out.view_mut(), &Cancel::default())?;
    Ok(out.mapv(|p| Into::<f64>::into(p).to_bits()))
}

fn transform<E: Number>(u: &mut Unstructured<'_>) -> Result<()> {
    let kind = *u.choose(&[Kind::Logits, Kind::Weights, Kind::Any])?;
    let (choice, shape) = (u.arbitrary()?, shape(u)?);
    let scores: Laid<E> = laid(u, &shape, kind)?;
    let (inputs, plain) = (inputs_of(kind, choice), scores.plain());
    let text = |found: std::result::Result<Array3<u64>, Error>| found.map_err(|error| format!("{error:?}"));
    let found = on_any_threads(|| text(made(scores.view(), inputs)));
    assert_eq!(text(made(plain.view(), inputs)), found, "row by row");
    let Ok(found) = found else { return Ok(()) };
    if !matches!(inputs, Inputs::Logits | Inputs::Scores) {
        return Ok(());
    }
    let epsilon: f64 =
        E::Real::round_from(1.0).into() * Into::<f64>::into(<E::Real as num_traits::Float>::epsilon());
    let (n, n_classes, n_pixels) = found.dim();
    let values = plain.as_slice().expect("row by row");
    for (image, pixel) in (0..n).flat_map(|image| (0..n_pixels).map(move |pixel| (image, pixel))) {
        let given: Vec<f64> = (0..n_classes)
            .map(|class| double(values[(image * n_classes + class) * n_pixels + pixel]))
            .collect();
        let made: Vec<f64> =
            (0..n_classes).map(|class| f64::from_bits(found[[image, class, pixel]])).collect();
        let largest = given.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let odds = |x: f64| if inputs == Inputs::Logits { (x - largest).exp() } else { x / largest };
        let sum: f64 = given.iter().map(|&x| odds(x)).sum();
        for (class, &p) in made.iter().enumerate() {
            let expected = odds(given[class]) / sum;
            // Differences of float32 logits are rounded to half a unit in the last place of the larger.
            let slack = epsilon * (16.0 + n_classes as f64 + (given[class] - largest).abs().min(200.0));
            assert!((p - expected).abs() <= slack * expected + 1e-30, "{given:?} {class}: {p} {expected}");
            for other in 0..n_classes {
                assert!(given[class] < given[other] || p >= made[other], "{given:?} {made:?}");
            }
        }
    }
    Ok(())
}

/// Maps of one class against the rest.
fn binary<E: Number>(u: &mut Unstructured<'_>) -> Result<()> {
    let is_any = u.ratio(1, 4)?;
    let shape = [u.int_in_range(1..=3)?, u.int_in_range(1..=12)?, u.int_in_range(1..=30)?];
    let n = shape[0];
    let (layout, order): ([u8; 24], [u8; 24]) = (u.arbitrary()?, u.arbitrary()?);
    let side = if u.arbitrary()? { Side::Foreground } else { Side::Background };
    let offsets: Vec<f64> =
        (0..n).map(|_| Ok(*u.choose(&[0.5, 0.0, 1.0, 0.3, 0.1 + 0.2])?)).collect::<Result<_>>()?;
    let palette = [ratio(1, 1), ratio(1, 1), ratio(2, 3), ratio(0, 1), ratio(7, 1)];
    let shares = (0..n).map(|_| Ok(u.choose(&palette)?.clone())).collect::<Result<Vec<_>>>()?;
    let (at, t): (u16, f64) = (u.arbitrary()?, *u.choose(&[0.0, 0.3, -0.5, 1.0, -1.0])?);
    let mut numbers = Numbers::new(u)?;
    let n_pixels = shape[1] * shape[2];
    let p = |numbers: &mut Numbers<'_, '_>| {
        let (unit, bits) = (numbers.unit(), numbers.word());
        let any = if is_any { E::of_bits(bits) } else { E::of(unit) };
        numbers.pick(&[
            any,
            E::of(unit),
            E::of(0.0),
            E::of(1.0),
            E::of(0.5),
            E::of(0.3),
            E::of(1e-9),
            E::of(-0.0),
        ])
    };
    let values: Vec<E> = (0..n * n_pixels).map(|_| p(&mut numbers)).collect();
    let codes: Vec<i64> =
        values.iter().map(|_| numbers.pick(&[0, 1, 0, 1, 255, i64::from(is_any)])).collect();
    let of_shape = IxDyn(&shape);
    let values = ArrayD::from_shape_vec(of_shape.clone(), values).expect("as many");
    let codes = ArrayD::from_shape_vec(of_shape, codes).expect("as many");
    let values = Laid::new(&mut Unstructured::new(&layout), &values, E::of(f64::NAN))?;
    let codes = Laid::new(&mut Unstructured::new(&order), &codes, 77)?;

    let cancel = Cancel::default();
    let space = LabelSpace { shape: [n, 1, shape[1], shape[2]], n_classes: 2, first_image: Some(0) };
    let text = |error: Error| format!("{error:?}");
    let find = |values: ArrayViewD<'_, E>, codes: ArrayViewD<'_, i64>| {
        let maps = ScoreMaps::of_one_class(values, 0).map_err(text)?;
        let labels = BinaryLabels::new(codes, Some(255), space).map_err(text)?;
        let kept = build(&maps, &labels, side, &cancel).map_err(text)?;
        let ends = cutoffs(side, &offsets, t);
        let mut out = Array2::from_elem((n, n_pixels), 9);
        masks(&maps, &ends, out.view_mut(), &cancel).map_err(text)?;
        let held = counts(&maps, &labels, &ends, &cancel).map_err(text)?;
        let lost = losses(&kept, &offsets, t, &cancel).map_err(text)?;
        let lost: Vec<u64> = lost.into_iter().map(f64::to_bits).collect();
        let described = describe(&maps, &cancel).map_err(text)?.mapv(f64::to_bits);
        let mut mass = Array2::from_elem((n, n_pixels), -1.0);
        mass_shares(&maps, mass.view_mut(), &cancel).map_err(text)?;
        let mass_cut = mass_cutoffs(&maps, 0.3, &cancel).map_err(text)?;
        Ok::<_, String>((out, held, lost, described, mass.mapv(f64::to_bits), mass_cut, kept.images))
    };
    let (plain, plain_codes) = (values.plain(), codes.plain());
    let found = on_any_threads(|| find(values.view(), codes.view()));
    assert_eq!(find(plain.view(), plain_codes.view()), found, "row by row");
    let Ok((found, held, lost, _, mass, mass_cut, images)) = found else { return Ok(()) };
    let mass = mass.mapv(f64::from_bits);

    // Computed by the definition, pixel by pixel.
    let ps: Vec<f64> = plain.iter().map(|&p| double(p)).collect();
    let ys: Vec<i64> = plain_codes.iter().copied().collect();
    let is_of = |j: usize| ys[j] == i64::from(side == Side::Foreground);
    let critical = |j: usize| {
        let (p, offset) = (ps[j], offsets[j / n_pixels]);
        if side.is_always_right(p) {
            f64::NEG_INFINITY
        } else if side == Side::Foreground {
            offset - p
        } else {
            p - offset
        }
    };
    for j in 0..ps.len() {
        let is_in = found[[j / n_pixels, j % n_pixels]];
        let is_right = critical(j) <= t;
        assert_eq!(is_in == 1, is_right == (side == Side::Foreground), "{} at {t}", ps[j]);
        assert_eq!(mass[[j / n_pixels, j % n_pixels]] >= 0.3, ps[j] >= mass_cut[j / n_pixels]);
    }
    for image in 0..n {
        let pixels = image * n_pixels..(image + 1) * n_pixels;
        let n_where = |holds: &dyn Fn(usize) -> bool| pixels.clone().filter(|&j| holds(j)).count() as u64;
        for class in 0..2 {
            let is_class = |j: usize| ys[j] == class as i64;
            assert_eq!(held[image].totals[class], n_where(&is_class));
            assert_eq!(images[image].totals[class], n_where(&is_class));
            assert_eq!(images[image].said[class], n_where(&|j| is_class(j) && ps[j] >= 0.5));
            let is_held = |j: usize| is_class(j) && found[[image, j % n_pixels]] == 1;
            assert_eq!(held[image].held[class], n_where(&is_held));
        }
        let (n_of, n_wrong) = (n_where(&is_of), n_where(&|j| is_of(j) && critical(j) > t));
        assert_eq!(lost[image], (n_wrong as f64 / n_of as f64).to_bits());
    }
    let risk = |t: f64| -> BigRational {
        let of_image = |image: usize| {
            let pixels = || (image * n_pixels..(image + 1) * n_pixels).filter(|&j| is_of(j));
            let n_of = pixels().count() as i64;
            if n_of == 0 {
                return BigRational::zero();
            }
            ratio(pixels().filter(|&j| critical(j) > t).count() as i64, n_of) * &shares[image]
        };
        (0..n).map(of_image).sum()
    };
    let mut jumps: Vec<f64> = (0..ps.len()).map(critical).filter(|t| *t > -1.0).chain([-1.0]).collect();
    jumps.sort_by(f64::total_cmp);
    jumps.dedup();
    let kept = _core::adapt::Values { side, images };
    let met = risk(jumps[usize::from(at) % jumps.len()]);
    for budget in [met.clone(), &met + tiny(), &met - tiny()] {
        let found =
            on_any_threads(|| correction(&kept, &offsets, &shares, &budget, &cancel).expect("no stop"));
        let first = jumps.partition_point(|&t| risk(t) > budget);
        let expected = if budget < BigRational::zero() { None } else { Some(jumps[first]) };
        assert_eq!(found, expected, "{budget}");
    }
    Ok(())
}
