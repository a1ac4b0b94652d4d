"""
Which alpha, with how many images?
==================================

A small alpha costs two things: larger sets, and more calibration images.
"""

# %%
# First, what does alpha cost in size? One ``fit`` answers all levels; ``evaluate(alphas=...)`` reports them in one
# pass.

import matplotlib.pyplot as plt
import numpy as np

import conformask as cm
from conformask import plotting

scenes = cm.datasets.make_scenes(270, size=(48, 72), random_state=1)
model = cm.datasets.PixelClassifier(n_pixels=20_000, random_state=0)
model.fit(scenes.images[:30], scenes.labels[:30])
X, y = model.predict_proba(scenes.images[30:]), scenes.labels[30:]

calibrator = cm.ConformalRiskCalibrator(alpha=0.05).fit(X[:140], y[:140])
report = calibrator.evaluate(X[140:], y[140:], alphas=[0.01, 0.02, 0.03, 0.05, 0.07, 0.1])
figure, axes = plt.subplots(2, sharex=True, figsize=(7, 5.6), layout="constrained")
plotting.plot_alpha_sweep(report, axes=axes)

# %%
# Second, what do more images allow? The mean risk of calibration must stay below alpha. With few images the allowed
# risk is far below alpha, most of all where the promise holds with confidence.

figure, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
plotting.plot_required_images(0.05, delta=0.05, ax=ax)

# %%
# The risk on new images scatters from one calibration set to the next, around an expectation of at most alpha. With
# more images the expectation comes closer to alpha, and the scatter shrinks. With 19 images only full sets keep the
# promise: nothing is missed, but the sets say nothing. Profiles answer such questions without the maps: each split
# takes less than a millisecond.

profiles = cm.profile(X, y)
rng = np.random.default_rng(0)
found = {}
for n in (19, 50, 100, 150):
    risks = []
    for _ in range(200):
        parts = rng.permutation(len(profiles))
        lam = profiles[parts[:n]].lambda_hat("miscoverage", alpha=0.05)
        risks.append(profiles[parts[150:]].risk("miscoverage", lam))
    found[f"{n} images"] = risks

figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
parts = ax.violinplot(list(found.values()), orientation="horizontal", showmeans=True, showextrema=False)
for body in parts["bodies"]:
    body.set(facecolor="#1f4e79", alpha=0.35)
parts["cmeans"].set_color("#1f4e79")
ax.axvline(0.05, color="#c0392b", lw=1.4, ls="--", label="alpha")
ax.set_yticks(range(1, 5), found)
ax.set(xlabel="risk on the other images", ylabel="calibrated on", title="200 random splits each")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
