"""An explorer for Jupyter: images, their sets, and sliders for the level of a calibrator.

ipywidgets, ipyevents and Matplotlib are imported by the first call; ``pip install "conformask[explore]"`` installs
them.
"""

from conformask.explorer._explore import explore

__all__ = ["explore"]


def __dir__() -> list[str]:
    return sorted(__all__)
