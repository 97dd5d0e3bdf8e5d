"""Attacks by members: a model that saw neither side is found at the nominal rate, and each side's members by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from unmem.ensembles import leave_out_masks
from unmem.evaluation.attacks import assign_columns, attack_from_scores, member_attacks
from unmem.evaluation.lira import lira
from unmem.evaluation.log_odds import MemberLogOdds
from unmem.evaluation.rmia import ratios, rmia
from unmem.metrics import roc_auc

Real = NDArray[np.float64]
ATTACKS = ("lira", "lira-online", "rmia")


def world(members: int, n: int, m: int, *, seed: int, seen: float = 3.0) -> tuple[Real, Real, MemberLogOdds]:
    """Log-odds of a model on n forget and m unseen examples, neither of which it saw, and those of members: Gaussian
    around each example's own mean, higher by `seen` in a member that was trained on it."""
    random = np.random.default_rng(seed)
    kept = leave_out_masks(n, members, keep=0.7, seed=seed)
    hard, other = random.normal(0, 1.5, n), random.normal(0, 1.5, m)
    phi = hard + random.normal(size=(members, n)) + seen * kept
    signals = MemberLogOdds(phi, ~kept, other + random.normal(size=(members, m)))
    return hard + random.normal(size=n), other + random.normal(size=m), signals


@pytest.mark.parametrize(("members", "repeats"), [(16, 250), (40, 100)])
def test_a_model_that_saw_neither_side_is_found_at_the_nominal_rate(members: int, repeats: int) -> None:
    found: dict[str, list[float]] = {name: [] for name in ATTACKS}
    for seed in range(repeats):
        attacks = member_attacks(*world(members, 200, 999, seed=seed), seed=seed)
        for name in ATTACKS:
            tpr = attacks[name].tpr["1%"]
            assert tpr is not None
            found[name].append(tpr)
    for name, rates in found.items():
        error = np.std(rates) / np.sqrt(repeats)
        assert error < 0.001
        assert np.mean(rates) == pytest.approx(0.01, abs=3 * error + 0.0005), name


def test_auc_of_such_a_model_is_one_half_and_its_interval_covers() -> None:
    found = [member_attacks(*world(16, 60, 300, seed=seed), seed=seed) for seed in range(200)]
    for name in ATTACKS:
        assert np.mean([one[name].auc for one in found]) == pytest.approx(0.5, abs=0.012), name
        assert np.mean([one[name].low <= 0.5 <= one[name].high for one in found]) >= 0.9, name


def test_what_the_model_saw_is_still_found() -> None:
    forget, unseen, signals = world(40, 200, 999, seed=0)
    for name, attack in member_attacks(forget + 3, unseen, signals).items():
        assert attack.auc > 0.9, name
        assert attack.tpr["1%"] is not None
        assert attack.tpr["1%"] > 0.2, name


@pytest.mark.parametrize("m", [7, 30, 45])
def test_unseen_examples_are_scored_by_as_many_members_as_forget_examples(m: int) -> None:
    out = np.random.default_rng(0).random((9, 30)) < 0.3
    out[:, 5] = out[:, 6]
    assigned = assign_columns(out, m, seed=3)
    assert assigned.shape == (9, m)
    columns, drawn = [tuple(one) for one in out.T], [tuple(one) for one in assigned.T]
    assert set(drawn) <= set(columns)
    for column in set(columns):
        assert m // 30 <= drawn.count(column) / columns.count(column) <= -(-m // 30)
    assert (assign_columns(out, m, seed=4) != assigned).any()
    np.testing.assert_array_equal(assign_columns(out, m, seed=3), assigned)


def test_online_scores_leave_out_one_out_member_as_the_scores_of_members_do() -> None:
    """One forget example that all members but three were trained on: the three ways to leave one of them out."""
    forget, unseen, signals = world(9, 1, 50, seed=0)
    signals.out[:, 0] = np.arange(9) >= 6
    ways = []
    for left in (6, 7, 8):
        rest = np.arange(9) != left
        ways.append(lira(forget, signals.phi[rest], ~signals.out[rest], variance="shrunk"))
    null = [
        lira(signals.phi[k], signals.phi[np.arange(9) != k], ~signals.out[np.arange(9) != k], variance="shrunk")
        for k in (6, 7, 8)
    ]
    expected = {roc_auc(way, np.concatenate(null)) for way in ways}
    found = {member_attacks(forget, unseen, signals, seed=seed)["lira-online"].auc for seed in range(12)}
    assert found == expected


def test_the_ratio_ranks_as_the_score_does_and_without_its_ties() -> None:
    forget, unseen, signals = world(12, 300, 400, seed=2)
    ours, theirs, kept = expit(forget), expit(signals.phi), ~signals.out
    score = rmia(ours, theirs, kept, expit(unseen), expit(signals.unseen))
    order = np.argsort(ratios(ours, theirs, kept))
    assert (np.diff(score[order]) >= 0).all()
    assert len(set(ratios(ours, theirs, kept))) == 300 > len(set(score))


@pytest.mark.parametrize(("m", "allowed"), [(98, None), (99, 0), (198, 0), (199, 1), (1000, 9)])
def test_the_threshold_keeps_the_rate_for_a_further_unseen_example(m: int, allowed: int | None) -> None:
    """It is exceeded with the chance (allowed + 1)/(m + 1), which must not be above 1%."""
    unseen = np.arange(m, dtype=float)
    found = attack_from_scores(np.arange(m) + 0.5, unseen).tpr["1%"]
    if allowed is None:
        assert found is None
    else:
        assert found == pytest.approx((allowed + 1) / m)
        assert (allowed + 1) / (m + 1) <= 0.01
