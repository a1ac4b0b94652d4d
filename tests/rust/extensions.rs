//! A transform and a score that are not ours, made of what traits ask for and no more, against loops.

use _core::maps::{Band, PixelBuffers, PlanesMut, Tile, Transform};
use _core::real::Real;

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
            let labels = LabelMaps::new(views.labels.view().into_dyn(), None, &maps).unwrap();
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_transform_stands_in_front_of_any_maps(shape in shapes(), seed: u64) {
        check_transform(shape, seed)?;
    }
}

#[test]
fn a_transform_knows_the_pixels_of_every_band() {
    check_transform(LARGE, 1).unwrap();
}
