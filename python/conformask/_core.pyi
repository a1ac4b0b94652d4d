"""The kernels of conformask. Private: use `conformask.kernels`."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ACTIVATION_CELLS",
    "ACTIVATION_CELL_BITS",
    "CALIBRATION_UNIT",
    "MASKED_HINT",
    "MISSING_HINT",
    "N_BINS",
    "OTHERS_HINT",
    "SOFTMAX_TAIL_DOUBLE",
    "SOFTMAX_TAIL_SINGLE",
    "SUM_SLACK",
    "SUM_TOLERANCE",
    "SUM_TOLERANCE_BFLOAT16",
    "BinaryValues",
    "BinnedProfile",
    "ConsignDecomposition",
    "ConsignSearch",
    "ExactProfile",
    "Lambdas",
    "Loss",
    "ScalerMap",
    "Score",
    "__version__",
    "agreeing_pixels",
    "binary_counts",
    "binary_cutoffs",
    "binary_descriptions",
    "binary_masks",
    "calibration_counts",
    "centre_logits",
    "corrected_lambdas",
    "coverage",
    "data_pointer",
    "distinct_counts",
    "draw_pixels",
    "environment_threads",
    "get_num_threads",
    "label_hits",
    "log_loss_gradients",
    "log_loss_hessian_products",
    "log_loss_hessians",
    "mask_coverage",
    "mass_cutoffs",
    "mass_shares",
    "most_threads",
    "pairwise_correlation",
    "pixel_features",
    "probabilities",
    "repeats_between",
    "repeats_within",
    "sample_masks",
    "set_num_threads",
    "set_size",
    "smallest_probability",
    "smooth_rates",
    "tempered_losses",
    "tempered_sums",
    "threshold",
    "threshold_packed",
    "true_label_scores",
    "truncated_svd",
    "weighted_quantile",
]

ACTIVATION_CELLS: int
ACTIVATION_CELL_BITS: int
CALIBRATION_UNIT: float
MASKED_HINT: str
MISSING_HINT: str
N_BINS: int
OTHERS_HINT: str
SOFTMAX_TAIL_DOUBLE: float
SOFTMAX_TAIL_SINGLE: float
SUM_SLACK: float
SUM_TOLERANCE: float
SUM_TOLERANCE_BFLOAT16: float
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
    NDArray[np.float64] | None,
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
    def rank_penalties(self, n_classes: int) -> list[float] | None: ...

@final
class Lambdas:
    @staticmethod
    def per_image(lambdas: NDArray[np.float64]) -> Lambdas: ...
    @staticmethod
    def per_class(lambdas: NDArray[np.float64]) -> Lambdas: ...

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
    @staticmethod
    def concatenate(profiles: list[BinnedProfile]) -> BinnedProfile: ...
    def hashes(self) -> NDArray[np.uint64]: ...
    def lambda_hat(self, part: int, budget: Fraction) -> float | None: ...
    def loss_sum(self, part: int, lam: float) -> float: ...
    def jumps(self, part: int) -> NDArray[np.float64]: ...
    def part(self, part: int) -> tuple[int, NDArray[Any]]: ...
    @staticmethod
    def from_parts(
        score: Score,
        n_classes: int,
        n_images: int,
        hashes: NDArray[np.uint64],
        parts: list[tuple[Loss, int, NDArray[Any]]],
    ) -> BinnedProfile: ...

@final
class ConsignDecomposition:
    def __new__(
        cls,
        mean: NDArray[np.float64],
        components: NDArray[np.float64],
        singular_values: NDArray[np.float64],
        centre: NDArray[np.float64],
        half: NDArray[np.float64],
    ) -> ConsignDecomposition: ...
    @staticmethod
    def of_samples(
        x: _Scores, n_components: int, level: float, weight: str, image: int
    ) -> ConsignDecomposition: ...
    def __getnewargs__(self) -> tuple[NDArray[np.float64], ...]: ...
    @property
    def mean(self) -> NDArray[np.float64]: ...
    @property
    def components(self) -> NDArray[np.float64]: ...
    @property
    def singular_values(self) -> NDArray[np.float64]: ...
    @property
    def centre(self) -> NDArray[np.float64]: ...
    @property
    def half(self) -> NDArray[np.float64]: ...
    @property
    def shape(self) -> list[int]: ...
    def labels(
        self, y: _Labels, ignore_index: int | tuple[int, ...] | None, image: int | None = None
    ) -> NDArray[np.int32]: ...
    def label_map(self, coefficients: NDArray[np.float64]) -> NDArray[np.uint16]: ...
    def sample(
        self, lower: NDArray[np.float64], upper: NDArray[np.float64], key: int, out: NDArray[Any]
    ) -> None: ...
    def open(
        self, lower: NDArray[np.float64], upper: NDArray[np.float64]
    ) -> tuple[NDArray[np.uint64], int]: ...

@final
class ConsignSearch:
    def __new__(
        cls, min_accuracy: Fraction, strict: bool, pixelwise: bool, lambda_max: float, node_budget: int
    ) -> ConsignSearch: ...
    def __len__(self) -> int: ...
    def add(self, decomposition: ConsignDecomposition, labels: NDArray[np.int32]) -> bool: ...
    def n_bytes_waiting(self) -> int: ...
    def warm_start(self, decide: float | None = None) -> None: ...
    def refine(self, first: int, last: int, bound: float, decide: float | None = None) -> None: ...
    def brackets(self) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]: ...
    def witness(self, image: int) -> NDArray[np.float64] | None: ...
    def achieved(self, image: int) -> Fraction: ...
    def n_nodes(self, image: int) -> int: ...

@final
class ScalerMap:
    @staticmethod
    def affine(
        weight: NDArray[np.float64], bias: NDArray[np.float64], is_centred: bool, of_probabilities: bool
    ) -> ScalerMap: ...
    @staticmethod
    def tempered(base: ScalerMap, factors: NDArray[np.float32]) -> ScalerMap: ...
    @staticmethod
    def blended(base: ScalerMap, factors: tuple[float, float], shares: NDArray[np.float32]) -> ScalerMap: ...
    @staticmethod
    def ordered(
        weight: NDArray[np.float64], bias: NDArray[np.float64], keeps_order: bool, of_probabilities: bool
    ) -> ScalerMap: ...

@final
class BinaryValues:
    @staticmethod
    def build(
        p: _Scores, y: _Labels, side: str, ignore_index: int | tuple[int, ...] | None, first_image: int
    ) -> BinaryValues: ...
    @staticmethod
    def concatenate(parts: list[BinaryValues]) -> BinaryValues: ...
    @staticmethod
    def from_arrays(
        side: str,
        totals: NDArray[np.uint64],
        said: NDArray[np.uint64],
        lengths: NDArray[np.uint64],
        values: NDArray[np.floating[Any]],
    ) -> BinaryValues: ...
    def __len__(self) -> int: ...
    @property
    def n_values(self) -> int: ...
    def totals(self) -> NDArray[np.uint64]: ...
    def said(self) -> NDArray[np.uint64]: ...
    def hashes(self) -> NDArray[np.uint64]: ...
    def take(self, indices: list[int]) -> BinaryValues: ...
    def correction(
        self, offsets: NDArray[np.float64], shares: list[Fraction], budget: Fraction
    ) -> float | None: ...
    def losses(self, offsets: NDArray[np.float64], t: float) -> NDArray[np.float64]: ...
    def histograms(self, n_bins: int) -> NDArray[np.float64]: ...
    def to_arrays(
        self,
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.floating[Any]]]: ...

def binary_counts(
    p: _Scores,
    y: _Labels,
    cutoffs: NDArray[np.float64],
    ignore_index: int | tuple[int, ...] | None,
    first_image: int,
) -> NDArray[np.uint64]: ...
def corrected_lambdas(offsets: NDArray[np.float64], t: float, largest: float) -> NDArray[np.float64]: ...
def binary_cutoffs(side: str, offsets: NDArray[np.float64], t: float) -> NDArray[np.float64]: ...
def binary_descriptions(p: _Scores, first_image: int) -> NDArray[np.float64]: ...
def mass_cutoffs(p: _Scores, cutoff: float, first_image: int) -> NDArray[np.float64]: ...
def mass_shares(p: _Scores, out: NDArray[np.float64], first_image: int) -> None: ...
def smooth_rates(
    histograms: NDArray[np.float64], thresholds: NDArray[np.float64], temperature: float
) -> NDArray[np.float64]: ...
def binary_masks(
    p: _Scores, cutoffs: NDArray[np.float64], out: NDArray[np.uint8], first_image: int
) -> None: ...

@final
class ExactProfile:
    @staticmethod
    def build(
        x: _Scores,
        y: _Labels,
        score: Score,
        inputs: str | ScalerMap,
        ignore_index: int | tuple[int, ...] | None,
        with_activations: bool,
        first_image: int,
        grid: NDArray[np.float64] | None = None,
    ) -> ExactProfile: ...
    @staticmethod
    def concatenate(profiles: list[ExactProfile]) -> ExactProfile: ...
    def start(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64], int]: ...
    def hashes(self) -> NDArray[np.uint64]: ...
    @staticmethod
    def from_arrays(
        score: Score,
        totals: NDArray[np.uint64],
        lengths: NDArray[np.uint64],
        values: NDArray[np.floating[Any]],
        labels: NDArray[np.uint16],
        activations: NDArray[np.uint64] | None = None,
        grid: NDArray[np.float64] | None = None,
        held: NDArray[np.uint64] | None = None,
    ) -> ExactProfile: ...
    def __len__(self) -> int: ...
    @property
    def n_classes(self) -> int: ...
    @property
    def n_values(self) -> int: ...
    def totals(self) -> NDArray[np.uint64]: ...
    def joined(self) -> ExactProfile: ...
    def take(self, indices: list[int]) -> ExactProfile: ...
    def parted(self, parts: list[list[int]]) -> list[ExactProfile]: ...
    def missed(self, lambdas: NDArray[np.float64]) -> NDArray[np.uint64]: ...
    def missed_of_classes(self, lambdas: NDArray[np.float64]) -> NDArray[np.uint64]: ...
    def grid(self) -> NDArray[np.float64] | None: ...
    def held(self) -> NDArray[np.uint64] | None: ...
    def losses(self, loss: Loss, lambdas: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def lambda_hat(
        self, loss: Loss, budget: Fraction, shares: list[Fraction] | None = None
    ) -> float | None: ...
    def correction(
        self,
        loss: Loss,
        budget: Fraction,
        offsets: NDArray[np.float64],
        shares: list[Fraction] | None = None,
    ) -> float | None: ...
    def loss_sums(
        self,
        loss: Loss,
        lambdas: NDArray[np.float64],
        shares: list[Fraction] | None = None,
        total: Fraction | None = None,
    ) -> NDArray[np.float64]: ...
    def jumps(self, loss: Loss, limit: int) -> NDArray[np.float64]: ...
    def activation(self, lam: float) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None: ...
    def to_arrays(self) -> _Arrays: ...

def threshold(
    x: _Scores,
    lam: float | Lambdas,
    score: Score,
    inputs: str | ScalerMap,
    out: NDArray[np.uint8],
    first_image: int,
) -> None: ...
def threshold_packed(
    x: _Scores,
    lam: float | Lambdas,
    score: Score,
    inputs: str | ScalerMap,
    out: NDArray[np.uint8],
    first_image: int,
) -> None: ...
def set_size(
    x: _Scores,
    lam: float | Lambdas,
    score: Score,
    inputs: str | ScalerMap,
    out: NDArray[np.uint16],
    first_image: int,
) -> None: ...
def true_label_scores(
    x: _Scores,
    y: _Labels,
    score: Score,
    inputs: str | ScalerMap,
    ignore_index: int | tuple[int, ...] | None,
    out: NDArray[np.float64],
    first_image: int,
) -> None: ...
def coverage(
    x: _Scores,
    y: _Labels,
    lams: Sequence[float | Lambdas],
    score: Score,
    inputs: str | ScalerMap,
    ignore_index: int | tuple[int, ...] | None,
    first_image: int,
) -> list[_Counts]: ...
def mask_coverage(
    masks: NDArray[np.bool_], y: _Labels, ignore_index: int | tuple[int, ...] | None, first_image: int
) -> _Counts: ...
def calibration_counts(
    x: _Scores,
    y: _Labels,
    inputs: str | ScalerMap,
    ignore_index: int | tuple[int, ...] | None,
    n_bins: int,
    radius: int | None,
    of_prediction: bool,
    objects: list[bool] | None,
    threshold: float | None,
    scores: bool,
    first_image: int,
) -> tuple[
    NDArray[np.uint64],
    NDArray[np.uint64],
    NDArray[np.uint64],
    NDArray[np.uint64],
    NDArray[np.uint64],
    NDArray[np.uint64],
]: ...
def draw_pixels(
    x: _Scores,
    y: _Labels,
    ignore_index: int | tuple[int, ...] | None,
    n_pixels: int,
    seed: int,
    first_image: int,
) -> list[tuple[NDArray[np.floating[Any]], NDArray[np.uint16], int, int, NDArray[np.uint64]]]: ...
def log_loss_gradients(
    features: NDArray[np.float64],
    labels: NDArray[np.uint16],
    weights: NDArray[np.float64],
    ends: NDArray[np.uintp],
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
) -> NDArray[np.float64]: ...
def log_loss_hessian_products(
    features: NDArray[np.float64],
    labels: NDArray[np.uint16],
    weights: NDArray[np.float64],
    ends: NDArray[np.uintp],
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
    weight_direction: NDArray[np.float64],
    bias_direction: NDArray[np.float64],
) -> NDArray[np.float64]: ...
def pixel_features(
    x: _Scores, inputs: str | ScalerMap, out: NDArray[np.float32], first_image: int
) -> None: ...
def log_loss_hessians(
    features: NDArray[np.float64],
    labels: NDArray[np.uint16],
    weights: NDArray[np.float64],
    ends: NDArray[np.uintp],
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
) -> NDArray[np.float64]: ...
def probabilities(
    x: _Scores, inputs: str | ScalerMap, out: NDArray[np.floating[Any]], first_image: int
) -> None: ...
def tempered_losses(
    logits: NDArray[np.float64], labels: NDArray[np.uint16], factors: NDArray[np.float64]
) -> NDArray[np.float64]: ...
def tempered_sums(
    logits: NDArray[np.float64],
    labels: NDArray[np.uint16],
    weights: NDArray[np.float64],
    ends: NDArray[np.uintp],
    factor: float,
) -> NDArray[np.float64]: ...
def centre_logits(logits: NDArray[np.float64]) -> None: ...
def sample_masks(masks: NDArray[np.bool_], key: int, out: NDArray[Any]) -> None: ...
def weighted_quantile(
    values: NDArray[np.float64],
    weights: NDArray[np.float64] | list[Fraction],
    budget: Fraction,
    least: float,
) -> float | None: ...
def distinct_counts(samples: _Labels) -> tuple[int, int, int]: ...
def pairwise_correlation(samples: _Labels, varying_only: bool) -> float: ...
def repeats_within(hashes: NDArray[np.uint64]) -> list[tuple[int, int]]: ...
def repeats_between(others: NDArray[np.uint64], later: NDArray[np.uint64]) -> list[tuple[int, int]]: ...
def agreeing_pixels(samples: _Labels) -> int: ...
def label_hits(
    y: _Labels, predictions: _Labels, ignore_index: int | tuple[int, ...] | None
) -> tuple[list[int], NDArray[np.uint64], NDArray[np.uint64]]: ...
def truncated_svd(
    a: _Scores, k: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
def smallest_probability(lam: float, double: bool) -> float: ...
def data_pointer(x: _Scores) -> int: ...
def get_num_threads() -> int: ...
def environment_threads() -> int | None: ...
def most_threads() -> int: ...
def set_num_threads(n_threads: int | None = None) -> None: ...
