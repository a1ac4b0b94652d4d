"""State machines: calls of the API in any order, beside a model of it that is a list of the images seen so far.

Whatever was called before, a calibrator must be what one fit to all of its images is, to the last bit; a call that
fails must change nothing; what was saved, copied or merged must be what it was.
"""

from __future__ import annotations

import copy
import copyreg
import io
import os
import pickle
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import joblib
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from numpy.typing import NDArray
from sklearn.base import clone

import conformask as cm

__all__ = ["Machine", "Pool", "Variant", "failure_of", "outcome", "quietly", "run"]

SLOTS = st.integers(0, 1)

# What is said of images that hold void pixels and no object, all together: each of them alone may well be so.
LOOKS_WRONG = "holds no pixel labelled 1"

# A run of so many seconds, for `make soak`; without it a short one that is the same each time.
SECONDS = float(os.environ.get("CONFORMASK_MACHINE_SECONDS", "0"))


@dataclass(frozen=True)
class Pool:
    """A few tiny images, and what each belongs to."""

    maps: NDArray[Any]
    labels: NDArray[Any]
    void: int = 0  # an image without a labelled pixel

    def __len__(self) -> int:
        return len(self.maps)

    def units(self, kind: str | None, indices: Sequence[int]) -> dict[str, Any]:
        """What is given beside images, if anything is."""
        if kind is None:
            return {}
        numbers = np.array(indices, int)
        found = {
            "groups": [f"patient {i // 3}" for i in indices],
            "strata": (numbers % 2).tolist(),
            "sample_weight": (1 + numbers % 4) / 4,
            "ratios": (1 + numbers % 4) / 2,
        }[kind]
        return {"sample_weight" if kind == "ratios" else kind: found}


@dataclass(frozen=True)
class Variant:
    """An estimator, with what its parameters may become."""

    kind: type
    parameters: Mapping[str, Any] = field(default_factory=dict)
    units: str | None = None
    changes: Mapping[str, Sequence[Any]] = field(
        default_factory=dict
    )  # parameters that may be set at any time
    foreign: Mapping[str, Any] = field(
        default_factory=dict
    )  # those that the images are read with, and other values
    learned: tuple[str, ...] = ()
    not_saved: tuple[str, ...] = ()  # of these, what a file without what was kept does not tell
    told: Mapping[str, Any] = field(default_factory=dict)  # what `fit` is told of all images
    keeps: bool = False  # whether `save(profiles=True)` keeps what is known of images
    uses: tuple[str, ...] = ("predict",)
    asked: str | None = None  # what prediction is told of each image, as `units`
    level: str = "risk_"  # which is known if all is well
    saves: bool = True
    adds: bool = True  # whether images may join after a fit
    other_units: tuple[str, ...] = ("groups",)  # that do not join images without any
    class_axis: int | None = None  # of maps; None if they are of one class
    told_otherwise: Sequence[Mapping[str, Any]] = ()  # what `fit` is told of other images
    may_differ: tuple[str, ...] = ()  # of `foreign`, what may differ between those that are merged


@dataclass(frozen=True)
class Known:
    """What the model knows of a calibrator."""

    images: tuple[int, ...]
    is_kept: bool = True
    found_with: tuple[tuple[str, str], ...] = ()  # without what was kept: the parameters that results are of
    trained_on: tuple[int, ...] | None = None  # the images of the last fit, where these train a model


@contextmanager
def quietly() -> Iterator[None]:
    """Without warnings, of which images that come twice give many."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def text(value: Any) -> str:
    """A value, to the last bit."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.tolist()!r}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__} {[text(each) for each in value]}"
    return repr(value)


def asked(ask: Callable[[], Any]) -> str:
    """What is answered, or how it is refused."""
    try:
        with quietly():
            return text(ask())
    except (ValueError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"


def outcome(estimator: Any, names: Sequence[str]) -> dict[str, str]:
    """All that was learned."""
    return {name: asked(lambda name=name: getattr(estimator, name)) for name in names}


def failure_of(call: Callable[[], Any]) -> Exception | None:
    """How a call was refused; None if it was not."""
    try:
        with quietly():
            call()
    except (ValueError, TypeError) as error:
        return error
    return None


class WithoutCaches(pickle.Pickler):
    """Leaves out what was computed from the rest and is kept beside it."""

    def reducer_override(self, value: Any) -> Any:
        cached = {name for name, each in vars(type(value)).items() if isinstance(each, cached_property)}
        if isinstance(value, type) or not cached:
            return NotImplemented
        found = {name: each for name, each in vars(value).items() if name not in cached}
        return copyreg.__newobj__, (type(value),), found  # type: ignore[attr-defined]


def pickled(estimator: Any) -> bytes:
    """All that a calibrator knows, bit by bit."""
    file = io.BytesIO()
    WithoutCaches(file).dump(estimator)
    return file.getvalue()


def through_joblib(estimator: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda estimator: pickle.loads(pickle.dumps(estimator)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "joblib": through_joblib,
}


def with_another_class(
    maps: NDArray[Any], labels: NDArray[Any], axis: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Maps of one class more."""
    wide = np.concatenate([maps, np.take(maps, [0], axis)], axis)
    if labels.ndim == maps.ndim:
        return wide, np.concatenate([labels, np.take(labels, [0], axis)], axis)
    if maps.min() >= 0:  # probabilities
        wide = wide / wide.sum(axis=axis, keepdims=True)
    return wide, labels


class Boom(Exception):
    """Whatever a generator of the caller's may raise."""


class CountedMachine(RuleBasedStateMachine):
    """A machine with a folder of its own, which counts what it does."""

    counted: ClassVar[Counter[str]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.counted = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="conformask-machine-")
        self.counted["examples"] += 1

    def teardown(self) -> None:
        self.folder.cleanup()


class Machine(CountedMachine):
    """Two calibrators of one kind, on which anything may be called."""

    VARIANTS: ClassVar[Mapping[str, Variant]]
    POOL: ClassVar[Pool]
    prepared: ClassVar[dict[str, Any]]  # by variants: what does not fit to it

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.prepared = {}

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        self.name = data.draw(st.sampled_from(sorted(self.VARIANTS)))
        self.variant = self.VARIANTS[self.name]
        self.calibrators = [self.variant.kind(**self.variant.parameters) for _ in range(2)]
        self.known: list[Known | None] = [None] * 2
        if self.variant.adds:
            self.prepare_misfits()
        if data.draw(st.integers(0, 3)):  # mostly one of them has images already
            self.fit(slot=0, data=data, way="array")

    # Images

    def images(self, data: st.DataObject, least: int, most: int) -> list[int]:
        return data.draw(st.lists(st.integers(0, len(self.POOL) - 1), min_size=least, max_size=most))

    def given(self, indices: Sequence[int], way: str = "array") -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Images in a form that fit takes."""
        chosen = np.array(indices, int)
        maps, labels = self.POOL.maps[chosen], self.POOL.labels[chosen]
        more = {**self.POOL.units(self.variant.units, indices), **self.variant.told}
        if way == "list":
            return (list(maps), list(labels)), more
        if way == "pairs":
            return ((pair for pair in zip(maps, labels, strict=True)),), more
        return (maps, labels), more

    def told_of_new(self, indices: Sequence[int]) -> dict[str, Any]:
        return self.POOL.units(self.variant.asked, indices)

    @property
    def can_begin(self) -> bool:
        """Whether `partial_fit` works before `fit`."""
        return True

    # The model

    def fresh(self, known: Known, parameters: Mapping[str, Any]) -> Any:
        """One fit to all images."""
        (maps, labels), more = self.given(known.images)
        estimator = self.variant.kind(**parameters)
        with quietly():
            try:
                return estimator.fit(maps, labels, **more)
            except cm.InfeasibleRiskError:
                return estimator
            except (ValueError, TypeError):
                # Parameters that refuse some images are set later; images that look wrong together come one by one.
                estimator = self.variant.kind(**{**parameters, **self.lenient()})
                for index in known.images:
                    positional, more = self.given([index])
                    estimator.partial_fit(*positional, **more)
                return estimator.set_params(**parameters)

    def lenient(self) -> dict[str, Any]:
        """Parameters of the variant that may be set later, as they are at first."""
        return {
            name: self.variant.kind(**self.variant.parameters).get_params()[name]
            for name in self.variant.changes
        }

    def settings_of(self, estimator: Any) -> tuple[tuple[str, str], ...]:
        """The parameters that results depend on, as text of what they mean."""
        try:
            meant = estimator._configuration()
        except (ValueError, TypeError):
            meant = estimator
        return tuple((name, repr(getattr(meant, name))) for name in sorted(self.variant.changes))

    def expected(self, slot: int) -> dict[str, str] | str:
        """What a calibrator must have learned; or how all of it is refused."""
        known, estimator = self.known[slot], self.calibrators[slot]
        if known is None:
            return "NotFittedError"
        if not known.is_kept and known.found_with != self.settings_of(estimator):
            return "ValueError"
        found = outcome(self.fresh(known, estimator.get_params(deep=False)), self.variant.learned)
        if not known.is_kept:
            found = {name: value for name, value in found.items() if name not in self.variant.not_saved}
        return found

    def check(self, slot: int) -> None:
        """Compares a calibrator with the model of it."""
        self.counted["steps"] += 1
        expected, estimator = self.expected(slot), self.calibrators[slot]
        if isinstance(expected, str):
            found = outcome(estimator, self.variant.learned)
            # Parameters that fit no more together are told first.
            assert {each.partition(":")[0] for each in found.values()} <= {expected, "ValueError"}, found
        else:
            assert outcome(estimator, list(expected)) == expected

    def is_well(self, known: Known, estimator: Any) -> bool:
        """Whether a fit to images works."""
        found = asked(
            lambda: getattr(self.fresh(known, estimator.get_params(deep=False)), self.variant.level)
        )
        return "Error: " not in found

    # Calls

    def attempt(self, slot: int, call: Callable[[], Any], then: Known, allowed: Sequence[str] = ()) -> bool:
        """A call after which a calibrator knows `then`, unless it fails for one of some reasons; whether it did not."""
        estimator = self.calibrators[slot]
        failure = failure_of(lambda: self.returned(call, estimator))
        if failure is not None and not isinstance(failure, cm.InfeasibleRiskError):  # which keeps the images
            is_right = any(words in str(failure) for words in (*allowed, LOOKS_WRONG))
            assert is_right or not self.is_well(then, estimator), f"refused, but it could be done: {failure}"
            return False
        self.known[slot] = then
        return True

    @staticmethod
    def returned(call: Callable[[], Any], estimator: Any) -> None:
        assert call() is estimator

    @rule(slot=SLOTS, data=st.data(), way=st.sampled_from(["array", "list", "pairs"]))
    def fit(self, slot: int, data: st.DataObject, way: str) -> None:
        indices = self.images(data, 1, 12)
        positional, more = self.given(indices, way)
        then = Known(tuple(indices), trained_on=tuple(indices))
        self.attempt(slot, lambda: self.calibrators[slot].fit(*positional, **more), then)
        self.check(slot)

    @precondition(lambda self: self.variant.adds)
    @rule(slot=SLOTS, data=st.data(), way=st.sampled_from(["array", "list", "pairs"]))
    def partial_fit(self, slot: int, data: st.DataObject, way: str) -> None:
        indices, known = self.images(data, 0, 5), self.known[slot]
        positional, more = self.given(indices, way)
        call = lambda: self.calibrators[slot].partial_fit(*positional, **more)  # noqa: E731
        cannot = not self.can_begin if known is None else not known.is_kept
        if not indices:  # no images change nothing, whether they are refused or not
            asked(call)
            self.check(slot)
        elif cannot:
            self.refused(slot, call)
        else:
            before = known or Known(())
            self.attempt(slot, call, replace(before, images=(*before.images, *indices)))
            self.check(slot)

    @precondition(lambda self: self.variant.adds)
    @rule(slot=SLOTS, other=SLOTS)
    def merge(self, slot: int, other: int) -> None:
        ours, theirs = self.known[slot], self.known[other]
        call = lambda: self.calibrators[slot].merge(self.calibrators[other])  # noqa: E731
        cannot = theirs is None or not theirs.is_kept or (ours is not None and not ours.is_kept)
        if slot == other or cannot:
            self.refused(slot, call)
            return
        before = ours or Known(())
        self.attempt(slot, call, self.merged(before, theirs), self.reasons(before, theirs))
        self.check(slot)
        self.check(other)

    def reasons(self, ours: Known, theirs: Known) -> list[str]:
        """Why two may not be merged."""
        # Copies share what they keep, until one of them learns more.
        return ["cannot be merged with themselves"]

    def merged(self, ours: Known, theirs: Known) -> Known:
        """What is known then."""
        return replace(ours, images=(*ours.images, *theirs.images))

    @rule(slot=SLOTS, into=SLOTS, data=st.data())
    def recalibrate(self, slot: int, into: int, data: st.DataObject) -> None:
        if "recalibrate" not in self.variant.uses or "alpha" not in self.variant.changes:
            return
        alpha, known = data.draw(st.sampled_from(self.variant.changes["alpha"])), self.known[slot]
        if known is None or not known.is_kept:
            self.refused(slot, lambda: self.calibrators[slot].recalibrate(alpha=alpha))
            return
        try:
            with quietly():
                found = self.calibrators[slot].recalibrate(alpha=alpha)
        except (ValueError, TypeError):
            would = clone(self.calibrators[slot]).set_params(alpha=alpha)
            assert not self.is_well(known, would)
        else:
            self.calibrators[into], self.known[into] = found, known
            self.check(into)
        self.check(slot)

    @rule(slot=SLOTS, data=st.data())
    def set_params(self, slot: int, data: st.DataObject) -> None:
        if self.variant.changes:
            name = data.draw(st.sampled_from(sorted(self.variant.changes)))
            self.calibrators[slot].set_params(
                **{name: data.draw(st.sampled_from(self.variant.changes[name]))}
            )
        self.check(slot)

    @rule(slot=SLOTS, data=st.data())
    def set_what_images_were_read_with(self, slot: int, data: st.DataObject) -> None:
        """Nothing may be asked then, and no images may join."""
        if not self.variant.foreign or self.known[slot] is None:
            return
        estimator, name = self.calibrators[slot], data.draw(st.sampled_from(sorted(self.variant.foreign)))
        if "Error: " in asked(lambda: getattr(copy.copy(estimator), self.variant.level)):
            return  # refused for another reason
        before = getattr(estimator, name)
        estimator.set_params(**{name: self.variant.foreign[name]})
        found = outcome(estimator, [self.variant.level, "n_images_", "n_skipped_"])
        assert all("fit again" in each for each in found.values()), found
        positional, more = self.given([1, 2, 3])
        bits = pickled(estimator)
        calls: list[Callable[[], Any]] = [lambda: estimator.save(Path(self.folder.name) / "not.json")]
        if self.variant.adds:
            twin = copy.copy(estimator).set_params(**{name: before})
            calls += [
                lambda: estimator.partial_fit(*positional, **more),
                lambda: estimator.merge(twin),
                lambda: estimator.merge(copy.copy(estimator)),
            ]
            # What was read is known: a merge of it may work, as the parameters of `estimator` say nothing of it.
            asked(lambda: self.variant.kind(**self.variant.parameters).merge(estimator))
        for call in calls:
            assert failure_of(call) is not None
            assert pickled(estimator) == bits
        assert not (Path(self.folder.name) / "not.json").exists()
        estimator.set_params(**{name: before})
        self.check(slot)

    # Copies and files

    @rule(slot=SLOTS, into=SLOTS, way=st.sampled_from(sorted(COPIES)))
    def copy(self, slot: int, into: int, way: str) -> None:
        self.calibrators[into] = COPIES[way](self.calibrators[slot])
        self.known[into] = self.known[slot]
        self.check(into)

    @rule(slot=SLOTS)
    def clone(self, slot: int) -> None:
        self.calibrators[slot], self.known[slot] = clone(self.calibrators[slot]), None
        self.check(slot)

    @rule(slot=SLOTS, into=SLOTS, keep=st.booleans())
    def save_and_load(self, slot: int, into: int, keep: bool) -> None:
        estimator, known = self.calibrators[slot], self.known[slot]
        path = Path(self.folder.name) / "one.json"
        keep &= self.variant.keeps and known is not None and known.is_kept
        more = {"profiles": True} if keep else {}
        is_found = "Error: " not in asked(lambda: getattr(estimator, self.variant.level))
        failure = failure_of(lambda: estimator.save(path, **more))
        if failure is not None:
            assert not is_found or not self.variant.saves or "profiles=True" in str(failure), failure
            self.check(slot)
            return
        assert is_found
        with quietly():
            loaded = self.variant.kind.load(path)
            loaded.save(Path(self.folder.name) / "two.json", **more)
        if not keep:
            assert path.read_bytes() == (Path(self.folder.name) / "two.json").read_bytes()
        self.check(slot)
        assert known is not None
        self.calibrators[into] = loaded
        self.known[into] = replace(known, is_kept=keep, found_with=self.settings_of(loaded))
        self.check(into)

    # Use

    @rule(slot=SLOTS, data=st.data(), use=st.integers(0, 5))
    def use(self, slot: int, data: st.DataObject, use: int) -> None:
        """Masks, sizes and reports are those of a fresh fit, and change nothing."""
        known, estimator = self.known[slot], self.calibrators[slot]
        name = self.variant.uses[use % len(self.variant.uses)]
        indices = self.images(data, 1, 4)
        chosen = np.array(indices, int)
        maps, more = self.POOL.maps[chosen], self.told_of_new(indices)

        def ask(of: Any) -> str:
            if name == "recalibrate":
                return asked(lambda: repr(of))
            if name == "evaluate":
                groups = self.POOL.units("groups", indices) if self.variant.units == "groups" else {}
                return asked(lambda: self.ask(of, name, maps, self.POOL.labels[chosen], **more, **groups))
            if name == "risk_curve":
                return asked(lambda: of.risk_curve())
            return asked(lambda: self.ask(of, name, maps, **more))

        found = ask(estimator)
        if name == "risk_curve" and known is not None and not known.is_kept:
            assert "Error: " in found
        elif isinstance(self.expected(slot), dict):
            assert known is not None
            fresh = self.fresh(known, estimator.get_params(deep=False))
            expected = ask(fresh)
            if name == "recalibrate":  # what it looks like, once it was asked
                asked(lambda: getattr(estimator, self.variant.level))
                asked(lambda: getattr(fresh, self.variant.level))
                found, expected = ask(estimator), ask(fresh)
            assert found == expected
        elif name != "recalibrate":
            assert found.partition(":")[0] in (self.expected(slot), "ValueError")
        self.check(slot)

    def ask(self, of: Any, name: str, *given: Any, **more: Any) -> Any:
        """What is answered, as plain values."""
        found = getattr(of, name)(*given, **more)
        if name != "evaluate":
            return found
        # Of several channels each has a report.
        return (
            {k: each.to_dict() for k, each in found.items()} if isinstance(found, dict) else found.to_dict()
        )

    # Failures

    def refused(self, slot: int, call: Callable[[], Any]) -> None:
        """A call that must fail, and change nothing: no bit of either calibrator, nor of their files."""
        before = [self.bits(each) for each in self.calibrators]
        with quietly(), pytest.raises((ValueError, TypeError, Boom)) as caught:
            call()
        assert isinstance(caught.value, Boom) or str(caught.value), "an error that says nothing"
        assert [self.bits(each) for each in self.calibrators] == before
        self.check(slot)

    def bits(self, estimator: Any) -> tuple[str, ...]:
        """A calibrator as it is pickled and saved, once all that can be asked was."""
        path = Path(self.folder.name) / "bits.json"
        asked(lambda: getattr(estimator, self.variant.level))

        def document() -> bytes:
            estimator.save(path)
            return path.read_bytes()

        return tuple(asked(each) for each in (document, lambda: pickled(estimator)))

    @rule(slot=SLOTS, which=st.integers(0, 5), is_fit=st.booleans(), data=st.data())
    def fail(self, slot: int, which: int, is_fit: bool, data: st.DataObject) -> None:
        estimator, indices = self.calibrators[slot], [1, 2, 3, 4]
        (maps, labels), more = self.given(indices)
        call = estimator.fit if is_fit or not self.variant.adds else estimator.partial_fit

        def broken() -> Iterator[tuple[Any, Any]]:
            yield from zip(maps, labels, strict=True)
            raise Boom

        bad = labels + 0.5
        wrong_units = {"groups": [0, 1]}
        calls: list[Callable[[], Any]] = [
            lambda: call(broken(), **more),
            lambda: call(maps, bad, **more),
            lambda: call(maps[:, :, :1], labels, **more),
            lambda: call(maps, labels, **{**more, **wrong_units}),
            lambda: call("apples", labels, **more),
            lambda: estimator.merge(3) if self.variant.adds else call("apples"),
        ]
        self.refused(slot, calls[which])

    @precondition(lambda self: self.variant.adds)
    @rule(slot=SLOTS, data=st.data())
    def refuse_what_does_not_fit(self, slot: int, data: st.DataObject) -> None:
        """Images that were read otherwise, or that are others, join in no way."""
        if self.known[slot] is None:
            return
        calibrator = self.calibrators[slot]
        what = data.draw(st.sampled_from(sorted({*self.misfits, *self.misfit_images})))
        if what in self.misfits:
            other = copy.copy(self.misfits[what])
            self.refused(slot, lambda: calibrator.merge(other))
        if what in self.misfit_images:
            positional, more = self.misfit_images[what]
            self.refused(slot, lambda: calibrator.partial_fit(*positional, **more))

    def prepare_misfits(self) -> None:
        """Calibrators that may not be merged with those of this variant, and images that may not join theirs."""
        if self.name in self.prepared:
            self.misfits, self.misfit_images = self.prepared[self.name]
            return
        variant, indices = self.variant, list(range(3, len(self.POOL)))
        ((maps, labels), more), own = self.given(indices), dict(variant.parameters)
        labels = np.where(labels == 255, 0, labels).astype(labels.dtype)  # whatever void pixels are
        self.misfit_images = {
            f"with {kind}": ((maps, labels), {**self.POOL.units(kind, indices), **variant.told})
            for kind in ((None,) if variant.units else variant.other_units)
        }
        if variant.class_axis is not None:
            wide = with_another_class(maps, labels, variant.class_axis)
            self.misfit_images["of other classes"] = (wide, more)
        for told in variant.told_otherwise:
            self.misfit_images[f"told {told}"] = ((maps, labels), {**more, **told})
        found = {what: (own, *images) for what, images in self.misfit_images.items()}
        for name in sorted({*variant.foreign} - {*variant.may_differ}):
            found[f"with another {name}"] = ({**own, name: variant.foreign[name]}, (maps, labels), more)
        self.misfits = {}  # those that there are: some parameters refuse units, or other maps
        for what, (parameters, images, told) in found.items():
            estimator = variant.kind(**parameters)
            call = estimator.partial_fit if self.can_begin else estimator.fit
            failure = failure_of(lambda call=call, images=images, told=told: call(*images, **told))
            if failure is None or isinstance(failure, cm.InfeasibleRiskError):
                self.misfits[what] = estimator
        assert self.misfits
        self.prepared[self.name] = self.misfits, self.misfit_images

    @rule(slot=SLOTS)
    def refuse_void_images(self, slot: int) -> None:
        """What is refused for its images has not joined, however late that is seen."""
        known, estimator = self.known[slot], self.calibrators[slot]
        if "on_empty" not in self.variant.changes or known is None or not known.is_kept:
            return
        (maps, labels), more = self.given([self.POOL.void])
        other, before = copy.copy(estimator), estimator.on_empty
        other.set_params(on_empty="skip")
        if failure_of(lambda: other.partial_fit(maps, labels, **more)) is not None:
            return  # other parameters do not fit together
        for call in (
            lambda: estimator.set_params(on_empty="raise").merge(other),
            lambda: estimator.set_params(on_empty="raise").partial_fit(maps, labels, **more),
        ):
            assert failure_of(call) is not None
            estimator.set_params(on_empty=before)
            self.check(slot)

    @precondition(lambda self: self.variant.adds)
    @rule(slot=SLOTS, data=st.data())
    def warnings_that_are_errors(self, slot: int, data: st.DataObject) -> None:
        """Images that come twice are warned of: where this is an error, they have not come."""
        known = self.known[slot]
        if known is None or not known.is_kept:
            return
        indices = self.images(data, 1, 3)
        (maps, labels), more = self.given(indices)
        bits = self.bits(self.calibrators[slot])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                self.calibrators[slot].partial_fit(maps, labels, **more)
            except (UserWarning, ValueError):
                assert self.bits(self.calibrators[slot]) == bits
            else:
                self.known[slot] = replace(known, images=(*known.images, *indices))
        self.check(slot)


def run(machine: type[Any]) -> None:
    """A short run that is the same each time; or runs of other calls until time is over."""
    end, phases = time.monotonic() + SECONDS, [Phase.generate, Phase.shrink]
    machine.counted.clear()
    if not SECONDS:
        run_state_machine_as_test(
            machine, settings=settings(max_examples=40, stateful_step_count=20, phases=phases)
        )
        assert machine.counted["steps"] > 50
        return
    long = settings(
        derandomize=False,
        deadline=None,
        database=None,
        max_examples=200,
        stateful_step_count=40,
        print_blob=True,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    while time.monotonic() < end:
        run_state_machine_as_test(machine, settings=long)
    print(f"{machine.__name__}: {dict(machine.counted)}")
