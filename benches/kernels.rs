//! Times every kernel alone, on maps like those of a street scene: K = 19, labels that agree with the argmax on 85 % of the
//! pixels, 5 % void. Sizes are in the ids, data are made outside the timer, seeds are fixed.

#[path = "../tests/rust/random.rs"]
mod random;

use std::hint::black_box;

use _core::loss::{Loss, Weighting};
use _core::maps::{Inputs, LabelMaps, ScoreMaps};
use _core::metric::coverage::mask_coverage;
use _core::profile::build;
use _core::risk::lambda_hat;
use _core::score::{Lac, Lambdas};
use _core::sets;
use _core::threads::{Cancel, pool};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array2, Array3, Array4, ArrayD, Axis, IxDyn};
use num_rational::BigRational;

use self::random::Random;

const SIZES: [(usize, usize, usize, usize); 2] = [(8, 19, 256, 512), (2, 150, 512, 683)];
const LAC: Lac = Lac { include_top1: true };

struct Data {
    scores: ArrayD<f32>,
    labels: ArrayD<i64>,
}

fn data((n, k, h, w): (usize, usize, usize, usize)) -> Data {
    let mut random = Random(1);
    let mut scores = Array4::from_shape_simple_fn((n, k, h, w), || random.unit().powi(8) as f32 + 1e-6);
    let sums = scores.sum_axis(Axis(1)).insert_axis(Axis(1));
    scores /= &sums;
    let labels = Array3::from_shape_fn((n, h, w), |(i, r, c)| match random.next() % 100 {
        0..5 => 255,
        5..86 => {
            (0..k).max_by(|&a, &b| scores[[i, a, r, c]].total_cmp(&scores[[i, b, r, c]])).unwrap() as i64
        }
        _ => (random.next() % k as u64) as i64,
    });
    Data { scores: scores.into_dyn(), labels: labels.into_dyn() }
}

fn kernels(criterion: &mut Criterion) {
    let pool = pool().unwrap();
    let cancel = Cancel::default();
    let lambdas = Lambdas::One(0.9);
    for size in SIZES {
        let (n, k, h, w) = size;
        let data = data(size);
        let maps = || ScoreMaps::new(data.scores.view(), Inputs::Probabilities, 0).unwrap();
        let labels = || LabelMaps::new(data.labels.view(), Some(255_i64), maps().label_space()).unwrap();
        let id = |kernel: &str| BenchmarkId::new(kernel, format!("{n}x{k}x{h}x{w}"));

        let mut group = criterion.benchmark_group("maps");
        group.throughput(Throughput::Bytes(4 * (n * k * h * w) as u64)).sample_size(20);
        group.bench_function(id("profile"), |b| {
            b.iter(|| pool.install(|| build(&maps(), &labels(), &LAC, false, None, &cancel)).unwrap());
        });
        group.bench_function(id("profile/activations"), |b| {
            b.iter(|| pool.install(|| build(&maps(), &labels(), &LAC, true, None, &cancel)).unwrap());
        });
        let mut masks = Array3::zeros((n, k, h * w));
        group.bench_function(id("threshold"), |b| {
            b.iter(|| {
                pool.install(|| sets::threshold(&maps(), &lambdas, &LAC, masks.view_mut(), &cancel)).unwrap();
            });
        });
        let mut sizes = Array2::zeros((n, h * w));
        group.bench_function(id("set_size"), |b| {
            b.iter(|| {
                pool.install(|| sets::set_size(&maps(), &lambdas, &LAC, sizes.view_mut(), &cancel)).unwrap();
            });
        });
        let mut scores = Array2::zeros((n, h * w));
        group.bench_function(id("true_label_scores"), |b| {
            b.iter(|| {
                let out = scores.view_mut();
                pool.install(|| sets::true_label_scores(&maps(), &labels(), &LAC, out, &cancel)).unwrap();
            });
        });
        group.bench_function(id("coverage"), |b| {
            b.iter(|| {
                pool.install(|| {
                    sets::coverage(&maps(), &labels(), std::slice::from_ref(&lambdas), &LAC, &cancel)
                })
                .unwrap()
            });
        });
        let masks = masks.mapv(|inside| inside != 0).into_shape_with_order(IxDyn(&[n, k, h, w])).unwrap();
        group.bench_function(id("mask_coverage"), |b| {
            let masks = ScoreMaps::new(masks.view(), Inputs::Probabilities, 0).unwrap();
            b.iter(|| pool.install(|| mask_coverage(&masks, &labels(), &cancel)).unwrap());
        });
        group.finish();

        let profile = pool.install(|| build(&maps(), &labels(), &LAC, false, None, &cancel)).unwrap();
        // The budget of conformal risk control at alpha = 1/5, if it is positive.
        let (numer, denom) = if n > 4 { (n - 4, 5) } else { (1, 20) };
        let budget = BigRational::new(numer.into(), denom.into());
        let pooled = || Weighting::Pooled(vec![true; k]);
        let ones = vec![BigRational::from_integer(1.into()); k];
        let mut group = criterion.benchmark_group("profiles");
        group.throughput(Throughput::Elements(profile.n_values() as u64)).sample_size(20);
        for (name, loss) in [
            ("miscoverage", Loss::new(pooled(), None)),
            ("class_weights", Loss::new(Weighting::PerClass(ones), None)),
            ("binary", Loss::new(pooled(), Some(BigRational::new(1.into(), 10.into())))),
        ] {
            group.bench_function(id(&format!("lambda_hat/{name}")), |b| {
                b.iter(|| pool.install(|| lambda_hat(black_box(&profile), &loss, None, &budget, &cancel)));
            });
            group.bench_function(id(&format!("losses/{name}")), |b| {
                b.iter(|| pool.install(|| black_box(&profile).losses(&loss, &[0.5, 0.9], &cancel)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
