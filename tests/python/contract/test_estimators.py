"""scikit-learn's contract, and ours: parameters, groups, files, copies and looks are alike for all estimators."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import io
import json
import pickle
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

import conformask as cm
from estimators import ESTIMATORS, PREDICTORS, Case, quiet_fit


@pytest.fixture(params=ESTIMATORS, ids=lambda case: case.kind.__name__, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(params=PREDICTORS, ids=lambda case: case.kind.__name__, scope="module")
def predictor(request: pytest.FixtureRequest) -> Case:
    """A case of those that predict sets at a level alpha, and evaluate them."""
    return request.param


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`bad` is (case, parameter, value), `setting` is (case, policy, parameter)."""
    found = {
        "bad": [(case, name, value) for case in ESTIMATORS for name, vs in case.bad.items() for value in vs],
        "setting": [
            (case, kind, name) for case in ESTIMATORS for kind, names in case.stale.items() for name in names
        ],
    }
    for name, values in found.items():
        if name in metafunc.fixturenames:
            ids = [f"{case.kind.__name__}-{one}-{str(other)[:20]}" for case, one, other in values]
            metafunc.parametrize(name, values, ids=ids)


# The table


def test_every_calibrator_is_in_the_table() -> None:
    from conformask._calibrator import Calibrator

    public = {getattr(cm, name) for name in cm.__all__}
    assert {case.kind for case in ESTIMATORS} == {
        each for each in public if inspect.isclass(each) and issubclass(each, Calibrator)
    }


def test_the_table_knows_all_parameters(case: Case) -> None:
    names = list(inspect.signature(case.kind.__init__).parameters)[1:]
    assert names == list(case.other) == list(case.kind._PARAMETERS)
    assert sorted(names) == sorted(case.bad) == sorted(chain(*case.stale.values()))
    defaults = case.kind().get_params()
    assert [name for name in names if repr(defaults[name]) == repr(case.other[name])] == []


def test_it_has_the_methods_of_the_design(case: Case) -> None:
    assert [name for name in case.methods if not callable(getattr(case.kind, name))] == []


# Parameters


def test_parameters_are_those_of_the_signature(case: Case) -> None:
    signature = inspect.signature(case.kind.__init__).parameters
    assert case.kind().get_params() == {name: signature[name].default for name in case.other}


def test_init_stores_the_very_objects_and_nothing_else(case: Case) -> None:
    estimator = case.kind(**case.other)
    assert vars(estimator).keys() == case.other.keys()
    assert all(getattr(estimator, name) is value for name, value in case.other.items())
    case.kind(**dict.fromkeys(case.other, object()))  # nothing is checked yet


def test_get_set_and_clone(case: Case) -> None:
    estimator = case.kind()
    assert estimator.set_params(**case.other) is estimator
    assert estimator.get_params() == dict(case.other)
    assert clone(estimator).get_params() == dict(case.other)
    with pytest.raises(ValueError, match="apples"):
        estimator.set_params(apples=1)


def test_bad_values_are_refused_by_name(bad: tuple[Case, str, Any]) -> None:
    case, name, value = bad
    with pytest.raises((ValueError, TypeError), match=name):
        case.new(**{name: value}).fit(*case.data())


def test_numpys_numbers_are_numbers(predictor: Case) -> None:
    known = predictor.fitted(alpha=0.5)
    for alpha in (np.float64(0.5), np.float32(0.5), np.float16(0.5)):
        assert predictor.found(predictor.fitted(alpha=alpha, progress=np.False_)) == predictor.found(known)


# Calibration


def test_a_clone_has_seen_nothing(case: Case) -> None:
    estimator = clone(case.fitted())
    X, y = case.data()
    asks = [
        *[lambda name=name: getattr(estimator, name) for name in case.learned],
        *[
            lambda name=name: getattr(estimator, name)(X, y)
            for name in ("evaluate", "score")
            if name in case.methods
        ],
        lambda: case.predicted(estimator, X),
        *(lambda: estimator.save("nothing.json"), lambda: check_is_fitted(estimator)),
    ]
    for ask in asks:
        with pytest.raises(NotFittedError):
            ask()
    assert not Path("nothing.json").exists()


def test_fit_returns_self_and_leaves_the_parameters(case: Case) -> None:
    estimator, (X, y) = case.new(), case.data()
    before = estimator.get_params()
    assert estimator.fit(X, y) is estimator
    assert all(estimator.get_params()[name] is value for name, value in before.items())
    check_is_fitted(estimator)


def test_fit_forgets_what_it_knew(case: Case) -> None:
    X, y = case.data()
    estimator = case.fitted()
    known, n = case.found(estimator), len(X) - 2
    assert estimator.fit(X[:n], y[:n]).n_images_ == n // case.parts
    assert case.found(estimator.fit(X, y)) == known


def test_a_fit_that_fails_leaves_everything(case: Case) -> None:
    estimator, (X, y) = case.fitted(), case.data()
    known, state = case.found(estimator), estimator._state
    for bad in (X * np.nan, X[..., :1, :, :], X[0]):
        with pytest.raises((ValueError, TypeError), match=r"\b(X|P|masks)\b"):
            estimator.fit(bad, y)
    assert estimator._state is state
    assert case.found(estimator) == known


def test_the_input_stays_as_it_was(case: Case) -> None:
    (X, y), (known_X, known_y) = case.data(), case.data()
    X.flags.writeable = y.flags.writeable = False
    fitted = case.new().fit(X, y)
    case.predicted(fitted, X)
    if "evaluate" in case.methods:
        fitted.evaluate(X, y)
    assert np.array_equal(X, known_X)
    assert np.array_equal(y, known_y)


def test_learned_names_end_in_an_underscore(case: Case) -> None:
    fitted = case.fitted()
    assert {name for name in vars(fitted) if not name.startswith("_")} == case.other.keys()
    for name, kind in case.learned.items():
        assert name.endswith("_")
        assert type(getattr(fitted, name)) is kind
        with pytest.raises(AttributeError):
            setattr(fitted, name, 0)
    listed = inspect.getdoc(case.kind).split("Attributes\n----------\n")[1].split("\n\n")[0]
    assert [name for name in case.learned if f"{name} : " not in listed] == []


# Groups


def test_groups_of_one_image_change_nothing(predictor: Case) -> None:
    X, y = predictor.data()
    alone = [f"patient {i}" for i in range(len(X))]
    fitted = predictor.new().fit(X, y, groups=alone)
    assert predictor.found(fitted) == predictor.found(predictor.fitted())
    known, grouped = fitted.evaluate(X, y), fitted.evaluate(X, y, groups=alone)
    named = {"n_groups": len(X), "interval_method": grouped.interval_method, "verdict": grouped.verdict}
    assert grouped.to_dict() == known.to_dict() | named
    assert known.interval_method.replace("images", "groups") == grouped.interval_method
    assert (known.n_groups, grouped.n_groups) == (None, len(X))
    assert fitted.score(X, y, groups=alone) == fitted.score(X, y)


def test_groups_count_once(predictor: Case) -> None:
    X, y = predictor.data()
    pairs = np.arange(len(X)) // 2
    fitted = predictor.new(alpha=0.5).fit(X, y, groups=pairs)
    assert fitted.n_images_ == len(X) // 2 // predictor.parts
    assert fitted.evaluate(X, y, groups=pairs).n_groups == len(X) // 2
    if predictor.parts > 1:  # which part an image is in depends on its place
        return
    order = np.random.default_rng(0).permutation(len(X))
    again = predictor.new(alpha=0.5).fit(X[order], y[order], groups=pairs[order])
    assert getattr(again, predictor.level) == getattr(fitted, predictor.level)
    with pytest.raises(cm.InfeasibleRiskError) as failure:
        predictor.new(alpha=0.4).fit(X, y, groups=np.zeros(len(X), int))
    assert (failure.value.n_images, failure.value.n_needed) == (1, 2)


def test_groups_are_ints_or_strings_of_any_container(predictor: Case) -> None:
    X, y = predictor.data()
    names = [f"patient {i // 2}" for i in range(len(X))]
    found = [
        getattr(predictor.new(alpha=0.5).fit(X, y, groups=groups), predictor.level)
        for groups in (names, tuple(names), np.array(names), np.array(names, object), np.arange(len(X)) // 2)
    ]
    assert len(set(found)) == 1
    kept_apart = ["a" if i % 2 else "a\0" for i in range(len(X))]
    assert predictor.new(alpha=0.5).fit(X, y, groups=kept_apart).n_images_ == 2 // predictor.parts


def test_groups_must_fit(predictor: Case) -> None:
    X, y = predictor.data()
    estimator = predictor.fitted()
    for groups in ([0], [0.5] * len(X), np.zeros((len(X), 2), int)):
        for use in (estimator.fit, estimator.evaluate):
            with pytest.raises(ValueError, match="groups"):
                use(X, y, groups=groups)


# What is set after calibration


@pytest.mark.filterwarnings("ignore:.*the end of what 'auto' chooses from:UserWarning")
def test_what_is_set_later_has_one_policy(setting: tuple[Case, str, str]) -> None:
    """ "images": refused until it is fitted again; "result": as if fitted so; "nothing": as before."""
    case, policy, name = setting
    assert case.kind._PARAMETERS[name].stale == policy
    X, y = case.data()
    beside = case.beside.get(name, {})
    estimator = case.fitted(**beside)
    known, before = case.found(estimator), getattr(estimator, name)
    estimator.set_params(**{name: case.other[name]})
    if policy == "images":
        asks = (
            *[
                lambda each=each: getattr(estimator, each)
                for each in (case.level, "nll_")
                if each in case.learned
            ],
            *[lambda: estimator.evaluate(X, y) for _ in ("evaluate",) if "evaluate" in case.methods],
            *(lambda: estimator.n_skipped_, lambda: case.predicted(estimator, X)),
            lambda: estimator.save("nothing.json"),
        )
        for ask in asks:
            with pytest.raises(ValueError, match=rf"{name} .*calibrated with .*: fit again"):
                ask()
        assert case.found(estimator.set_params(**{name: before})) == known
    elif policy == "result":
        assert case.found(estimator) == case.found(case.fitted(**beside, **{name: case.other[name]}))
        assert case.found(estimator.set_params(**{name: before})) == known
    else:
        assert case.found(estimator) == known
        assert np.array_equal(
            case.predicted(estimator.set_params(**{name: before}), X), case.predicted(case.fitted(), X)
        )


@pytest.mark.filterwarnings("ignore:.*the end of what 'auto' chooses from:UserWarning")
def test_what_images_were_read_with_is_known_before_a_result(setting: tuple[Case, str, str]) -> None:
    """Images that were only collected are those of other parameters, too."""
    case, policy, name = setting
    if policy != "images" or "partial_fit" not in case.methods:
        return
    X, y = case.data()
    estimator, before = case.new(), case.new().get_params()[name]
    estimator.fit(X[:-4], y[:-4]).partial_fit(X[-4:], y[-4:])
    twin = copy.deepcopy(estimator)
    estimator.set_params(**{name: case.other[name]})
    level = case.level if case.level in case.learned else "nll_"
    asks = (
        *(lambda: getattr(estimator, level), lambda: estimator.n_images_),
        *(lambda: case.predicted(estimator, X), lambda: estimator.save("nothing.json")),
    )
    for ask in asks:
        with pytest.raises(ValueError, match=rf"{name} .*calibrated with .*: fit again"):
            ask()
    estimator.set_params(**{name: before})
    assert case.found(estimator) == case.found(twin)


def test_nonsense_that_is_set_later_is_refused_too(bad: tuple[Case, str, Any]) -> None:
    case, name, value = bad
    estimator = _FITTED.setdefault(case.kind, case.fitted())
    before = getattr(estimator, name)
    estimator.set_params(**{name: value})
    try:
        with pytest.raises((ValueError, TypeError), match=name):
            case.predicted(estimator, case.data()[0])
    finally:
        estimator.set_params(**{name: before})


_FITTED: dict[type, Any] = {}


# Copies


def through_joblib(estimator: Any) -> Any:
    joblib.dump(estimator, file := io.BytesIO())
    file.seek(0)
    return joblib.load(file)


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda estimator: pickle.loads(pickle.dumps(estimator)),
    "oldest pickle": lambda estimator: pickle.loads(pickle.dumps(estimator, protocol=2)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "joblib": through_joblib,
}


@pytest.mark.parametrize("way", COPIES)
def test_copies(case: Case, way: str) -> None:
    assert COPIES[way](case.kind(**case.other)).get_params() == dict(case.other)
    fitted, (X, y) = case.fitted(), case.data()
    twin = COPIES[way](fitted)
    assert twin.get_params() == fitted.get_params()
    assert case.found(twin) == case.found(fitted)
    assert np.array_equal(case.predicted(twin, X), case.predicted(fitted, X))
    known = case.found(fitted)
    twin.fit(X[:-2], y[:-2])
    assert case.found(fitted) == known


# Files


def test_save_and_load(case: Case, tmp_path: Path) -> None:
    X, _ = case.data()
    fitted = case.fitted(progress=False)
    fitted.save(tmp_path / "one.json")
    loaded = case.kind.load(str(tmp_path / "one.json"))
    assert loaded._configuration() == fitted._configuration()
    kept = ("profiles_", "scores_", "n_eff_")  # of the images: files hold them only if asked
    assert case.found(loaded, *kept) == case.found(fitted, *kept)
    assert np.array_equal(case.predicted(loaded, X), case.predicted(fitted, X))
    loaded.save(tmp_path / "other.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "other.json").read_bytes()


def test_every_parameter_is_saved(case: Case, tmp_path: Path) -> None:
    X, y = case.data()
    y = np.where(y == 255, case.other["ignore_index"], y.astype(int))
    level = {"alpha": 0.5} if "alpha" in case.other else {}
    fitted = quiet_fit(case.kind(**{**case.other, **case.saved, **level}), X, y)
    fitted.save(tmp_path / "one.json")
    assert case.kind.load(tmp_path / "one.json")._configuration() == fitted._configuration()


def test_a_file_that_lacks_a_parameter_is_refused(case: Case, tmp_path: Path) -> None:
    """A default in its place would be another promise."""
    case.fitted().save(tmp_path / "one.json")
    known = (tmp_path / "one.json").read_text()
    for name in case.other:
        document = json.loads(known)
        del document["parameters"][name]
        (tmp_path / "other.json").write_text(json.dumps(document))
        with pytest.raises(ValueError, match=rf"other\.json is damaged .* it lacks '{name}'"):
            case.kind.load(tmp_path / "other.json")


def test_files_of_other_estimators_are_refused(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    case.fitted().save(path)
    name = case.kind.__name__
    for other in ESTIMATORS:
        if other.kind is not case.kind:
            with pytest.raises(ValueError, match=rf"one\.json holds a {name}: load it with {name}\.load"):
                other.kind.load(path)


DAMAGES: dict[str, Callable[[dict], object]] = {
    "format": lambda d: d.update(format="other"),
    "version 0": lambda d: d.update(format_version=0),
    "no version": lambda d: d.pop("format_version"),
    "no parameters": lambda d: d.pop("parameters"),
    "parameters": lambda d: d.update(parameters=[]),
    "unknown parameter": lambda d: d["parameters"].update(apples=2),
    "no results": lambda d: d.pop("results"),
    "results": lambda d: d.update(results=3),
    "classes": lambda d: d["results"].update(n_classes=1),
    "skipped": lambda d: d["results"].update(n_skipped="none"),
}


DAMAGES_OF_LEVELS: dict[str, Callable[[dict, str], object]] = {
    "alpha": lambda d, _: d["parameters"].update(alpha=2),
    "level": lambda d, name: d["results"].update({name: -2.0}),
    "no level": lambda d, name: d["results"].update({name: "nan"}),
}


def refuses_damaged(case: Case, damage: Callable[[dict], object], path: Path) -> None:
    case.fitted().save(path)
    document = json.loads(path.read_text())
    damage(document)
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"one\.json is damaged or holds no calibrator"):
        case.kind.load(path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(case: Case, damage: str, tmp_path: Path) -> None:
    refuses_damaged(case, DAMAGES[damage], tmp_path / "one.json")


@pytest.mark.parametrize("damage", DAMAGES_OF_LEVELS)
def test_damaged_files_of_levels(predictor: Case, damage: str, tmp_path: Path) -> None:
    refuses_damaged(
        predictor,
        lambda d: DAMAGES_OF_LEVELS[damage](d, predictor.result),
        tmp_path / "one.json",
    )


def test_files_of_newer_versions(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    case.fitted().save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(
        ValueError, match=r"one\.json has format version 99, which is newer: update conformask"
    ):
        case.kind.load(path)


def test_folders_that_are_not_there(case: Case, tmp_path: Path) -> None:
    missing = tmp_path / "no" / "folder"
    with pytest.raises(
        FileNotFoundError, match=r"cannot write .*one\.json: folder '.*folder' does not exist$"
    ):
        case.fitted().save(missing / "one.json")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"{}", b"{", b"null", b"\x93NUMPY\x01\x00"])
def test_foreign_files(case: Case, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"one\.json is damaged or holds no calibrator"):
        case.kind.load(path)
    with pytest.raises(FileNotFoundError):
        case.kind.load(tmp_path / "none.json")


# Looks


def test_representation_shows_what_was_set_and_found(predictor: Case) -> None:
    """Alpha always; what is not as by default; lambda-hat of what was set."""
    by_default = predictor.kind()
    assert repr(by_default) == f"{predictor.kind.__name__}(alpha={by_default.alpha!r})"
    estimator = predictor.new(alpha=0.35)
    made = eval(repr(estimator), {predictor.kind.__name__: predictor.kind})
    assert made.get_params() == estimator.get_params()
    fitted = estimator.fit(*predictor.data())
    found = f"{predictor.level}={getattr(fitted, predictor.level):.6g}"
    assert repr(fitted) == f"{repr(made)[:-1]}, {found})"
    assert repr(clone(fitted)) == repr(made)
    if predictor.kind._PARAMETERS["alpha"].stale != "nothing":
        assert predictor.level not in repr(fitted.set_params(alpha=0.45))
    long = repr(predictor.new(ignore_index="x" * 1000))
    assert len(long) < 400
    assert "..." in long


def test_representation_of_what_has_no_result(predictor: Case) -> None:
    X, y = predictor.data()
    estimator = predictor.new(alpha=0.01)
    with pytest.raises(cm.InfeasibleRiskError):
        estimator.fit(X, y)
    assert "alpha=0.01" in repr(estimator)
    assert f"{predictor.level}=0" not in repr(estimator)


def test_table_for_notebooks(predictor: Case) -> None:
    estimator, (X, y) = predictor.new(alpha=0.35), predictor.data()
    table = estimator._repr_html_()
    assert "<table" in table
    assert "alpha" in table
    assert "0.35" in table
    assert "has seen no images" in table
    assert estimator._repr_mimebundle_() == {"text/plain": repr(estimator), "text/html": table}
    estimator.fit(X, y)
    assert f"{getattr(estimator, predictor.level):.6g}" in estimator._repr_html_()
    estimator.set_params(alpha=0.45)  # what was found is not shown as if it were found for that
    state = "parameters were set after calibration"
    is_stale = predictor.kind._PARAMETERS["alpha"].stale != "nothing"
    assert (state in estimator._repr_html_()) == is_stale
    assert state not in estimator.set_params(alpha=0.35)._repr_html_()
    # It is shown whatever is wrong: a cell of a notebook that fails shows nothing.
    with pytest.raises(cm.InfeasibleRiskError):
        estimator.set_params(alpha=0.001).fit(X, y)
    assert "<table" in estimator._repr_html_()
    estimator.set_params(alpha="<nonsense>")
    assert "&lt;nonsense&gt;" in estimator._repr_html_()


def test_reports_are_text_and_a_table(predictor: Case) -> None:
    report = predictor.fitted().evaluate(*predictor.data())
    assert "calibrated on" in str(report)
    assert report._repr_html_().count("<table") == 1 + hasattr(report, "classes")
    assert all(text in report.to_markdown() for text in (report.verdict, report.interval_method))
    assert len(repr(report)) < 300  # not the arrays
    document = json.loads(report.to_json())
    assert document == report.to_dict()
    assert {each.name for each in dataclasses.fields(report)} <= document.keys()
    assert not report._ARRAYS & report.to_dict(images=False).keys()


def test_reports_name_classes(predictor: Case) -> None:
    if predictor.level != "lambda_hat_":
        assert "class_names" not in inspect.signature(predictor.kind.evaluate).parameters  # there is one
        return
    X, y = predictor.data()
    fitted = predictor.fitted()
    assert [row.name for row in fitted.evaluate(X, y).classes][:2] == ["0", "1"]
    names = [f"class <{label}>" for label in range(len(fitted.evaluate(X, y).classes))]
    report = fitted.evaluate(X, y, class_names=iter(names))
    assert [row.name for row in report.classes] == names
    assert [row.n_pixels for row in report.classes] == [
        int((y == label).sum()) for label in range(len(names))
    ]
    assert "class &lt;0&gt;" in report._repr_html_()
    wrong = {
        "must hold a string .*, got 0 names$": [],
        f"must hold a string .*, got {2 * len(names)} names$": names * 2,
        "must hold a string .*, got 1 for class 0$": [1] * len(names),
        "must differ, but classes 0 and 1 are both 'class <0>'$": [*names[:1], *names[:-1]],
    }
    for says, given in wrong.items():
        with pytest.raises(ValueError, match=f"class_names {says}"):
            fitted.evaluate(X, y, class_names=given)
    with pytest.raises(TypeError, match="class_names must be a list of names, not one string, got 'abc'"):
        fitted.evaluate(X, y, class_names="abc")
