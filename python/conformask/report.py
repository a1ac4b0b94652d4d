"""What evaluation reports, as text and as a table in a notebook."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CoverageReport", "RiskReport", "html_table", "plain_table"]


def __dir__() -> list[str]:
    return sorted(__all__)


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth value
class RiskReport:
    """How the calibrated masks fare on labelled images. Means are over images, or over their groups where given.

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
    n_groups : int or None
        Number of groups, where given. Means are then over groups, of the means over their images.
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
    n_groups: int | None = None

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
            *([] if self.n_groups is None else [("groups", f"{self.n_groups}")]),
        ]

    def __str__(self) -> str:
        return plain_table(self._rows())

    def _repr_html_(self) -> str:
        return html_table("Risk report", self._rows())


@dataclass(frozen=True, eq=False)
class CoverageReport:
    """How often sets of segmentations hold the truth, on labelled images.

    Attributes
    ----------
    coverage : float
        Share of the images whose labels are in the set, shown by coefficients: it is at least this.
    coverage_bound : float
        It is at most this: images that the search could not decide count as covered.
    n_images : int
        Number of images that count.
    n_skipped : int
        Number of images left out because they have no labelled pixel.
    alpha : float
        The risk level that was calibrated for. The guarantee is about the expected coverage of a new image: the
        coverage of one test set lies around its expectation, sometimes below ``1 - alpha``.
    lambda_hat : float
        How large the sets are.
    contained : bool array (n,)
        Whether each image was shown to be covered.
    certified : bool array (n,)
        Whether that is sure, either way.
    n_groups : int or None
        Number of groups, where given. Coverage is then the mean over groups of the share of their images.
    """

    coverage: float
    coverage_bound: float
    n_images: int
    n_skipped: int
    alpha: float
    lambda_hat: float
    contained: NDArray[np.bool_] = field(repr=False)
    certified: NDArray[np.bool_] = field(repr=False)
    n_groups: int | None = None

    def _rows(self) -> list[tuple[str, str]]:
        skipped = f" ({self.n_skipped} skipped)" if self.n_skipped else ""
        unsure = f" to {self.coverage_bound:.4f}" if self.coverage_bound > self.coverage else ""
        return [
            ("alpha", f"{self.alpha:g}"),
            ("coverage", f"{self.coverage:.4f}{unsure}"),
            ("lambda-hat", f"{self.lambda_hat:.6g}"),
            ("images", f"{self.n_images}{skipped}"),
            *([] if self.n_groups is None else [("groups", f"{self.n_groups}")]),
        ]

    def __str__(self) -> str:
        return plain_table(self._rows())

    def _repr_html_(self) -> str:
        return html_table("Coverage report", self._rows())


def plain_table(rows: list[tuple[str, str]]) -> str:
    """Names and values, one a line."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def html_table(caption: str, rows: list[tuple[str, str]]) -> str:
    """Names and values for a notebook."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in rows
    )
    return f"<table><caption>{caption}</caption>{cells}</table>"
