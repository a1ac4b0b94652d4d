"""
Where is the model unsure? The varisco heatmap
==============================================

A calibrated mask gives each pixel a *set* of classes. The varisco heatmap shows how many classes each set holds.
Grey pixels have one class: the model is sure there. Bright pixels have several.
"""

# %%
# A small classifier of pixels learns from 30 rendered street scenes. Another 50 scenes calibrate, and 30 test.

import matplotlib.pyplot as plt
import numpy as np

import conformask as cm
from conformask import plotting

scenes = cm.datasets.make_scenes(110, size=(96, 160), random_state=3)
model = cm.datasets.PixelClassifier(n_pixels=20_000, random_state=0)
model.fit(scenes.images[:30], scenes.labels[:30])
images, labels = scenes.images[30:], scenes.labels[30:]
X = model.predict_proba(images)  # float32 (80, 8, 96, 160)

calibrator = cm.ConformalRiskCalibrator(alpha=0.05).fit(X[:50], labels[:50])
sizes = calibrator.set_size(X[50:])  # classes in the set of each pixel

# %%
# Three test scenes, from the one with the smallest sets to the one with the largest. The sets grow where the street is
# dark or foggy, at borders, and on small things.

order = np.argsort(sizes.mean(axis=(1, 2)))
figure, axes = plt.subplots(3, 3, figsize=(11, 7), layout="constrained")
for row, i in zip(axes, order[[2, 15, 27]], strict=True):
    image, truth = images[50 + i], labels[50 + i]
    row[0].imshow(image)
    row[0].set_axis_off()
    plotting.plot_masks(
        cm.kernels.threshold(X[50 + i][None], 0.0)[0],  # the most probable class alone
        palette=scenes.palette,
        labels=truth,
        legend=False,
        ax=row[1],
    )
    plotting.plot_varisco(sizes[i], image, n_classes=8, vmax=6, labels=truth, legend=False, ax=row[2])
    for ax in row:
        ax.set_title("")
for ax, title in zip(axes[0], ("scene", "most probable class", "classes in the set"), strict=True):
    ax.set_title(title)

# sphinx_gallery_thumbnail_number = 2

# %%
# One scene, larger. ``calibrator=`` puts alpha and lambda-hat into the title.

i = order[15]
figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
plotting.plot_varisco(
    sizes[i], images[50 + i], n_classes=8, labels=labels[50 + i], calibrator=calibrator, ax=ax
)

# %%
# The same sets, as a question about one class: where may there be a car? Dark blue is certain, light blue is possible.

figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
plotting.plot_may_be(
    calibrator.predict(X[50 + i][None])[0],
    "car",
    images[50 + i],
    class_names=scenes.class_names,
    palette=scenes.palette,
    labels=labels[50 + i],
    ax=ax,
)
