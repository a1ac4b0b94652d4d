//! Lambdas that differ from image to image or from class to class, against loops over one lambda for all.

use _core::sets::Coverage;

use super::*;

/// Masks, sizes and coverage.
type Sets = (Array3<u8>, Array2<u16>, Vec<Coverage>);

fn sets<E: Scores>(views: &Views<'_, E>, spec: Spec, lambdas: &Lambdas) -> Result<Sets, Error> {
    let (score, cancel) = (views.score(spec), Cancel::default());
    views.with(|maps, labels| {
        let (n, n_classes, n_pixels) = (maps.n_images(), maps.n_classes(), maps.n_pixels());
        let mut masks = Array3::from_elem((n, n_classes, n_pixels), 9);
        let mut sizes = Array2::from_elem((n, n_pixels), 999);
        threshold(maps, lambdas, &*score, masks.view_mut(), &cancel)?;
        set_size(maps, lambdas, &*score, sizes.view_mut(), &cancel)?;
        let found = coverage(maps, labels, std::slice::from_ref(lambdas), &*score, &cancel)?;
        Ok((masks, sizes, found.into_iter().flatten().collect()))
    })
}

/// Lambdas of all kinds: none, any, beyond the last, and infinity.
fn draw(n: usize, random: &mut Random) -> Vec<f64> {
    (0..n)
        .map(|_| {
            let any = random.unit();
            random.pick(&[0.0, any, any, 0.5, 1.0, 7.0, f64::INFINITY])
        })
        .collect()
}

fn check_lambdas<E: Scores>(shape: Shape, seed: u64, spec: Spec) -> Result<(), TestCaseError> {
    let mut random = Random(seed);
    let images = Images::<E>::random(shape, &mut random);
    let (views, (n, n_classes, n_pixels)) = (images.view(), images.flat_shape());

    // One image at a time.
    let per_image = draw(n, &mut random);
    let (masks, sizes, covered) = sets(&views, spec, &Lambdas::PerImage(per_image.clone())).unwrap();
    for (i, lambda) in per_image.into_iter().enumerate() {
        let (scores, labels) =
            (images.scores.slice(s![i..=i, .., .., .., ..]), images.labels.slice(s![i..=i, .., .., ..]));
        let (mask, size, cover) = sets(&Views { scores, labels }, spec, &Lambdas::One(lambda)).unwrap();
        prop_assert_eq!(masks.slice(s![i..=i, .., ..]), mask);
        prop_assert_eq!(sizes.slice(s![i..=i, ..]), size);
        prop_assert_eq!(&covered[i], &cover[0]);
    }

    // A class is in where it is with its own lambda for all.
    let per_class = draw(n_classes, &mut random);
    let of_class: Vec<Sets> =
        per_class.iter().map(|&lambda| sets(&views, spec, &Lambdas::One(lambda)).unwrap()).collect();
    let (masks, sizes, covered) = sets(&views, spec, &Lambdas::PerClass(per_class)).unwrap();
    for (k, (masks_of_class, _, _)) in of_class.iter().enumerate() {
        prop_assert_eq!(masks.slice(s![.., k, ..]), masks_of_class.slice(s![.., k, ..]), "class {}", k);
    }
    prop_assert_eq!(&sizes, &masks.mapv(u16::from).sum_axis(Axis(1)));
    for (i, covered) in covered.iter().enumerate() {
        let missed: Vec<u64> = (0..n_classes).map(|k| of_class[k].2[i].missed[k]).collect();
        prop_assert_eq!(&covered.missed, &missed);
        prop_assert_eq!(&covered.totals, &of_class[0].2[i].totals);
        let labelled = images.labels.index_axis(Axis(0), i);
        let mut of_labels = vec![0; n_classes];
        for (&size, &label) in sizes.row(i).into_iter().zip(labelled).filter(|(_, label)| **label != VOID) {
            of_labels[label as usize] += u64::from(size);
        }
        prop_assert_eq!(&covered.sizes, &of_labels);
    }

    // All equal.
    let lambda = draw(1, &mut random)[0];
    let expected = sets(&views, spec, &Lambdas::One(lambda)).unwrap();
    for equal in [Lambdas::PerImage(vec![lambda; n]), Lambdas::PerClass(vec![lambda; n_classes])] {
        prop_assert_eq!(&sets(&views, spec, &equal).unwrap(), &expected, "{:?}", equal);
    }

    // Layouts change nothing.
    let classes = Lambdas::PerClass(draw(n_classes, &mut random));
    let expected = sets(&views, spec, &classes).unwrap();
    let mut differing = Vec::new();
    for_each_layout(&images, |layout, views| {
        if sets(views, spec, &classes).unwrap() != expected {
            differing.push(layout.to_owned());
        }
    });
    prop_assert!(differing.is_empty(), "{:?}", differing);
    prop_assert_eq!(n_pixels, expected.1.ncols());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn lambdas_of_images_and_classes_are_loops(shape in shapes(), seed: u64, spec in any_score()) {
        for_each_type!(check_lambdas(shape, seed, spec));
    }
}

#[test]
fn lambdas_reach_every_band() {
    let lac = Spec::Pixelwise(BaseSpec::Lac { include_top1: true });
    check_lambdas::<f32>(LARGE, 1, lac).unwrap();
}

#[test]
fn what_is_no_lambda_is_named() {
    let images = Images::<f32>::random((2, 3, 1, 2, 2), &mut Random(0));
    let says = |lambdas: Lambdas| {
        let lac = Spec::Pixelwise(BaseSpec::Lac { include_top1: true });
        sets(&images.view(), lac, &lambdas).unwrap_err().to_string()
    };
    assert_eq!(says(Lambdas::One(f64::NAN)), "lam must be at least 0, got NaN");
    assert_eq!(says(Lambdas::One(f64::NEG_INFINITY)), "lam must be at least 0, got -inf");
    assert_eq!(says(Lambdas::PerImage(vec![0.0, -0.1])), "lam must be at least 0, got -0.1 for image 11");
    assert_eq!(
        says(Lambdas::PerClass(vec![0.0, f64::NAN, 1.0])),
        "lam must be at least 0, got NaN for class 1"
    );
    assert_eq!(says(Lambdas::PerImage(vec![0.0; 3])), "lam has 3 entries, but X has 2 images");
    assert_eq!(says(Lambdas::PerClass(vec![0.0; 2])), "lam has 2 entries, but X has 3 classes");
}
