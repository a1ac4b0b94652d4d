"""
Sets of whole segmentations
===========================

An ensemble shows which pixels change *together*. CONSIGN turns its members into a set of whole segmentations: all that
can be reached by moves along a few directions, within a box. With probability at least 1 - alpha the set of a new image
holds a segmentation that is accurate enough, or the calibrator abstains.
"""

# %%
# Eight small classifiers learn from six scenes each, so they doubt different things. The eight classes are merged to
# four.

import matplotlib.pyplot as plt
import numpy as np

import conformask as cm
from conformask import plotting

names = ("ground", "built or plant", "sky", "traffic")
palette = [(112, 88, 128), (96, 155, 63), (120, 190, 232), (222, 38, 58)]
merged = np.full(256, 255, np.uint8)  # void stays void
merged[:8] = [0, 0, 1, 1, 2, 3, 3, 1]

scenes = cm.datasets.make_scenes(140, size=(60, 96), random_state=0)
labels = merged[scenes.labels]
images, y = scenes.images[40:], labels[40:]
rng = np.random.default_rng(0)
members = []
for seed in range(8):
    chosen = rng.choice(40, 6, replace=False)
    member = cm.datasets.PixelClassifier(n_pixels=6000, max_iter=12, random_state=seed)
    members.append(member.fit(scenes.images[chosen], labels[chosen]).predict_proba(images))
X = np.stack(members, axis=1)  # (images, samples, classes, height, width)

# %%
# Sixty of the images are for calibration. ``min_accuracy`` says how accurate a segmentation must be: the share of right
# pixels, averaged over the labels of an image.

calibrator = cm.ConsignCalibrator(2, alpha=0.1, min_accuracy=0.8).fit(X[:60], y[:60])
sets = calibrator.predict(X[60:])
shown = 4

# %%
# These are the two directions of one image. Along a direction, red classes become more likely and blue ones less
# likely.

figure, axes = plt.subplots(2, 4, figsize=(11, 4), layout="constrained")
plotting.plot_components(sets[shown], class_names=names, axes=axes)

# %%
# These segmentations are drawn from the set of this image. Whole regions change, not single pixels.

plotting.plot_samples(
    sets[shown].sample(5, random_state=1),
    images[60 + shown],
    labels=y[60 + shown],
    class_names=names,
    palette=palette,
    n_columns=3,
)

# sphinx_gallery_thumbnail_number = 2

# %%
# The report says how many sets of the other images hold a segmentation that is accurate enough.

print(calibrator.evaluate(X[60:], y[60:]))
