//! Any maps, labels, score and lambdas: sets are those of the definition, or an error says why there are none.

#![no_main]

use arbitrary::{Result, Unstructured};
use ndarray::{Array2, Array3, ArrayD, ArrayViewD};

use _core::error::Error;
use _core::maps::{Inputs, LabelMaps, ScoreMaps};
use _core::metric::coverage::mask_coverage;
use _core::score::{Lambdas, Spec};
use _core::sets::{Coverage, coverage, set_size, threshold, threshold_packed, true_label_scores};
use _core::threads::Cancel;
use conformask_fuzz::arrays::Laid;
use conformask_fuzz::labels::{IGNORED, Labels};
use conformask_fuzz::maps::{Kind, Number, double, inputs_of, laid, shape};
use conformask_fuzz::{fuzz, on_any_threads, scores, twins, with_type};

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz(data, |u| {
    let choice: u8 = u.arbitrary()?;
    with_type!(choice, sets(u))
}));

/// The results of the kernels for some maps, with NaN compared by its bits.
#[derive(Debug, PartialEq)]
struct Found {
    masks: std::result::Result<Array3<u8>, String>,
    packed: std::result::Result<Array3<u8>, String>,
    sizes: std::result::Result<Array2<u16>, String>,
    criticals: std::result::Result<Array2<u64>, String>,
    coverage: std::result::Result<Vec<Coverage>, String>,
}

struct Question<'q> {
    inputs: Inputs,
    spec: Spec,
    lambdas: &'q Lambdas,
    ignored: &'q [i64],
}

fn find<E: Number>(
    scores: ArrayViewD<'_, E>,
    labels: &Labels,
    of: &Question<'_>,
) -> std::result::Result<Found, String> {
    let text = |error: Error| format!("{error} {error:?}");
    let cancel = Cancel::default();
    let maps = ScoreMaps::new(scores, of.inputs, 10).map_err(text)?;
    let labels: LabelMaps<'_> = labels.maps(of.ignored, maps.label_space()).map_err(text)?;
    let (n, n_classes, n_pixels) = (maps.n_images(), maps.n_classes(), maps.n_pixels());
    let score = of.spec.build(n_classes);

    let mut masks = Array3::from_elem((n, n_classes, n_pixels), 9);
    let found = threshold(&maps, of.lambdas, &*score, masks.view_mut(), &cancel);
    let masks = found.map(|()| masks).map_err(text);
    let mut packed = Array3::from_elem((n, n_classes.div_ceil(8), n_pixels), 9);
    let found = threshold_packed(&maps, of.lambdas, &*score, packed.view_mut(), &cancel);
    let packed = found.map(|()| packed).map_err(text);
    let mut sizes = Array2::from_elem((n, n_pixels), 999);
    let found = set_size(&maps, of.lambdas, &*score, sizes.view_mut(), &cancel);
    let sizes = found.map(|()| sizes).map_err(text);
    let mut criticals = Array2::from_elem((n, n_pixels), -9.0);
    let found = true_label_scores(&maps, &labels, &*score, criticals.view_mut(), &cancel);
    let criticals = found.map(|()| criticals.mapv(f64::to_bits)).map_err(text);
    let coverage = coverage(&maps, &labels, std::slice::from_ref(of.lambdas), &*score, &cancel);
    let coverage = coverage.map(|found| found.into_iter().map(|mut of_image| of_image.remove(0)).collect());
    Ok(Found { masks, packed, sizes, criticals, coverage: coverage.map_err(text) })
}

fn any_lambda(u: &mut Unstructured<'_>) -> Result<f64> {
    let any: f64 = u.arbitrary()?;
    Ok(*u.choose(&[0.0, 0.3, 0.5, 0.7, 0.999_999, 1.0, 1.25, f64::INFINITY, any, any.abs() % 1.0])?)
}

fn any_lambdas(u: &mut Unstructured<'_>, shape: &[usize]) -> Result<Lambdas> {
    let off = usize::from(u.ratio(1, 32)?);
    let some =
        |u: &mut Unstructured<'_>, n: usize| (0..n + off).map(|_| any_lambda(u)).collect::<Result<Vec<_>>>();
    Ok(match u.int_in_range(0..=3)? {
        0 => Lambdas::PerImage(some(u, shape[0])?),
        1 => Lambdas::PerClass(some(u, shape[1])?),
        _ => Lambdas::One(any_lambda(u)?),
    })
}

fn sets<E: Number>(u: &mut Unstructured<'_>) -> Result<()> {
    let kind = *u.choose(&[
        Kind::Probabilities,
        Kind::Probabilities,
        Kind::Logits,
        Kind::Weights,
        Kind::Unit,
        Kind::Any,
    ])?;
    let (choice, shape) = (u.arbitrary()?, shape(u)?);
    let inputs = inputs_of(kind, choice);
    let spec = scores::any(u, inputs)?;
    let lambdas = any_lambdas(u, &shape)?;
    let n_ignored = *u.choose(&[1, 1, 0, 2, 3])?;
    let ignored: Vec<i64> = (0..n_ignored).map(|_| u.choose(&IGNORED).copied()).collect::<Result<_>>()?;
    let of_labels: Vec<usize> =
        shape.iter().enumerate().filter(|(axis, _)| *axis != 1).map(|(_, &n)| n).collect();
    let labels = Labels::any(u, &of_labels, shape[1], &ignored, true)?;
    let scores: Laid<E> = laid(u, &shape, kind)?;

    let question = Question { inputs, spec, lambdas: &lambdas, ignored: &ignored };
    let plain = scores.plain();
    let found = on_any_threads(|| find(scores.view(), &labels, &question));
    assert_eq!(find(plain.view(), &labels, &question), found, "row by row");
    let Ok(found) = found else { return Ok(()) };
    check(&plain, &labels.plain(), &found, &question);
    Ok(())
}

fn check<E: Number>(scores: &ArrayD<E>, labels: &ArrayD<i128>, found: &Found, of: &Question<'_>) {
    let shape = scores.shape();
    let (n, n_classes) = (shape[0], shape[1]);
    let n_pixels: usize = shape[2..].iter().product();
    let values = scores.as_slice().expect("row by row");
    let labels = labels.as_slice().expect("row by row");
    let is_void = |label: i128| of.ignored.iter().any(|&ignored| i128::from(ignored) == label);
    let lambda_of = |image: usize, class: usize| match of.lambdas {
        Lambdas::One(lambda) => *lambda,
        Lambdas::PerImage(lambdas) => lambdas[image],
        Lambdas::PerClass(lambdas) => lambdas[class],
    };

    let good = (found.masks.as_ref(), found.packed.as_ref(), found.sizes.as_ref());
    let (Ok(masks), Ok(packed), Ok(sizes)) = good else {
        assert!(found.masks.is_err() && found.packed.is_err() && found.sizes.is_err(), "one fails, all do");
        return;
    };
    for ((image, pixel), &size) in sizes.indexed_iter() {
        let mut expected = 0;
        for class in 0..n_classes {
            let is_in = masks[[image, class, pixel]];
            assert!(is_in <= 1);
            assert_eq!(packed[[image, class / 8, pixel]] >> (class % 8) & 1, is_in);
            expected += u16::from(is_in);
        }
        assert_eq!(size, expected, "the size of a set");
        // Transformed maps have no twin here: transforms have a fuzz target of their own.
        if of.inputs == Inputs::Probabilities || of.inputs == Inputs::CriticalValues {
            let pixel_of = |class: usize| double(values[(image * n_classes + class) * n_pixels + pixel]);
            let numbers: Vec<f64> = (0..n_classes).map(pixel_of).collect();
            for class in 0..n_classes {
                if let Some(critical) = twins::critical(&numbers, class, of.spec) {
                    let expected = u8::from(critical <= lambda_of(image, class));
                    assert_eq!(masks[[image, class, pixel]], expected, "{numbers:?} {class} {critical}");
                }
            }
        }
    }
    let (Ok(criticals), Ok(coverage)) = (&found.criticals, &found.coverage) else {
        assert!(found.criticals.is_err() && found.coverage.is_err(), "labels are good or bad for all");
        return;
    };
    // Calibration and prediction agree on whether a label is in the set.
    for ((image, pixel), &critical) in criticals.indexed_iter() {
        let (label, critical) = (labels[image * n_pixels + pixel], f64::from_bits(critical));
        assert_eq!(critical.is_nan(), is_void(label), "{label}");
        if !is_void(label) {
            let is_in = masks[[image, label as usize, pixel]] == 1;
            assert_eq!(is_in, critical <= lambda_of(image, label as usize), "{critical} of {label}");
        }
    }
    let as_maps = masks.mapv(f32::from).into_shape_with_order((n, n_classes, 1, n_pixels)).expect("as many");
    let maps = ScoreMaps::new(as_maps.view().into_dyn(), Inputs::Probabilities, 10).expect("good masks");
    let codes = labels.iter().map(|&label| if is_void(label) { -1 } else { label as i64 }).collect();
    let codes = Array3::from_shape_vec((n, 1, n_pixels), codes).expect("as many");
    let codes = LabelMaps::new(codes.view().into_dyn(), Some(-1), maps.label_space()).expect("good labels");
    assert_eq!(*coverage, mask_coverage(&maps, &codes, &Cancel::default()).expect("good masks"));
}
