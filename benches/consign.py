"""How long CONSIGN's search for lambda takes, image by image, compared with the paper's search.

Images are smooth Gaussian random fields: a base, four random modes, ten samples and one more draw as the truth. Medians
over images; what is timed is the search alone, after the decomposition, which has its own column. The paper's search
(with PyTorch, if it is installed) goes along its grid, 0.01, 0.02, ..., until it succeeds or its time is up. Then label
maps are drawn from the set at the largest lambda found, and Chao's estimate made of them.

    python benches/consign.py --size 128 --images 12 --threads 2
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections import Counter
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import conformask as cm
from conformask.consign import ReferenceSearch, _descent
from conformask.consign._images import Problem
from conformask.consign._settings import Settings

N_MODES = 4
SECONDS = 30.0  # for the paper's search, of one image


def make_image(
    rng: np.random.Generator, size: int, n_classes: int, n_samples: int, strength: float, noise: float
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Samples (S, K, H, W) and labels (pixels,)."""

    def smooth() -> NDArray[np.float64]:
        field = np.stack(
            [gaussian_filter(rng.standard_normal((size, size)), size / 20) for _ in range(n_classes)]
        )
        return field / field.std()

    base, modes = 1.5 * smooth(), np.stack([smooth() for _ in range(N_MODES)])

    def draw() -> NDArray[np.float64]:
        return base + strength * np.tensordot(rng.standard_normal(N_MODES), modes, 1) + noise * smooth()

    fields = np.stack([draw() for _ in range(n_samples)])
    probabilities = np.exp(fields - fields.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities.astype(np.float32), draw().argmax(axis=0).astype(np.int32).ravel()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--components", type=int, nargs="+", default=[2, 3, 5])
    parser.add_argument("--min-accuracy", default="0.8")
    parser.add_argument("--strength", type=float, default=0.5)
    parser.add_argument("--noise", type=float, default=0.15)
    parser.add_argument("--node-budget", type=int, default=cm.ConsignCalibrator().node_budget)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--draws", type=int, default=10_000, help="label maps")
    parser.add_argument("--reference", type=int, default=2, help="images for the paper's search, 0 for none")
    args = parser.parse_args()
    cm.set_num_threads(args.threads)
    beta = Fraction(args.min_accuracy)
    images = [
        make_image(
            np.random.default_rng(seed), args.size, args.classes, args.samples, args.strength, args.noise
        )
        for seed in range(args.images)
    ]
    print(
        f"{args.images} images {args.size} x {args.size}, K = {args.classes}, S = {args.samples}, "
        f"min_accuracy = {args.min_accuracy}, node budget {args.node_budget}, {args.threads} threads"
    )
    print("medians: seconds per image alone (one thread); all images together, per image")
    for k in args.components:
        calibrator = cm.ConsignCalibrator(k, min_accuracy=beta, node_budget=args.node_budget)
        measure(images, calibrator._configuration(), args.reference, args.draws)


def measure(images: list, settings: Settings, n_reference: int, n_draws: int) -> None:
    k = settings.n_components
    decompose_times, times, gaps, statuses, lowers, lambdas, kept = [], [], [], Counter(), [], [], []
    for index, (X, labels) in enumerate(images):
        start = time.perf_counter()
        decomposition = settings.decompose(X, index)
        decompose_times.append(time.perf_counter() - start)
        start = time.perf_counter()
        search = settings.new_search()
        search.add(decomposition, labels)
        search.warm_start()
        search.refine(0, 1, math.inf)
        times.append(time.perf_counter() - start)
        (upper,), (lower,), (status,) = search.brackets()
        statuses[status] += 1
        lowers.append(lower)
        lambdas.append(upper)
        kept.append((decomposition, labels))
        if status == "upper_bound" and math.isfinite(upper):
            gaps.append(1 - lower / upper)
    start = time.perf_counter()
    search = settings.new_search()
    for decomposition, labels in kept:
        search.add(decomposition, labels)
    search.warm_start()
    search.refine(0, len(kept), math.inf)
    together = (time.perf_counter() - start) / len(kept)
    shares = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    gap = f"; open brackets: median gap {statistics.median(gaps):.1%}" if gaps else ""
    print(
        f"k = {k}: search {statistics.median(times):.3f} s (largest {max(times):.3f}), together {together:.3f} s, "
        f"decomposition {statistics.median(decompose_times):.3f} s; {shares}{gap}"
    )
    finite = [i for i, lam in enumerate(lambdas) if 0 < lam < math.inf]
    if finite:
        widest = max(finite, key=lambda i: lambdas[i])
        segmentations = cm.ConsignSet(kept[widest][0], lambdas[widest], settings)
        start = time.perf_counter()
        draws = segmentations.sample(n_draws, random_state=0)
        drawn = time.perf_counter() - start
        estimate = cm.metrics.chao1(draws)
        print(
            f"  {n_draws} maps at lambda = {lambdas[widest]:.3g} in {drawn:.2f} s, Chao's estimate {estimate:.4g} "
            f"in {time.perf_counter() - start - drawn:.2f} s; at most 10^{segmentations.log10_volume_upper():.1f} exist"
        )
    try:
        torch = _descent._torch()
    except ImportError:
        return
    torch.set_num_threads(cm.get_num_threads())
    for index in finite[:n_reference]:
        decomposition, labels = kept[index]
        image = _descent._Image(torch, Problem(decomposition, labels), ReferenceSearch(), settings)
        lam, n_steps, start = 0.0, 0, time.perf_counter()
        succeeds = False
        while not succeeds and time.perf_counter() - start < SECONDS:
            n_steps += 1
            lam = 0.01 * n_steps
            succeeds = image.succeeds(lam, np.random.default_rng(n_steps))
        seconds = time.perf_counter() - start
        # To answer the same question, look for a point at that lambda, without a certificate.
        same_start = time.perf_counter()
        search = settings.new_search()
        search.add(decomposition, labels)
        search.warm_start(lam)
        search.refine(0, 1, math.inf, lam)
        same = time.perf_counter() - same_start
        [upper], [lower], _ = search.brackets()
        assert lower <= lam or not succeeds
        finds = "finds" if upper <= lam else "ends without"
        print(
            f"  image {index}: the paper's search {'finds' if succeeds else 'has not found'} {lam:.2f} in "
            f"{seconds:.2f} s ({n_steps} steps); ours {finds} as small a one in {same:.3f} s ({seconds / same:.0f}x), "
            f"and brackets [{lowers[index]:.5g}, {lambdas[index]:.5g}] in {times[index]:.3f} s "
            f"({seconds / times[index]:.0f}x)"
        )


if __name__ == "__main__":
    main()
