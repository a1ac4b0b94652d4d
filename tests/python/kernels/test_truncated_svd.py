"""The truncated SVD: LAPACK judges, through NumPy and SciPy, at any condition, rank, layout and type."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import conformask as cm
import ctrl_c

EPS = np.finfo(np.float64).eps
svd = cm.kernels.truncated_svd


def with_values(rng: np.random.Generator, m: int, n: int, values: NDArray) -> NDArray[np.float64]:
    """A random matrix of these singular values, but for rounding."""
    r = len(values)
    left = np.linalg.qr(rng.normal(size=(m, r)))[0]
    right = np.linalg.qr(rng.normal(size=(n, r)))[0]
    return (left * values) @ right.T


def check(A: NDArray, k: int) -> tuple[NDArray, NDArray, NDArray]:
    """All that is promised of a decomposition."""
    U, s, Vt = svd(A, k)
    wide = A.astype(np.float64)
    m, n = A.shape
    r = len(s)
    assert (U.shape, s.shape, Vt.shape) == ((m, r), (r,), (r, n))
    assert {U.dtype, s.dtype, Vt.dtype} == {np.dtype(np.float64)}
    assert U.T.flags.c_contiguous
    assert Vt.flags.c_contiguous

    expected = np.linalg.svd(wide, full_matrices=False)[1]
    largest = expected[0]
    assert np.abs(s - expected[:r]).max(initial=0) <= 1e-13 * largest
    assert (np.diff(s) <= 0).all()
    # Whether a value is above the limit is open where it lies at the limit.
    limit = EPS * largest * max(m, n)
    slack = 1e-14 * largest
    assert (expected[:k] > limit + slack).sum() <= r <= (expected[:k] > max(limit - slack, 0)).sum()

    for vectors in (U.T, Vt):
        assert np.abs(vectors @ vectors.T - np.eye(r)).max(initial=0) <= 1e-13
    # Of what is not kept nothing is larger than the next singular value.
    left_out = max(expected[r] if r < len(expected) else 0.0, 0.0)
    assert np.linalg.norm(wide - (U * s) @ Vt, 2) <= left_out + 1e-13 * largest
    assert np.abs(wide.T @ U - Vt.T * s).max(initial=0) <= 1e-13 * largest
    for u in U.T:
        assert u[np.abs(u).argmax()] > 0
    return U, s, Vt


# Conditions

SHAPES = [(40, 6), (40, 40), (300, 50), (5000, 8), (6, 40), (8, 5000), (9000, 50)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("exponent", range(0, 15, 2))
def test_any_condition(shape: tuple[int, int], exponent: int) -> None:
    rng = np.random.default_rng(exponent)
    n = min(shape)
    A = with_values(rng, *shape, np.logspace(0, -exponent, n))
    for k in {1, n // 2, n}:
        U, s, Vt = check(A, k)
        judge = scipy.linalg.svd(A, full_matrices=False, lapack_driver="gesvd")
        # Vectors of values that stand apart are those of the judge, as far as rounding moves them.
        gaps = np.abs(np.diff(judge[1], prepend=np.inf, append=0.0))
        for i in range(len(s)):
            gap = min(gaps[i], gaps[i + 1]) / judge[1][0]
            error = min(1.0, 1e-13 / gap) if gap else 1.0
            if error < 0.1:
                assert abs(U[:, i] @ judge[0][:, i]) >= 1 - error**2 - 1e-13
                assert abs(Vt[i] @ judge[2][i]) >= 1 - error**2 - 1e-13


@pytest.mark.parametrize("shape", [(2000, 12), (500, 5), (70_000, 6)])
def test_columns_of_very_different_size(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    A = rng.normal(size=shape)
    check(A * np.logspace(0, -12, shape[1]), shape[1])
    check(A * np.logspace(-12, 0, shape[1]), shape[1])
    check(A * np.logspace(-6, 6, shape[0])[:, np.newaxis], shape[1])


def test_without_the_second_orthogonalisation_there_would_be_few_digits() -> None:
    """What the kernel repairs is there to be repaired."""
    A = with_values(np.random.default_rng(3), 400, 10, np.logspace(0, -12, 10))
    U, s, Vt = check(A, 10)
    plain = A @ Vt.T / s
    assert np.abs(plain.T @ plain - np.eye(10)).max() > 1e-8
    assert np.abs(U.T @ U - np.eye(10)).max() < 1e-14


# The Gram matrix is taken for tall matrices whose wanted singular values are at least this share of the largest. From
# the results alone nobody can tell: they are as good on either side.
SHARE = 1 / 32


@pytest.mark.parametrize("shape", [(640, 10), (5003, 11), (20_000, 50), (10, 700)])
@pytest.mark.parametrize("share", [1.0, 0.1, SHARE * (1 + 1e-9), SHARE * (1 - 1e-9), 1e-7])
@pytest.mark.parametrize("rest", [0.0, 1e-9, 0.5, 1 - 1e-9])
def test_spectra_around_the_switch(shape: tuple[int, int], share: float, rest: float) -> None:
    rng = np.random.default_rng(0)
    k, n = 4, min(shape)
    check(with_values(rng, *shape, np.r_[np.geomspace(1, share, k), np.full(n - k, rest * share)]), k)


def test_a_gram_matrix_alone_would_lose_half_of_the_digits() -> None:
    """What the switch is for. The accuracy of values of order 1 costs nothing."""
    A = with_values(np.random.default_rng(3), 700, 3, np.array([1.0, 0.5, 1e-7]))
    squares = np.linalg.eigvalsh(A.T @ A)[::-1]
    assert abs(np.sqrt(squares[1]) - 0.5) < 1e-14
    assert abs(np.sqrt(abs(squares[2])) - 1e-7) > 1e-12
    assert abs(svd(A, 3)[1][2] - 1e-7) < 1e-15


def test_no_scale_matters() -> None:
    """Far from 1 the Gram matrix is not tried, and what is found is the same but for rounding."""
    A = with_values(np.random.default_rng(3), 700, 5, np.array([1.0, 0.7, 0.5, 0.3, 1e-3]))
    U, s, Vt = check(A, 4)
    for exponent in (-1000, -400, -149, 0, 149, 400, 1000):
        found = svd(A * 2.0**exponent, 4)
        assert found[1] / 2.0**exponent == pytest.approx(s, rel=1e-14)
        assert np.allclose(found[0], U, rtol=0, atol=1e-13)
        assert np.allclose(found[2], Vt, rtol=0, atol=1e-13)


# Ranks


@pytest.mark.parametrize("shape", [(30, 8), (8, 30), (20, 20), (6000, 50)])
@pytest.mark.parametrize("rank", [1, 3, 7])
def test_rank_deficient(shape: tuple[int, int], rank: int) -> None:
    rng = np.random.default_rng(rank)
    exact = rng.integers(-3, 4, (shape[0], rank)) @ rng.integers(-3, 4, (rank, shape[1]))
    for A in (exact.astype(np.float64), with_values(rng, *shape, np.ones(rank))):
        _, s, _ = check(A, min(shape))
        assert len(s) == np.linalg.matrix_rank(A) == rank


def test_centred_samples_have_one_direction_less() -> None:
    rng = np.random.default_rng(0)
    samples = rng.random((3000, 12), np.float32)
    D = samples - samples.mean(axis=1, keepdims=True, dtype=np.float64)
    assert len(check(D, 12)[1]) == 11


@pytest.mark.parametrize("shape", [(16, 16), (64, 16), (2048, 16), (16, 64)])
def test_repeated_singular_values(shape: tuple[int, int]) -> None:
    A = scipy.linalg.hadamard(max(shape)).astype(np.float64)[: shape[0], : shape[1]]
    _, s, _ = check(A, min(shape))
    assert s == pytest.approx(np.full(min(shape), np.sqrt(max(shape))), rel=1e-14)
    check(np.eye(*shape), min(shape))
    check(A * np.repeat([3.0, 1.0], shape[1] // 2), min(shape))


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (3, 7), (9000, 4)])
def test_zero_matrix(shape: tuple[int, int]) -> None:
    U, s, Vt = svd(np.zeros(shape), 1)
    assert (U.shape, s.shape, Vt.shape) == ((shape[0], 0), (0,), (0, shape[1]))


@pytest.mark.parametrize("m", [1, 2, 7, 1024, 1025, 300_000])
def test_one_column_or_row(m: int) -> None:
    a = np.random.default_rng(m).normal(size=(m, 1))
    norm = np.linalg.norm(a)
    sign = np.sign(a[np.abs(a).argmax(), 0])
    for A, is_row in ((a, False), (a.T, True)):
        U, s, Vt = check(A, 1)
        assert s[0] == pytest.approx(norm, rel=1e-14)
        assert np.allclose((Vt[0] if is_row else U[:, 0]), a[:, 0] / norm * (1 if is_row else sign)) or is_row


@pytest.mark.parametrize(("m", "k"), [(500, 9), (700, 9), (700, 6)])  # the last one with the Gram matrix
def test_zero_rows_and_columns(m: int, k: int) -> None:
    A = np.random.default_rng(0).normal(size=(m, 9))
    A[:, [0, 4, 8]] = 0
    A[::2] = 0
    U, s, Vt = check(A, k)
    assert len(s) == 6
    assert not U[::2].any()
    assert not Vt[:, [0, 4, 8]].any()


@pytest.mark.parametrize("exponent", [-1000, -301, -200, 200, 301, 1000])
def test_numbers_near_the_ends_of_float64(exponent: int) -> None:
    A = with_values(np.random.default_rng(5), 200, 5, np.logspace(0, -8, 5))
    for scaled, k in ((A, 5), (A.T, 5)):
        plain, other = svd(scaled, k), svd(scaled * 2.0**exponent, k)
        for found, expected, tolerance in zip(other, plain, (1e-6, 0, 1e-6), strict=True):
            factor = 1 if tolerance else 2.0**exponent
            assert found / factor == pytest.approx(expected, rel=1e-8, abs=tolerance)


# Layouts, types, threads

A = with_values(np.random.default_rng(7), 3001, 20, np.logspace(0, -9, 20))


def shifted(a: NDArray) -> NDArray:
    room = np.zeros(a.nbytes + 1, np.uint8)
    room[1:] = np.ascontiguousarray(a).view(np.uint8).ravel()
    return room[1:].view(a.dtype).reshape(a.shape)


def of_room(a: NDArray) -> NDArray:
    room = np.full((2 * len(a), 3 * a.shape[1]), np.nan, a.dtype)
    room[1::2, ::3] = a
    return room[1::2, ::3]


def read_only(a: NDArray) -> NDArray:
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS: list[Callable[[NDArray], NDArray]] = [
    np.asfortranarray,
    of_room,
    lambda a: np.asfortranarray(a[::-1])[::-1],
    lambda a: np.ascontiguousarray(a[:, ::-1])[:, ::-1],
    lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    lambda a: a.astype(a.dtype.newbyteorder(">")),
    shifted,
    read_only,
]


@pytest.mark.parametrize("layout", range(len(LAYOUTS)))
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("k", [3, 9])  # with the Gram matrix, and without
def test_layouts_and_types_give_the_same_bits(layout: int, dtype: str, k: int) -> None:
    narrow = A.astype(dtype)
    for matrix in (narrow, narrow.T):
        expected = svd(matrix.astype(np.float64), k)
        found = svd(LAYOUTS[layout](matrix), k)
        assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


def test_broadcast_matrix() -> None:
    row = np.arange(1.0, 4.0)
    _, s, _ = check(np.broadcast_to(row, (5000, 3)), 3)
    assert s == pytest.approx([np.sqrt(5000 * (row @ row))])


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", [(40_000, 30), (200_001, 3), (30, 40_000), (700, 260)])
@pytest.mark.parametrize("exponent", [0, -40])  # with the Gram matrix where tall, and without
def test_threads_do_not_matter(shape: tuple[int, int], exponent: int) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=shape) * np.logspace(0, exponent, shape[1])
    results = []
    for n_threads in (1, 2, 3, 7):
        cm.set_num_threads(n_threads)
        results.append(svd(matrix, 3))
    for found in results[1:]:
        assert all(np.array_equal(*pair) for pair in zip(found, results[0], strict=True))


@pytest.mark.parametrize("exponent", [0, -40])
def test_many_callers_at_once(exponent: int) -> None:
    matrix = np.random.default_rng(0).normal(size=(2000, 25)) * np.logspace(0, exponent, 25)
    expected = svd(matrix, 3)
    with ThreadPoolExecutor(16) as callers:
        for found in callers.map(lambda _: svd(matrix, 3), range(64)):
            assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_process_that_was_forked() -> None:
    expected = svd(A, 9)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as workers:
        for found in [workers.submit(svd, A, 9) for _ in range(4)]:
            pairs = zip(found.result(timeout=50), expected, strict=True)
            assert all(np.array_equal(*pair) for pair in pairs)


# Properties


@st.composite
def matrices(draw: st.DrawFn) -> NDArray[np.float64]:
    m, n = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["normal", "small integers", "wild", "sparse", "dependent"]))
    values = rng.normal(size=(m, n))
    if kind == "small integers":
        values = rng.integers(-2, 3, (m, n)).astype(np.float64)
    elif kind == "wild":
        values *= 2.0 ** rng.integers(-60, 60, (m, n))
    elif kind == "sparse":
        values *= rng.random((m, n)) < 0.2
    elif kind == "dependent":
        values = values[:, rng.integers(0, n, n)] * rng.integers(-2, 3, n)
    return values * 2.0 ** draw(st.integers(-100, 100))


@given(matrices(), st.data())
def test_properties(A: NDArray, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, min(A.shape)))
    if not A.any():
        assert len(svd(A, k)[1]) == 0
        return
    U, s, Vt = check(A, k)
    # Fewer vectors are the first of more.
    for found, all_of_them in zip(
        (U.T, s, Vt), (lambda t: (t[0].T, *t[1:]))(svd(A, min(A.shape))), strict=True
    ):
        assert found == pytest.approx(all_of_them[: len(found)], abs=1e-9)
    other = svd(A.T, k)
    assert s == pytest.approx(other[1], rel=1e-12, abs=1e-13 * s[0])


@st.composite
def tall_spectra(draw: st.DrawFn) -> tuple[NDArray[np.float64], int]:
    """Tall enough for the Gram matrix; the smallest singular value wanted is near the switch, or anywhere."""
    n = draw(st.integers(1, 9))
    k = draw(st.integers(1, n))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = SHARE * 2.0 ** draw(st.sampled_from([0, 1e-12, -1e-12, 0.5, -0.5, 5, -5, -20, -40]))
    wanted = np.sort(share ** rng.random(k))[::-1]
    wanted[0], wanted[-1] = 1.0, share if k > 1 else 1.0
    rest = wanted[-1] * np.sort(rng.random(n - k) ** draw(st.sampled_from([0.01, 1, 100])))[::-1]
    m = draw(st.integers(64 * n, 3000))
    return with_values(rng, m, n, np.r_[wanted, rest]) * 2.0 ** draw(st.integers(-100, 100)), k


@given(tall_spectra())
def test_tall_matrices(drawn: tuple[NDArray, int]) -> None:
    A, k = drawn
    _, s, _ = check(A, k)
    error = 1e-13 * s[0]
    # The other way around, and with more vectors than asked for, which may take the other way.
    assert s == pytest.approx(svd(A.T, k)[1], rel=0, abs=error)
    assert s == pytest.approx(svd(A, min(A.shape))[1][: len(s)], rel=0, abs=error)


# Bad input


def bad(value: float, shape: tuple[int, int] = (900, 5), dtype: str = "float64") -> NDArray:
    matrix = np.zeros(shape, dtype)
    matrix[-2, -3] = value
    matrix[-1, 0] = np.nan
    return matrix


@pytest.mark.parametrize(
    ("matrix", "k", "error", "says"),
    [
        (bad(np.nan), 2, ValueError, r"A is not finite: A\[898, 2\] is NaN"),
        (bad(np.nan, (90, 5)), 2, ValueError, r"A is not finite: A\[88, 2\] is NaN"),
        (bad(np.inf, dtype="float16"), 2, ValueError, r"A is not finite: A\[898, 2\] is inf"),
        (bad(-np.inf, (5, 900)), 2, ValueError, r"A is not finite: A\[3, 897\] is -inf"),
        (np.full((9, 2), 1.7e308), 1, ValueError, "A holds too large numbers: a singular value overflows"),
        (np.ones((9, 4)), 5, ValueError, r"k must be from 1 to 4, A having shape \(9, 4\), got 5"),
        (np.ones((4, 9)), 5, ValueError, r"k must be from 1 to 4, A having shape \(4, 9\), got 5"),
        (np.ones((9, 4)), 0, ValueError, "k must be from 1 to 4.*got 0"),
        (np.ones((9, 4)), -1, ValueError, "k must be from 1 to 4.*got -1"),
        (np.ones((9, 4)), 2.0, TypeError, r"k must be an int, got 2\.0"),
        (np.ones((9, 4)), True, TypeError, "k must be an int, got True"),
        (np.ones(9), 1, ValueError, r"A must have two axes, got shape \(9,\)"),
        (np.ones((2, 9, 4)), 1, ValueError, r"A must have two axes, got shape \(2, 9, 4\)"),
        (np.ones((0, 4)), 1, ValueError, r"A is empty: its shape is \(0, 4\)"),
        (np.ones((4, 0)), 1, ValueError, r"A is empty: its shape is \(4, 0\)"),
        (np.ones((9, 4), int), 1, TypeError, "A must be float16, float32 or float64, got int64"),
        (np.ones((9, 4), complex), 1, TypeError, "A must be float16, float32 or float64, got complex128"),
        (np.ones((9, 4), object), 1, TypeError, "A must be float16, float32 or float64, got object"),
        (np.ma.ones((9, 4)), 1, TypeError, "A is a masked array"),
    ],
)
def test_bad_input(matrix: NDArray, k: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        svd(matrix, k)


# Memory and Ctrl-C

_PEAK = """
import resource
import numpy as np
import conformask as cm

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

A = np.full((50, 1_000_000), np.float32(0.5)).T  # as samples lie in memory
A[:, 1:7] = np.arange(1_000_000)[:, np.newaxis] % np.arange(2, 8)
cm.kernels.truncated_svd(A[:9], 1)
before = peak()
U, _, _ = cm.kernels.truncated_svd(A, 2)
print(A.nbytes, U.nbytes, peak() - before)
"""


def test_nothing_is_copied() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _PEAK], capture_output=True, text=True, check=True, timeout=120
    )
    n_bytes, of_result, growth = map(int, run.stdout.split())
    assert n_bytes == 200e6
    assert growth <= of_result + 20e6


_ENDLESS = """
A = np.broadcast_to(np.float32(1), (300_000_000, 50))
cm.kernels.truncated_svd(A[:9], 1)
"""


@pytest.mark.timeout(60)
def test_ctrl_c_stops_it() -> None:
    ctrl_c.stops("cm.kernels.truncated_svd(A, 5)", before=_ENDLESS)
