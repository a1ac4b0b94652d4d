"""The promises of the package's face: names, docstrings, types, text."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from types import ModuleType

import numpy as np
import pytest

import conformask as cm
from problems import wide

PROBLEM = wide()
Calibrator = cm.ConformalRiskCalibrator


def test_losses_and_scores_are_values() -> None:
    """They compare, hash and cannot change under a fitted calibrator."""
    weights = [1.0, 2.0]
    loss = cm.MiscoverageLoss(class_weights=weights, classes=np.array([0, 1]))
    weights[0] = 5.0
    assert loss == cm.MiscoverageLoss((1, 2), (0, 1))
    assert len({loss, cm.MiscoverageLoss([1, 2], [0, 1]), cm.LAC(), cm.LAC(), cm.BinaryLoss()}) == 3
    for value, name in ((loss, "classes"), (cm.LAC(), "include_top1"), (cm.BinaryLoss(), "min_coverage")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)


def test_names_and_objects_are_the_same() -> None:
    """Names in any case."""
    fits = [
        Calibrator("lac", loss="miscoverage", method="crc"),
        Calibrator("LAC", loss="Miscoverage", method=cm.CRC()),
        Calibrator(cm.LAC(), loss=cm.MiscoverageLoss()),
    ]
    assert len({fit.fit(PROBLEM.X, PROBLEM.y).lambda_hat_ for fit in fits}) == 1
    binary = [
        Calibrator(loss=loss).fit(PROBLEM.X, PROBLEM.y).lambda_hat_ for loss in ("binary", cm.BinaryLoss(1.0))
    ]
    assert binary[0] == binary[1]


def shown(value: object) -> dict[str, str]:
    """Names and values of a table for notebooks."""
    return dict(re.findall(r"<tr><th[^>]*>(.*?)</th><td[^>]*>(.*?)</td></tr>", value._repr_html_()))


def test_profiles_are_shown_in_a_table() -> None:
    profiles = cm.profile(PROBLEM.X, PROBLEM.y, groups=[i // 2 for i in range(len(PROBLEM.X))])
    rows = shown(profiles)
    assert (rows["images"], rows["groups"]) == (str(len(PROBLEM.X)), str((len(PROBLEM.X) + 1) // 2))
    assert rows["score"] == "LAC(include_top1=True)"
    weighted = shown(cm.profile(PROBLEM.X, PROBLEM.y, sample_weight=[0.5] * len(PROBLEM.X)))
    assert weighted["summed weights"] == f"{len(PROBLEM.X) / 2:g}"
    binned = shown(cm.profile(PROBLEM.X, PROBLEM.y, collect=["miscoverage", "binary"]))
    assert binned["K"] == str(PROBLEM.X.shape[1])
    assert binned["losses"].count("Loss(") == 2


def test_sets_of_segmentations_are_shown_in_tables() -> None:
    X = np.array([[[0.61, 0.8]], [[0.51, 0.8]], [[0.41, 0.8]]])
    X = np.stack([X, 1 - X], axis=1)
    y = np.array([[1, 0]])
    calibrator = cm.ConsignCalibrator(1, alpha=0.5, quantile_level=0.25).fit([X], [y])
    [segmentations] = calibrator.predict([X])
    rows = shown(segmentations)
    assert (rows["K"], rows["shape"], rows["lambda_hat"]) == ("2", "(1, 2)", "1")
    assert rows["singular_values"] == "0.2"
    assert shown(segmentations.contains(y))["contained"] == "True"
    absent = shown(cm.Membership(contained=False, certified=True, coefficients=None))
    assert absent == {"contained": "False", "certified": "True", "coefficients": "none"}


# The face

PUBLIC = {
    *("LAC", "CRC", "MiscoverageLoss", "BinaryLoss", "ConformalRiskCalibrator", "InfeasibleRiskError"),
    *("ConsignCalibrator", "ConsignSet", "Membership", "CoverageReport"),
    *(
        "profile",
        "ScoreProfiles",
        "metrics",
        "kernels",
        "datasets",
        "plotting",
        "set_num_threads",
        "get_num_threads",
    ),
}


def test_public_names() -> None:
    assert set(cm.__all__) >= PUBLIC
    assert dir(cm) == sorted(cm.__all__)
    for name in cm.__all__:
        assert getattr(cm, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'apples'"):
        cm.apples  # noqa: B018


def modules(package: str) -> list[str]:
    """The public modules in a package; of the files of one that offers their names itself, nobody needs to know."""
    path = importlib.import_module(package).__path__
    return [f"{package}.{each.name}" for each in pkgutil.iter_modules(path) if not each.name.startswith("_")]


INTEGRATIONS = ["conformask.integrations.dask", "conformask.integrations.nnunet"]
MODULES = [*modules("conformask"), *INTEGRATIONS, *modules("conformask.reproduction")]


@pytest.mark.parametrize("name", MODULES)
def test_modules_offer_their_public_names_alone(name: str) -> None:
    module = importlib.import_module(name)
    assert dir(module) == sorted(module.__all__)


def documented() -> dict[str, object]:
    """Public classes, functions and methods, by name."""
    found: dict[str, object] = {}
    for name in cm.__all__:
        value = getattr(cm, name)
        if isinstance(value, ModuleType):
            found |= {f"{name}.{inner}": getattr(value, inner) for inner in value.__all__}
        elif callable(value):
            found[name] = value
    for name, value in list(found.items()):
        if inspect.isclass(value):
            for method, function in vars(value).items():
                if not method.startswith("_") and (
                    callable(function) or isinstance(function, classmethod | property)
                ):
                    found[f"{name}.{method}"] = getattr(function, "__func__", function)
    return {name: value for name, value in found.items() if "__version__" not in name}


DOCUMENTED = documented()
# The names of datasets and plotting are checked by their own tests.
OURS = sorted(name for name in DOCUMENTED if not name.startswith(("datasets.", "plotting.")))


def sections(doc: str) -> dict[str, str]:
    """The sections of a numpydoc docstring: title to text."""
    found, title = {}, ""
    lines = doc.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if following and set(following) == {"-"}:
            title = line
        found[title] = found.get(title, "") + line + "\n"
    return found


def is_exception(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Exception)


@pytest.mark.parametrize("name", OURS)
def test_docstrings_open_with_a_sentence(name: str) -> None:
    doc = inspect.getdoc(DOCUMENTED[name])
    assert doc
    assert doc.split("\n\n")[0].endswith(".")


@pytest.mark.parametrize(
    "name", [name for name in OURS if inspect.isfunction(DOCUMENTED[name]) or "num_threads" in name]
)
def test_functions_document_what_goes_in_and_out(name: str) -> None:
    function = DOCUMENTED[name]
    doc, signature = sections(inspect.getdoc(function)), inspect.signature(function)
    parameters = signature.parameters.keys() - {"self", "cls"}
    undocumented = [parameter for parameter in parameters if parameter not in doc.get("Parameters", "")]
    assert not undocumented
    if signature.return_annotation not in ("None", inspect.Signature.empty):
        assert "Returns" in doc


@pytest.mark.parametrize("name", [name for name in OURS if inspect.isclass(DOCUMENTED[name])])
def test_classes_document_what_goes_in(name: str) -> None:
    value = DOCUMENTED[name]
    if issubclass(value, Warning) or name in ("ScoreProfiles", "ConsignSet"):  # nobody but us makes them
        return
    doc = sections(inspect.getdoc(value))
    documented = doc.get("Parameters", "") + doc.get("Attributes", "")
    assert [
        parameter for parameter in inspect.signature(value).parameters if parameter not in documented
    ] == []


def test_sets_have_the_methods_of_the_design() -> None:
    for name in ("sample", "contains"):
        assert callable(getattr(cm.ConsignSet, name))


# CRC has nothing to show; reports, errors and warnings are made by us, and methods are shown by their classes.
SHOWN = [
    name
    for name in OURS
    if not (
        name in ("CRC", "RiskReport", "CoverageReport")
        or is_exception(DOCUMENTED[name])
        or name.rpartition(".")[0].rpartition(".")[2][:1].isupper()
    )
]


@pytest.mark.parametrize("name", SHOWN)
def test_functions_and_classes_have_examples(name: str) -> None:
    assert ">>>" in sections(inspect.getdoc(DOCUMENTED[name])).get("Examples", "")
