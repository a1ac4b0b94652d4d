"""What the reference is divided into. The names themselves come from ``__all__`` of the package."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A page of the reference: what it is called, and which modules' public names it lists."""

    page: str
    title: str
    modules: tuple[str, ...]
    about: str
    only_top: bool = False  # list only what the package itself offers, too
    intro: bool = True  # whether the docstring of the module opens the page


SECTIONS = (
    Section(
        "risk-control",
        "Risk control",
        ("risk_control", "profiles", "report"),
        "The calibrator of multi-labeled masks, the profiles that it keeps of images, and its reports.",
        intro=False,
    ),
    Section("losses", "Losses", ("losses",), "What is asked of the set of an image.", only_top=True),
    Section(
        "scores", "Conformity scores", ("scores",), "What is asked of a pixel.", only_top=True, intro=False
    ),
    Section("control", "Control methods", ("control",), "How the risk is controlled.", only_top=True),
    Section(
        "adaptive",
        "One object, adaptive thresholds",
        ("adaptive",),
        "Binary masks by one threshold or by many.",
    ),
    Section("margins", "Margins of hard masks", ("margins",), "How far a mask must grow or shrink."),
    Section(
        "consign", "Sets of whole segmentations", ("consign",), "CONSIGN: sets made from samples of a model."
    ),
    Section("scaling", "Scaling of probabilities", ("scaling",), "Post-hoc calibration of logits."),
    Section(
        "online",
        "Online control and alarms",
        ("online",),
        "Video, drift, and tests that may look at any time.",
    ),
    Section("metrics", "Metrics", ("metrics",), "How good sets, samples and probabilities are."),
    Section("plotting", "Plotting", ("plotting",), "Pictures, with Matplotlib."),
    Section("explorer", "Explorer", ("explorer",), "A widget for Jupyter.", intro=False),
    Section("datasets", "Data sets", ("datasets",), "Rendered scenes, stored predictions, folders of files."),
    Section("rasters", "Rasters", ("rasters",), "Scenes larger than memory."),
    Section(
        "integrations",
        "Integrations",
        tuple(
            f"integrations.{name}"
            for name in (
                *("torch", "transformers", "monai", "nnunet", "mmseg", "dask"),
                *("threshold_network", "local_temperature"),
            )
        ),
        "PyTorch, transformers, MONAI, nnU-Net, MMSegmentation and Dask.",
    ),
    Section("kernels", "Kernels and threads", ("kernels", "threads"), "Arrays in, arrays out."),
    Section("reproduction", "Reproduction", ("reproduction",), "The papers' protocols."),
    Section("exceptions", "Errors and warnings", ("exceptions",), "What the package raises and warns of."),
)
