"""
A promise for every class
=========================

With one lambda for all classes, small classes may be missed often: the mean risk is low because the road is easy. With
``conditional="class"`` each class has a lambda of its own, and keeps alpha by itself.
"""

# %%
# One calibrator has one lambda for all classes, the other has a lambda for each class.

import matplotlib.pyplot as plt

import conformask as cm
from conformask import plotting

scenes = cm.datasets.make_scenes(230, size=(48, 80), random_state=2)
model = cm.datasets.PixelClassifier(n_pixels=20_000, random_state=0)
model.fit(scenes.images[:30], scenes.labels[:30])
X, y = model.predict_proba(scenes.images[30:]), scenes.labels[30:]

marginal = cm.ConformalRiskCalibrator(alpha=0.1).fit(X[:100], y[:100])
by_class = cm.ConformalRiskCalibrator(alpha=0.1, conditional="class").fit(X[:100], y[:100])

# %%
# With one lambda, people and poles are missed far more often than alpha says. That breaks no promise: alpha limits the
# mean over all pixels of an image.

before = marginal.evaluate(X[100:], y[100:], class_names=scenes.class_names)
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
plotting.plot_class_risk(before, ax=ax)

# %%
# With a lambda for each class, each class keeps its alpha, on average over images that hold it.

after = by_class.evaluate(X[100:], y[100:], class_names=scenes.class_names)
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
plotting.plot_part_risk(after, ax=ax)

# sphinx_gallery_thumbnail_number = 2

# %%
# The price is larger sets.

print(
    f"classes in a set: {before.activation_ratio:.2f} with one lambda, {after.activation_ratio:.2f} with one each"
)
