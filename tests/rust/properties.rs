//! Kernels against slow twins that say in a few lines what is meant: on random maps with many ties, in every layout, for
//! every float type, and on any number of threads.

mod extensions;
mod lambdas;
mod random;
mod rankings;
mod twins;

use std::fmt::Debug;

use _core::error::Error;
use _core::loss::Weighting;
use _core::maps::normalisation::TOLERANCE;
use _core::maps::{BAND, Inputs, LabelMaps, ScoreMaps};
use _core::metric::coverage::mask_coverage;
use _core::num::real::Element;
use _core::place::{Grid, Pixel};
use _core::profile::{ExactProfile, build};
use _core::risk::lambda_hat;
use _core::risk::quantile::{WeightedValues, weighted_quantile};
use _core::score::{BaseSpec, Lambdas, Score, Settings, Spec};
use _core::sets::{coverage, set_size, threshold, true_label_scores};
use _core::threads::Cancel;
use half::f16;
use ndarray::{Array2, Array3, Array4, Array5, ArrayView4, ArrayView5, Axis, Slice, s};
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive, Zero};
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use self::random::Random;
use self::twins::{LossTwin, ratio, tiny, weights};

/// The ignore index.
const VOID: i16 = 255;

/// What errors call the first image.
const FIRST_IMAGE: usize = 10;

type Shape = (usize, usize, usize, usize, usize);

// ---------------------------------------------------------------------------------------------------- random input

trait Scores: Element + Debug {
    fn of(x: f64) -> Self;

    fn double(self) -> f64;
}

macro_rules! impl_scores {
    ($float:ty, $of:expr) => {
        impl Scores for $float {
            fn of(x: f64) -> Self {
                $of(x)
            }

            fn double(self) -> f64 {
                self.into()
            }
        }
    };
}

impl_scores!(f16, f16::from_f64);
impl_scores!(f32, |x| x as f32);
impl_scores!(f64, |x| x);

/// Score maps `(n, K, D, H, W)` and label maps `(n, D, H, W)`.
#[derive(Clone)]
struct Images<E> {
    scores: Array5<E>,
    labels: Array4<i16>,
}

impl<E: Scores> Images<E> {
    /// Probabilities with few distinct values, some certain, some next to 0 or 1; a fifth of the pixels is void.
    fn random((n, k, d, h, w): Shape, random: &mut Random) -> Self {
        let mut scores = Array5::from_elem((n, k, d, h, w), E::of(0.0));
        for (i, z, r, c) in ndarray::indices((n, d, h, w)) {
            let mut weights: Vec<f64> = (0..k)
                .map(|_| {
                    let any = random.unit();
                    random.pick(&[0.0, 1.0, 1.0, 1.0, 2.0, 3.0, 8.0, 1e-3, 1e-20, any])
                })
                .collect();
            weights[random.below(k)] += random.pick(&[1.0, 5.0, 100.0, 1e18]);
            let sum: f64 = weights.iter().sum();
            for (class, weight) in weights.iter().enumerate() {
                scores[[i, class, z, r, c]] = E::of(weight / sum);
            }
        }
        let labels = Array4::from_shape_simple_fn((n, d, h, w), || {
            if random.below(5) == 0 { VOID } else { random.below(k) as i16 }
        });
        Self { scores, labels }
    }

    fn view(&self) -> Views<'_, E> {
        Views { scores: self.scores.view(), labels: self.labels.view() }
    }

    fn n_classes(&self) -> usize {
        self.scores.dim().1
    }

    /// Shape of the masks, and of what has one entry per pixel.
    fn flat_shape(&self) -> (usize, usize, usize) {
        let (n, k, d, h, w) = self.scores.dim();
        (n, k, d * h * w)
    }

    /// The probabilities of each pixel as float64, and its label: image by image, row by row.
    fn pixels(&self) -> Vec<Vec<(Vec<f64>, i16)>> {
        let of_image = |(scores, labels): (ndarray::ArrayView4<'_, E>, ndarray::ArrayView3<'_, i16>)| {
            labels
                .indexed_iter()
                .map(|((z, r, c), &label)| {
                    (scores.slice(s![.., z, r, c]).iter().map(|p| p.double()).collect(), label)
                })
                .collect()
        };
        self.scores.outer_iter().zip(self.labels.outer_iter()).map(of_image).collect()
    }
}

/// The same images however they lie in memory.
#[derive(Clone)]
struct Views<'a, E> {
    scores: ArrayView5<'a, E>,
    labels: ArrayView4<'a, i16>,
}

impl<E: Scores> Views<'_, E> {
    fn with<T>(
        &self,
        use_maps: impl FnOnce(&ScoreMaps<'_, E::Real>, &LabelMaps<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let maps = ScoreMaps::new(self.scores.view().into_dyn(), Inputs::Probabilities, FIRST_IMAGE)?;
        let labels =
            LabelMaps::new(self.labels.view().into_dyn(), Some(i64::from(VOID)), maps.label_space())?;
        use_maps(&maps, &labels)
    }

    fn score(&self, spec: Spec) -> Box<dyn Score<E::Real>> {
        spec.build(self.scores.dim().1)
    }

    fn profile(&self, spec: Spec) -> Result<ExactProfile, Error> {
        self.with(|maps, labels| build(maps, labels, &*self.score(spec), true, None, &Cancel::default()))
    }

    fn masks(&self, spec: Spec, lambda: f64) -> Result<Array3<u8>, Error> {
        let (n, k, d, h, w) = self.scores.dim();
        let mut out = Array3::from_elem((n, k, d * h * w), 9);
        self.with(|maps, _| {
            threshold(maps, &Lambdas::One(lambda), &*self.score(spec), out.view_mut(), &Cancel::default())
        })?;
        Ok(out)
    }

    fn sizes(&self, spec: Spec, lambda: f64) -> Result<Array2<u16>, Error> {
        let (n, _, d, h, w) = self.scores.dim();
        let mut out = Array2::from_elem((n, d * h * w), 999);
        self.with(|maps, _| {
            set_size(maps, &Lambdas::One(lambda), &*self.score(spec), out.view_mut(), &Cancel::default())
        })?;
        Ok(out)
    }

    fn true_label_scores(&self, spec: Spec) -> Result<Array2<f64>, Error> {
        let (n, _, d, h, w) = self.scores.dim();
        let mut out = Array2::from_elem((n, d * h * w), -9.0);
        self.with(|maps, labels| {
            true_label_scores(maps, labels, &*self.score(spec), out.view_mut(), &Cancel::default())
        })?;
        Ok(out)
    }
}

/// The images in other layouts, each handed to `visit` with its name.
fn for_each_layout<E: Scores>(images: &Images<E>, mut visit: impl FnMut(&str, &Views<'_, E>)) {
    visit("C order", &images.view());

    let last = images.scores.view().permuted_axes([0, 2, 3, 4, 1]).as_standard_layout().into_owned();
    let scores = last.view().permuted_axes([0, 4, 1, 2, 3]);
    visit("channel-last", &Views { scores, labels: images.labels.view() });

    let scores = images.scores.view().reversed_axes().as_standard_layout().into_owned();
    let labels = images.labels.view().reversed_axes().as_standard_layout().into_owned();
    visit(
        "Fortran order",
        &Views { scores: scores.view().reversed_axes(), labels: labels.view().reversed_axes() },
    );

    let backwards = Slice::new(0, None, -1);
    let mut scores = images.scores.slice_each_axis(|_| backwards).as_standard_layout().into_owned();
    let mut labels = images.labels.slice_each_axis(|_| backwards).as_standard_layout().into_owned();
    (0..5).for_each(|axis| scores.invert_axis(Axis(axis)));
    (0..4).for_each(|axis| labels.invert_axis(Axis(axis)));
    visit("negative strides", &Views { scores: scores.view(), labels: labels.view() });
}

fn on_threads<T: Send>(n_threads: usize, work: impl FnOnce() -> T + Send) -> T {
    ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap().install(work)
}

/// Few and many classes, one pixel, odd ends of tiles and planes in depth.
fn shapes() -> impl Strategy<Value = Shape> {
    let pixels = prop_oneof![Just((1, 1, 1)), Just((1, 7, 9)), Just((3, 5, 2)), Just((1, 37, 31))];
    let small = (1..=3_usize, 2..=9_usize, pixels).prop_map(|(n, k, (d, h, w))| (n, k, d, h, w));
    // So many classes that tiles are short.
    prop_oneof![12 => small, 1 => Just((1, 150, 1, 21, 43))]
}

/// Some pixels more than a band has.
const LARGE: Shape = (2, 3, 1, 183, 181);
const _: () = assert!(183 * 181 > BAND);

/// Runs a generic check for each float type.
macro_rules! for_each_type {
    ($check:ident($($argument:expr),*)) => {
        $check::<f16>($($argument),*)?;
        $check::<f32>($($argument),*)?;
        $check::<f64>($($argument),*)?;
    };
}
use for_each_type;

// ---------------------------------------------------------------------------------------------------------- twins

/// Walks down the sorted atoms above the least until they weigh more than the budget.
fn quantile_twin(atoms: &[(f64, BigRational)], budget: &BigRational, least: f64) -> Option<f64> {
    if budget.is_negative() {
        return None;
    }
    let mut sorted: Vec<_> = atoms.iter().collect();
    sorted.sort_by(|left, right| right.0.total_cmp(&left.0));
    let mut weight_from_here = BigRational::zero();
    for (value, weight) in sorted.into_iter().filter(|(value, _)| *value > least) {
        weight_from_here += weight;
        if weight_from_here > *budget {
            return Some(*value);
        }
    }
    Some(least)
}

/// The lambda from which on the set of a pixel holds `class`.
fn critical(probabilities: &[f64], class: usize, spec: Spec) -> f64 {
    twins::critical(probabilities, class, spec).expect("a twin")
}

fn pixelwise() -> impl Strategy<Value = Spec> {
    let lac = any::<bool>().prop_map(|include_top1| BaseSpec::Lac { include_top1 });
    let raps = (
        prop::sample::select(&[0.0, 0.0, 0.05, 1.0][..]),
        prop::sample::select(&[None, Some(1), Some(2)][..]),
    )
        .prop_map(|(penalty, k_reg)| BaseSpec::Raps { penalty, k_reg });
    prop_oneof![lac, raps].prop_map(Spec::Pixelwise)
}

fn any_score() -> impl Strategy<Value = Spec> {
    let settings = (
        prop::sample::select(&[0.0, 0.3, 1.0][..]),
        prop::sample::select(&[1_usize, 3, 7][..]),
        any::<bool>(),
        any::<bool>(),
    );
    let sacp = (pixelwise(), settings).prop_map(|(base, (weight, window, include_top1, probabilities))| {
        let Spec::Pixelwise(base) = base else { unreachable!() };
        Spec::Sacp(base, Settings { weight, window, include_top1, probabilities })
    });
    prop_oneof![pixelwise(), sacp]
}

/// The classes and critical values of the labelled pixels, image by image.
fn criticals<E: Scores>(images: &Images<E>, spec: Spec) -> Vec<twins::Pixels> {
    let of_image = |pixels: Vec<(Vec<f64>, i16)>| {
        let labelled = pixels.into_iter().filter(|(_, label)| *label != VOID);
        labelled.map(|(p, label)| (label as usize, critical(&p, label as usize, spec))).collect()
    };
    images.pixels().into_iter().map(of_image).collect()
}

fn any_loss(n_classes: usize, random: &mut Random) -> LossTwin {
    let weights = [ratio(0, 1), ratio(1, 3), ratio(1, 10), ratio(2, 7), ratio(1, 1 << 62), ratio(1 << 40, 1)];
    let weighting = match random.below(4) {
        0 => Weighting::Pooled(vec![true; n_classes]),
        1 => Weighting::Pooled((0..n_classes).map(|_| random.below(2) == 0).collect()),
        2 => Weighting::PerClass(vec![ratio(1, 1); n_classes]),
        _ => Weighting::PerClass((0..n_classes).map(|_| random.pick(&weights)).collect()),
    };
    let tolerances = [ratio(0, 1), ratio(1, 10), ratio(3, 10), ratio(1, 2), ratio(1, 1)];
    let tolerance = (random.below(2) == 0).then(|| random.pick(&tolerances));
    LossTwin { weighting, tolerance }
}

// ------------------------------------------------------------------------------------------------------ quantiles

const SPECIAL: [f64; 9] = [0.0, 5e-324, 1e-300, 0.1, 0.100_000_000_000_000_02, 0.25, 1.0, 1e300, f64::MAX];
const LEAST: [f64; 7] = [0.0, -0.0, -1.0, -0.1, -5e-324, -f64::MAX, 0.1];

/// Some of the numbers with the other sign.
fn signed(value: f64, random: &mut Random) -> f64 {
    if random.below(2) == 0 { value } else { -value }
}

/// Budgets around each of the sums of the largest atoms down to one of them.
fn check_quantile(atoms: &[(f64, BigRational)], last: &[usize], least: f64) -> Result<(), TestCaseError> {
    let values: Vec<f64> = atoms.iter().map(|(value, _)| *value).collect();
    let weights = atoms.iter().map(|(_, weight)| weight);
    let weighted =
        WeightedValues::new(&values, weights, BigRational::clone, &Cancel::default()).unwrap().down_to(least);
    let mut sorted: Vec<_> = atoms.iter().collect();
    sorted.sort_by(|left, right| right.0.total_cmp(&left.0));
    for &last in last {
        let partial_sum: BigRational = sorted[..last].iter().map(|(_, weight)| weight).sum();
        for budget in [&partial_sum - tiny(), partial_sum.clone(), partial_sum + tiny()] {
            prop_assert_eq!(
                weighted_quantile(&weighted, &budget, &Cancel::default()).unwrap(),
                quantile_twin(atoms, &budget, least),
                "{} {}",
                budget,
                least
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn quantile_of_few_atoms(
        atoms in prop::collection::vec(
            (prop_oneof![3 => prop::sample::select(&SPECIAL[..]), 1 => 0.0..1.0], prop::sample::select(weights().to_vec())),
            0..120,
        ),
        budget in (0..1000_i64, 1..50_i64),
        last in any::<prop::sample::Index>(),
        least in prop::sample::select(&LEAST[..]),
        seed: u64,
    ) {
        let values: Vec<f64> = atoms.iter().map(|(value, _)| *value).collect();
        let weighted = WeightedValues::new(&values, atoms.iter().map(|(_, weight)| weight), BigRational::clone, &Cancel::default()).unwrap();
        let budget = ratio(budget.0, budget.1);
        prop_assert_eq!(weighted_quantile(&weighted, &budget, &Cancel::default()).unwrap(), quantile_twin(&atoms, &budget, 0.0));
        let last = [last.index(atoms.len() + 1)];
        check_quantile(&atoms, &last, 0.0)?;
        let mut random = Random(seed);
        let atoms: Vec<_> = atoms.into_iter().map(|(value, w)| (signed(value, &mut random), w)).collect();
        check_quantile(&atoms, &last, least)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]

    /// More atoms than a sort takes on at once; half of them neighbours, so that several digits must tell them apart.
    #[test]
    fn quantile_of_many_atoms(seed: u64, n_atoms in 20_001..70_000_usize, any_sign: bool) {
        let mut random = Random(seed);
        let weights = weights();
        let n_weights = 1 + random.below(weights.len());
        let atoms: Vec<(f64, BigRational)> = (0..n_atoms)
            .map(|_| {
                let value = match random.below(4) {
                    0 => random.pick(&SPECIAL),
                    1 => random.unit(),
                    _ => f64::from_bits(1.0_f64.to_bits() + random.next() % 3_000_000),
                };
                (if any_sign { signed(value, &mut random) } else { value }, random.pick(&weights[7 - n_weights..]))
            })
            .collect();
        let last = [random.below(n_atoms), random.below(n_atoms), n_atoms];
        let least = if any_sign { random.pick(&LEAST) } else { 0.0 };
        check_quantile(&atoms, &last, least)?;
    }
}

// ------------------------------------------------------------------------------------------ profiles and lambda-hat

fn check_lambda_hat<E: Scores>(shape: Shape, seed: u64, spec: Spec) -> Result<(), TestCaseError> {
    let mut random = Random(seed);
    let images = Images::<E>::random(shape, &mut random);
    let profile = images.view().profile(spec).unwrap();
    let criticals = criticals(&images, spec);
    for (found, pixels) in profile.images().iter().zip(&criticals) {
        for class in 0..images.n_classes() {
            let of_class = pixels.iter().filter(|(label, _)| *label == class);
            prop_assert_eq!(found.totals[class], of_class.clone().count() as u64);
            prop_assert_eq!(
                found.missed[class],
                of_class.filter(|(_, critical)| *critical > 0.0).count() as u64
            );
        }
    }
    let all: Vec<f64> = criticals.iter().flatten().map(|(_, critical)| *critical).chain([0.0, 1.0]).collect();
    for _ in 0..4 {
        let twin = any_loss(images.n_classes(), &mut random);
        let palette = [ratio(1, 1), ratio(1, 1), ratio(2, 3), ratio(0, 1), ratio(7, 1)];
        let shares: Vec<BigRational> = criticals.iter().map(|_| random.pick(&palette)).collect();
        let met = twin.risk(&criticals, &shares, random.pick(&all));
        let any = ratio(random.below(1000) as i64, 700);
        for budget in [&met - tiny(), met.clone(), met + tiny(), any] {
            let expected = twin.lambda_hat(&criticals, &shares, &budget);
            let found =
                lambda_hat(&profile, &twin.loss(), Some(&shares), &budget, &Cancel::default()).unwrap();
            prop_assert_eq!(found, expected, "{:?} {:?} {}", twin, shares, budget);
        }
    }
    Ok(())
}

fn check_invariance<E: Scores>(shape: Shape, seed: u64, spec: Spec) -> Result<(), TestCaseError> {
    let mut random = Random(seed);
    let images = Images::<E>::random(shape, &mut random);
    let (twin, n) = (any_loss(images.n_classes(), &mut random), shape.0);
    let (shares, budget) = (vec![ratio(1, 1); n], ratio(random.below(100) as i64, 100));
    let profile = images.view().profile(spec).unwrap();
    let expected = lambda_hat(&profile, &twin.loss(), Some(&shares), &budget, &Cancel::default()).unwrap();
    let lambda = expected.unwrap();
    let (masks, sizes) =
        (images.view().masks(spec, lambda).unwrap(), images.view().sizes(spec, lambda).unwrap());

    for n_threads in [1, 3] {
        let mut differing = Vec::new();
        for_each_layout(&images, |layout, views| {
            let same = on_threads(n_threads, || {
                let found = views.profile(spec).unwrap();
                found.images() == profile.images()
                    && lambda_hat(&found, &twin.loss(), Some(&shares), &budget, &Cancel::default()).unwrap()
                        == expected
                    && views.masks(spec, lambda).unwrap() == masks
                    && views.sizes(spec, lambda).unwrap() == sizes
            });
            if !same {
                differing.push(layout.to_owned());
            }
        });
        prop_assert!(differing.is_empty(), "{:?} on {} threads", differing, n_threads);
    }

    let parts: Vec<ExactProfile> = (0..n)
        .map(|i| {
            let (scores, labels) =
                (images.scores.slice(s![i..=i, .., .., .., ..]), images.labels.slice(s![i..=i, .., .., ..]));
            Views { scores, labels }.profile(spec).unwrap()
        })
        .collect();
    let joined = ExactProfile::concatenate(&parts[0], &parts[1..].iter().collect::<Vec<_>>()).unwrap();
    prop_assert_eq!(joined.images(), profile.images());
    prop_assert_eq!(
        lambda_hat(&joined, &twin.loss(), Some(&shares), &budget, &Cancel::default()).unwrap(),
        expected
    );
    Ok(())
}

fn check_flat<E: Scores>(shape: Shape, seed: u64, spec: Spec) -> Result<(), TestCaseError> {
    let mut random = Random(seed);
    let images = Images::<E>::random(shape, &mut random);
    let profile = images.view().profile(spec).unwrap();
    let flat = profile.to_flat(&Cancel::default()).unwrap();
    let back = ExactProfile::from_flat(profile.coding(), flat.clone(), &Cancel::default()).unwrap();
    prop_assert_eq!(back.to_flat(&Cancel::default()).unwrap(), flat);
    prop_assert_eq!(back.n_classes(), profile.n_classes());
    prop_assert_eq!(back.hashes(), profile.hashes());
    let values = |profile: &ExactProfile| -> Vec<Vec<(f64, u16)>> {
        let of_image = |image: &std::sync::Arc<_core::profile::ImageProfile>| {
            let mut values = Vec::new();
            image.for_each(&Cancel::default(), |value, label| values.push((value, label))).unwrap();
            values
        };
        profile.images().iter().map(of_image).collect()
    };
    prop_assert_eq!(values(&back), values(&profile));
    Ok(())
}

// ------------------------------------------------------------------------------------------------------------ sets

fn check_sets<E: Scores>(shape: Shape, seed: u64, spec: Spec) -> Result<(), TestCaseError> {
    let mut random = Random(seed);
    let images = Images::<E>::random(shape, &mut random);
    let (pixels, views, (_, n_classes, n_pixels)) = (images.pixels(), images.view(), images.flat_shape());

    // Lambdas at, just below and just above critical values, and both ends.
    let last = spec.coding(n_classes).lambda_max();
    let mut lambdas = vec![0.0, last, random.unit()];
    for _ in 0..3 {
        let image = &pixels[random.below(pixels.len())];
        let lambda = critical(&image[random.below(n_pixels)].0, random.below(n_classes), spec);
        lambdas.extend([lambda, lambda.next_down(), lambda.next_up()].map(|lambda| lambda.clamp(0.0, last)));
    }
    lambdas.sort_by(f64::total_cmp);

    let twin = any_loss(n_classes, &mut random);
    let profile = views.profile(spec).unwrap();
    let losses = profile.losses(&twin.loss(), &lambdas, &Cancel::default()).unwrap();
    let criticals = criticals(&images, spec);
    let all = Array3::from_shape_fn((pixels.len(), n_classes, n_pixels), |(i, class, j)| {
        critical(&pixels[i][j].0, class, spec)
    });
    let mut smaller: Option<Array3<u8>> = None;
    for (index, &lambda) in lambdas.iter().enumerate() {
        let masks = views.masks(spec, lambda).unwrap();
        let expected = all.mapv(|critical| u8::from(critical <= lambda));
        prop_assert_eq!(&masks, &expected, "at {}", lambda);
        let sizes = views.sizes(spec, lambda).unwrap();
        prop_assert_eq!(sizes, masks.mapv(u16::from).sum_axis(Axis(1)));
        if let Some(smaller) = &smaller {
            prop_assert!(
                smaller.iter().zip(&masks).all(|(small, large)| small <= large),
                "nested at {}",
                lambda
            );
        }

        let found = views
            .with(|maps, labels| {
                let lambdas = [0.3, lambda].map(Lambdas::One); // others beside it change nothing
                coverage(maps, labels, &lambdas, &*views.score(spec), &Cancel::default())
            })
            .unwrap();
        let found: Vec<_> = found.into_iter().map(|mut of_lambdas| of_lambdas.remove(1)).collect();
        let as_bool = masks.mapv(|inside| inside == 1).into_shape_with_order(images.scores.dim()).unwrap();
        let of_masks = views.with(|maps, labels| {
            let masks = ScoreMaps::new(as_bool.view().into_dyn(), Inputs::Probabilities, FIRST_IMAGE)?;
            assert_eq!(masks.n_pixels(), maps.n_pixels());
            mask_coverage(&masks, labels, &Cancel::default())
        });
        prop_assert_eq!(Ok(&found), of_masks.as_ref());
        for (i, found) in found.iter().enumerate() {
            let loss = twin.loss().value(&found.missed, &found.totals).unwrap_or(f64::NAN);
            prop_assert_eq!(loss.to_bits(), losses[[i, index]].to_bits());
            let expected = twin.at(&criticals[i], lambda).map_or(f64::NAN, |loss| loss.to_f64().unwrap());
            prop_assert!((loss - expected).abs() < 1e-12 || loss.is_nan() && expected.is_nan());
        }
        let brackets = profile.activation(lambda, &Cancel::default()).unwrap().unwrap();
        let sums = found.iter().map(|found| (found.sizes.iter().sum::<u64>(), found));
        for ((sum, found), (lower, upper)) in sums.zip(brackets).filter(|((sum, _), _)| *sum > 0) {
            let mean = sum as f64 / found.totals.iter().sum::<u64>() as f64;
            prop_assert!(lower <= mean && mean <= upper, "{} not in {}..={}", mean, lower, upper);
        }
        smaller = Some(masks);
    }
    prop_assert!(smaller.unwrap().iter().all(|&inside| inside == 1), "full at 1");

    let scores = views.true_label_scores(spec).unwrap();
    for ((i, j), score) in scores.indexed_iter() {
        let (p, label) = &pixels[i][j];
        let expected = if *label == VOID { f64::NAN } else { critical(p, *label as usize, spec) };
        prop_assert!(*score == expected || score.is_nan() && expected.is_nan(), "{} != {}", score, expected);
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------------------- errors

/// What can be wrong at a pixel.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Value(f64),
    Zeros,
    Label(i16),
}

impl Fault {
    fn plant<E: Scores>(self, images: &mut Images<E>, image: usize, pixel: usize, class: usize) {
        let (_, _, _, h, w) = images.scores.dim();
        let (z, r, c) = (pixel / (h * w), pixel / w % h, pixel % w);
        match self {
            Self::Value(value) => images.scores[[image, class, z, r, c]] = E::of(value),
            Self::Zeros => images.scores.slice_mut(s![image, .., z, r, c]).fill(E::of(0.0)),
            Self::Label(label) => images.labels[[image, z, r, c]] = label,
        }
    }

    fn error(self, image: usize, pixel: Pixel, class: usize, n_classes: usize) -> Error {
        let image = FIRST_IMAGE + image;
        match self {
            Self::Value(value) if value.is_finite() => Error::Negative { image, class, pixel, value },
            Self::Value(value) => Error::NotFinite { image, class, pixel, value },
            Self::Zeros => Error::NotNormalised { image, pixel, sum: 0.0, tolerance: TOLERANCE },
            Self::Label(value) => Error::Label {
                name: "y",
                image: Some(image),
                value: value.into(),
                n_classes,
                ignore: VOID.to_string(),
            },
        }
    }
}

fn check_fault<E: Scores>(shape: Shape, seed: u64, spec: Spec, fault: Fault) -> Result<(), TestCaseError> {
    let mut random = Random(seed);
    let clean = Images::<E>::random(shape, &mut random);
    let (n, n_classes, n_pixels) = clean.flat_shape();
    let (image, pixel, class) = (random.below(n), random.below(n_pixels), random.below(n_classes));
    let is_label = matches!(fault, Fault::Label(_));

    let mut faulty = clean.clone();
    Fault::Label(0).plant(&mut faulty, image, pixel, class);
    fault.plant(&mut faulty, image, pixel, class);
    if image + 1 < n {
        // The first image is the one to hear of.
        fault.plant(&mut faulty, image + 1, 0, 0);
    }
    // As text: NaN is not equal to NaN.
    let (.., height, width) = clean.scores.dim();
    let at = Grid { is_volume: true, height, width }.pixel(pixel);
    let expected = format!("{:?}", fault.error(image, at, class, n_classes));
    let text = |error: Option<Error>| error.map_or_else(String::new, |error| format!("{error:?}"));
    let cover = |views: &Views<'_, E>| {
        views.with(|maps, labels| {
            coverage(maps, labels, &[Lambdas::One(0.5)], &*views.score(spec), &Cancel::default())
        })
    };
    let views = faulty.view();
    prop_assert_eq!(&text(views.profile(spec).err()), &expected);
    prop_assert_eq!(&text(views.true_label_scores(spec).err()), &expected);
    prop_assert_eq!(&text(cover(&views).err()), &expected);
    if !is_label {
        prop_assert_eq!(&text(views.masks(spec, 0.5).err()), &expected);
        prop_assert_eq!(&text(views.sizes(spec, 0.5).err()), &expected);

        // Nobody knows what a model says at void pixels: the fault may be at all of them.
        let mut void = clean.clone();
        for (image, labels) in clean.labels.outer_iter().enumerate() {
            let pixels = labels.iter().enumerate().filter(|(_, label)| **label == VOID);
            pixels.for_each(|(pixel, _)| fault.plant(&mut void, image, pixel, class));
        }
        let (void, clean) = (void.view(), clean.view());
        let profile = |views: &Views<'_, E>| views.profile(spec).unwrap().images().to_vec();
        prop_assert_eq!(profile(&void), profile(&clean));
        prop_assert_eq!(cover(&void).unwrap(), cover(&clean).unwrap());
    }
    Ok(())
}

fn faults() -> impl Strategy<Value = Fault> {
    prop_oneof![
        prop::sample::select(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.25][..]).prop_map(Fault::Value),
        Just(Fault::Zeros),
        prop::sample::select(&[-1_i16, 150, 254, 256, i16::MIN, i16::MAX][..]).prop_map(Fault::Label),
    ]
}

// ------------------------------------------------------------------------------------------------------ properties

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn lambda_hat_is_the_infimum(shape in shapes(), seed: u64, spec in pixelwise()) {
        for_each_type!(check_lambda_hat(shape, seed, spec));
    }

    #[test]
    fn layout_threads_and_splits_change_nothing(shape in shapes(), seed: u64, spec in any_score()) {
        for_each_type!(check_invariance(shape, seed, spec));
    }

    #[test]
    fn flat_arrays_give_the_profile_back(shape in shapes(), seed: u64, spec in any_score()) {
        for_each_type!(check_flat(shape, seed, spec));
    }

    /// Most of these have no value, and know how wide one would be.
    #[test]
    fn flat_arrays_of_a_pixel_give_the_profile_back(seed: u64, spec in any_score()) {
        for_each_type!(check_flat((1, 3, 1, 1, 1), seed, spec));
    }

    #[test]
    fn sets_are_those_of_the_definition(shape in shapes(), seed: u64, spec in pixelwise()) {
        for_each_type!(check_sets(shape, seed, spec));
    }

    #[test]
    fn a_fault_is_reported_where_it_is(shape in shapes(), seed: u64, spec in pixelwise(), fault in faults()) {
        for_each_type!(check_fault(shape, seed, spec, fault));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1))]

    /// Images of more than one band.
    #[test]
    fn all_of_it_holds_of_large_images(seed: u64, spec in pixelwise(), fault in faults()) {
        check_lambda_hat::<f32>(LARGE, seed, spec)?;
        for_each_type!(check_invariance(LARGE, seed, spec));
        check_flat::<f16>(LARGE, seed, spec)?;
        check_sets::<f64>(LARGE, seed, spec)?;
        for_each_type!(check_fault(LARGE, seed, spec, fault));
    }
}
