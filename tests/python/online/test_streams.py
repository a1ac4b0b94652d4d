"""What both objects for streams keep: scikit-learn's parameters, what may be set later, files, copies, looks."""

from __future__ import annotations

import copy
import inspect
import json
import math
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

import conformask as cm
from problems import wide

PROBLEM = wide(n=8, n_classes=3, size=(4, 4))
LOSSES = np.random.default_rng(0).random(60).round(2)


@dataclass(frozen=True)
class Case:
    """An object for streams, and how to use it."""

    kind: type
    parameters: Mapping[str, Any]
    other: Mapping[str, Any]  # another value for every parameter
    bad: Mapping[str, list[Any]]
    free: tuple[str, ...]  # parameters that may be set at any time
    learned: Mapping[str, type]
    unsaved: tuple[str, ...] = ()  # whose values in `other` do not go together with the rest

    def new(self, **parameters: Any) -> Any:
        return self.kind(**{**self.parameters, **parameters})

    def fed(self, **parameters: Any) -> Any:
        fresh = self.new(**parameters)
        fresh.update(LOSSES[:20])
        fresh.update(LOSSES[20])
        return fresh

    def found(self, stream: Any) -> dict[str, str]:
        values = {name: getattr(stream, name) for name in self.learned}
        return {
            name: repr([np.asarray(each).tolist() for each in value] if name == "history_" else value)
            if not isinstance(value, np.ndarray)
            else repr(value.tolist())
            for name, value in values.items()
        }


_LEVELS = [0, 1, 1.5, "x", True, None, math.nan]
_HISTORY = [0, -1, 1.5, True, "all"]
_CONTROLLER = Case(
    cm.OnlineRiskController,
    parameters={"initial": 0.5, "alpha": 0.5, "step": 0.01},
    other={
        "conformity_score": cm.APS(),
        "loss": cm.BinaryLoss(0.9),
        "alpha": 0.25,
        "step": Fraction(1, 3),
        "decay": 0.6,
        "initial": 0.75,
        "floor": -0.5,
        "inputs": "scores",
        "transform": cm.TemperatureScaler(inputs="probabilities").fit(PROBLEM.X, PROBLEM.y),
        "ignore_index": None,
        "on_empty": "zero_loss",
        "history": None,
        "volumes": True,
    },
    bad={
        "conformity_score": ["apples", 3],
        "loss": ["apples", 3],
        "alpha": _LEVELS,
        "step": [0, -0.1, "x", True, None, math.inf],
        "decay": [-0.1, 1, "x", True, None],
        "initial": [-0.1, "x", True, None, math.inf],
        "floor": ["low", True, math.nan, 0.6],
        "inputs": ["apples"],
        "transform": [3, cm.TemperatureScaler],
        "ignore_index": [1.5, 2**70],
        "on_empty": ["ignore"],
        "history": _HISTORY,
        "volumes": ["maybe"],
    },
    free=("inputs", "ignore_index", "on_empty", "history", "volumes"),
    learned={
        "lambda_": float,
        "lambda_hat_": float,
        "mean_loss_": float,
        "risk_bound_": float,
        "drift_": float,
        "n_updates_": int,
        "n_skipped_": int,
        "history_": tuple,
    },
    unsaved=("transform",),
)
_ALARM = {
    "bad": {
        "kind": ["both", None],
        "alpha": _LEVELS,
        "delta": _LEVELS,
        "bet": ["apples", True],
        "random_state": [-1, 1.5, None, True, 2**128],
        "history": _HISTORY,
    },
    "free": ("history",),
    "learned": {
        "is_alarmed_": bool,
        "log_martingale_": float,
        "path_": np.ndarray,
        "n_updates_": int,
    },
}
_OF_ALARM = {"kind": "risk", "alpha": 0.25, "delta": Fraction(1, 3), "random_state": 2**100, "history": None}
CASES = {
    "controller": _CONTROLLER,
    "exchangeability": Case(
        cm.DriftAlarm, {}, {**_OF_ALARM, "bet": "power"}, **_ALARM, unsaved=("kind", "alpha")
    ),
    "risk": Case(
        cm.DriftAlarm,
        {"kind": "risk", "alpha": 0.2},
        {**_OF_ALARM, "kind": "exchangeability", "bet": Fraction(4, 3)},
        **_ALARM,
        unsaved=("kind",),
    ),
}
CASES["power"] = Case(
    cm.DriftAlarm,
    {"bet": "power"},
    {**CASES["exchangeability"].other, "bet": "jumper"},
    **_ALARM,
    unsaved=("kind", "alpha"),  # of a mean loss, which this kind has not
)
CASES["constant"] = Case(
    cm.DriftAlarm,
    {"kind": "risk", "bet": 1.5},
    {**CASES["risk"].other, "bet": "adaptive"},
    **_ALARM,
    unsaved=("kind",),
)


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


# Parameters


def test_the_table_knows_all_parameters(case: Case) -> None:
    names = list(inspect.signature(case.kind.__init__).parameters)[1:]
    assert sorted(names) == sorted(case.other) == sorted(case.bad)
    assert names == list(case.kind._PARAMETERS)
    defaults = case.new().get_params()
    assert [name for name in names if repr(defaults[name]) == repr(case.other[name])] == []


def test_init_stores_the_very_objects_and_nothing_else(case: Case) -> None:
    stream = case.kind(**case.other)
    assert vars(stream).keys() == case.other.keys()
    assert all(getattr(stream, name) is value for name, value in case.other.items())
    case.kind(**dict.fromkeys(case.other, object()))  # nothing is checked yet


def test_get_set_and_clone(case: Case) -> None:
    stream = case.kind()
    assert stream.set_params(**case.other) is stream
    assert stream.get_params(deep=False) == dict(case.other)
    assert clone(stream).get_params(deep=False) == dict(case.other)
    assert clone(case.fed()).n_updates_ == 0
    with pytest.raises(ValueError, match="apples"):
        stream.set_params(apples=1)


def test_bad_values_are_refused_by_name(case: Case) -> None:
    for name, values in case.bad.items():
        for value in values:
            for use in (lambda stream: stream.update(0.5), lambda stream: stream.n_updates_):
                with pytest.raises((ValueError, TypeError), match=name):
                    use(case.new(**{name: value}))


def test_learned_names_end_in_an_underscore(case: Case) -> None:
    for stream in (case.new(), case.fed()):
        for name, kind in case.learned.items():
            assert isinstance(getattr(stream, name), kind)
            with pytest.raises(AttributeError):
                setattr(stream, name, 0)
    listed = inspect.getdoc(case.kind).split("Attributes\n----------\n")[1].split("\n\n")[0]
    assert [name for name in case.learned if f"{name} : " not in listed] == []


def test_what_is_set_later(case: Case) -> None:
    """What the promise is about stays, until it starts again; the rest may change."""
    for name, value in case.other.items():
        stream = case.fed()
        known, before, state = case.found(stream), getattr(stream, name), stream._state
        stream.set_params(**{name: value})
        if name in case.free:
            stream.update(0.5)
            continue
        asks = [lambda of, each=each: getattr(of, each) for each in case.learned]
        for ask in (*asks, lambda of: of.update(0.5), lambda of: of.save("nothing.json")):
            with pytest.raises((ValueError, TypeError), match=name):
                ask(stream)
        assert stream._state is state
        assert "state" in stream._repr_html_()
        assert case.found(stream.set_params(**{name: before})) == known
    assert not Path("nothing.json").exists()


def test_reset_starts_again(case: Case) -> None:
    stream = case.fed()
    assert stream.reset() is stream
    assert case.found(stream) == case.found(case.new())
    level = "delta" if "delta" in case.other else "alpha"
    stream.set_params(**{level: 0.3}).update(LOSSES[:5])  # nothing has come: all may be set
    known = case.new(**{level: 0.3})
    known.update(LOSSES[:5])
    assert case.found(stream) == case.found(known)


# Files and copies


def through_a_file(stream: Any, folder: Path) -> Any:
    stream.save(folder / "one.json")
    loaded = type(stream).load(str(folder / "one.json"))
    loaded.save(folder / "other.json")
    assert (folder / "one.json").read_bytes() == (folder / "other.json").read_bytes()
    return loaded


WAYS: dict[str, Callable[[Any, Path], Any]] = {
    "file": through_a_file,
    "pickle": lambda stream, _: pickle.loads(pickle.dumps(stream)),
    "oldest pickle": lambda stream, _: pickle.loads(pickle.dumps(stream, protocol=2)),
    "deepcopy": lambda stream, _: copy.deepcopy(stream),
    "copy": lambda stream, _: copy.copy(stream),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_goes_on_to_the_last_bit(case: Case, way: str, tmp_path: Path) -> None:
    for history in (10_000, 7, None):
        stream = case.new(history=history)
        for part in np.split(LOSSES, [0, 1, 15, 16, 40]):
            if len(part):
                stream.update(part)
            known = case.found(stream)
            twin = WAYS[way](stream, tmp_path)
            assert case.found(twin) == known
            twin.update(0.125)  # which leaves the first as it was
            assert case.found(stream) == known
            stream = WAYS[way](stream, tmp_path)
        whole = case.new(history=history)
        for part in np.split(LOSSES, [1, 15, 16, 40]):
            whole.update(part)
        assert case.found(stream) == case.found(whole)


def test_every_parameter_is_saved(case: Case, tmp_path: Path) -> None:
    stream = case.new(**{name: value for name, value in case.other.items() if name not in case.unsaved})
    stream.update(LOSSES[:5])
    loaded = through_a_file(stream, tmp_path)
    assert loaded._configuration() == stream._configuration()
    assert loaded.get_params(deep=False).keys() == case.other.keys()
    if "transform" in case.unsaved:
        scaler = cm.TemperatureScaler(inputs="probabilities").fit(PROBLEM.X, PROBLEM.y)
        scaled = cm.OnlineRiskController(transform=scaler, initial=0.5)
        scaled.update(PROBLEM.X, PROBLEM.y)
        again = through_a_file(scaled, tmp_path)
        assert np.array_equal(again.predict(PROBLEM.X), scaled.predict(PROBLEM.X))
        assert np.array_equal(clone(scaled).predict(PROBLEM.X), scaled.reset().predict(PROBLEM.X))


def test_functions_fit_no_file(tmp_path: Path) -> None:
    for parameters in ({"loss": lambda coverage: 1 - coverage}, {"conformity_score": lambda X: 1 - X}):
        with pytest.raises(TypeError, match="can be saved"):
            cm.OnlineRiskController(**parameters).save(tmp_path / "one.json")
    assert not list(tmp_path.iterdir())


def _set_state(**values: Any) -> Callable[[dict], object]:
    return lambda d: d["state"].update(values)


DAMAGES: dict[str, Callable[[dict], object]] = {
    "format": lambda d: d.update(format="other"),
    "version": lambda d: d.update(format_version=0),
    "no version": lambda d: d.pop("format_version"),
    "no parameters": lambda d: d.pop("parameters"),
    "parameters": lambda d: d.update(parameters=[]),
    "lacks one": lambda d: d["parameters"].pop("alpha"),
    "unknown": lambda d: d["parameters"].update(apples=2),
    "alpha": lambda d: d["parameters"].update(alpha=2),
    "no state": lambda d: d.pop("state"),
    "state": lambda d: d.update(state=3),
    "n": _set_state(n_updates=-1),
    "other n": _set_state(n_updates=22),
    "n is no number": _set_state(n_updates="21"),
}
DAMAGES_OF_CONTROLLERS = {
    "lambda": _set_state(**{"lambda": 3.0}),
    "no lambda": _set_state(**{"lambda": "nan"}),
    "sum": _set_state(loss_sum={"fraction": "1/2"}),
    "infinite sum": _set_state(loss_sum=math.pi),
    "lowest": _set_state(lowest=0.9),
    "delay": _set_state(longest_delay=99),
    "classes": _set_state(n_classes=1),
    "losses": _set_state(losses=[2.0] * 21),
    "fewer losses": _set_state(losses=[0.5] * 20),
    "a lambda": lambda d: d["state"]["lambdas"].__setitem__(4, 0.25),
    "step": lambda d: d["parameters"].update(step=0.06),
    "no list": _set_state(lambdas=0.5),
}
DAMAGES_OF_ALARMS = {
    "time": _set_state(alarm_time=3),
    "late": _set_state(alarm_time=99),
    "highest": _set_state(highest=-1.0),
    "path": lambda d: d["state"]["path"].__setitem__(-1, 5.0),
    "long path": _set_state(path=[0.0] * 99),
    "no path": _set_state(path=0.0),
    "bet": _set_state(bet={}),
    "wealth": _set_state(bet={"log_wealth": "much"}),
}


def damages(case: Case) -> dict[str, Callable[[dict], object]]:
    of_kind = DAMAGES_OF_CONTROLLERS if case.kind is cm.OnlineRiskController else DAMAGES_OF_ALARMS
    of_values = {
        "values": _set_state(values=[0.5]),
        "no number": lambda d: d["state"]["values"].__setitem__(3, None),
    }
    has_values = case.kind is cm.DriftAlarm and case.parameters.get("kind") != "risk"
    return DAMAGES | of_kind | (of_values if has_values else {})


@pytest.mark.parametrize(
    ("name", "damage"), [(name, damage) for name, case in CASES.items() for damage in damages(case)]
)
def test_damaged_files(name: str, damage: str, tmp_path: Path) -> None:
    case = CASES[name]
    case.fed().save(path := tmp_path / "one.json")
    document = json.loads(path.read_text())
    damages(case)[damage](document)
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"one\.json is damaged or holds no calibrator"):
        case.kind.load(path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"{", b"null"])
def test_foreign_files(case: Case, content: bytes, tmp_path: Path) -> None:
    (path := tmp_path / "one.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"one\.json is damaged or holds no calibrator"):
        case.kind.load(path)


def test_other_files(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    case.fed().save(path)
    name = case.kind.__name__
    for other in (cm.OnlineRiskController, cm.DriftAlarm, cm.ConformalRiskCalibrator):
        if other is not case.kind:
            with pytest.raises(ValueError, match=rf"one\.json holds a {name}: load it with {name}\.load"):
                other.load(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(ValueError, match="has format version 99, which is newer: update conformask"):
        case.kind.load(path)
    with pytest.raises(FileNotFoundError):
        case.kind.load(tmp_path / "none.json")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        case.new().save(tmp_path / "no" / "one.json")


# Looks


def test_representation(case: Case) -> None:
    fresh, fed = case.new(), case.fed()
    assert eval(repr(fresh), {case.kind.__name__: case.kind}).get_params() == fresh.get_params()
    assert repr(fed).startswith(repr(fresh)[:-1] + ", ")
    assert "n_updates_=21" in repr(fed)
    assert len(repr(case.new(history="x" * 1000))) < 400


def test_table_for_notebooks(case: Case) -> None:
    fresh, fed = case.new(), case.fed()
    rows = dict(re.findall(r"<tr><th[^>]*>(.*?)</th><td[^>]*>(.*?)</td></tr>", fed._repr_html_()))
    assert rows["n_updates_"] == "21"
    assert "n_updates_" not in fresh._repr_html_()
    assert fed._repr_mimebundle_() == {"text/plain": repr(fed), "text/html": fed._repr_html_()}
    if case.kind is cm.OnlineRiskController:
        assert rows["mean_loss_"].startswith(f"{LOSSES[:21].mean():.4f}, at most ")
    else:
        assert rows["alarms at"] == "log 20 = 2.996"
        assert rows["alarm"] == (f"since update {fed.alarm_time_}" if fed.is_alarmed_ else "no")
        assert ("alpha" in repr(fed)) == (case.parameters.get("kind") == "risk"), "where it counts"
    assert (
        "&lt;nonsense&gt;" in fed.set_params(alpha="<nonsense>")._repr_html_() or case.kind is cm.DriftAlarm
    )
