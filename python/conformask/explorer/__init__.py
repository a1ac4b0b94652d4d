"""Images, their sets and the level of a calibrator, to be moved by sliders in Jupyter.

ipywidgets, ipyevents and Matplotlib are imported by the first call; ``pip install "conformask[explore]"`` brings them.
"""

from conformask.explorer._explore import explore

__all__ = ["explore"]


def __dir__() -> list[str]:
    return sorted(__all__)
