"""Low-level functions, one for each Rust kernel, which read arrays without a copy and return arrays.

Scores `X` are softmax probabilities ``(n, K, H, W)`` or ``(n, K, D, H, W)``, float16, float32 or float64, with any
strides: C order and channel-last views are read without a copy. Labels `y` are ``(n, H, W)`` or ``(n, D, H, W)`` of any
integer type. All kernels release the GIL, use ``conformask.get_num_threads()`` threads, give the same bits for any
number of them, and stop on Ctrl-C.
"""

from conformask.kernels.label_maps import distinct_counts, label_hits, sample_masks
from conformask.kernels.maps import losses, set_size, threshold, true_label_scores
from conformask.kernels.quantile import lambda_hat
from conformask.kernels.svd import truncated_svd

__all__ = [
    "distinct_counts",
    "label_hits",
    "lambda_hat",
    "losses",
    "sample_masks",
    "set_size",
    "threshold",
    "true_label_scores",
    "truncated_svd",
]


def __dir__() -> list[str]:
    return sorted(__all__)
