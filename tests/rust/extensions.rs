//! A transform and a score that are not ours, made of what traits ask for and no more, against loops.

use std::sync::Arc;

use _core::maps::{Band, PixelBuffers, PlanesMut, Tile, Transform};
use _core::num::real::Real;
use _core::profile::ImageProfile;
use _core::score::{Coding, Sacp, ValueBuffers, Values};
use _core::sets::Coverage;

use super::*;

/// Softmax at a temperature that differs from pixel to pixel.
struct Temperatures;

/// The temperature of a pixel.
fn temperature(image: usize, pixel: usize) -> f64 {
    0.5 + image as f64 + (pixel % 7) as f64
}

impl<R: Real> Transform<R> for Temperatures {
    fn apply(
        &self,
        given: &Tile<'_, R>,
        at: &Band,
        buffers: &mut PixelBuffers<R>,
        out: &mut PlanesMut<'_, R>,
    ) {
        let [temperatures, sums] = buffers.fill(given.len(), [R::one(), R::zero()]);
        for (temperature_of, pixel) in temperatures.iter_mut().zip(at.pixels.clone()) {
            *temperature_of = R::round_from(temperature(at.image, pixel));
        }
        for (k, run) in out.runs().enumerate() {
            for (j, out) in run.iter_mut().enumerate() {
                *out = (given.plane(k)[j] / temperatures[j]).exp();
                sums[j] += *out;
            }
        }
        for run in out.runs() {
            run.iter_mut().zip(&*sums).for_each(|(out, &sum)| *out = *out / sum);
        }
    }
}

/// One minus the probabilities of all labels, as the maps with the transform give them.
fn check_transform(shape: Shape, seed: u64) -> Result<(), TestCaseError> {
    let mut random = Random(seed);
    let mut images = Images::<f64>::random(shape, &mut random);
    images.scores.mapv_inplace(|p| 8.0 * p - 3.0);
    let (n_classes, pixels) = (images.n_classes(), images.pixels());
    let mut differing = Vec::new();
    for class in 0..n_classes {
        images.labels.fill(class as i16);
        for_each_layout(&images, |layout, views| {
            let maps = ScoreMaps::new(views.scores.view().into_dyn(), Inputs::Logits, FIRST_IMAGE).unwrap();
            let maps = maps.with_transform(Temperatures);
            let labels =
                LabelMaps::new(views.labels.view().into_dyn(), None::<i64>, maps.label_space()).unwrap();
            let mut out = Array2::zeros((maps.n_images(), maps.n_pixels()));
            let lac = Spec::Pixelwise(BaseSpec::Lac { include_top1: false }).build(n_classes);
            true_label_scores(&maps, &labels, &*lac, out.view_mut(), &Cancel::default()).unwrap();
            for ((image, pixel), found) in out.indexed_iter() {
                let logits = &pixels[image][pixel].0;
                let odds = |k: usize| (logits[k] / temperature(image, pixel)).exp();
                let expected = 1.0 - odds(class) / (0..n_classes).map(odds).sum::<f64>();
                if (found - expected).abs() > 1e-12 {
                    differing.push(format!("{layout}, {class}, {image}, {pixel}: {found} != {expected}"));
                }
            }
        });
    }
    prop_assert!(differing.is_empty(), "{:?}", differing);
    Ok(())
}

/// How much less probable a label is than the most probable one.
struct Margin;

impl<R: Real> Score<R> for Margin {
    fn values<'t>(&self, tile: &Tile<'t, R>, buffers: &'t mut ValueBuffers) -> Values<'t, R> {
        let mut out = buffers.planes(tile);
        for (k, run) in out.runs().enumerate() {
            for (j, out) in run.iter_mut().enumerate() {
                let p = |k: usize| -> f64 { tile.plane(k)[j].into() };
                *out = (0..tile.n_classes()).map(p).fold(0.0, f64::max) - p(k);
            }
        }
        Values::Double(out.into_tile())
    }
}

/// A score without the faster ways that it knows.
struct Bare<R>(Box<dyn Score<R>>);

impl<R: Real> Score<R> for Bare<R> {
    fn values<'t>(&self, tile: &Tile<'t, R>, buffers: &'t mut ValueBuffers) -> Values<'t, R> {
        self.0.values(tile, buffers)
    }

    fn coding(&self) -> Coding {
        self.0.coding()
    }

    fn needs_double(&self) -> bool {
        self.0.needs_double()
    }
}

/// All that is done with a score.
#[derive(Debug, PartialEq)]
struct Found {
    profile: Vec<Arc<ImageProfile>>,
    scores: Array2<u64>,
    masks: Array3<u8>,
    sizes: Array2<u16>,
    coverage: Vec<Vec<Coverage>>,
}

impl Found {
    fn new<E: Scores>(views: &Views<'_, E>, score: &dyn Score<E::Real>, lambda: f64) -> Result<Self, Error> {
        let (cancel, lambdas) = (Cancel::default(), Lambdas::One(lambda));
        views.with(|maps, labels| {
            let (n, n_classes, n_pixels) = (maps.n_images(), maps.n_classes(), maps.n_pixels());
            let mut masks = Array3::from_elem((n, n_classes, n_pixels), 9);
            let (mut sizes, mut scores) = (Array2::zeros((n, n_pixels)), Array2::zeros((n, n_pixels)));
            threshold(maps, &lambdas, score, masks.view_mut(), &cancel)?;
            set_size(maps, &lambdas, score, sizes.view_mut(), &cancel)?;
            true_label_scores(maps, labels, score, scores.view_mut(), &cancel)?;
            Ok(Self {
                profile: build(maps, labels, score, true, None, &cancel)?.images().to_vec(),
                scores: scores.mapv(f64::to_bits),
                masks,
                sizes,
                coverage: coverage(maps, labels, &[lambdas], score, &cancel)?,
            })
        })
    }
}

fn check_margin<E: Scores>(shape: Shape, seed: u64) -> Result<(), TestCaseError> {
    let mut random = Random(seed);
    let images = Images::<E>::random(shape, &mut random);
    let (pixels, (_, n_classes, n_pixels)) = (images.pixels(), images.flat_shape());
    let margin = |p: &[f64], class: usize| p.iter().copied().fold(0.0, f64::max) - p[class];
    let some = &pixels[random.below(pixels.len())][random.below(n_pixels)].0;
    for lambda in [0.0, margin(some, random.below(n_classes)), random.unit(), 1.0] {
        let found = Found::new(&images.view(), &Margin, lambda).unwrap();
        for (i, image) in pixels.iter().enumerate() {
            let [mut missed, mut totals, mut set_sizes] = [(); 3].map(|()| vec![0; n_classes]);
            let mut values = Vec::new();
            for (j, (p, label)) in image.iter().enumerate() {
                let inside: Vec<u8> = (0..n_classes).map(|k| u8::from(margin(p, k) <= lambda)).collect();
                let size: u16 = inside.iter().map(|&inside| u16::from(inside)).sum();
                prop_assert_eq!(found.masks.slice(s![i, .., j]).to_vec(), inside);
                prop_assert_eq!(found.sizes[[i, j]], size);
                if *label == VOID {
                    continue;
                }
                let (class, critical) = (*label as usize, margin(p, *label as usize));
                prop_assert_eq!(found.scores[[i, j]], critical.to_bits());
                totals[class] += 1;
                missed[class] += u64::from(critical > lambda);
                set_sizes[class] += u64::from(size);
                if critical > 0.0 {
                    values.push((critical, class as u16));
                }
            }
            prop_assert_eq!(&found.coverage[i], &[Coverage { missed, totals, sizes: set_sizes }]);
            let mut profiled = Vec::new();
            found.profile[i]
                .for_each(&Cancel::default(), |value, label| profiled.push((value, label)))
                .unwrap();
            prop_assert_eq!(profiled, values);
        }
    }
    Ok(())
}

/// The faster ways of our scores, alone and under a window, lead where the general one leads.
fn check_bare<E: Scores>(shape: Shape, seed: u64, spec: Spec) -> Result<(), TestCaseError> {
    let mut random = Random(seed);
    let images = Images::<E>::random(shape, &mut random);
    let score = || images.view().score(spec);
    let lambda = random.unit();
    for probabilities in [false, true] {
        let settings = Settings { weight: 0.3, window: 3, include_top1: random.below(2) == 0, probabilities };
        let window = |base| Sacp::new(base, settings);
        let mut differing = Vec::new();
        for_each_layout(&images, |layout, views| {
            let find = |score: &dyn Score<E::Real>| Found::new(views, score, lambda).unwrap();
            if find(&Bare(score())) != find(&*score())
                || find(&window(Box::new(Bare(score())))) != find(&window(score()))
            {
                differing.push(layout.to_owned());
            }
        });
        prop_assert!(differing.is_empty(), "{:?}", differing);
    }
    Ok(())
}

/// Scores that have no rule beside their values.
fn by_values_alone() -> impl Strategy<Value = Spec> {
    pixelwise().prop_map(|spec| match spec {
        Spec::Pixelwise(BaseSpec::Lac { .. }) => Spec::Pixelwise(BaseSpec::Lac { include_top1: false }),
        spec => spec,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_transform_stands_in_front_of_any_maps(shape in shapes(), seed: u64) {
        check_transform(shape, seed)?;
    }

    #[test]
    fn a_score_needs_its_values_alone(shape in shapes(), seed: u64) {
        for_each_type!(check_margin(shape, seed));
    }

    #[test]
    fn a_faster_way_leads_to_the_same(shape in shapes(), seed: u64, spec in by_values_alone()) {
        for_each_type!(check_bare(shape, seed, spec));
    }
}

#[test]
fn a_transform_knows_the_pixels_of_every_band() {
    check_transform(LARGE, 1).unwrap();
}
