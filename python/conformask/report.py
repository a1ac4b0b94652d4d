"""What evaluation reports, as text and as a table in a notebook."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["RiskReport"]


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth value
class RiskReport:
    """How the calibrated masks fare on labelled images. Means are over images.

    Attributes
    ----------
    empirical_risk : float
        Mean loss, in [0, 1].
    activation_ratio : float
        Mean number of classes in the sets of labelled pixels, in [0, K].
    coverage : float
        Mean share of labelled pixels whose set holds their label, in [0, 1].
    n_images : int
        Number of images on which the loss is defined.
    n_skipped : int
        Number of images left out because it is not.
    alpha : float
        The risk level that was calibrated for. The guarantee is about the expected loss of a new image: the risk of one
        test set lies around its expectation, sometimes above.
    lambda_hat : float
        Where the sets were cut.
    loss : str
        The loss, as text.
    losses, activation_ratios, coverages : float64 arrays (n,)
        The values of each image; NaN where undefined.
    """

    empirical_risk: float
    activation_ratio: float
    coverage: float
    n_images: int
    n_skipped: int
    alpha: float
    lambda_hat: float
    loss: str
    losses: NDArray[np.float64] = field(repr=False)
    activation_ratios: NDArray[np.float64] = field(repr=False)
    coverages: NDArray[np.float64] = field(repr=False)

    def _rows(self) -> list[tuple[str, str]]:
        skipped = f" ({self.n_skipped} skipped)" if self.n_skipped else ""
        return [
            ("loss", self.loss),
            ("alpha", f"{self.alpha:g}"),
            ("empirical risk", f"{self.empirical_risk:.4f}"),
            ("activation ratio", f"{self.activation_ratio:.3f}"),
            ("coverage", f"{self.coverage:.4f}"),
            ("lambda-hat", f"{self.lambda_hat:.6g}"),
            ("images", f"{self.n_images}{skipped}"),
        ]

    def __str__(self) -> str:
        rows = self._rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in self._rows()
        )
        return f"<table><caption>Risk report</caption>{cells}</table>"
