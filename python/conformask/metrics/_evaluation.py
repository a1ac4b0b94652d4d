"""From counts to a report of calibration."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._exact import exact_mean, share_of
from conformask._sequences import check_class_names
from conformask._text import plural
from conformask._units import unit_means
from conformask.metrics._bins import (
    adaptive_bins,
    area_under_roc,
    bins_of,
    brier_parts,
    debiased_squared_error,
    expected_error,
    jackknife,
    largest_error,
    pooled,
    real,
    risk_coverage_areas,
    root_mean_square_error,
    squared_error,
)
from conformask.metrics._counted import Asked, Counted, clusters, iou_of
from conformask.metrics._scatter import mean_ends, ratio_error, wilson_ends
from conformask.metrics.reliability import (
    CalibrationReport,
    ClassCalibration,
    RegionCalibration,
    ReliabilityCurve,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["curve_of", "image_eces", "image_means", "pooled_ece", "pooled_mean", "report_of"]

NLL, BRIER, RIGHT = 0, 1, 2  # places of sums


def image_eces(counted: Counted) -> NDArray[np.float64]:
    """The expected calibration error of each image."""
    return expected_error(bins_of(counted.bins.sum(axis=1)))


def pooled_ece(counted: Counted) -> float:
    """The expected calibration error of the pixels of all images together."""
    return float(expected_error(bins_of(pooled(counted.bins.sum(axis=1)))))


def image_means(counted: Counted, which: int) -> NDArray[np.float64]:
    """The sum of each image, divided by its number of labelled pixels."""
    return share_of(real(counted.sums[:, which]), counted.n_pixels)


def pooled_mean(counted: Counted, which: int) -> float:
    """The sum of all images, divided by the number of their labelled pixels."""
    return float(share_of(real(pooled(counted.sums[:, which])), counted.n_pixels.sum()))


def curve_of(counted: Counted) -> ReliabilityCurve:
    """The bins of all images."""
    counts = counted.bins.sum(axis=1)
    of_units = bins_of(clusters(counts, counted.groups))
    bins = bins_of(pooled(counts))
    n_images, n_groups = _who(counted)
    return ReliabilityCurve(
        np.arange(len(bins.n) + 1) / len(bins.n),
        bins.confidence,
        bins.accuracy,
        wilson_ends(of_units.right, of_units.n),
        bins.n.astype(np.int64),
        n_images,
        n_groups,
    )


def report_of(counted: Counted, asked: Asked, class_names: Any) -> CalibrationReport:
    """The report of all measures."""
    names = check_class_names(class_names, counted.n_classes)
    counts = counted.bins.sum(axis=1)
    images, units = bins_of(counts), clusters(counts, counted.groups)
    bins, eces = bins_of(pooled(counts)), expected_error(images)
    accuracies, confidences = share_of(images.right.sum(axis=-1), images.total), _confidence(counts)
    gaps = confidences - accuracies
    n_images, n_groups = _who(counted)
    noun, n_units = ("image", n_images) if n_groups is None else ("group", n_groups)
    gap, gap_interval = _mean(gaps, counted, -1.0)
    ece, ece_interval = _mean(eces, counted)
    right, all_right = float(real(pooled(counted.sums[:, RIGHT]))), float(bins.right.sum())
    total, all_pixels = float(real(pooled(counts.sum(axis=1))[2:])), float(bins.total)
    mce, mce_pixels = largest_error(bins)
    parts = brier_parts(bins)
    spread = jackknife(units, debiased_squared_error)
    areas = risk_coverage_areas(counted.ranks)
    classes = _classes(counted, names)
    present = np.array([row.ece for row in classes if row.n_pixels])
    diagonal, confusion = counted.confusion.diagonal(), counted.confusion
    return CalibrationReport(
        ece=ece,
        ece_interval=ece_interval,
        interval_method=f"Student's t over {plural(n_units, noun)}",
        verdict=_verdict(gap, gap_interval, noun),
        gap=gap,
        gap_interval=gap_interval,
        pooled_ece=float(expected_error(bins)),
        mce=mce,
        mce_pixels=mce_pixels,
        rms_ce=root_mean_square_error(bins),
        adaptive_ece=float(expected_error(bins_of(adaptive_bins(counted.ranks, len(bins.n))))),
        class_wise_ece=exact_mean(present),
        debiased_squared_ece=float(debiased_squared_error(bins)),
        jackknife_squared_ece=jackknife(units, squared_error).estimate,
        squared_ece_standard_error=spread.standard_error,
        nll=pooled_mean(counted, NLL),
        nll_standard_error=_standard_error(counted, NLL),
        brier=pooled_mean(counted, BRIER),
        brier_standard_error=_standard_error(counted, BRIER),
        reliability=parts.reliability,
        resolution=parts.resolution,
        uncertainty=parts.uncertainty,
        accuracy=float(share_of(all_right, all_pixels)),
        confidence=float(share_of(total, all_pixels)),
        right_confidence=float(share_of(right, all_right)),
        wrong_confidence=float(share_of(total - right, all_pixels - all_right)),
        auroc=area_under_roc(counted.ranks),
        aurc=areas[0],
        augrc=areas[1],
        mean_iou=float(iou_of(confusion.sum(axis=1), confusion.sum(axis=0), diagonal)),
        regions=() if asked.boundary_width is None else _regions(counted, asked.object_classes is not None),
        classes=classes,
        curve=curve_of(counted),
        n_images=n_images,
        n_skipped=len(counted.bins) - n_images,
        n_groups=n_groups,
        n_pixels=int(all_pixels),
        n_bins=len(bins.n),
        class_threshold=asked.class_threshold or 0.0,
        boundary_width=asked.boundary_width,
        boundary=asked.boundary,
        image_eces=eces,
        image_accuracies=accuracies,
        image_confidences=confidences,
        image_nlls=image_means(counted, NLL),
        image_briers=image_means(counted, BRIER),
        image_ious=counted.ious,
    )


def _who(counted: Counted) -> tuple[int, int | None]:
    """Images that have labelled pixels, and their groups."""
    valid = counted.n_pixels > 0
    groups = counted.groups
    if groups is None:
        return int(valid.sum()), None
    return int(valid.sum()), len({group for group, counts in zip(groups, valid, strict=True) if counts})


def _confidence(counts: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The mean confidence in bins (..., M, 4) together."""
    together = counts.sum(axis=-2)
    return share_of(real(together[..., 2:]), together[..., 0])


def _mean(
    values: NDArray[np.float64], counted: Counted, least: float = 0.0
) -> tuple[float, tuple[float, float]]:
    """The mean over units, with its interval."""
    of_units = unit_means(values, counted.groups)
    return exact_mean(of_units), mean_ends(of_units, least, 1.0)


def _standard_error(counted: Counted, which: int) -> float:
    sums = real(clusters(counted.sums[:, which], counted.groups))
    return ratio_error(sums, clusters(counted.n_pixels, counted.groups).astype(np.float64))


def _regions(counted: Counted, has_objects: bool) -> tuple[RegionCalibration, ...]:
    regions = []
    for place, name in ((1, "boundary"), (0, "interior"), *([(2, "outside")] if has_objects else [])):
        counts = counted.bins[:, place]
        bins, together = bins_of(counts), bins_of(pooled(counts))
        ece, interval = _mean(expected_error(bins), counted)
        regions.append(
            RegionCalibration(
                name,
                ece,
                interval,
                float(expected_error(together)),
                float(share_of(together.right.sum(), together.total)),
                float(_confidence(pooled(counts))),
                int((bins.total > 0).sum()),
                int(together.total),
            )
        )
    return tuple(regions)


def _classes(counted: Counted, names: list[str]) -> tuple[ClassCalibration, ...]:
    eces = expected_error(bins_of(counted.classes))
    hits = counted.confusion.diagonal()
    totals, predicted = counted.confusion.sum(axis=1), counted.confusion.sum(axis=0)
    ious, accuracies = share_of(hits, totals + predicted - hits), share_of(hits, totals)
    return tuple(
        ClassCalibration(k, name, float(eces[k]), float(ious[k]), float(accuracies[k]), int(images), int(n))
        for k, (name, images, n) in enumerate(zip(names, counted.class_images, totals, strict=True))
    )


def _verdict(gap: float, interval: tuple[float, float], noun: str) -> str:
    """Whether mean confidence and accuracy differ by more than chance explains, in words."""
    if math.isnan(gap):
        return "Nothing is known of calibration: no image has a labelled pixel."
    low, high = interval
    said = f"Mean confidence less accuracy is {gap:.4f}, mean over {noun}s"
    if math.isnan(low):
        return f"{said}. Of one {noun} nobody knows how much of that is chance."
    said = f"{said} (95 % interval {low:.4f} to {high:.4f})"
    if low > 0:
        return f"{said}: the model is over-confident."
    if high < 0:
        return f"{said}: the model is under-confident."
    return (
        f"{said}: chance variation between the {noun}s can explain it. Errors of single bins may still cancel: see the "
        "ECE."
    )
