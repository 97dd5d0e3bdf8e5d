"""KLoM where it is known: the same, apart, constant, and what chance alone makes of few models."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from unmem.errors import UserError
from unmem.evaluation.klom import klom

Real = NDArray[np.float64]
APART = np.log(1e5)
tables = st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 4)).flatmap(
    lambda s: st.tuples(*(arrays(np.float64, (k, s[2]), elements=st.floats(-200, 200)) for k in s[:2]))
)


def by_histogram(unlearned: Real, retrained: Real, bins: int, floor: float) -> list[float]:
    found = []
    for ours, theirs in zip(unlearned.T, retrained.T, strict=True):
        both = np.concatenate([ours, theirs])
        p, q = (np.histogram(one, bins, (both.min(), both.max()))[0] / len(one) for one in (ours, theirs))
        found.append(sum(a * np.log(a / max(b, floor)) for a, b in zip(p, q, strict=True) if a > 0))
    return found


@pytest.mark.parametrize(("bins", "floor"), [(20, 1e-5), (5, 1e-5), (1, 1e-5), (20, 1e-2)])
@pytest.mark.parametrize(("n", "m"), [(30, 30), (7, 90)])
def test_it_is_its_definition_by_histograms(n: int, m: int, bins: int, floor: float) -> None:
    random = np.random.default_rng(0)
    unlearned, retrained = random.normal(0.5, 1, (n, 25)), random.normal(0, 2, (m, 25))
    expected = by_histogram(unlearned, retrained, bins, floor)
    np.testing.assert_allclose(klom(unlearned, retrained, bins=bins, floor=floor), np.maximum(expected, 0), atol=1e-12)


@pytest.mark.parametrize(("models", "expected"), [(10, 5.64), (100, 0.354), (1_000, 0.0233)])
def test_identical_gaussians_differ_by_what_chance_makes_of_them(models: int, expected: float) -> None:
    random = np.random.default_rng(models)
    n = 400_000 // models if models > 10 else 4_000
    found = klom(random.normal(size=(models, n)), random.normal(size=(models, n)))
    assert found.mean() == pytest.approx(expected, abs=4 * found.std() / np.sqrt(n) + 0.005 * expected)
    assert found.mean() == pytest.approx({10: 5.6, 100: 0.34, 1_000: 0.02}[models], rel=0.2)


def test_distributions_that_share_no_bin_are_as_far_as_the_floor_says() -> None:
    random = np.random.default_rng(0)
    near, far = random.normal(0, 0.01, (50, 30)), random.normal(10, 0.01, (60, 30))
    np.testing.assert_allclose(klom(near, far), APART)
    np.testing.assert_allclose(klom(far, near), APART)
    np.testing.assert_allclose(klom(near, far, floor=1e-3), np.log(1e3))
    assert pytest.approx(11.51, abs=0.005) == APART


def test_a_constant_is_no_reason_for_0_or_nan() -> None:
    """A trap in public code: the largest margin is on the right edge, in no bin."""
    low, high = np.full((5, 1), 2.0), np.full((7, 1), 3.0)
    assert klom(low, high)[0] == pytest.approx(APART)
    assert klom(high, low)[0] == pytest.approx(APART)
    assert klom(low, np.full((7, 1), 2.0))[0] == 0
    assert klom(np.zeros((1, 1)), np.zeros((1, 1)))[0] == 0


def test_the_right_edge_counts() -> None:
    unlearned, retrained = np.array([[0.0], [1.0]]), np.array([[0.0], [0.0], [0.0], [1.0]])
    expected = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    assert klom(unlearned, retrained)[0] == pytest.approx(expected)


def test_the_direction_is_from_unlearned_to_retrained() -> None:
    """What no retrained model does is punished, what no unlearned model does hardly."""
    wide, narrow = np.linspace(0, 20, 21)[:, None], np.full((21, 1), 0.0)
    missed = 18 / 21 * np.log(1 / 21 / 1e-5) + 2 / 21 * np.log(2 / 21 / 1e-5)  # the last bin has its right edge too
    assert klom(wide, narrow)[0] == pytest.approx(1 / 21 * np.log(1 / 21) + missed)
    assert klom(narrow, wide)[0] == pytest.approx(np.log(21))


def test_a_floor_above_the_share_of_one_model_makes_nothing_negative() -> None:
    unlearned, retrained = np.zeros((200, 1)), np.zeros((200, 1))
    unlearned[0] = 1
    assert by_histogram(unlearned, retrained, 20, 0.01)[0] < -0.008
    assert klom(unlearned, retrained, floor=0.01)[0] == 0


def test_examples_do_not_touch_each_other() -> None:
    random = np.random.default_rng(0)
    unlearned, retrained = random.normal(size=(20, 6)), random.normal(size=(30, 6))
    alone = [klom(unlearned[:, [i]], retrained[:, [i]])[0] for i in range(6)]
    np.testing.assert_array_equal(klom(unlearned, retrained), alone)
    scaled = np.array([1.0, 1.0, 8.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(klom(unlearned * scaled, retrained * scaled), alone)


@settings(max_examples=60, deadline=None)
@given(tables)
def test_never_negative_never_beyond_the_floor_and_the_same_in_any_order(pair: tuple[Real, Real]) -> None:
    unlearned, retrained = pair
    found = klom(unlearned, retrained)
    assert found.shape == (unlearned.shape[1],)
    assert (found >= 0).all()
    assert (found <= APART + 1e-9).all()
    np.testing.assert_array_equal(klom(unlearned[::-1, ::-1], retrained[::-1, ::-1]), found[::-1])
    np.testing.assert_array_equal(klom(unlearned, unlearned), np.zeros_like(found))
    np.testing.assert_allclose(klom(np.tile(unlearned, (3, 1)), retrained), found, atol=1e-12)


def test_infinite_margins_are_cut_and_not_lost() -> None:
    unlearned, retrained = np.array([[np.inf], [0.0]]), np.array([[0.0], [-np.inf]])
    np.testing.assert_array_equal(
        klom(unlearned, retrained), klom(unlearned.clip(-100, 100), retrained.clip(-100, 100))
    )
    assert klom(unlearned, retrained)[0] > 0


def test_single_precision_is_computed_in_double() -> None:
    random = np.random.default_rng(0)
    pair = [(0.1 * random.integers(0, 21, (40, 20)) + 0.3).astype(np.float32) for _ in range(2)]  # all near edges
    found = klom(*pair)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, klom(*(one.astype(np.float64) for one in pair)))


@pytest.mark.parametrize(
    ("shapes", "options", "words"),
    [
        (((4, 3), (4, 2)), {}, r"of shapes \(4, 3\) and \(4, 2\): are not of the same examples"),
        (((4,), (4,)), {}, "not of the same examples"),
        (((0, 3), (4, 3)), {}, "nothing to compare"),
        (((4, 3), (0, 3)), {}, "nothing to compare"),
        (((4, 3), (4, 3)), {"bins": 0}, "no bin"),
        (((4, 3), (4, 3)), {"floor": 0.0}, "no share"),
    ],
)
def test_what_cannot_be_compared_is_refused(shapes: tuple[tuple[int, ...], ...], options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        klom(np.zeros(shapes[0]), np.zeros(shapes[1]), **options)


def test_undefined_margins_are_refused() -> None:
    for k in (0, 1):
        pair = [np.zeros((3, 2)), np.zeros((3, 2))]
        pair[k][1, 1] = np.nan
        with pytest.raises(UserError, match="leave out the models that failed"):
            klom(*pair)
