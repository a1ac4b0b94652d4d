"""Risk control of a stream: lambda follows the losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask import _backend
from conformask._arrays import warn_of_shares
from conformask._images import SCORES, axes_hint, map_images, not_empty, walk
from conformask._text import lambda_text, plural, shown
from conformask._units import OnEmpty, counted_images
from conformask._warnings import warn_caller
from conformask.exceptions import DroppedImagesWarning
from conformask.losses import LossLike, loss_values
from conformask.online._stream import Stream, as_numbers
from conformask.online._track import PARAMETERS, History, Settings, Track, history_of, track_from_json
from conformask.scores import ScoreLike

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

    from conformask._images import Volumes

__all__ = ["OnlineRiskController"]

_SKIPPED = (
    "the loss is undefined on an image (no labelled pixel that counts): it is skipped, lambda stays, and n_skipped_ "
    "counts it, as all that come after it"
)


class OnlineRiskController(Stream[Settings, Track]):
    r"""Multi-labeled masks of a video or of drifting data, whose mean loss over time tends to alpha or below.

    After each image whose labels become known, lambda moves up if its loss was above alpha, and down if it was below:

    .. math:: \lambda_{t+1} = \lambda_t + \gamma_t \, (L_t - \alpha), \quad \gamma_t = \gamma \, t^{-p}.

    It needs no exchangeable images, no model of the drift and no calibration images. For any sequence of images, even
    an adversarial one, the mean of the losses so far exceeds alpha by no more than a bound that falls with their number
    T (``risk_bound_``). With a constant step and labels that come at once, the bound is

    .. math:: \frac1T \sum_{t=1}^T L_t - \alpha \le \frac{\lambda_{\max} - \lambda_1 + \gamma (1 - \alpha)}{\gamma T}.

    This is a guarantee about the mean over time, in which many easy images may compensate a run of bad ones. It is not
    a guarantee about the next image, or about a class. It holds for losses that are 0 where sets are full.

    Parameters
    ----------
    conformity_score : LAC, APS, RAPS, SACP, their names in lower case or a callable, default="lac"
        The conformity score, as for :class:`~conformask.ConformalRiskCalibrator`.
    loss : MiscoverageLoss or another loss, "miscoverage", "binary" or a function, default="miscoverage"
        The loss of an image, in [0, 1]: how much its mask misses.
    alpha : float in (0, 1), default=0.1
        The level of the mean loss.
    step : float above 0, default=0.05
        The first step :math:`\gamma`, in units of lambda. A large step follows drift quickly, but sets vary much from
        image to image; a small step takes longer to reach alpha.
    decay : float in [0, 1), default=0
        The exponent p, by which steps get smaller. 0 keeps the step, for data that drift. With a decay above 1/2, such
        as 0.6, lambda settles where data do not drift.
    initial : float at least 0, default=1.0
        The first lambda :math:`\lambda_1`. At 1 the sets of LAC and APS are full. :meth:`from_calibrator` starts where
        a calibrator ended.
    floor : float, None or "auto", default="auto"
        The lower limit of lambda. None is no limit, as in the papers. "auto" is None with a constant step, and 0 with a
        decay, where the bound needs a limit. Sets do not change below 0. Without a limit lambda keeps falling while
        images are easy (see ``drift_``), and sets grow again only after many losses above alpha. With ``floor=0`` they
        grow at once, and the mean loss stays lower.
    inputs : {"probabilities", "logits", "scores"}, default="probabilities"
        What the scores are, as for :class:`~conformask.ConformalRiskCalibrator`.
    transform : fitted scaler such as TemperatureScaler, or None, default=None
        A scaler that turns the scores into probabilities.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels, which count nowhere.
    on_empty : {"skip", "raise", "zero_loss"}, default="skip"
        What to do with images on which the loss is undefined (all void, or no pixel of the loss's classes). "skip" does
        not change lambda. "raise" raises an error. "zero_loss" counts a loss of 0.
    history : int at least 1 or None, default=10000
        The number of last lambdas and losses that are kept, for ``history_`` and for labels that come late. None keeps
        all, 16 bytes each. Means, sums and the bound are about all updates in any case.
    volumes : bool or "auto", default="auto"
        Whether the images of a list or an iterable are volumes (K, D, H, W) or flat (K, H, W).

    Attributes
    ----------
    lambda_ : float
        The current lambda, which may lie below 0 or above the largest.
    lambda_hat_ : float
        The current lambda clipped to [0, lambda_max], at which sets are predicted.
    mean_loss_ : float
        The mean of all losses counted so far; NaN before the first.
    risk_bound_ : float
        The upper bound of `mean_loss_` for any images: 1 or less.
    drift_ : float
        How far lambda has fallen below 0, where sets are the smallest: 0 or more.
    n_updates_ : int
        Number T of losses counted: the time t.
    n_skipped_ : int
        Number of images that were left out because the loss was undefined on them.
    history_ : History
        The last updates, oldest first: a named tuple of arrays (m,), `updates` (their numbers, from 1 on), `lambdas`
        (after each update), `losses`, `mean_losses` (mean of all losses up to each update).

    See Also
    --------
    ConformalRiskCalibrator : Finds one lambda, for images that are exchangeable with the calibration images.
    DriftAlarm : Tells when a calibrator can no longer be relied on.
    conformask.plotting.plot_online : Draws lambda and the mean loss over time.

    Notes
    -----
    *Labels that come late.* The loss of an image is computed at the lambda of its prediction. Keep
    ``t = controller.n_updates_`` with each prediction, and pass it back with the labels: ``update(X, y, t=t)``. All
    images of one call of :meth:`predict` or :meth:`update` have the same lambda: all are predicted before any of their
    labels is known. If at most d other losses were counted between a prediction and its own loss, the bound is

    .. math:: \frac{(U - \lambda_1) + (U - m) (T^p - 1)}{\gamma T}, \quad
        U = \lambda_{\max} + (d + 1) \, \gamma (1 - \alpha),

    where m is the lowest lambda so far. With a constant step (p = 0) m drops out; with a decay and a floor the bound
    falls like :math:`T^{p-1}`. The proof: let :math:`\theta_k` be the lambda after k updates and :math:`\gamma_k` their
    steps. Lambda rises at an update only if its image was predicted below :math:`\lambda_{\max}`, at most d + 1 moves
    before, so that it never exceeds U; and :math:`L_k - \alpha \le (\theta_k - \theta_{k-1}) / \gamma_k`, whose sum, by
    parts, is at most :math:`(U - m) / \gamma_T - (\lambda_1 - m) / \gamma_1`.

    The bound is one-sided. With the most probable class in all sets (the default of LAC), the loss may stay below
    alpha for ever: lambda then falls, without limit if there is no floor.

    Do not give a `DriftAlarm` of exchangeability losses at lambdas that move.

    References
    ----------
    Gibbs, Candès, "Adaptive Conformal Inference Under Distribution Shift", NeurIPS 2021, arXiv:2106.00170. Feldman,
    Ringel, Bates, Romano, "Achieving Risk Control in Online Learning Settings", TMLR 2023, arXiv:2205.09095.
    Angelopoulos, Barber, Bates, "Online conformal prediction with decaying step sizes", ICML 2024, arXiv:2402.01139.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(4), size=(600, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = (X.cumsum(axis=1) < rng.random((600, 1, 8, 8))).sum(axis=1)
    >>> y[300:] = rng.integers(0, 4, (300, 8, 8))  # the model goes wrong
    >>> calibrator = cm.ConformalRiskCalibrator(alpha=0.1).fit(X[:100], y[:100])
    >>> controller = cm.OnlineRiskController.from_calibrator(calibrator, step=0.05)
    >>> for frame, labels in zip(X[100:], y[100:]):
    ...     masks = controller.predict(frame[None])
    ...     _ = controller.update(frame[None], labels[None])
    >>> round(controller.mean_loss_, 2), controller.mean_loss_ <= controller.risk_bound_
    (0.1, True)
    >>> float(cm.kernels.losses(X[300:], y[300:], calibrator.lambda_hat_).mean().round(2))  # of the old lambda
    0.35
    """

    _CONFIGURATION = Settings
    _PARAMETERS = PARAMETERS
    _FORMAT = ("OnlineRiskController", 1)

    def __init__(
        self,
        conformity_score: ScoreLike = "lac",
        *,
        loss: LossLike = "miscoverage",
        alpha: float = 0.1,
        step: float = 0.05,
        decay: float = 0,
        initial: float = 1.0,
        floor: float | str | None = "auto",
        inputs: str = "probabilities",
        transform: Any = None,
        ignore_index: int | tuple[int, ...] | None = 255,
        on_empty: OnEmpty = "skip",
        history: int | None = 10_000,
        volumes: Volumes = "auto",
    ) -> None:
        self.conformity_score = conformity_score
        self.loss = loss
        self.alpha = alpha
        self.step = step
        self.decay = decay
        self.initial = initial
        self.floor = floor
        self.inputs = inputs
        self.transform = transform
        self.ignore_index = ignore_index
        self.on_empty = on_empty
        self.history = history
        self.volumes = volumes

    @classmethod
    def from_calibrator(cls, calibrator: Any, *, step: float = 0.05, **parameters: Any) -> Self:
        """A controller that starts at the lambda-hat of a fitted calibrator, with its score, loss and alpha.

        Parameters
        ----------
        calibrator : ConformalRiskCalibrator
            A fitted calibrator with one lambda for all images.
        step : float above 0, default=0.05
            The first step.
        **parameters
            Other parameters, in place of those of the calibrator.

        Returns
        -------
        OnlineRiskController

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the calibrator is not fitted.
        TypeError
            If the calibrator does not have one lambda for all images.
        """
        if not all(hasattr(calibrator, name) for name in ("conformity_score", "loss", "alpha", "inputs")):
            raise TypeError(
                f"calibrator must be a fitted ConformalRiskCalibrator, got a {type(calibrator).__name__}"
            )
        n_classes = calibrator.n_classes_  # raises before it is fitted
        lam = getattr(calibrator, "lambda_hat_", None)
        if lam is None or np.ndim(lam):
            raise TypeError(
                "calibrator must have one lambda_hat_ for all images and classes: online control moves one number"
            )
        taken = {
            name: getattr(calibrator, name)
            for name in PARAMETERS
            if name not in _OF_STREAMS and hasattr(calibrator, name)
        }
        fresh = cls(**{**taken, "initial": float(lam), "step": step, **parameters})
        start = Track.start(fresh._configuration(), n_classes)
        fresh._update(lambda _: start)
        return fresh

    # Sets

    def predict(self, X: Any) -> Any:
        """Multi-labeled masks at ``lambda_hat_``, the same as those of the calibrator with this lambda.

        Parameters
        ----------
        X : array (n, K, H, W) or (n, K, D, H, W), a list of (K, H, W), or an iterable of them
            Scores of the kind that `inputs` names. All images of a call are predicted at the current lambda.

        Returns
        -------
        bool array like X; a list for a list, a generator for a generator
            Whether the class is in the pixel's set.

        Raises
        ------
        TypeError, ValueError
            If X is not as described, or K differs from earlier images.
        """
        return self._mapped(X, _backend.masks)

    def set_size(self, X: Any) -> Any:
        """Number of classes in each pixel's set at ``lambda_hat_``, without building the masks.

        Parameters
        ----------
        X : array or iterable
            As for :meth:`predict`.

        Returns
        -------
        uint16 array (n, H, W) or (n, D, H, W); a list for a list, a generator for a generator

        Raises
        ------
        TypeError, ValueError
            As for :meth:`predict`.
        """
        return self._mapped(X, _backend.set_sizes)

    def lambda_at(self, t: int) -> float:
        """The value of ``lambda_hat_`` after t updates.

        Parameters
        ----------
        t : int
            A number of updates: 0, or one of the last `history`.

        Returns
        -------
        float in [0, lambda_max]

        Raises
        ------
        ValueError
            If t lies in the future, or too far in the past.
        """
        configuration, track = self._now()
        (time,) = _times(t, 1, track.n_updates)
        return configuration.clipped(track.lambda_at(time), track.n_classes)

    # Updates

    def update(self, X: Any, y: Any = None, *, t: int | ArrayLike | None = None) -> Self:
        """Counts the losses of images whose labels have become known, and moves lambda.

        An update that fails, or that Ctrl-C stops, changes nothing.

        Parameters
        ----------
        X : float in [0, 1] or sequence (n,) of them; or with `y` an array (n, K, H, W), a list or an iterable
            A loss that you have computed yourself, from masks of :meth:`predict`; several losses are in the order of
            time. Or, with labels, scores as for :meth:`predict`.
        y : integer array (n, H, W) or (n, D, H, W), a list or iterable of arrays, or None
            Labels of the images X, in the order of time.
        t : int, sequence of n ints or None, default=None
            The time of the prediction of each image: ``n_updates_`` at that moment. None: now, for all images of X.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a loss does not lie in [0, 1], labels do not fit, K differs from earlier images, or t lies in the future
            or too far in the past.

        Warns
        -----
        DroppedImagesWarning
            At the first image on which the loss is undefined.
        SuspiciousLabelsWarning
            Once, if the labels of the first images hardly belong to their scores.
        UserWarning
            If a loss of your own is above 0 although sets were full: the bound does not hold for such losses.
        """
        configuration, before = self._now()
        n_classes, counts = None, None
        if y is None:
            losses = _check_losses(X)
            times = _times(t, len(losses), before.n_updates)
            _warn_of_full(losses, times, before)
        else:
            losses, times, n_classes, counts = self._losses(X, y, t, configuration, before)
            counted = counted_images(losses, configuration.on_empty)
            losses = np.where(counted, np.nan_to_num(losses, nan=0.0), np.nan)

        def count(track: Track) -> Track:
            if max(times) > track.n_updates or track.n_classes not in (None, n_classes or track.n_classes):
                raise ValueError("the controller was reset or changed by another thread meanwhile")
            if np.isnan(losses).any() and not track.n_skipped:
                warn_caller(_SKIPPED, DroppedImagesWarning)  # before anything has changed: it may be an error
            seen = track if counts is None else track.seeing(*counts)
            return seen.counting(configuration, losses.tolist(), times).with_classes(n_classes)

        self._go_on(configuration, count)
        return self

    # What it knows

    @property
    def lambda_(self) -> float:
        """The current lambda, which may lie below 0 or above the largest."""
        return self._now()[1].lam

    @property
    def lambda_hat_(self) -> float:
        """The current lambda clipped to [0, lambda_max], at which sets are predicted."""
        configuration, track = self._now()
        return configuration.clipped(track.lam, track.n_classes)

    @property
    def mean_loss_(self) -> float:
        """The mean of all losses counted so far; NaN before the first."""
        return self._now()[1].mean_loss

    @property
    def risk_bound_(self) -> float:
        """The upper bound of ``mean_loss_`` for any images."""
        track = self._now()[1]
        return float(track.bound(np.array([float(track.n_updates)]))[0]) if track.n_updates else 1.0

    @property
    def drift_(self) -> float:
        """How far lambda is below 0: sets grow again after ``drift_ / (step * (1 - alpha))`` losses of 1."""
        return max(0.0, -self._now()[1].lam)

    @property
    def n_updates_(self) -> int:
        """Number of losses counted: the time t."""
        return self._now()[1].n_updates

    @property
    def n_skipped_(self) -> int:
        """Number of images that were left out because the loss was undefined on them."""
        return self._now()[1].n_skipped

    @property
    def history_(self) -> History:
        """The last updates, oldest first: numbers, lambdas after each, losses, and means of all losses up to each."""
        return history_of(self._now()[1])

    # Inside

    def _start(self, configuration: Settings, known: Track | None) -> Track:
        return Track.start(configuration, None if known is None else known.n_classes)

    def _state_from_json(self, found: dict[str, Any], configuration: Settings) -> Track:
        return track_from_json(found, configuration)

    def _mapped(self, X: Any, kernel: Callable[..., NDArray[Any]]) -> Any:
        """The results of a kernel for images, at the present lambda."""
        configuration, track = self._now()

        def sets(scores: Any, first: int) -> NDArray[Any]:
            n_classes = _check_classes(scores, self._now()[1])
            lam = 0.0 if n_classes is None else configuration.clipped(track.lam, n_classes)
            found = kernel(scores, lam, configuration.conformity_score, configuration.given, first)
            if track.n_classes is None:
                warn_of_shares(scores[0], configuration.inputs)
                self._go_on(configuration, lambda known: known.with_classes(n_classes))
            return found

        return map_images(X, sets, False, configuration.volumes)

    def _losses(
        self, X: Any, y: Any, t: Any, configuration: Settings, track: Track
    ) -> tuple[NDArray[np.float64], list[int], int, list[NDArray[np.uint64]]]:
        """The losses of images at the lambdas of their times, the times, K, and counts for the sets."""
        n_classes, losses, times, counts = track.n_classes, [], [], []
        batches = not_empty(walk(X, y, SCORES, False, volumes=configuration.volumes), "X")
        for scores, labels, first in batches:
            found = _check_classes(scores, track.with_classes(n_classes))
            if n_classes is None and len(scores):
                warn_of_shares(scores[0], configuration.inputs)
            n_classes = found
            own = _times_from(t, first, len(scores), track.n_updates)
            # One pass over the images for each of their lambdas.
            for some in _runs(own):
                lam = 0.0 if found is None else configuration.clipped(track.lambda_at(own[some.start]), found)
                [(missed, totals, sizes)] = _backend.coverage(
                    scores[some],
                    labels[some],
                    [lam],
                    configuration.conformity_score,
                    configuration.given,
                    configuration.ignore_index,
                    first + some.start,
                )
                losses.append(loss_values(configuration.loss, missed, totals))
                counts.append((totals, missed, sizes))
            times += own
        joined = np.concatenate(losses)
        _times(t, len(joined), track.n_updates)
        assert n_classes is not None, "the kernels refuse maps of other ranks"
        return joined, times, n_classes, [np.concatenate(each) for each in zip(*counts, strict=True)]

    def _rows(self, track: Track) -> dict[str, str]:
        mean = "none yet" if not track.n_updates else f"{track.mean_loss:.4f}, at most {self.risk_bound_:.4f}"
        skipped = f" ({track.n_skipped} skipped)" if track.n_skipped else ""
        return {
            "lambda_": lambda_text(track.lam),
            "lambda_hat_": lambda_text(self.lambda_hat_),
            "mean_loss_": mean,
            "drift_": f"{self.drift_:.6g}",
            "n_updates_": f"{track.n_updates}{skipped}",
        }

    def __sklearn_clone__(self) -> Self:
        fresh: Self = super().__sklearn_clone__()
        fresh.transform = self.transform  # fitted, as it is
        return fresh


# Parameters that a calibrator does not have, or that mean something else there.
_OF_STREAMS = ("step", "decay", "initial", "floor", "history")


def _check_losses(values: Any) -> NDArray[np.float64]:
    """Losses of the caller's own."""
    try:
        losses = as_numbers(values, "a loss")
    except TypeError as error:
        raise TypeError(f"{error}; scores need their labels: update(X, y)") from None
    if not ((losses >= 0) & (losses <= 1)).all():
        bad = losses[~((losses >= 0) & (losses <= 1))][0]
        raise ValueError(f"a loss must lie in [0, 1], got {bad:g}")
    return losses


def _warn_of_full(losses: NDArray[np.float64], times: list[int], track: Track) -> None:
    """Warns of losses above 0 with full sets, as far as that is known: they violate the bound's only condition."""
    lost = {time for time, loss in zip(times, losses.tolist(), strict=True) if loss > 0}
    largest = track.full_from
    if largest is not None and any(track.knows(time) and track.lambda_at(time) >= largest for time in lost):
        warn_caller(
            "a loss is above 0 although sets were full when its image was predicted: the mean of such losses is not "
            "controlled, and risk_bound_ does not hold. Check that it is the loss of the masks of predict, and that t "
            "is n_updates_ at that moment",
            UserWarning,
        )


def _times(t: Any, n: int, now: int) -> list[int]:
    """When each of n images was predicted, as a number of updates up to now."""
    if t is None:
        return [now] * n
    given = np.asarray(t)
    if given.dtype.kind not in "iu" or given.ndim > 1:
        raise TypeError(f"t must be an int or a sequence of n ints, got {shown(t)}")
    if given.ndim and len(given) != n:
        raise ValueError(f"t must hold an int for each of {plural(n, 'image')}, got {len(given)}")
    times: list[int] = np.broadcast_to(given, (n,)).tolist()
    for time in times:
        if not 0 <= time <= now:
            raise ValueError(
                f"t must be from 0 to n_updates_ = {now}, got {time}: it is n_updates_ at the moment of prediction"
            )
    return times


def _times_from(t: Any, first: int, n: int, now: int) -> list[int]:
    """The times of n images from one on; the error of too few names their number in all."""
    if t is None or not np.ndim(t):
        return _times(t, n, now)
    some = np.asarray(t)[first : first + n]
    return _times(some, n, now) if len(some) == n else _times(t, first + n, now)


def _runs(times: Sequence[int]) -> list[slice]:
    """Runs of images that were predicted at the same time."""
    starts = [i for i, time in enumerate(times) if not i or time != times[i - 1]]
    return [slice(one, other) for one, other in zip(starts, [*starts[1:], len(times)], strict=True)]


def _check_classes(scores: Any, track: Track) -> int | None:
    """K of maps; refuses a K that differs from before. The kernels refuse maps of another rank."""
    if scores.ndim not in (4, 5):
        return None
    n_classes = int(scores.shape[1])
    if track.n_classes not in (None, n_classes):
        hint = axes_hint(tuple(scores.shape), track.n_classes)
        raise ValueError(f"X has K = {n_classes} classes, but K = {track.n_classes} before{hint}")
    return n_classes
