//! Fits and results of scalers: losses, gradients and curvatures agree with the definition, drawn pixels are those of the
//! maps, and calibrated probabilities sum to 1 and have the order that is promised.

#![no_main]

use arbitrary::{Result, Unstructured};
use ndarray::{Array2, Array3, ArrayD, ArrayView2, ArrayViewD, Axis, s};

use _core::maps::{Inputs, LabelMaps, ScoreMaps};
use _core::num::real::Real;
use _core::scale::apply::{Affine, Features, probabilities};
use _core::scale::draw::draw;
use _core::scale::objective::{Linear, Pixels, gradients, hessian_products, hessians};
use _core::scale::ordered::{Kept, Ordered};
use _core::scale::tempered::{Base, Blended, Field, Tempered, centre, losses, sums};
use _core::threads::Cancel;
use conformask_fuzz::labels::Labels;
use conformask_fuzz::maps::{Kind, Number, double, inputs_of, laid, shape};
use conformask_fuzz::{Numbers, fuzz, on_any_threads, with_type};

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz(data, |u| {
    let choice: u8 = u.arbitrary()?;
    if choice & 0x80 == 0 { objectives(u) } else { with_type!(choice, maps(u)) }
}));

/// The pixels of a fit.
struct Data {
    features: Array2<f64>,
    labels: Vec<u16>,
    weights: Vec<f64>,
    ends: Vec<usize>,
}

impl Data {
    fn any(u: &mut Unstructured<'_>) -> Result<Self> {
        let n_classes = u.int_in_range(1..=6)?;
        let n = if u.ratio(1, 16)? { u.int_in_range(1..=9000)? } else { u.int_in_range(1..=60)? };
        let mut numbers = Numbers::new(u)?;
        let spread = numbers.pick(&[1.0, 4.0, 30.0]);
        let features = Array2::from_shape_simple_fn((n_classes, n), || {
            let any = spread * (2.0 * numbers.unit() - 1.0);
            numbers.pick(&[any, any, any, 0.0, 1.0])
        });
        let labels = (0..n).map(|_| (numbers.word() % n_classes as u64) as u16).collect();
        let weights = (0..n).map(|_| numbers.pick(&[1.0, 1.0, 0.0, 0.5, 1e-3])).collect();
        let mut ends: Vec<usize> =
            (0..numbers.byte() % 4).map(|_| numbers.word() as usize % (n + 1)).collect();
        ends.push(n);
        ends.sort_unstable();
        Ok(Self { features, labels, weights, ends })
    }

    fn pixels(&self) -> Pixels<'_> {
        Pixels { features: self.features.view(), labels: &self.labels, weights: &self.weights }
    }

    /// Runs between the ends.
    fn runs(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        std::iter::once(0).chain(self.ends.iter().copied()).zip(&self.ends).map(|(start, &end)| start..end)
    }
}

/// `z = W u + b` of a pixel, of K or K x K weights.
fn affine(weight: &[f64], bias: &[f64], u: &[f64]) -> Vec<f64> {
    let n = u.len();
    let row = |k: usize| match weight.len() {
        1 => weight[0] * u[k],
        len if len == n => weight[k] * u[k],
        _ => (0..n).map(|l| weight[k * n + l] * u[l]).sum(),
    };
    (0..n).map(|k| row(k) + bias.get(k).copied().unwrap_or(0.0)).collect()
}

/// Softmax, and the logarithm of its sum.
fn softmax(z: &[f64]) -> (Vec<f64>, f64) {
    let largest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = z.iter().map(|z| (z - largest).exp()).sum();
    (z.iter().map(|z| (z - largest).exp() / sum).collect(), largest + sum.ln())
}

/// Losses with their gradients by all parameters, run by run.
fn slow(data: &Data, weight: &[f64], bias: &[f64]) -> Array2<f64> {
    let (n, n_weights) = (data.features.nrows(), weight.len());
    let mut found = Array2::zeros((data.ends.len(), 1 + n_weights + n));
    for (run, mut found) in data.runs().zip(found.rows_mut()) {
        for j in run {
            let u = data.features.column(j).to_vec();
            let z = affine(weight, bias, &u);
            let (p, log_sum) = softmax(&z);
            let (y, w) = (usize::from(data.labels[j]), data.weights[j]);
            found[0] += w * (log_sum - z[y]);
            for k in 0..n {
                let r = w * (p[k] - f64::from(u8::from(k == y)));
                for (l, &u) in u.iter().enumerate() {
                    if n_weights == n * n {
                        found[1 + k * n + l] += r * u;
                    } else if l == k {
                        found[1 + k] += r * u;
                    }
                }
                found[1 + n_weights + k] += r;
            }
        }
    }
    found
}

fn assert_near(found: &ArrayView2<'_, f64>, expected: &ArrayView2<'_, f64>, slack: f64, what: &str) {
    assert_eq!(found.dim(), expected.dim(), "{what}");
    let error = found
        .iter()
        .zip(expected)
        .fold(0.0_f64, |most, (x, y)| if x.is_nan() { f64::INFINITY } else { most.max((x - y).abs()) });
    assert!(error <= slack, "{what} off by {error:e}, not {slack:e}: {found} {expected}");
}

fn objectives(u: &mut Unstructured<'_>) -> Result<()> {
    let (data, is_diagonal) = (Data::any(u)?, u.arbitrary()?);
    let mut numbers = Numbers::new(u)?;
    let (n, n_pixels) = data.features.dim();
    let n_weights = if is_diagonal { n } else { n * n };
    let mut some = |len: usize| (0..len).map(|_| 2.0 * numbers.unit() - 1.0).collect::<Vec<f64>>();
    let (weight, bias, along) = (some(n_weights), some(n), some(n_weights + n));
    let cancel = Cancel::default();
    let (pixels, map) = (data.pixels(), Linear { weight: &weight, bias: &bias });
    let direction = Linear { weight: &along[..n_weights], bias: &along[n_weights..] };
    let at = |step: f64| {
        let moved =
            |from: &[f64], by: &[f64]| from.iter().zip(by).map(|(x, d)| x + step * d).collect::<Vec<_>>();
        let (weight, bias) = (moved(&weight, direction.weight), moved(&bias, direction.bias));
        gradients(&pixels, &data.ends, &Linear { weight: &weight, bias: &bias }, &cancel)
            .expect("not stopped")
    };

    let most = data.features.iter().fold(1.0_f64, |most, x| most.max(x.abs()));
    let size = n_pixels as f64 * most * n as f64;
    let found = on_any_threads(|| at(0.0));
    assert_near(&found.view(), &slow(&data, &weight, &bias).view(), 1e-13 * size * most, "the gradient");
    // Each run is a separate fit.
    for (run, found) in data.runs().zip(found.rows()) {
        let alone = Pixels {
            features: data.features.slice(s![.., run.clone()]),
            labels: &data.labels[run.clone()],
            weights: &data.weights[run.clone()],
        };
        assert_eq!(gradients(&alone, &[run.len()], &map, &cancel).expect("not stopped").row(0), found);
    }
    let step = 1e-5 / most;
    let (before, after) = (at(-step), at(step));
    let slope = (&after - &before) / (2.0 * step);
    let by_gradient = found.slice(s![.., 1..]).dot(&ndarray::aview1(&along));
    // The error by the third derivative and by rounding.
    let slack = size * most * (1e-9 + 1e-10 * most * most);
    assert_near(
        &slope.slice(s![.., ..1]),
        &by_gradient.view().insert_axis(Axis(1)),
        slack,
        "the loss along a direction",
    );
    let products = on_any_threads(|| {
        hessian_products(&pixels, &data.ends, &map, &direction, &cancel).expect("not stopped")
    });
    assert_near(&products.view(), &slope.slice(s![.., 1..]), slack * most, "the product of the Hessian");
    if is_diagonal {
        let hessians = hessians(&pixels, &data.ends, &map, &cancel).expect("not stopped");
        for (hessian, product) in hessians.outer_iter().zip(products.rows()) {
            let found = hessian.dot(&ndarray::aview1(&along)).insert_axis(Axis(0));
            assert_near(
                &found.view(),
                &product.insert_axis(Axis(0)),
                1e-12 * size * most * most,
                "the Hessian",
            );
        }
    }
    temperatures(&data, numbers.pick(&[1.0, 0.0, 0.3, 2.5]));
    Ok(())
}

/// One factor for all pixels, and logits whose softmax sums to 1.
fn temperatures(data: &Data, factor: f64) {
    let (pixels, cancel) = (data.pixels(), Cancel::default());
    let (n, n_pixels) = data.features.dim();
    let factors = vec![factor; n_pixels];
    let found =
        on_any_threads(|| losses(&pixels.features, &data.labels, &factors, &cancel).expect("not stopped"));
    let mut expected = Array2::zeros((n_pixels, 3));
    for (j, mut expected) in expected.rows_mut().into_iter().enumerate() {
        let u = data.features.column(j).to_vec();
        let (p, log_sum) = softmax(&u.iter().map(|u| factor * u).collect::<Vec<_>>());
        let mean: f64 = p.iter().zip(&u).map(|(p, u)| p * u).sum();
        let own = u[usize::from(data.labels[j])];
        let variance: f64 = p.iter().zip(&u).map(|(p, u)| p * (u - mean).powi(2)).sum();
        expected.assign(&ndarray::aview1(&[log_sum - factor * own, mean - own, variance]));
    }
    let most = data.features.iter().fold(1.0_f64, |most, x| most.max(x.abs()));
    assert_near(&found.view(), &expected.view(), 1e-13 * most * most, "losses of pixels");
    let mut totals = Array2::zeros((data.ends.len(), 3));
    for (run, mut total) in data.runs().zip(totals.rows_mut()) {
        run.for_each(|j| total.scaled_add(data.weights[j], &expected.row(j)));
    }
    let found = sums(&pixels, &data.ends, factor, &cancel).expect("not stopped");
    assert_near(&found.view(), &totals.view(), 1e-13 * most * most * n_pixels as f64, "sums of losses");
    let mut logits = data.features.clone();
    centre(&mut logits.view_mut(), &cancel).expect("not stopped");
    for (before, after) in data.features.columns().into_iter().zip(logits.columns()) {
        assert!((after.iter().map(|x| x.exp()).sum::<f64>() - 1.0).abs() <= 1e-13 * most);
        assert!((0..n).all(|k| ((before[k] - before[0]) - (after[k] - after[0])).abs() <= 1e-14 * most));
    }
}

/// A map of logits by its parameters.
#[derive(Debug)]
struct Map {
    weight: Vec<f64>,
    bias: Vec<f64>,
    kept: Option<Kept>,
    features: Features,
    top: Top,
}

/// The maps that may build on it.
#[derive(Debug)]
enum Top {
    Nothing,
    Tempered(Vec<f32>),
    Blended([f64; 2], Vec<f32>),
}

impl Map {
    fn any(u: &mut Unstructured<'_>, shape: &[usize], features: Features) -> Result<Self> {
        let (kind, n): (u8, usize) = (u.arbitrary()?, shape[1]);
        let n_pixels = shape[0] * shape[2..].iter().product::<usize>();
        let kept = [None, None, None, Some(Kept::Argmax), Some(Kept::Order)][usize::from(kind % 5)];
        let mut numbers = Numbers::new(u)?;
        let lens = match (kind % 5, kept) {
            (_, Some(kept)) => [n * kept.width(n).pow(2), n * kept.width(n)],
            (0, None) => [1, 0],
            (1, None) => [n, n],
            _ => [n * n, n],
        };
        let mut some = |len: usize, palette: &[f64]| -> Vec<f64> {
            (0..len)
                .map(|_| {
                    let any = numbers.unit();
                    if kept.is_none() && len > 1 { 4.0 * any - 2.0 } else { numbers.pick(palette) * any }
                })
                .collect()
        };
        let (weight, bias) = (some(lens[0], &[1.0, 0.3, 4.0, 1e-9]), some(lens[1], &[1.0, 0.0, 0.2]));
        let mut shares = || (0..n_pixels).map(|_| numbers.pick(&[1.0, 0.5, 0.0, 0.01])).collect::<Vec<f32>>();
        let top = match kind >> 6 {
            0 => Top::Tempered(shares().into_iter().map(|x| 3.0 * x).collect()),
            1 => Top::Blended([0.4, 2.0], shares()),
            _ => Top::Nothing,
        };
        Ok(Self { weight, bias, kept, features, top })
    }

    /// Probabilities, as bits of float64.
    fn apply<E: Number>(
        &self,
        view: ArrayViewD<'_, E>,
        inputs: Inputs,
    ) -> std::result::Result<Array3<u64>, String> {
        let maps = ScoreMaps::new(view, inputs, 0).map_err(|error| format!("{error:?}"))?;
        let (n_classes, n_pixels) = (maps.n_classes(), maps.n_pixels());
        let base: Box<dyn Base<E::Real>> = match self.kept {
            None => Box::new(Affine::new(&self.weight, &self.bias, self.features)),
            Some(kept) => Box::new(Ordered::new(&self.weight, &self.bias, n_classes, kept, self.features)),
        };
        let maps = match (&self.top, self.kept) {
            (Top::Tempered(factors), _) => {
                maps.with_transform(Tempered { base, factors: Field { values: factors, n_pixels } })
            }
            (Top::Blended(factors, shares), _) => maps.with_transform(Blended {
                base,
                factors: *factors,
                shares: Field { values: shares, n_pixels },
            }),
            (Top::Nothing, None) => maps.with_transform(Affine::new(&self.weight, &self.bias, self.features)),
            (Top::Nothing, Some(kept)) => {
                maps.with_transform(Ordered::new(&self.weight, &self.bias, n_classes, kept, self.features))
            }
        };
        let mut out = Array3::from_elem((maps.n_images(), n_classes, n_pixels), E::Real::round_from(9.0));
        probabilities(&maps, out.view_mut(), &Cancel::default()).map_err(|error| format!("{error:?}"))?;
        Ok(out.mapv(|p| Into::<f64>::into(p).to_bits()))
    }
}

fn maps<E: Number>(u: &mut Unstructured<'_>) -> Result<()> {
    let kind = *u.choose(&[Kind::Logits, Kind::Logits, Kind::Probabilities, Kind::Any])?;
    let (choice, shape): (u8, _) = (u.arbitrary()?, shape(u)?);
    let inputs = if kind == Kind::Any { Inputs::Logits } else { inputs_of(kind, choice) };
    let features = match inputs {
        Inputs::Probabilities => Features::Logarithms,
        _ if choice & 1 == 0 => Features::Logits,
        _ => Features::LogSoftmax,
    };
    if shape[1] < 2 || shape.contains(&0) {
        return Ok(());
    }
    let map = Map::any(u, &shape, features)?;
    let scores = laid::<E>(u, &shape, kind)?;
    let plain = scores.plain();
    let found = on_any_threads(|| map.apply(scores.view(), inputs));
    assert_eq!(map.apply(plain.view(), inputs), found, "row by row");
    match found {
        Ok(found) => check(&plain, &found, &map),
        // Rounded to 16 bits, or where one class stands for all, probabilities may not sum to 1.
        Err(error) => {
            let sums = plain.mapv(double).sum_axis(Axis(1));
            let is_off = inputs == Inputs::Probabilities && sums.iter().any(|sum| (sum - 1.0).abs() > 9e-4);
            assert!(kind == Kind::Any || is_off, "{error} of {map:?}");
        }
    }
    drawn(u, &scores.view(), inputs)
}

fn check<E: Number>(given: &ArrayD<E>, found: &Array3<u64>, map: &Map) {
    let (n, n_classes, n_pixels) = found.dim();
    let epsilon: f64 = <E::Real as num_traits::Float>::epsilon().into();
    let values = given.as_slice().expect("row by row");
    let is_temperature = map.kept.is_none() && map.weight.len() == 1 && map.weight[0] > 0.0;
    for (image, pixel) in (0..n).flat_map(|image| (0..n_pixels).map(move |pixel| (image, pixel))) {
        let given: Vec<f64> =
            (0..n_classes).map(|k| double(values[(image * n_classes + k) * n_pixels + pixel])).collect();
        let p: Vec<f64> = (0..n_classes).map(|k| f64::from_bits(found[[image, k, pixel]])).collect();
        let sum: f64 = p.iter().sum();
        assert!(p.iter().all(|p| (0.0..=1.0 + 4.0 * epsilon).contains(p)), "{given:?} {p:?} {map:?}");
        assert!(
            (sum - 1.0).abs() <= epsilon * (8.0 + 4.0 * n_classes as f64),
            "{sum}: {given:?} {p:?} {map:?}"
        );
        let top = |of: &[f64]| (1..of.len()).fold(0, |best, k| if of[k] > of[best] { k } else { best });
        if is_temperature || map.kept.is_some() {
            assert_eq!(top(&p), top(&given), "{given:?} {p:?} {map:?}");
        }
        // Temperatures may round two classes to the same number, and then lower the one before the first by the last bit.
        let is_plain = is_temperature && !matches!(map.top, Top::Blended(..));
        let is_exact = map.kept == Some(Kept::Order) && matches!(map.top, Top::Nothing);
        let more = if is_exact { 1.0 } else { 1.0 + 4.0 * epsilon };
        let keeps_order = map.kept == Some(Kept::Order) || is_plain;
        for (k, l) in (0..n_classes).flat_map(|k| (0..n_classes).map(move |l| (k, l))) {
            let is_kept = given[k] >= given[l] || p[k] <= p[l] * more;
            assert!(!keeps_order || is_kept, "{k} {l}: {given:?} {p:?} {map:?}");
        }
        if map.kept.is_none() && matches!(map.top, Top::Nothing) && map.features == Features::Logits {
            let z = affine(&map.weight, &map.bias, &given);
            let sizes = affine(
                &map.weight.iter().map(|w| w.abs()).collect::<Vec<_>>(),
                &map.bias.iter().map(|b| b.abs()).collect::<Vec<_>>(),
                &given.iter().map(|u| u.abs()).collect::<Vec<_>>(),
            );
            let size = sizes.iter().copied().fold(0.0, f64::max);
            let slack = epsilon * (16.0 + 2.0 * n_classes as f64) * (1.0 + size);
            for (p, expected) in p.iter().zip(softmax(&z).0) {
                assert!((p - expected).abs() <= slack, "{p} {expected}: {given:?} {map:?}");
            }
        }
    }
}

/// Pixels drawn for a fit are labelled ones of the maps, one of each run; a pixel at which one run ends and another begins may be
/// drawn from both.
fn drawn<E: Number>(u: &mut Unstructured<'_>, view: &ArrayViewD<'_, E>, inputs: Inputs) -> Result<()> {
    let shape = view.shape();
    let of_labels = [&shape[..1], &shape[2..]].concat();
    let labels = Labels::any(u, &of_labels, shape[1], &[255], false)?;
    let (n_wanted, seed) = (*u.choose(&[1, 3, 10, 1 << 40])?, u.arbitrary()?);
    let find = || {
        let maps = ScoreMaps::new(view.clone(), inputs, 0).map_err(|error| format!("{error:?}"))?;
        let labels: LabelMaps<'_> =
            labels.maps(&[255], maps.label_space()).map_err(|error| format!("{error:?}"))?;
        draw(&maps, &labels, n_wanted, seed, &Cancel::default()).map_err(|error| format!("{error:?}"))
    };
    let Ok(found) = on_any_threads(find) else { return Ok(()) };
    let labels = labels.plain();
    for ((drawn, codes), scores) in found.iter().zip(labels.outer_iter()).zip(view.outer_iter()) {
        let codes: Vec<i128> = codes.iter().copied().collect();
        let n_valid = codes.iter().filter(|code| **code != 255).count() as u64;
        assert_eq!((drawn.n_valid, drawn.positions.len() as u64), (n_valid, n_wanted.min(n_valid)));
        assert!(drawn.positions.is_sorted(), "{:?}", drawn.positions);
        for (j, (&at, &label)) in drawn.positions.iter().zip(&drawn.labels).enumerate() {
            assert_eq!(codes[at as usize], i128::from(label));
            if inputs == Inputs::Logits {
                continue;
            }
            for (plane, scores) in drawn.planes.iter().zip(scores.outer_iter()) {
                let given = scores.iter().nth(at as usize).copied().map(double);
                assert_eq!(given, Some(plane[j].into()));
            }
        }
    }
    Ok(())
}
