"""
The risk curve and the report
=============================

Calibration looks for the smallest lambda whose corrected risk is at most alpha. The risk curve shows how. The report
then tells what the sets do on other labelled images.
"""

# %%
# Labelled scenes that the model was not trained on are split in two: one part calibrates, the other part tests.

import matplotlib.pyplot as plt

import conformask as cm
from conformask import plotting

scenes = cm.datasets.make_scenes(150, size=(56, 96), random_state=0)
model = cm.datasets.PixelClassifier(n_pixels=20_000, random_state=0)
model.fit(scenes.images[:30], scenes.labels[:30])
X, y = model.predict_proba(scenes.images[30:]), scenes.labels[30:]

calibrator = cm.ConformalRiskCalibrator(alpha=0.05).fit(X[:60], y[:60])

# %%
# The curve is the share of labels that the sets miss, for every lambda. The mean risk on n calibration images must stay
# below alpha by a margin of (1 - alpha) / n. The point is where the curve meets this limit.

figure, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
plotting.plot_risk_curve(calibrator, ax=ax)

# %%
# The report of the test images. Its last sentences say what its numbers mean.

report = calibrator.evaluate(X[60:], y[60:], class_names=scenes.class_names, alphas=[0.1, 0.05, 0.02])
print(report)

# %%
# One lambda for all classes keeps the mean risk at alpha, but not the risk of each class. Small things are missed more
# often than the road. :doc:`plot_4_classes` shows what to do about it.

figure, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
plotting.plot_class_risk(report, ax=ax)
