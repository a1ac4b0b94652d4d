"""The public names of the integrations are documented as those of the package are."""

from __future__ import annotations

import inspect
from typing import Any

import mmcv_ext_shim  # noqa: F401 - before MMSegmentation
import pytest

from conformask.integrations import dask, mmseg, monai, nnunet, threshold_network, torch, transformers
from test_face import sections

PUBLIC: dict[str, Any] = {
    f"{module.__name__.rpartition('.')[2]}.{name}": getattr(module, name)
    for module in (dask, mmseg, monai, nnunet, threshold_network, torch, transformers)
    for name in module.__all__
}
METHODS: dict[str, Any] = {
    f"{name}.{method}": function
    for name, value in PUBLIC.items()
    if inspect.isclass(value)
    for method, function in vars(value).items()
    if not method.startswith("_") and inspect.isfunction(function)
}


@pytest.mark.parametrize(
    "module",
    [dask, mmseg, monai, nnunet, threshold_network, torch, transformers],
    ids=lambda module: module.__name__,
)
def test_modules_offer_their_public_names_alone(module: Any) -> None:
    assert dir(module) == sorted(module.__all__)


@pytest.mark.parametrize("name", [*PUBLIC, *METHODS])
def test_what_goes_in_and_out(name: str) -> None:
    value = (PUBLIC | METHODS)[name]
    doc = inspect.getdoc(value)
    assert doc
    assert doc.split("\n\n")[0].endswith((".", ":"))
    parts, signature = sections(doc), inspect.signature(value)
    known = parts.get("Parameters", "") + parts.get("Attributes", "")
    if "SegLocalVisualizer" in doc and inspect.isclass(value):  # takes what that takes
        return
    taken = signature.parameters.keys() - {"self"}
    assert [parameter for parameter in taken if parameter not in known] == []
    if inspect.isfunction(value) and signature.return_annotation not in ("None", inspect.Signature.empty):
        assert "Returns" in parts


# A visualizer shows in pictures, outputs come from the module.
SHOWN = sorted(
    PUBLIC.keys() - {"mmseg.ConformalLocalVisualizer", "torch.BinaryOutput", "torch.ConformalOutput"}
)


@pytest.mark.parametrize("name", SHOWN)
def test_examples(name: str) -> None:
    parts = sections(inspect.getdoc(PUBLIC[name]))
    if name == "mmseg.profile_dataset":  # needs a dataset: tests/integrations/test_reproduction.py
        return
    assert ">>>" in parts.get("Examples", "")
