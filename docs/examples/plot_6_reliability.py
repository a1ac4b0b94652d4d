"""
Probabilities before and after scaling
======================================

Networks are often too sure. A scaler changes logits so that the probabilities fit the labels. It promises nothing by
itself; a calibrator behind it does.
"""

# %%
# The logits of a small classifier are multiplied by 2.5. That makes it as over-confident as large networks can be.

import matplotlib.pyplot as plt
import numpy as np

import conformask as cm
from conformask import plotting

scenes = cm.datasets.make_scenes(110, size=(64, 112), random_state=0)
model = cm.datasets.PixelClassifier(n_pixels=20_000, random_state=0)
model.fit(scenes.images[:30], scenes.labels[:30])
logits = 2.5 * np.log(model.predict_proba(scenes.images[30:]).clip(1e-12))
y = scenes.labels[30:]
fit, test = slice(0, 40), slice(40, 80)

# %%
# The scaler is fitted to images of its own. Its temperature is above 2.5: the classifier was too sure before, too.

scaler = cm.TemperatureScaler().fit(logits[fit], y[fit])
print(f"temperature {scaler.temperature_:.2f}")

# %%
# This is a reliability diagram. Where the model says 90 %, nine of ten pixels should be right; the dashed diagonal
# shows this ideal.

figure = plt.figure(figsize=(11, 5.6), layout="constrained")
parts = zip(figure.subfigures(1, 2), (None, scaler), ("Before", "After temperature scaling"), strict=True)
for part, transform, title in parts:
    report = cm.metrics.calibration_report(y[test], logits[test], inputs="logits", transform=transform)
    plotting.plot_reliability(report, ax=part.subplots())
    part.suptitle(title, fontweight="bold")

# %%
# The maps show where in an image the model is too sure. Both have the same scale.

i = 71
figure, axes = plt.subplots(1, 3, figsize=(13, 3.2), layout="constrained")
axes[0].imshow(scenes.images[30 + i])
axes[0].set_title("scene")
axes[0].set_axis_off()
softmax = np.exp(logits[i] - np.logaddexp.reduce(logits[i], axis=0))
for ax, probabilities, title in (
    (axes[1], softmax, "as it is"),
    (axes[2], scaler.transform(logits[i][None])[0], "scaled"),
):
    plotting.plot_ece_map(probabilities, y[i], vmax=0.4, ax=ax)
    ax.set_title(title)
