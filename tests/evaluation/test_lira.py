"""LiRA on Gaussians, where its power has a closed form, and on masks that decide which members may count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from unmem.errors import UserError
from unmem.evaluation.lira import LIMIT, MIN_SPREAD, Mode, Variance, clip_log_odds, lira
from unmem.metrics import auc_interval, roc_auc, tpr_at

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]
MODES: tuple[Mode, ...] = ("online", "offline")
VARIANCES: tuple[Variance, ...] = ("per-example", "shared", "shrunk")
SPREAD = 0.5  # small, so that nothing here reaches the limit


def world(d: float, n: int, k: int, seed: int = 0) -> tuple[Real, Real, Mask, Mask]:
    """phi [n], members [k, n], their mask (each example in half of them), and which examples the model was trained on:
    log-odds are Gaussian around each example's own mean, d standard deviations higher in a model that saw it."""
    random = np.random.default_rng(seed)
    kept = np.argsort(random.random((k, n)), axis=0) < k // 2
    trained = np.arange(n) % 2 == 0
    difficulty = random.uniform(-2, 2, n)
    members = difficulty + SPREAD * (random.normal(size=(k, n)) + d * kept)
    return difficulty + SPREAD * (random.normal(size=n) + d * trained), members, kept, trained


@pytest.mark.parametrize(
    ("d", "auc"), [(0.0, 0.5), (0.5, 0.638), (1.0, 0.760), (2.0, 0.921), (3.0, 0.983)], ids=lambda value: f"{value}"
)
def test_its_power_is_that_of_the_likelihood_ratio_of_two_gaussians(d: float, auc: float) -> None:
    n, k = 16_000, 160
    assert norm.cdf(d / np.sqrt(2)) == pytest.approx(auc, abs=6e-4)
    phi, members, kept, trained = world(d, n, k)
    half = n // 2
    cut = norm.isf(0.01)
    power = norm.sf(cut - d)
    # Sampling: of the found members, and of the threshold, which n/2 others place.
    steepness = norm.pdf(cut - d) / norm.pdf(cut)
    error = np.sqrt(power * (1 - power) / half + steepness**2 * 0.01 * 0.99 / half)
    for mode in MODES:
        score = lira(phi, members, kept, mode=mode, variance="shared")
        sides = score[trained], score[~trained]
        # 4 standard errors, and what 80 members a side do not know of the means.
        low, high = auc_interval(*sides)
        assert roc_auc(*sides) == pytest.approx(auc, abs=4 * (high - low) / (2 * 1.96) + 0.004)
        assert tpr_at(*sides, 0.01) == pytest.approx(power, abs=4 * error + 0.02 * power)


def test_few_members_cost_offline_power_by_what_they_do_not_know_of_the_mean() -> None:
    """phi − μ_out has the variance s² (1 + 1/n_out): closed forms with d / √(1 + 1/n_out)."""
    d, k = 2.0, 6
    phi, members, kept, trained = world(d, 40_000, k)
    score = lira(phi, members, kept, mode="offline", variance="shared")
    seen = d / np.sqrt(1 + 1 / (k // 2))
    sides = score[trained], score[~trained]
    assert roc_auc(*sides) == pytest.approx(norm.cdf(seen / np.sqrt(2)), abs=0.008)
    assert tpr_at(*sides, 0.01) == pytest.approx(norm.cdf(seen + norm.ppf(0.01)), abs=0.03)


def test_shrinking_saves_the_tail_where_members_are_few() -> None:
    phi, members, kept, trained = world(2.0, 20_000, 8)
    found = {}
    for variance in VARIANCES:
        score = lira(phi, members, kept, mode="online", variance=variance)
        found[variance] = tpr_at(score[trained], score[~trained], 0.01)
    assert found["per-example"] + 0.05 < found["shrunk"] < found["shared"] + 0.01


@pytest.mark.parametrize("variance", VARIANCES)
def test_scores_are_their_formula_by_hand(variance: Variance) -> None:
    phi, members, kept, _ = world(1.0, 7, 9)
    kept = np.random.default_rng(3).random(kept.shape) < 0.6
    kept[:2], kept[2:4] = True, False  # at least two on each side, and not equally many everywhere
    sides = {}
    for name, where in (("in", kept), ("out", ~kept)):
        values = [[members[k, i] for k in range(9) if where[k, i]] for i in range(7)]
        n = [len(one) for one in values]
        own = [np.var(one, ddof=1) for one in values]
        pooled = sum((m - 1) * v for m, v in zip(n, own, strict=True)) / sum(m - 1 for m in n)
        shrunk = [(4 * pooled + (m - 1) * v) / (4 + m - 1) for m, v in zip(n, own, strict=True)]
        square = {"per-example": own, "shared": [pooled] * 7, "shrunk": shrunk}[variance]
        sides[name] = norm([np.mean(one) for one in values], np.sqrt(square))
    online = sides["in"].logpdf(phi) - sides["out"].logpdf(phi)
    np.testing.assert_allclose(lira(phi, members, kept, mode="online", variance=variance), online, atol=1e-12)
    offline = np.log(sides["out"].cdf(phi))
    np.testing.assert_allclose(lira(phi, members, kept, mode="offline", variance=variance), offline, atol=1e-12)


def test_a_spread_that_differs_from_side_to_side_is_seen_online() -> None:
    """Where means agree, a log-odds near them speaks for the narrower side."""
    random = np.random.default_rng(0)
    kept = np.arange(200)[:, None] < 100
    members = np.where(kept, 0.2, 2.0) * random.normal(size=(200, 1))
    near, far = (float(lira(np.array([x]), members, kept, variance="per-example")[0]) for x in (0.0, 2.0))
    assert near == pytest.approx(np.log(10), abs=0.5)
    assert far < -20


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("mode", MODES)
def test_a_sure_model_scores_higher_and_what_it_is_sure_of_below_the_members_lower(mode: Mode, variance: Any) -> None:
    _, members, kept, _ = world(2.0, 30, 40)
    levels = [lira(members[~kept].mean() + np.full(30, x), members, kept, mode=mode, variance="shared") for x in (0, 1)]
    assert (levels[1] > levels[0]).all()
    shifted = lira(np.zeros(30), members + 0.3, kept, mode=mode, variance=variance)
    np.testing.assert_allclose(shifted, lira(np.full(30, -0.3), members, kept, mode=mode, variance=variance), atol=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e300, 1e9])
def test_offline_members_never_speak_of_what_they_were_trained_on(value: float) -> None:
    phi, members, kept, _ = world(1.0, 50, 12)
    for variance in VARIANCES:
        clean = lira(phi, members, kept, mode="offline", variance=variance)
        poisoned = lira(phi, np.where(kept, value, members), kept, mode="offline", variance=variance)
        np.testing.assert_array_equal(clean, poisoned)


def test_each_side_is_that_of_its_own_column() -> None:
    """Members count as IN for some examples and OUT for others; one wrong flag must show, in its own column alone."""
    phi, members, kept, _ = world(2.0, 20, 12)
    base = lira(phi, members, kept, variance="per-example")
    other = kept.copy()
    other[4, 7] ^= True
    changed = lira(phi, members, other, variance="per-example") != base
    assert changed.tolist() == [i == 7 for i in range(20)]
    swapped = lira(phi, members, ~kept, variance="per-example")
    np.testing.assert_allclose(swapped, -base)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("mode", MODES)
def test_order_of_examples_and_of_members_changes_nothing(mode: Mode, variance: Variance) -> None:
    phi, members, kept, _ = world(1.0, 60, 15)
    random = np.random.default_rng(1)
    rows, columns = random.permutation(15), random.permutation(60)
    first = lira(phi, members, kept, mode=mode, variance=variance)
    theirs, mask = members[rows][:, columns], kept[rows][:, columns]
    second = lira(phi[columns], theirs, mask, mode=mode, variance=variance)
    np.testing.assert_allclose(first[columns], second, rtol=1e-9)


def test_too_few_members_on_a_side_are_no_evidence() -> None:
    phi, members = np.zeros(5), np.random.default_rng(0).normal(size=(6, 5))
    kept = np.zeros((6, 5), dtype=bool)
    for column, inside in enumerate((0, 1, 3, 5, 6)):
        kept[:inside, column] = True
    nan = {
        ("online", "per-example"): [0, 1, 3, 4],
        ("online", "shrunk"): [0, 1, 3, 4],
        ("online", "shared"): [0, 4],
        ("offline", "per-example"): [3, 4],
        ("offline", "shrunk"): [3, 4],
        ("offline", "shared"): [4],
    }
    for (mode, variance), expected in nan.items():
        found: Real = lira(phi, members, kept, mode=mode, variance=variance)  # pyright: ignore
        assert np.flatnonzero(np.isnan(found)).tolist() == expected, (mode, variance)


@pytest.mark.parametrize("variance", ["shared", "shrunk"])
def test_examples_with_too_few_members_add_nothing_to_the_pooled_variance(variance: Variance) -> None:
    phi, members, kept, _ = world(1.0, 12, 10)
    base = lira(phi, members, kept, mode="offline", variance=variance)
    kept[:, 3], kept[:, 8] = True, np.arange(10) != 4
    found = lira(phi, members, kept, mode="offline", variance=variance)
    rest = np.delete(np.arange(12), [3, 8])
    alone = lira(phi[rest], members[:, rest], kept[:, rest], mode="offline", variance=variance)
    np.testing.assert_allclose(found[rest], alone)
    assert (found[rest] != base[rest]).all()


def test_log_odds_beyond_the_limit_say_no_more() -> None:
    assert pytest.approx(np.log(0.999 / 0.001)) == LIMIT
    np.testing.assert_array_equal(clip_log_odds(np.array([-np.inf, -1.0, 50.0])), [-LIMIT, -1.0, LIMIT])
    assert clip_log_odds(np.zeros((2, 3), dtype=np.float32), 1.0).dtype == np.float64
    phi, members, kept, _ = world(1.0, 10, 12)
    for mode in MODES:
        sure = [lira(phi * 0 + x, members, kept, mode=mode) for x in (LIMIT, 40.0, np.inf)]
        np.testing.assert_array_equal(sure[0], sure[1])
        np.testing.assert_array_equal(sure[0], sure[2])
        wild = np.where(members > 1, 300.0, members)
        np.testing.assert_array_equal(
            lira(phi, wild, kept, mode=mode), lira(phi, wild.clip(max=LIMIT), kept, mode=mode)
        )


def test_members_that_all_say_the_same_give_a_number() -> None:
    kept = np.arange(6)[:, None] < np.array([3, 3])
    for variance in VARIANCES:
        for mode in MODES:
            found = lira(np.array([LIMIT, -3.0]), np.full((6, 2), 30.0), kept, mode=mode, variance=variance)
            assert np.isfinite(found).all(), (mode, variance)
            assert found[0] == pytest.approx(0.0 if mode == "online" else np.log(0.5))
    shy = lira(np.array([LIMIT - MIN_SPREAD, 0]), np.full((6, 2), 30.0), kept, mode="offline")
    assert shy[0] == pytest.approx(norm.logcdf(-1))


def test_single_precision_is_computed_in_double() -> None:
    phi, members, kept, _ = world(1.0, 10, 12)
    rounded = phi.astype(np.float32), members.astype(np.float32)
    np.testing.assert_array_equal(lira(*rounded, kept), lira(*(one.astype(np.float64) for one in rounded), kept))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"phi": np.zeros(3)}, r"of shape \(6, 4\): does not fit phi \(3,\)"),
        ({"members_phi": np.zeros((5, 4))}, r"of shape \(5, 4\): does not fit"),
        ({"kept": np.zeros((6, 4), dtype=int)}, "kept of int64: must say True or False"),
        ({"phi": np.array([0, 0, np.nan, 0])}, "undefined"),
        ({"members_phi": np.full((6, 4), np.nan)}, "undefined"),
        ({"mode": "onlin"}, "did you mean 'online'"),
        ({"variance": "fixed"}, "no such choice"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"phi": np.zeros(4), "members_phi": np.zeros((6, 4)), "kept": np.eye(6, 4, dtype=bool)}
    options = {key: value for key, value in change.items() if key not in given}
    given |= {key: value for key, value in change.items() if key in given}
    with pytest.raises(UserError, match=words):
        lira(given["phi"], given["members_phi"], given["kept"], **options)
