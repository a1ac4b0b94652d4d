"""
A threshold for each image
==========================

A network says for each pixel how probable a car is. One threshold for all images keeps the miss rate at alpha on
average: hard images miss far more, and easy ones miss nothing. If each image has a threshold of its own, images are
served more evenly, with the same guarantee.
"""

# %%
# Here are probabilities of "car" in 200 scenes that the classifier has not seen. Images without a car have no miss
# rate, and are left out.

import warnings

import matplotlib.pyplot as plt
import numpy as np

import conformask as cm
from conformask import plotting

scenes = cm.datasets.make_scenes(240, size=(64, 96), random_state=0)
model = cm.datasets.PixelClassifier(n_pixels=20_000, random_state=0)
model.fit(scenes.images[:40], scenes.labels[:40])
photographs, labels = scenes.images[40:], scenes.labels[40:]
car = scenes.class_names.index("car")
P = model.predict_proba(photographs)[:, car]
y = np.where(labels == 255, 255, labels == car).astype(np.uint8)

calibrators = {"one threshold": cm.BinaryRiskCalibrator(0.1), "CRA": cm.CRACalibrator(0.1)}
with warnings.catch_warnings():
    warnings.simplefilter("ignore", cm.DroppedImagesWarning)  # scenes without a car
    reports = {
        name: calibrator.fit(P[:100], y[:100]).evaluate(P[100:], y[100:])
        for name, calibrator in calibrators.items()
    }

# %%
# The histogram shows how much of the car each image's mask covers. The means are alike, but with CRA no image is missed
# as badly. It takes the most probable pixels of an image up to a share of its summed probability, so the threshold
# falls where the model is unsure.

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
plotting.plot_coverage_histogram(reports, ax=ax)

# sphinx_gallery_thumbnail_number = 2

# %%
# Four images follow, from the hardest to the easiest for the one threshold. White pixels are car and in the mask, red
# ones are missed, and cyan ones are in the mask but no car.

order = np.argsort(np.nan_to_num(reports["one threshold"].coverages, nan=2.0))
known = int(np.isfinite(reports["one threshold"].coverages).sum())
chosen = order[[1, 4, known // 3, known - 1]]
figure, axes = plt.subplots(2, 4, figsize=(13, 4.8), layout="constrained")
for row, (name, calibrator) in zip(axes, calibrators.items(), strict=True):
    masks = calibrator.predict(P[100:])
    for ax, i in zip(row, chosen, strict=True):
        truth = y[100 + i] == 1
        plotting.plot_binary(masks[i], y[100 + i], image=photographs[100 + i], legend=False, ax=ax)
        ax.set_title(f"{name}: {masks[i][truth].mean():.2f}", fontsize="medium")
