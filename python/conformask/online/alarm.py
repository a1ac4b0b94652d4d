"""Alarms that are valid at any time: they report a drift as soon as there is enough evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._calibrator import Parameter, number, one_of, whole
from conformask._documents import finite_or_text
from conformask._exact import as_fraction, as_plain, check_alpha, number_from_json
from conformask._text import plural, shown
from conformask.online._bets import Adaptive, Bet, Fixed, Jumper, Power
from conformask.online._ranks import Seen, tie_breaks
from conformask.online._recent import Recent
from conformask.online._stream import Stream, as_numbers
from conformask.online._track import HISTORY

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DriftAlarm"]


def _check_delta(delta: object) -> Fraction:
    fraction = as_fraction(delta, "delta")
    if not 0 < fraction < 1:
        raise ValueError(f"delta must be in (0, 1), got {shown(delta)}")
    return fraction


_KINDS = ("exchangeability", "risk")
_NAMED_BETS = {"exchangeability": ("jumper", "power"), "risk": ("adaptive",)}


def _check_bet(bet: object) -> Fraction | str | None:
    if bet is None or isinstance(bet, str):
        return bet
    return as_fraction(bet, "bet")


PARAMETERS: Mapping[str, Parameter] = {
    "kind": one_of("kind", *_KINDS, stale="images"),
    "alpha": number("alpha", check_alpha, stale="images"),
    "delta": number("delta", _check_delta, stale="images"),
    "bet": Parameter(
        _check_bet,
        stale="images",
        to_json=lambda bet: bet if bet is None or isinstance(bet, str) else as_plain(bet, "bet"),
        from_json=number_from_json,
    ),
    "random_state": whole("random_state", 0, 2**128 - 1, stale="images"),
    "history": HISTORY,
}


@dataclass(frozen=True)
class Settings:
    """The parameters, resolved."""

    kind: str
    alpha: Fraction
    delta: Fraction
    bet: Fraction | str | None
    random_state: int
    history: int | None

    def __post_init__(self) -> None:
        if self.kind != "risk" and self.alpha != Fraction(1, 10):
            raise ValueError(
                f"alpha={float(self.alpha):g} is the level of a mean loss, for kind='risk': write DriftAlarm('risk', "
                f"alpha={float(self.alpha):g}); delta sets the probability of a false alarm of "
                f"kind={self.kind!r}"
            )
        named = _NAMED_BETS[self.kind]
        if isinstance(self.bet, Fraction):
            if self.kind != "risk":
                raise ValueError(
                    f"bet must be one of {list(named)} for kind={self.kind!r}, got {float(self.bet):g}"
                )
            if not 0 < self.bet <= 1 / self.alpha:
                most = float(1 / self.alpha)
                raise ValueError(
                    f"bet must be above 0 and at most 1 / alpha = {most:g}, got {float(self.bet):g}"
                )
        elif self.bet is not None and self.bet not in named:
            also = ", or a number up to 1 / alpha" if self.kind == "risk" else ""
            raise ValueError(
                f"bet must be one of {list(named)}{also} for kind={self.kind!r}, got {self.bet!r}"
            )

    @property
    def threshold(self) -> float:
        """The logarithm that alarms."""
        return -math.log(self.delta)

    def first_bet(self) -> Bet:
        """The bet before anything has come."""
        if self.kind == "exchangeability":
            return Power() if self.bet == "power" else Jumper()
        alpha = float(self.alpha)
        return Fixed(alpha, float(self.bet)) if isinstance(self.bet, Fraction) else Adaptive.start(alpha)

    def bet_from_json(self, found: dict[str, Any]) -> Bet:
        """The bet of a file."""
        if self.kind == "exchangeability":
            return Power.from_json(found) if self.bet == "power" else Jumper.from_json(found)
        alpha = float(self.alpha)
        if isinstance(self.bet, Fraction):
            return Fixed.from_json(found, alpha, float(self.bet))
        return Adaptive.from_json(found, alpha)


@dataclass(frozen=True)
class Watch:
    """What has come, and the evidence in it."""

    configuration: Settings
    n_updates: int
    bet: Bet
    alarm_time: int | None
    highest: float  # the highest logarithm so far
    path: Recent  # the logarithms after each of the last numbers
    seen: Seen | None  # the numbers so far, for p-values

    @classmethod
    def start(cls, settings: Settings) -> Watch:
        """Before anything has come."""
        seen = Seen() if settings.kind == "exchangeability" else None
        return cls(settings, 0, settings.first_bet(), None, 0.0, Recent(settings.history), seen)

    def after(self, settings: Settings, values: NDArray[np.float64]) -> Watch:
        """After more numbers, in the order of time."""
        bet, seen, n, alarm_time, highest = self.bet, self.seen, self.n_updates, self.alarm_time, self.highest
        path = self.path.at_most(settings.history)
        breaks = tie_breaks(settings.random_state, n, len(values)).tolist() if seen is not None else []
        for i, value in enumerate(values.tolist()):
            if seen is not None:
                value, seen = seen.rank(value, breaks[i])
            bet, n = bet.after(value), n + 1
            wealth = bet.log_wealth
            path, highest = path.add(wealth), max(highest, wealth)
            if alarm_time is None and wealth >= settings.threshold:
                alarm_time = n
        return replace(
            self,
            configuration=settings,
            n_updates=n,
            bet=bet,
            alarm_time=alarm_time,
            highest=highest,
            path=path,
            seen=seen,
        )

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has come yet."""
        return not self.n_updates

    @property
    def headline(self) -> dict[str, str]:
        """What its repr shows."""
        return {
            "is_alarmed_": f"{self.alarm_time is not None}",
            "log_martingale_": f"{self.bet.log_wealth:.4g}",
            "n_updates_": f"{self.n_updates}",
        }

    def to_json(self) -> dict[str, Any]:
        """The content for a file."""
        path = self.path.at_most(self.configuration.history).to_numpy().tolist()
        return {
            "n_updates": self.n_updates,
            "alarm_time": self.alarm_time,
            "highest": self.highest,
            "bet": self.bet.to_json(),
            "path": [finite_or_text(value) for value in path],
            "values": None if self.seen is None else self.seen.to_numpy().tolist(),
        }


def _watch_from_json(found: dict[str, Any], settings: Settings) -> Watch:
    """The state in a file; refuses states that no numbers lead to."""
    n, alarm_time, path = found["n_updates"], found["alarm_time"], found["path"]
    if type(n) is not int or n < 0:
        raise ValueError(f"n_updates is {n!r}")
    if not isinstance(path, list) or len(path) > n:
        raise ValueError("path is not that of its updates")
    logs = [-math.inf if each == "-inf" else _number(each) for each in path]
    highest, bet = _number(found["highest"]), settings.bet_from_json(dict(found["bet"]))
    most = max([0.0, *logs])
    if (
        highest < most
        or (len(logs) == n and highest > most)
        or not _is_close([0.0, *logs][-1], bet.log_wealth)
    ):
        raise ValueError("the martingale does not end where its path does")
    is_alarmed = alarm_time is not None
    if is_alarmed and not (type(alarm_time) is int and 1 <= alarm_time <= n):
        raise ValueError(f"alarm_time is {alarm_time!r}")
    first, crossings = n - len(logs) + 1, [i for i, log in enumerate(logs) if log >= settings.threshold]
    is_in_path = is_alarmed and alarm_time >= first
    is_early = bool(crossings) and not (is_alarmed and alarm_time <= first + crossings[0])
    if (
        is_alarmed != (highest >= settings.threshold)
        or is_early
        or (is_in_path and (not crossings or alarm_time != first + crossings[0]))
    ):
        raise ValueError(f"alarm_time is {alarm_time!r}, which is not when the martingale was high first")
    seen = None
    if settings.kind == "exchangeability":
        values = found["values"]
        if not isinstance(values, list) or len(values) != n:
            raise ValueError(f"values are not those of {plural(n, 'update')}")
        seen = Seen(map(_number, values))
    if getattr(bet, "n", n) != n:
        raise ValueError("the bet is one of another number of updates")
    return Watch(settings, n, bet, alarm_time, highest, Recent(settings.history, logs), seen)


def _is_close(one: float, other: float) -> bool:
    # Logarithms may differ by a bit from one machine to another.
    return one == other or math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"it holds {shown(value)} where a number must be")
    return float(value)


class DriftAlarm(Stream[Settings, Watch]):
    r"""An alarm that checks every image, and is false with probability delta at most, however long it runs.

    It bets against the hypothesis that there is no drift. Its wealth M starts with 1, and there is an alarm when M
    reaches :math:`1 / \delta`. If the hypothesis is true, M is a martingale (or falls on average), and by Ville's
    inequality the probability that it *ever* reaches :math:`1 / \delta` is at most :math:`\delta`. The number of checks
    need not be fixed beforehand. An alarm is evidence against the hypothesis; silence is no evidence for it.

    Two hypotheses can be watched:

    - ``kind="exchangeability"``: the numbers of all images so far are exchangeable, as calibration requires. Each image
      gives one number, such as its loss at a fixed lambda or its critical value
      (:func:`conformask.online.image_lambdas`). Its smoothed conformal p-value is its rank from above among all numbers
      so far, with ties broken at random. If the numbers are exchangeable, the p-values are independent and uniform
      (Vovk). Give the numbers of the calibration images first, in random order, so that those of the stream are
      compared with them. A drift to larger or smaller numbers is detected; this alarm does not mean that the risk is
      above alpha.
    - ``kind="risk"``: the expected loss of the next image, given all earlier ones, is never above alpha. Give the loss
      of each image:

      .. math:: M_T = \prod_{t=1}^T \big( 1 + \nu_t (L_t - \alpha) \big), \quad 0 \le \nu_t \le 1 / \alpha,

      where :math:`\nu_t` is chosen before :math:`L_t` is known. Exchangeability is not needed.

    Parameters
    ----------
    kind : {"exchangeability", "risk"}, default="exchangeability"
        The hypothesis.
    alpha : float in (0, 1), default=0.1
        For ``kind="risk"``: the level of the mean loss.
    delta : float in (0, 1), default=0.05
        The probability of a false alarm, ever, is at most this.
    bet : None, "jumper", "power", "adaptive" or a number, default=None
        The betting strategy; the guarantee holds for each. For exchangeability: "jumper" (default) bets on a slope of
        the p-values that may change its sign, and is a mean over simple jumpers with several rates; "power" bets only
        on small p-values, that is on rising numbers, by the mixture of power martingales. For the risk: "adaptive"
        (default) chooses :math:`\nu_t` from mean and variance of the last losses; a number is a constant :math:`\nu`,
        above 0 and at most ``1 / alpha``.
    random_state : int in [0, 2^128), default=0
        The seed for breaking ties. Random number t is that of ``numpy.random.Philox(key=random_state, counter=t - 1)``.
    history : int at least 1 or None, default=10000
        The number of last values of the martingale that are kept for `path_`; None keeps all. With exchangeability all
        numbers are kept in any case, 16 bytes each, because p-values need them.

    Attributes
    ----------
    is_alarmed_ : bool
        Whether M has ever reached ``1 / delta`` since the start, or since :meth:`reset`.
    alarm_time_ : int or None
        The update at which M first reached it, counted from 1; None if it never did.
    log_martingale_ : float
        The natural logarithm of M now. ``min(1, exp(-highest))`` of its highest value so far is a p-value that is valid
        at any time.
    path_ : float64 array (m,)
        The natural logarithms of M after each of the last updates, oldest first.
    n_updates_ : int
        Number of values so far.

    See Also
    --------
    OnlineRiskController : Follows the drift instead.
    PAC, RCPS : Calibration methods to use before an alarm of the risk.
    conformask.plotting.plot_alarm : Draws the martingale.

    Notes
    -----
    Calibrate with :class:`~conformask.PAC` or :class:`~conformask.RCPS` before you watch the risk. Conformal risk
    control keeps alpha on average over calibration sets. Given one calibration set, the risk of new images may be above
    alpha without any drift: an alarm would then be correct, but useless. With PAC or RCPS the risk given the
    calibration images is at most alpha with confidence ``1 - delta'``. A false alarm then has probability
    ``delta + delta'`` at most, if images are independent draws from one distribution.

    Numbers must come from a fixed rule: losses at a lambda that moves (:class:`~conformask.OnlineRiskController`) are
    not exchangeable. After an alarm, :meth:`reset` starts again; each start may then be wrong with probability delta.

    References
    ----------
    Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", Springer, 2nd edition 2022,
    doi:10.1007/978-3-031-06649-8, chapter 8. Vovk, Petej, Nouretdinov, Ahlberg, Carlsson, Gammerman, "Retrain or not
    retrain: conformal test martingales for change-point detection", COPA 2021, arXiv:2102.10439. Waudby-Smith, Ramdas,
    "Estimating means of bounded random variables by betting", JRSS B 86(1), 2024, arXiv:2010.09686.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> alarm = cm.DriftAlarm()
    >>> alarm.update(rng.normal(0, 1, 200))  # of calibration images
    False
    >>> for t, number in enumerate(rng.normal(1.5, 1, 300)):  # the stream, which is another
    ...     if alarm.update(number):
    ...         break
    >>> t < 50
    True
    >>> risk = cm.DriftAlarm("risk", alpha=0.1, bet=1)
    >>> [risk.update(1.0) for _ in range(5)]  # 1.9^5 = 24.8 is above 1 / 0.05 = 20
    [False, False, False, False, True]
    """

    _CONFIGURATION = Settings
    _PARAMETERS = PARAMETERS
    _FORMAT = ("DriftAlarm", 1)

    def __init__(
        self,
        kind: str = "exchangeability",
        *,
        alpha: float = 0.1,
        delta: float = 0.05,
        bet: float | str | None = None,
        random_state: int = 0,
        history: int | None = 10_000,
    ) -> None:
        self.kind = kind
        self.alpha = alpha
        self.delta = delta
        self.bet = bet
        self.random_state = random_state
        self.history = history

    def update(self, values: Any) -> bool:
        """Takes the numbers of the next images, and returns whether there is an alarm.

        An update that fails, or that Ctrl-C stops, changes nothing.

        Parameters
        ----------
        values : float or sequence of n floats
            For ``kind="risk"`` losses in [0, 1]; else any finite numbers, larger ones for stranger images. Several
            values are in the order of time.

        Returns
        -------
        bool
            ``is_alarmed_``: whether the wealth has ever reached ``1 / delta``, also within these numbers.

        Raises
        ------
        TypeError, ValueError
            If `values` are no such numbers.
        """
        configuration = self._configuration()
        numbers = as_numbers(values, "values")
        if configuration.kind == "risk" and not ((numbers >= 0) & (numbers <= 1)).all():
            bad = numbers[~((numbers >= 0) & (numbers <= 1))][0]
            raise ValueError(f"values must be losses in [0, 1] for kind='risk', got {bad:g}")
        watch = self._go_on(configuration, lambda known: known.after(configuration, numbers))
        return watch.alarm_time is not None

    # What it knows

    @property
    def is_alarmed_(self) -> bool:
        """Whether the martingale has ever reached ``1 / delta``."""
        return self._now()[1].alarm_time is not None

    @property
    def alarm_time_(self) -> int | None:
        """The update at which the martingale first reached ``1 / delta``, counted from 1; None if it never did."""
        return self._now()[1].alarm_time

    @property
    def log_martingale_(self) -> float:
        """The natural logarithm of the martingale now."""
        return self._now()[1].bet.log_wealth

    @property
    def path_(self) -> NDArray[np.float64]:
        """The natural logarithms of the martingale after each of the last updates, oldest first."""
        return self._now()[1].path.to_numpy()

    @property
    def n_updates_(self) -> int:
        """Number of values so far."""
        return self._now()[1].n_updates

    # Inside

    def _start(self, configuration: Settings, known: Watch | None) -> Watch:
        return Watch.start(configuration)

    def _state_from_json(self, found: dict[str, Any], configuration: Settings) -> Watch:
        return _watch_from_json(found, configuration)

    def _set(self) -> dict[str, str]:
        """The parameters that differ from their defaults, and delta; and alpha, if it is used."""
        texts = {"delta": repr(self.delta)} | super()._set()
        if self.kind != "risk":
            texts.pop("alpha")
        return {name: text for name in self._PARAMETERS if (text := texts.get(name)) is not None}

    def _rows(self, state: Watch) -> dict[str, str]:
        when = "no" if state.alarm_time is None else f"since update {state.alarm_time}"
        threshold = f"{math.exp(min(700.0, state.configuration.threshold)):.6g}"
        return {
            "alarm": when,
            "log_martingale_": f"{state.bet.log_wealth:.4g} (highest {state.highest:.4g})",
            "alarms at": f"log {threshold} = {state.configuration.threshold:.4g}",
            "n_updates_": f"{state.n_updates}",
        }
