"""
When the world changes: online control and a drift alarm
========================================================

A car drives into fog. Frames of a video are not exchangeable with calibration images, so a fixed lambda promises
nothing there. An alarm tells when you must no longer rely on the fixed lambda. A controller moves lambda instead.
"""

# %%
# A classifier looks at a film of 150 frames. After frame 70 fog comes up.

import matplotlib.pyplot as plt
import numpy as np

import conformask as cm
from conformask import plotting

scenes = cm.datasets.make_scenes(290, size=(40, 64), random_state=5)
model = cm.datasets.PixelClassifier(n_pixels=20_000, random_state=0)
model.fit(scenes.images[:40], scenes.labels[:40])
fog = np.zeros((150, 1, 1, 1))
fog[70:, 0, 0, 0] = np.linspace(0, 2.4, 80).clip(max=0.8)
film = ((1 - fog) * scenes.images[140:] + fog * 190).astype(np.uint8)
X, y = model.predict_proba(scenes.images[40:140]), scenes.labels[40:140]
frames, truth = model.predict_proba(film), scenes.labels[140:]

# %%
# The alarm watches the losses at a fixed lambda. It may look at every frame: the probability of a false alarm, *ever*,
# is at most delta. The lambda was calibrated with confidence, as the alarm needs.

watched = cm.ConformalRiskCalibrator(alpha=0.1, method=cm.RCPS(0.1)).fit(X, y)
alarm = cm.DriftAlarm("risk", alpha=0.1, delta=0.01)
for frame, labels in zip(frames, truth, strict=True):
    alarm.update(watched.losses(frame[None], labels[None]))
print(f"alarm at frame {alarm.alarm_time_}")

figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
plotting.plot_alarm(alarm, ax=ax)

# %%
# The controller raises lambda after a frame whose loss was above alpha, and lowers it after others. Whatever comes, the
# mean loss so far stays below the bound, which tends to alpha.

calibrator = cm.ConformalRiskCalibrator(alpha=0.1).fit(X, y)
controller = cm.OnlineRiskController.from_calibrator(calibrator, step=0.05)
for frame, labels in zip(frames, truth, strict=True):
    controller.update(frame[None], labels[None])

figure, axes = plt.subplots(2, figsize=(8, 5.6), sharex=True, layout="constrained")
plotting.plot_online(controller, axes=axes)

# sphinx_gallery_thumbnail_number = 2

# %%
# This is what the camera sees before the fog, when the fog comes up, and in the fog.

figure, axes = plt.subplots(1, 3, figsize=(12, 2.8), layout="constrained")
for ax, t in zip(axes, (18, 76, 140), strict=True):
    ax.imshow(film[t])
    ax.set_title(f"frame {t}")
    ax.set_axis_off()
