"""RMIA against its definition by loops, on masks that decide which members may count, and where its answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from unmem.errors import UserError
from unmem.evaluation.rmia import Mode, rmia
from unmem.metrics import roc_auc

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]
MODES: tuple[Mode, ...] = ("online", "offline")
Given = tuple[Real, Real, Mask, Real, Real]


def world(n: int = 40, k: int = 12, m: int = 60, residual: float = 2.0, seed: int = 0) -> tuple[Given, Mask]:
    """Arguments of `rmia`, and which examples the model was trained on: confidences are logistic of Gaussians around
    each example's own mean, higher by `residual` in a model that saw it."""
    random = np.random.default_rng(seed)
    kept = random.random((k, n)) < 0.5
    kept[:2], kept[2:4] = True, False
    trained = np.arange(n) % 2 == 0
    mean, apart = random.normal(0, 2, n), random.normal(0, 2, m)
    members = expit(mean + random.normal(size=(k, n)) + residual * kept)
    ours = expit(mean + random.normal(size=n) + residual * trained)
    z, members_z = expit(apart + random.normal(size=m)), expit(apart + random.normal(size=(k, m)))
    return (ours, members, kept, z, members_z), trained


def by_loops(given: Given, mode: Mode, gamma: float, a: float) -> list[float]:
    p, members, kept, z, members_z = given

    def offline(out: list[float]) -> float:
        return 0.5 * ((1 + a) * float(np.mean(out)) + (1 - a))

    ratios_z = [z[j] / offline(list(members_z[:, j])) for j in range(len(z))]
    found = []
    for i in range(len(p)):
        out = [members[k, i] for k in range(len(members)) if not kept[k, i]]
        inside = [members[k, i] for k in range(len(members)) if kept[k, i]]
        typical = offline(out) if mode == "offline" else 0.5 * (np.mean(inside) + np.mean(out))
        found.append(sum((p[i] / typical) / ratio >= gamma for ratio in ratios_z) / len(z))
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("gamma", "a"), [(1.0, 0.33), (2.0, 0.3), (1.2, 0.0), (0.7, 1.0)])
def test_scores_are_their_definition_by_loops(mode: Mode, gamma: float, a: float) -> None:
    given, _ = world()
    found = rmia(*given, mode=mode, gamma=gamma, a=a)
    assert len(set(found)) > 5
    np.testing.assert_allclose(found, by_loops(given, mode, gamma, a))


def test_unless_told_otherwise_it_is_offline_with_gamma_1() -> None:
    given, _ = world()
    np.testing.assert_array_equal(rmia(*given), rmia(*given, mode="offline", gamma=1.0, a=0.33))


def test_by_hand() -> None:
    """p̄ = ½ (1.5 · 0.4 + 0.5) = 0.55 with a = 0.5; ratios of z: 0.5/0.55, 0.55/0.55 and 0.9/0.55."""
    z = np.array([0.5, 0.55, 0.9])
    kept, members, members_z = np.array([[True], [False]]), np.array([[0.8], [0.4]]), np.full((2, 3), 0.4)
    found = [rmia(np.array([x]), members, kept, z, members_z, a=0.5)[0] for x in (0.4, 0.5, 0.6, 1.0)]
    assert found == pytest.approx([0, 1 / 3, 2 / 3, 1])
    online = [rmia(np.array([x]), members, kept, z, members_z, mode="online", a=0.5)[0] for x in (0.54, 0.56, 0.61)]
    assert online == pytest.approx([0, 1 / 3, 2 / 3])  # p̄ = 0.6


@pytest.mark.parametrize("mode", MODES)
def test_what_was_trained_on_scores_higher_and_a_model_without_residual_is_not_told(mode: Mode) -> None:
    for residual, low, high in ((3.0, 0.8, 1.0), (0.0, 0.44, 0.56)):  # 0.5 ± 4 standard errors of 800 against 800
        given, trained = world(n=1_600, k=16, m=400, residual=residual)
        score = rmia(*given, mode=mode)
        assert low < roc_auc(score[trained], score[~trained]) < high


def test_hard_examples_are_not_mistaken_for_unseen_ones() -> None:
    """Confidence alone is misled where what was trained on is harder; the ratio is not, if training on it does what a
    says: p_in ≈ 0.33 · expit(−2) + 0.67 ≈ expit(1)."""
    (_, members, kept, z, members_z), _ = world(n=600)
    random = np.random.default_rng(5)
    trained = np.arange(600) < 300
    mean, residual = np.where(trained, -2.0, 2.0), 3.0
    members = expit(mean + 0.3 * random.normal(size=members.shape) + residual * kept)
    ours = expit(mean + 0.3 * random.normal(size=600) + residual * trained)
    assert roc_auc(ours[trained], ours[~trained]) < 0.1
    for mode in MODES:
        score = rmia(ours, members, kept, z, members_z, mode=mode)
        assert roc_auc(score[trained], score[~trained]) > 0.9


@pytest.mark.parametrize("value", [np.nan, np.inf, 7.0])
def test_offline_members_never_speak_of_what_they_were_trained_on(value: float) -> None:
    (ours, members, kept, z, members_z), _ = world()
    poisoned = np.where(kept, value, members)
    found = rmia(ours, poisoned, kept, z, members_z)
    np.testing.assert_array_equal(found, rmia(ours, members, kept, z, members_z))


def test_online_sides_weigh_the_same_however_many_members_they_have() -> None:
    (ours, members, kept, z, members_z), _ = world()
    members = np.where(kept, 0.9, members)
    more = [np.concatenate([one, np.repeat(one[:1], 30, axis=0)]) for one in (members, kept)]
    assert kept[0].all()
    np.testing.assert_allclose(
        rmia(ours, *more, z, members_z, mode="online"), rmia(ours, members, kept, z, members_z, mode="online")
    )


@pytest.mark.parametrize("mode", MODES)
def test_order_of_examples_members_and_population_changes_nothing(mode: Mode) -> None:
    (ours, members, kept, z, members_z), _ = world()
    random = np.random.default_rng(1)
    rows, columns, others = (random.permutation(n) for n in (*kept.shape, len(z)))
    theirs, mask = members[rows][:, columns], kept[rows][:, columns]
    mixed = rmia(ours[columns], theirs, mask, z[others], members_z[rows][:, others], mode=mode)
    np.testing.assert_allclose(mixed, rmia(ours, members, kept, z, members_z, mode=mode)[columns])


@pytest.mark.parametrize("mode", MODES)
def test_surer_models_score_higher_and_a_larger_gamma_lower(mode: Mode) -> None:
    (ours, members, kept, z, members_z), _ = world()
    base = rmia(ours, members, kept, z, members_z, mode=mode)
    surer = rmia(np.sqrt(ours), members, kept, z, members_z, mode=mode)
    assert (surer >= base).all()
    assert (surer > base).any()
    stricter = rmia(ours, members, kept, z, members_z, mode=mode, gamma=2.0)
    assert (stricter <= base).all()
    assert (stricter < base).any()
    # A model that is less sure of everything by one factor has the same ratios to one another.
    np.testing.assert_array_equal(rmia(ours / 2, members, kept, z / 2, members_z, mode=mode), base)


def test_an_example_without_a_member_on_a_side_has_no_score() -> None:
    (ours, members, kept, z, members_z), _ = world()
    kept[:, 0], kept[:, 1] = True, False
    assert np.flatnonzero(np.isnan(rmia(ours, members, kept, z, members_z))).tolist() == [0]
    assert np.flatnonzero(np.isnan(rmia(ours, members, kept, z, members_z, mode="online"))).tolist() == [0, 1]


def test_impossible_and_sure_predictions_give_a_number() -> None:
    kept = np.array([[True, False], [False, True]])
    members = np.array([[0.0, 1.0], [0.0, 1.0]])
    for mode in MODES:
        for a in (0.0, 0.33, 1.0):
            found = rmia(np.array([0.0, 1.0]), members, kept, np.array([0.0, 1.0]), members, mode=mode, a=a)
            assert found.tolist() == [0.5, 1.0], (mode, a)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, np.zeros(3), r"of shape \(6, 4\): does not fit p \(3,\)"),
        (0, np.full(4, 1.5), "no probabilities from 0 to 1"),
        (0, np.full(4, np.nan), "no probabilities from 0 to 1"),
        (1, np.full((6, 4), -3.0), "no probabilities from 0 to 1"),
        (1, np.zeros((5, 4)), "does not fit"),
        (2, np.zeros((6, 4)), "kept of float64: must say True or False"),
        (3, np.zeros(5), "members_population"),
        (3, np.full(8, 2.0), "population: some are no probabilities"),
        (4, np.full((6, 8), np.nan), "population: some are no probabilities"),
        (4, np.zeros((0, 8)), "no population examples"),
    ],
)
def test_what_does_not_fit_is_refused(place: int, value: Any, words: str) -> None:
    given: list[Any] = [np.full(4, 0.5), np.full((6, 4), 0.5), np.eye(6, 4, dtype=bool), np.full(8, 0.5)]
    given.append(np.full((6, 8), 0.5))
    given[place] = value
    with pytest.raises(UserError, match=words):
        rmia(*given)


def test_settings_out_of_range_are_refused() -> None:
    given, _ = world()
    for options in ({"gamma": 0.0}, {"gamma": float("nan")}, {"a": -0.1}, {"a": 1.1}):
        with pytest.raises(UserError, match="must be above 0, and from 0 to 1"):
            rmia(*given, **options)
    with pytest.raises(UserError, match="did you mean 'offline'"):
        rmia(*given, mode="of-line")  # pyright: ignore
    (p, members, kept, _, _), _ = world()
    with pytest.raises(UserError, match="no population examples"):
        rmia(p, members, kept, np.zeros(0), np.zeros((12, 0)))
