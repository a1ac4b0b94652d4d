"""conformask with other libraries: import the module that you need. conformask itself imports none of them."""

__all__ = [
    "dask",
    "local_temperature",
    "mmseg",
    "monai",
    "nnunet",
    "threshold_network",
    "torch",
    "transformers",
]


def __dir__() -> list[str]:
    return sorted(__all__)
