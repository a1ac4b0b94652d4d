"""
Margins around a hard mask
==========================

Where a model gives masks and no probabilities, a margin tells how far the mask must grow to hold the object, and shrink
to hold nothing else.
"""

# %%
# The objects are blobs, and the borders of their predictions are a little off. Pixels are 0.8 mm wide.

import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage

import conformask as cm
from conformask import plotting

rng = np.random.default_rng(2)
rows, columns = np.mgrid[:96, :96] - 47.5
angle = np.arctan2(rows, columns)
distance = np.hypot(rows, columns)


def outline(bumps):
    """A radius for each direction: a circle with five random bumps."""
    waves = [a * np.cos(k * angle + b) for k, (a, b) in enumerate(bumps, start=2)]
    return 26 + np.sum(waves, axis=0)


truth, predicted = [], []
for _ in range(140):
    bumps = np.stack([rng.normal(0, 2.5, 5), rng.uniform(0, 2 * np.pi, 5)], axis=1)
    wrong = bumps + np.stack([rng.normal(0, 0.6, 5), np.zeros(5)], axis=1)
    truth.append(distance < outline(bumps))
    predicted.append(distance < outline(wrong) + rng.normal(0, 1.0))
truth, predicted = np.array(truth), np.array(predicted)

# %%
# With probability at least 90 % the outer mask of a new image holds 99 % of its object, and the inner mask holds none
# of the background.

calibrator = cm.MarginCalibrator(alpha=0.1, side="both", min_coverage=0.99)
calibrator.fit(predicted[:100], truth[:100], spacing=(0.8, 0.8))
print(f"grow by {calibrator.outer_margin_:.2f} mm, shrink by {calibrator.inner_margin_:.2f} mm")
inner, outer = calibrator.predict(predicted[100:], spacing=(0.8, 0.8))

# %%
# Three new images. The true contour runs within the band between the inner and the outer mask.

figure, axes = plt.subplots(1, 3, figsize=(12, 3.9), layout="constrained")
for ax, i in zip(axes, (1, 5, 6), strict=True):
    scan = ndimage.gaussian_filter(truth[100 + i] + rng.normal(0, 0.35, distance.shape), 1.2).clip(0, 1)
    plotting.plot_margins(
        predicted[100 + i],
        outer=outer[i],
        inner=inner[i],
        labels=truth[100 + i],
        image=0.2 + 0.6 * scan,
        opacity=0.5,
        legend=i == 6,
        ax=ax,
    )
    ax.set_title("")

# %%
# The report of the 40 new images says how often the margins are wide enough, and what they cost.

print(calibrator.evaluate(predicted[100:], truth[100:], spacing=(0.8, 0.8)))
