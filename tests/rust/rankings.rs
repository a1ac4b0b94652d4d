//! Scores by which a set is the first labels of a ranking: the fast way at one lambda for all classes, against the critical
//! values of all labels, which the same lambda for each class makes the kernels compute.

use _core::sets::Coverage;

use super::*;

fn sets<E: Scores>(views: &Views<'_, E>, spec: Spec, lambdas: &Lambdas) -> (Array3<u8>, Array2<u16>) {
    let (score, cancel) = (views.score(spec), Cancel::default());
    views
        .with(|maps, _| {
            let mut masks = Array3::from_elem((maps.n_images(), maps.n_classes(), maps.n_pixels()), 9);
            let mut sizes = Array2::from_elem((maps.n_images(), maps.n_pixels()), 999);
            threshold(maps, lambdas, &*score, masks.view_mut(), &cancel)?;
            set_size(maps, lambdas, &*score, sizes.view_mut(), &cancel)?;
            Ok((masks, sizes))
        })
        .unwrap()
}

fn covered<E: Scores>(views: &Views<'_, E>, spec: Spec, lambdas: &[Lambdas]) -> Vec<Vec<Coverage>> {
    let (score, cancel) = (views.score(spec), Cancel::default());
    views.with(|maps, labels| coverage(maps, labels, lambdas, &*score, &cancel)).unwrap()
}

/// Pixels as models give them, and worse: all equal, certain, rounded to a few values, with zeros of either sign, with
/// probabilities too small to count, or next to each other.
fn probabilities(n_classes: usize, random: &mut Random) -> Vec<f64> {
    let kind = random.below(6);
    let mut weights: Vec<f64> = (0..n_classes)
        .map(|_| {
            let x = random.unit();
            match kind {
                0 => 1.0,
                1 => x.powi(12) + 1e-9,
                2 => (4.0 * x).floor(),
                3 => random.pick(&[0.0, -0.0, 1e-16, 1e-17, 3e-17, 1.0]),
                4 => 1.0 + x * 1e-7,
                _ => 0.0,
            }
        })
        .collect();
    let best = random.below(n_classes);
    weights[best] += if kind == 0 { 0.0 } else { random.pick(&[1e-3, 1.0, 30.0]) };
    // Sums may be off by 1e-3.
    let sum = weights.iter().sum::<f64>() * random.pick(&[1.0, 1.0, 0.9992, 1.0008]);
    weights.iter().map(|weight| weight / sum).collect()
}

fn check_rankings<E: Scores>(n_classes: usize, seed: u64, spec: Spec) -> Result<(), TestCaseError> {
    let mut random = Random(seed);
    let (height, width) = random.pick(&[(1, 1), (5, 7), (3, 33), (9, 43)]);
    let mut images = Images::<E>::random((1, n_classes, 1, height, width), &mut random);
    for (r, c) in ndarray::indices((height, width)) {
        for (class, p) in probabilities(n_classes, &mut random).into_iter().enumerate() {
            images.scores[[0, class, 0, r, c]] = E::of(p);
        }
    }
    // Rounding to float16 may take a sum beyond what is allowed, and then there are no sets.
    let (views, last) = (images.view(), spec.coding(n_classes).lambda_max());
    let is_allowed = |p: &[f64]| (p.iter().sum::<f64>() - 1.0).abs() <= TOLERANCE;
    let pixels = images.pixels().remove(0);
    if !pixels.iter().all(|(p, _)| is_allowed(p)) {
        return Ok(());
    }
    let mut lambdas = vec![0.0, 1.0_f64.next_down(), 1.0, last.next_down(), last, random.unit()];
    for _ in 0..6 {
        let (p, _) = random.pick(&pixels);
        let lambda = critical(&p, random.below(n_classes), spec);
        lambdas.extend([lambda, lambda.next_down(), lambda.next_up()].map(|lambda| lambda.max(0.0)));
    }
    let all = |lambda| Lambdas::PerClass(vec![lambda; n_classes]);
    for &lambda in &lambdas {
        let (masks, sizes) = sets(&views, spec, &all(lambda));
        for fast in [Lambdas::One(lambda), Lambdas::PerImage(vec![lambda])] {
            prop_assert_eq!(&sets(&views, spec, &fast), &(masks.clone(), sizes.clone()), "at {}", lambda);
        }
        for (j, (p, _)) in pixels.iter().enumerate() {
            let twin: Vec<u8> =
                (0..n_classes).map(|class| u8::from(critical(p, class, spec) <= lambda)).collect();
            prop_assert_eq!(masks.slice(s![0, .., j]).to_vec(), twin, "pixel {} at {}", j, lambda);
        }
    }
    let slow: Vec<_> = lambdas.iter().copied().map(all).collect();
    let fast: Vec<_> = lambdas.iter().copied().map(Lambdas::One).collect();
    prop_assert_eq!(covered(&views, spec, &fast), covered(&views, spec, &slow));
    Ok(())
}

fn rankings() -> impl Strategy<Value = Spec> {
    let penalties = prop::sample::select(&[0.0, 0.0, 0.01, 0.3, 2.0][..]);
    (penalties, prop::sample::select(&[None, Some(1), Some(3), Some(500)][..]))
        .prop_map(|(penalty, k_reg)| Spec::Pixelwise(BaseSpec::Raps { penalty, k_reg }))
}

/// As many as are sorted in one way, and in another.
fn class_counts() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 2..=36_usize, 1 => 37..=200_usize]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn sets_of_rankings_are_those_of_all_critical_values(n_classes in class_counts(), seed: u64, spec in rankings()) {
        for_each_type!(check_rankings(n_classes, seed, spec));
    }
}
