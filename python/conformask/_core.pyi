"""The kernels of conformask. Private: use `conformask.kernels`."""

from fractions import Fraction
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ACTIVATION_CELLS",
    "ACTIVATION_CELL_BITS",
    "N_BINS",
    "SUM_TOLERANCE",
    "BinnedProfile",
    "ConsignSearch",
    "ExactProfile",
    "Loss",
    "Score",
    "__version__",
    "agreeing_pixels",
    "consign_open",
    "consign_sample",
    "coverage",
    "data_pointer",
    "distinct_counts",
    "get_num_threads",
    "label_hits",
    "mask_coverage",
    "pairwise_correlation",
    "sample_masks",
    "set_num_threads",
    "set_size",
    "smallest_probability",
    "threshold",
    "true_label_scores",
    "truncated_svd",
    "weighted_quantile",
]

ACTIVATION_CELLS: int
ACTIVATION_CELL_BITS: int
N_BINS: int
SUM_TOLERANCE: float
__version__: str

_Scores = NDArray[np.floating[Any]]
_Labels = NDArray[np.integer[Any]]
_Counts = tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]
_Arrays = tuple[
    NDArray[np.uint64],
    NDArray[np.uint64],
    NDArray[np.floating[Any]],
    NDArray[np.uint16],
    NDArray[np.uint64] | None,
]

@final
class Score:
    @staticmethod
    def lac(include_top1: bool) -> Score: ...
    @staticmethod
    def raps(penalty: float, k_reg: int | None = None) -> Score: ...
    @staticmethod
    def given(lambda_max: float) -> Score: ...
    @staticmethod
    def sacp(base: Score, weight: float, window: int, include_top1: bool, probabilities: bool) -> Score: ...
    def lambda_max(self, n_classes: int) -> float: ...

@final
class Loss:
    @staticmethod
    def pooled(classes: list[bool], tolerance: Fraction | None = None) -> Loss: ...
    @staticmethod
    def per_class(class_weights: list[Fraction], tolerance: Fraction | None = None) -> Loss: ...
    def values(self, missed: NDArray[np.uint64], totals: NDArray[np.uint64]) -> NDArray[np.float64]: ...

@final
class BinnedProfile:
    def __new__(cls, score: Score, n_classes: int, losses: list[Loss]) -> BinnedProfile: ...
    def __len__(self) -> int: ...
    @property
    def n_classes(self) -> int: ...
    def n_defined(self, part: int) -> int: ...
    def add(self, profile: ExactProfile) -> None: ...
    def merged(self, other: BinnedProfile) -> BinnedProfile: ...
    def lambda_hat(self, part: int, budget: Fraction) -> float | None: ...
    def loss_sum(self, part: int, lam: float) -> float: ...
    def jumps(self, part: int) -> NDArray[np.float64]: ...
    def part(self, part: int) -> tuple[int, NDArray[Any]]: ...
    @staticmethod
    def from_parts(
        score: Score, n_classes: int, n_images: int, parts: list[tuple[Loss, int, NDArray[Any]]]
    ) -> BinnedProfile: ...

@final
class ConsignSearch:
    def __new__(
        cls, min_accuracy: Fraction, strict: bool, pixelwise: bool, lambda_max: float, node_budget: int
    ) -> ConsignSearch: ...
    def __len__(self) -> int: ...
    def add(
        self,
        mean: NDArray[np.float64],
        components: NDArray[np.float64],
        centre: NDArray[np.float64],
        half: NDArray[np.float64],
        labels: NDArray[np.int32],
    ) -> bool: ...
    def n_bytes_waiting(self) -> int: ...
    def warm_start(self, decide: float | None = None) -> None: ...
    def refine(self, first: int, last: int, bound: float, decide: float | None = None) -> None: ...
    def brackets(self) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]: ...
    def witness(self, image: int) -> NDArray[np.float64] | None: ...
    def achieved(self, image: int) -> Fraction: ...
    def n_nodes(self, image: int) -> int: ...

@final
class ExactProfile:
    @staticmethod
    def build(
        x: _Scores,
        y: _Labels,
        score: Score,
        inputs: str,
        ignore_index: int | None,
        with_activations: bool,
        first_image: int,
    ) -> ExactProfile: ...
    @staticmethod
    def concatenate(profiles: list[ExactProfile]) -> ExactProfile: ...
    @staticmethod
    def from_arrays(
        score: Score,
        totals: NDArray[np.uint64],
        lengths: NDArray[np.uint64],
        values: NDArray[np.floating[Any]],
        labels: NDArray[np.uint16],
        activations: NDArray[np.uint64] | None = None,
    ) -> ExactProfile: ...
    def __len__(self) -> int: ...
    @property
    def n_classes(self) -> int: ...
    @property
    def n_values(self) -> int: ...
    def totals(self) -> NDArray[np.uint64]: ...
    def take(self, indices: list[int]) -> ExactProfile: ...
    def missed(self, lambdas: NDArray[np.float64]) -> NDArray[np.uint64]: ...
    def losses(self, loss: Loss, lambdas: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def lambda_hat(
        self, loss: Loss, budget: Fraction, shares: list[Fraction] | None = None
    ) -> float | None: ...
    def jumps(self, loss: Loss, limit: int) -> NDArray[np.float64]: ...
    def activation(self, lam: float) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None: ...
    def to_arrays(self) -> _Arrays: ...

def threshold(
    x: _Scores, lam: float, score: Score, inputs: str, out: NDArray[np.uint8], first_image: int
) -> None: ...
def set_size(
    x: _Scores, lam: float, score: Score, inputs: str, out: NDArray[np.uint16], first_image: int
) -> None: ...
def true_label_scores(
    x: _Scores,
    y: _Labels,
    score: Score,
    inputs: str,
    ignore_index: int | None,
    out: NDArray[np.float64],
    first_image: int,
) -> None: ...
def coverage(
    x: _Scores,
    y: _Labels,
    lam: float,
    score: Score,
    inputs: str,
    ignore_index: int | None,
    first_image: int,
) -> _Counts: ...
def mask_coverage(
    masks: NDArray[np.bool_], y: _Labels, ignore_index: int | None, first_image: int
) -> _Counts: ...
def sample_masks(masks: NDArray[np.bool_], key: int, out: NDArray[Any]) -> None: ...
def consign_sample(
    mean: NDArray[np.float64],
    components: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    key: int,
    out: NDArray[Any],
) -> None: ...
def consign_open(
    mean: NDArray[np.float64],
    components: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> tuple[NDArray[np.uint64], int]: ...
def weighted_quantile(
    values: NDArray[np.float64], weights: NDArray[np.float64], budget: Fraction, least: float
) -> float | None: ...
def distinct_counts(samples: _Labels) -> tuple[int, int, int]: ...
def pairwise_correlation(samples: _Labels, varying_only: bool) -> float: ...
def agreeing_pixels(samples: _Labels) -> int: ...
def label_hits(
    y: _Labels, predictions: _Labels, ignore_index: int | None
) -> tuple[list[int], NDArray[np.uint64], NDArray[np.uint64]]: ...
def truncated_svd(
    a: _Scores, k: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
def smallest_probability(lam: float, double: bool) -> float: ...
def data_pointer(x: _Scores) -> int: ...
def get_num_threads() -> int: ...
def set_num_threads(n_threads: int | None = None) -> None: ...
