"""The searches over many images: one after another, or together."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

from conformask import _core
from conformask._images import track
from conformask.consign._descent import solve
from conformask.consign._solution import Found, least_controlled

if TYPE_CHECKING:
    from conformask.consign._images import Problem, Problems
    from conformask.consign._settings import Settings
    from conformask.consign.reference import ReferenceSearch

__all__ = ["certified", "decided", "referred"]

# Images between two updates of the upper bound of lambda-hat. It is fixed, so that results do not depend on the number
# of threads.
_WAVE = 32
# The most memory for decompositions that wait for their first bounds.
_WAITING_BYTES = 2**28


def certified(problems: Problems, settings: Settings) -> Found:
    """Brackets of the lambda of each image. A search is given up once its lambda is surely beyond lambda-hat."""
    search = settings.new_search()
    places: list[int | None] = []  # the index in the search of each image that counts
    for problem in problems:
        places.append(_ask(search, problem))
        if search.n_bytes_waiting() > _WAITING_BYTES:
            search.warm_start()
    units = problems.units()
    budget = settings.budget(units)  # refuses units that the method cannot count, before work begins
    search.warm_start()
    if budget >= 0:
        waves = range(0, len(search), _WAVE)
        for first in track(waves, settings.progress, len(waves), f"{_WAVE} searches"):
            uppers = search.brackets()[0]
            # Lambda-hat cannot be larger than this, whatever the remaining searches find.
            bound = least_controlled([0.0 if at is None else uppers[at] for at in places], units, budget)
            search.refine(first, min(first + _WAVE, len(search)), bound)
    found = Found()
    found.add(search, places)
    return found


def decided(problems: Problems, settings: Settings, lam: float) -> Found:
    """For each image, on which side of `lam` its lambda is."""
    search, found = settings.new_search(), Found()
    places: list[int | None] = []

    def decide() -> None:
        nonlocal search
        search.warm_start(lam)
        search.refine(0, len(search), math.inf, lam)
        found.add(search, places)
        search = settings.new_search()
        places.clear()

    for problem in problems:
        places.append(_ask(search, problem))
        if search.n_bytes_waiting() > _WAITING_BYTES:
            decide()
    decide()
    return found


def referred(problems: Problems, reference: ReferenceSearch, settings: Settings) -> Found:
    """The results of the paper's search."""
    asked, found = list(problems), Found()
    units = problems.units()
    budget = settings.budget(units)

    def is_enough(lambdas: list[float]) -> bool:
        return math.isfinite(least_controlled(lambdas, units, budget))

    if budget < 0:  # no lambdas would be enough
        found.lambdas = [0.0 if problem is None else math.inf for problem in asked]
    else:
        found.lambdas = solve(asked, is_enough, reference, settings)
    # Nothing is certified: there are no lower bounds, and images that were not needed were not searched to the end.
    found.lower_bounds = [0.0] * len(found.lambdas)
    found.statuses = ["not_needed" if math.isnan(lam) else "upper_bound" for lam in found.lambdas]
    found.achieved = [Fraction(0)] * len(found.lambdas)
    return found


def _ask(search: _core.ConsignSearch, problem: Problem | None) -> int | None:
    """Adds an image to the search, and returns its index there."""
    if problem is None:
        return None
    search.add(*problem)
    return len(search) - 1
