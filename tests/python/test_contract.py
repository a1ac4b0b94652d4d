"""scikit-learn's contract, and the promises of the package's face: names, docstrings, types, text."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import io
import pickle
from types import ModuleType

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

import conformask as cm
from problems import wide

PROBLEM, OTHERS, MORE = wide(), wide(seed=1), wide(seed=2)
Calibrator = cm.ConformalRiskCalibrator

# Something else for every parameter.
OTHER = {
    "conformity_score": cm.LAC(include_top1=False),
    "loss": cm.MiscoverageLoss("balanced"),
    "alpha": 0.25,
    "method": cm.CRC(),
    "inputs": "probabilities",
    "ignore_index": -1,
    "profile": "binned",
    "collect": ("binary",),
    "on_empty": "zero_loss",
    "on_infeasible": "full",
    "volumes": False,
    "progress": False,
}


# Estimators


def test_parameters_are_those_of_the_signature() -> None:
    signature = inspect.signature(Calibrator.__init__).parameters
    assert list(signature)[1:] == list(OTHER)
    assert Calibrator().get_params() == {name: signature[name].default for name in OTHER}


def test_init_stores_the_very_objects_and_nothing_else() -> None:
    calibrator = Calibrator(**OTHER)
    assert vars(calibrator).keys() == OTHER.keys()
    assert all(getattr(calibrator, name) is value for name, value in OTHER.items())
    Calibrator(alpha="nonsense", loss=object())  # nothing is checked yet


def test_get_set_and_clone() -> None:
    calibrator = Calibrator()
    assert calibrator.set_params(**OTHER) is calibrator
    assert calibrator.get_params() == OTHER
    assert clone(calibrator).get_params() == OTHER
    with pytest.raises(ValueError, match="apples"):
        calibrator.set_params(apples=1)


def test_a_clone_has_seen_nothing() -> None:
    fitted = Calibrator().fit(PROBLEM.X, PROBLEM.y)
    with pytest.raises(NotFittedError):
        clone(fitted).predict(PROBLEM.X)


def test_fit_returns_self_and_leaves_the_parameters() -> None:
    calibrator = Calibrator(**{**OTHER, "ignore_index": 255})
    before = calibrator.get_params()
    assert calibrator.fit(PROBLEM.X, PROBLEM.y) is calibrator
    assert calibrator.partial_fit(OTHERS.X, OTHERS.y) is calibrator
    assert calibrator.merge(clone(calibrator).fit(MORE.X, MORE.y)) is calibrator
    assert all(calibrator.get_params()[name] is value for name, value in before.items())


def test_fit_does_not_change_its_input() -> None:
    X, y = PROBLEM.X.copy(), PROBLEM.y.copy()
    X.flags.writeable = y.flags.writeable = False
    fitted = Calibrator().fit(X, y)
    fitted.predict(X)
    fitted.evaluate(X, y)
    assert np.array_equal(X, PROBLEM.X)
    assert np.array_equal(y, PROBLEM.y)


def test_check_is_fitted() -> None:
    calibrator = Calibrator()
    with pytest.raises(NotFittedError):
        check_is_fitted(calibrator)
    check_is_fitted(calibrator.partial_fit(PROBLEM.X, PROBLEM.y))


def test_learned_names_end_in_an_underscore() -> None:
    fitted = Calibrator().fit(PROBLEM.X, PROBLEM.y)
    learned = {
        "lambda_hat_",
        "risk_",
        "corrected_risk_",
        "profiles_",
        "n_images_",
        "n_skipped_",
        "n_classes_",
    }
    assert learned <= set(dir(fitted))
    public = {name for name in vars(fitted) if not name.startswith("_")}
    assert public == OTHER.keys()
    assert [type(getattr(fitted, name)) for name in ("lambda_hat_", "risk_", "corrected_risk_")] == [
        float
    ] * 3
    assert [type(getattr(fitted, name)) for name in ("n_images_", "n_skipped_", "n_classes_")] == [int] * 3
    with pytest.raises(AttributeError):
        fitted.lambda_hat_ = 0.0


def through_joblib(calibrator: Calibrator) -> Calibrator:
    joblib.dump(calibrator, file := io.BytesIO())
    file.seek(0)
    return joblib.load(file)


COPIES = {
    "pickle": lambda calibrator: pickle.loads(pickle.dumps(calibrator)),
    "oldest pickle": lambda calibrator: pickle.loads(pickle.dumps(calibrator, protocol=2)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "joblib": through_joblib,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("fitted_by", ["fit", "partial_fit"])
def test_copies_of_a_fitted_calibrator(way: str, fitted_by: str) -> None:
    fitted = getattr(Calibrator(**{**OTHER, "ignore_index": 255, "profile": "exact"}), fitted_by)(
        PROBLEM.X, PROBLEM.y, groups=list(range(40))
    )
    twin = COPIES[way](fitted)
    assert twin.get_params() == fitted.get_params()
    assert (twin.lambda_hat_, twin.risk_, twin.corrected_risk_) == (
        fitted.lambda_hat_,
        fitted.risk_,
        fitted.corrected_risk_,
    )
    assert np.array_equal(twin.predict(PROBLEM.X), fitted.predict(PROBLEM.X))
    assert twin.recalibrate(alpha=0.1).lambda_hat_ == fitted.recalibrate(alpha=0.1).lambda_hat_
    twin.partial_fit(MORE.X, MORE.y, groups=list(range(40, 80)))
    assert (len(twin.profiles_), len(fitted.profiles_)) == (80, 40)


@pytest.mark.parametrize("way", COPIES)
def test_copies_of_a_binned_calibrator(way: str) -> None:
    fitted = Calibrator(**{**OTHER, "ignore_index": 255}).fit(PROBLEM.X, PROBLEM.y)
    twin = COPIES[way](fitted)
    assert (twin.lambda_hat_, twin.risk_) == (fitted.lambda_hat_, fitted.risk_)
    assert twin.recalibrate(loss="binary").lambda_hat_ == fitted.recalibrate(loss="binary").lambda_hat_
    twin.partial_fit(MORE.X, MORE.y)
    assert (len(twin.profiles_), len(fitted.profiles_)) == (80, 40)


@pytest.mark.parametrize("way", COPIES)
def test_copies_of_an_empty_calibrator(way: str) -> None:
    assert COPIES[way](Calibrator(alpha=0.2)).get_params() == Calibrator(alpha=0.2).get_params()


def test_representation_shows_what_was_set() -> None:
    calibrator = Calibrator(alpha=0.05, loss=cm.BinaryLoss(min_coverage=0.9))
    for text in (repr(calibrator), repr(calibrator.fit(PROBLEM.X, PROBLEM.y))):
        assert "alpha=0.05" in text
        assert "BinaryLoss(min_coverage=0.9)" in text
    assert "40 images" in repr(calibrator.profiles_)
    assert calibrator._repr_html_()


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


def test_report_is_text_and_a_table() -> None:
    report = Calibrator().fit(PROBLEM.X, PROBLEM.y).evaluate(PROBLEM.X, PROBLEM.y)
    for text in (str(report), report._repr_html_()):
        assert "empirical risk" in text
        assert f"{report.activation_ratio:.3f}" in text
    assert "<table" in report._repr_html_()
    assert len(repr(report)) < 300  # not the arrays


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


def test_calibrator_has_the_methods_of_the_design() -> None:
    for name in (
        *("fit", "partial_fit", "merge", "recalibrate", "predict", "set_size", "varisco", "evaluate"),
        *("score", "risk_curve", "save", "load"),
    ):
        assert callable(getattr(Calibrator, name))


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


def test_consign_has_the_methods_of_the_design() -> None:
    for name in ("fit", "predict", "evaluate", "score", "save", "load"):
        assert callable(getattr(cm.ConsignCalibrator, name))
    for name in ("sample", "contains"):
        assert callable(getattr(cm.ConsignSet, name))


# CRC has nothing to show; reports, errors and warnings are made by us, and methods are shown by their classes.
SHOWN = [
    name
    for name in OURS
    if not (
        name in ("CRC", "RiskReport", "CoverageReport")
        or is_exception(DOCUMENTED[name])
        or ("." in name and name[0].isupper())
    )
]


@pytest.mark.parametrize("name", SHOWN)
def test_functions_and_classes_have_examples(name: str) -> None:
    assert ">>>" in sections(inspect.getdoc(DOCUMENTED[name])).get("Examples", "")
