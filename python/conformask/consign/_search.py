"""The searches over many images: one after the other, or at once."""

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

# Images between two looks at how large lambda-hat can still be: fixed, so that it does not matter how many run at once.
_WAVE = 32
# Decompositions that wait for their first bounds.
_WAITING_BYTES = 2**28


def certified(problems: Problems, settings: Settings) -> Found:
    """Brackets of the lambda of each image; what is surely beyond lambda-hat is given up."""
    search = settings.new_search()
    places: list[int | None] = []  # of each image that counts, where it is in the search
    for problem in problems:
        places.append(_ask(search, problem))
        if search.n_bytes_waiting() > _WAITING_BYTES:
            search.warm_start()
    units = problems.units()
    budget = settings.budget(units)  # refuses what the method cannot count, before work begins
    search.warm_start()
    if budget >= 0:
        waves = range(0, len(search), _WAVE)
        for first in track(waves, settings.progress, len(waves), f"{_WAVE} searches"):
            uppers = search.brackets()[0]
            # No more than this can lambda-hat be, whatever the searches to come find.
            bound = least_controlled([0.0 if at is None else uppers[at] for at in places], units, budget)
            search.refine(first, min(first + _WAVE, len(search)), bound)
    found = Found()
    found.add(search, places)
    return found


def decided(problems: Problems, settings: Settings, lam: float) -> Found:
    """Of each image, on which side of `lam` its lambda is."""
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
    """What the paper's search finds."""
    asked, found = list(problems), Found()
    units = problems.units()
    budget = settings.budget(units)

    def is_enough(lambdas: list[float]) -> bool:
        return math.isfinite(least_controlled(lambdas, units, budget))

    if budget < 0:  # nothing would be enough
        found.lambdas = [0.0 if problem is None else math.inf for problem in asked]
    else:
        found.lambdas = solve(asked, is_enough, reference, settings)
    # Nothing is certified: there are no lower bounds, and what was not needed was not searched to the end.
    found.lower_bounds = [0.0] * len(found.lambdas)
    found.statuses = ["not_needed" if math.isnan(lam) else "upper_bound" for lam in found.lambdas]
    found.achieved = [Fraction(0)] * len(found.lambdas)
    return found


def _ask(search: _core.ConsignSearch, problem: Problem | None) -> int | None:
    """Hands an image over; where it is in the search."""
    if problem is None:
        return None
    search.add(*problem)
    return len(search) - 1
