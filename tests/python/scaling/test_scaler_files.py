"""Files of scalers that hold what no fit gives: each kind, each part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import conformask as cm
import scaling_twin

LOGITS, Y = scaling_twin.problem(6, shape=(12, 13))

KINDS = {
    "temperature": cm.TemperatureScaler(),
    "vector": cm.VectorScaler(),
    "dirichlet": cm.DirichletScaler(),
    "structured": cm.StructuredScaler(),
    "matrix": cm.StructuredScaler("matrix"),
    "argmax": cm.StructuredScaler(decision="argmax"),
    "order": cm.StructuredScaler(decision="order"),
    "meta": cm.MetaCal(high=10.0),
    "local": cm.LocalTemperatureScaler(),
    "selective": cm.SelectiveScaler(hidden=()),
}


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """Another value at a place of the results."""

    def change(results: dict[str, Any]) -> None:
        place: Any = results
        for each in path[:-1]:
            place = place[each]
        place[path[-1]] = value

    return change


def more(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return put("more", name, value=value)


ALL = {
    "weights are missing": lambda results: results.pop("weight"),
    "one weight more": lambda results: results["weight"].append(1.0),
    "one bias more": lambda results: results["bias"].append(0.0),
    "a weight that is a text": put("weight", 0, value="many"),
    "a weight that is infinite": put("weight", 0, value="inf"),
    "no class": put("n_classes", value=0),
    "one class": put("n_classes", value=1),
    "half an image": put("n_images", value=0.5),
    "a loss below 0": put("nll", value=-1.0),
    "a loss that is infinite": put("nll_before", value="inf"),
    "told too much": more("threshold_of_pain", 1.0),
    "images that nobody saw": put("images", value=[f"{each:016x}" for each in range(100)]),
}
# Arrays of K numbers are none of K * K, nor the reverse.
OWN: dict[str, dict[str, Callable[[dict[str, Any]], Any]]] = {
    "temperature": {
        "K weights": put("weight", value=[1.0] * 4),
        "a bias": put("bias", value=[0.0] * 4),
        "a temperature below 0": more("temperature", -1.0),
        "another temperature": more("temperature", 1.25),
        "another weight": put("weight", value=[0.7]),
        "no temperature": put("weight", value=[0.0]),
        "an error below 0": more("standard_error", -0.1),
        "a number for a flag": more("unbounded", 3.0),
    },
    "vector": {
        "other classes": put("n_classes", value=7),
        "K * K weights": put("weight", value=[1.0] * 16),
        "one weight": put("weight", value=[1.0]),
    },
    "dirichlet": {
        "other classes": put("n_classes", value=7),
        "K weights": put("weight", value=[1.0] * 4),
        "no bias": put("bias", value=[]),
    },
    "structured": {
        "K * K weights": put("weight", value=[1.0] * 16),
        "no temperature": more("temperature", 0.0),
        "no pixels": more("n_eff", 0.0),
    },
    "matrix": {
        "other classes": put("n_classes", value=7),
        "K weights": put("weight", value=[1.0] * 4),
        "no temperature": more("temperature", "nan"),
    },
    "argmax": {
        "other classes": put("n_classes", value=7),
        "a weight below 0": put("weight", 1, value=-1.0),
        "K weights": put("weight", value=[1.0] * 4),
    },
    "order": {"a shift below 0": put("bias", 1, value=-1.0), "no temperature": more("temperature", "inf")},
    "meta": {
        "another map": put("weight", value=[2.0]),
        "no temperature": more("temperature", 0.0),
        "a threshold below 0": more("threshold", -1.0),
        "more than all": more("above", 1.5),
    },
    "local": {
        "another map": put("weight", value=[2.0]),
        "no temperature": more("temperature", -3.0),
        "a theta less": lambda results: results["arrays"]["theta"].pop(),
        "an infinite theta": put("arrays", "theta", 2, value="inf"),
        "an error below 0": put("arrays", "standard_errors", 0, value=-1.0),
        "no errors": lambda results: results["arrays"].pop("standard_errors"),
    },
    "selective": {
        "another map": put("weight", value=[2.0]),
        "no temperature": more("T1", 0.0),
        "a recall above 1": more("selector_recall", 2.0),
        "another base": put("base", value="temperature"),
        "a bias less": lambda results: results["arrays"]["bias_0"].pop(),
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "scaler.json"
    scaler = KINDS[kind].fit(LOGITS, Y)
    scaler.save(path)
    sound = path.read_text()
    assert (type(scaler).load(path).transform(LOGITS) == scaler.transform(LOGITS)).all()
    for name, damage in {**ALL, **OWN[kind]}.items():
        document = json.loads(sound)
        damage(document["results"])
        path.write_text(json.dumps(document))
        with pytest.raises(ValueError, match=r"scaler\.json is damaged or holds no calibrator"):
            pytest.fail(f"{name}: {type(scaler).load(path)}")
    path.write_text(sound[: len(sound) // 2])
    with pytest.raises(ValueError, match=r"scaler\.json is damaged"):
        type(scaler).load(path)
