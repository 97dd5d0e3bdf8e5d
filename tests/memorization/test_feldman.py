from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import gammaln, logit
from scipy.stats import binom, spearmanr

import unmem as um
from unmem.ensembles import Ensemble, Mask, Outputs, leave_out_masks, train_members
from unmem.memorization import feldman, influence_matrix, reliability

Floats = NDArray[np.float64]


def ensemble_of(kept: Mask, correct: Any, *, confidence: Any = None, unseen: Any = None) -> Ensemble:
    """An ensemble whose members are right where `correct` [K, N] says so; every label is 1."""

    def outputs(right: Any, p: Any, prefix: str) -> Outputs:
        right = np.asarray(right, dtype=bool)
        phi = np.asarray(logit(np.where(right, 0.9, 0.1) if p is None else p), dtype=np.float32)
        ids = np.array([f"{prefix}{i}" for i in range(right.shape[1])])
        return Outputs(ids, np.ones(right.shape[1], dtype=np.int64), phi, phi, right.astype(np.int16))

    return Ensemble(
        kept=kept,
        train=outputs(correct, confidence, ""),
        unseen=None if unseen is None else outputs(unseen, None, "u"),
        seeds=tuple(range(len(kept))),
        seconds=(0.0,) * len(kept),
        settings={"members": len(kept)},
    )


# One nearest neighbour: memorization in closed form


class Neighbours:
    """Noisy points in the plane, and 1-nearest-neighbour classifiers on subsets of them."""

    def __init__(self, n: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.x = random.normal(size=(n, 2))
        self.y = (self.x[:, 0] + 0.5 * random.normal(size=n) > 0).astype(np.int64)
        self.x[1], self.y[1] = self.x[0], self.y[0]  # a copy with the same label
        self.x[2], self.y[2] = (9.0, 9.0), 0  # alone, and mislabelled among its nearest, all far away
        self.y[(self.x[:, 0] > 1.0) & (np.arange(n) > 2)] = 1
        self.distance = np.linalg.norm(self.x[:, None] - self.x[None], axis=2)

    def right(self, kept: Mask) -> Mask:
        """[K, N]: whether the member trained on kept[k] predicts each label."""
        found = np.empty(kept.shape, dtype=bool)
        for k, row in enumerate(kept):
            inside = np.flatnonzero(row)
            found[k] = self.y[inside[self.distance[:, inside].argmin(1)]] == self.y
        return found

    def closed_form(self, m: int) -> Floats:
        """mem(i) = 1 − Σ_j w_j [y_(j) = y_i], w_j = C(n−1−j, m−1) / C(n−1, m), j the rank of a neighbour."""
        n = len(self.y)
        j = np.arange(1, n - m + 1)
        log_choose = gammaln(n - j) - gammaln(m) - gammaln(n - j - m + 1)
        w = np.exp(log_choose - (gammaln(n) - gammaln(m + 1) - gammaln(n - m)))
        assert w.sum() == pytest.approx(1)
        found = np.empty(n)
        for i in range(n):
            distance = self.distance[i].copy()
            distance[i] = np.inf
            order = np.argsort(distance, kind="stable")[: len(w)]
            found[i] = 1 - (w * (self.y[order] == self.y[i])).sum()
        return found


@cache
def neighbours() -> Neighbours:
    return Neighbours(80, seed=0)


@cache
def estimate(seed: int) -> um.Scores:
    kept = leave_out_masks(80, 400, keep=0.7, seed=seed)
    assert (kept.sum(1) == 56).all()
    return feldman(ensemble_of(kept, neighbours().right(kept)))


def test_one_nearest_neighbour_has_the_memorization_of_its_closed_form() -> None:
    truth = neighbours().closed_form(56)
    assert (truth > 0.9).sum() >= 5
    assert (truth < 0.1).sum() >= 20
    for seed in range(3):
        error = estimate(seed).values - truth
        assert np.sqrt((error**2).mean()) <= 0.03
        assert abs(error.mean()) < 0.005


def test_a_copy_is_not_memorized_and_a_lone_wrong_label_is() -> None:
    values = estimate(0).values
    assert values[0] == pytest.approx(neighbours().closed_form(56)[0], abs=0.05)
    assert values[2] == 1
    # With its copy always in, an example is known whether it is in or not.
    kept = leave_out_masks(80, 400, keep=0.7, seed=0)
    kept[:, 1] = True
    assert feldman(ensemble_of(kept, neighbours().right(kept))).values[0] == 0


def test_standard_errors_are_honest() -> None:
    truth = neighbours().closed_form(56)
    inside: list[float] = []
    for seed in range(8):
        scores = estimate(seed)
        assert scores.error is not None
        inside.append(float((np.abs(scores.values - truth) <= 1.96 * scores.error).mean()))
    assert 0.93 <= np.mean(inside) <= 0.99


@pytest.mark.parametrize(("n_in", "n_out"), [(2, 1), (5, 3), (11, 5), (8, 8), (28, 12), (42, 18), (84, 36)])
def test_the_interval_covers_the_truth_whatever_the_chances(n_in: int, n_out: int) -> None:
    """Every outcome is an example, weighed by its exact probability; chances of 1 - p̂ = 0 are the usual case."""
    right_in, right_out = (count.ravel() for count in np.indices((n_in + 1, n_out + 1)))
    kept = np.arange(n_in + n_out) < n_in
    place = np.where(kept, np.arange(n_in + n_out), np.arange(n_in + n_out) - n_in)[:, None]
    correct = place < np.where(kept[:, None], right_in, right_out)
    scores = feldman(ensemble_of(np.repeat(kept[:, None], len(right_in), axis=1), correct))
    assert scores.error is not None
    np.testing.assert_allclose(scores.values, right_in / n_in - right_out / n_out, atol=1e-12)
    chances = (0.001, 0.01, 0.05, 0.1, 0.25, 0.4, 0.5, 0.7, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
    found = np.empty((len(chances), len(chances)))
    for i, p_in in enumerate(chances):
        for j, p_out in enumerate(chances):
            weight = binom.pmf(right_in, n_in, p_in) * binom.pmf(right_out, n_out, p_out)
            found[i, j] = weight[np.abs(scores.values - (p_in - p_out)) <= 1.96 * scores.error + 1e-12].sum()
    assert found.min() >= 0.91
    assert (found >= 0.93).mean() >= 0.95
    assert found.mean() >= 0.95
    if n_out == 36:
        assert found[3:9, 3:9].mean() <= 0.96  # not safe by being wide where both outcomes are seen


def test_members_that_all_agree_leave_room_for_another() -> None:
    kept = np.arange(17)[:, None] < np.array([12])
    scores = feldman(ensemble_of(kept, np.ones((17, 1))))
    assert scores.error is not None
    assert scores.values[0] == 0
    # The chance at the end of the interval gives five of five in some percent of cases.
    assert 0.03 < (1 - 1.96 * scores.error[0]) ** 5 < 0.08


def test_almost_all_examples_give_leave_one_out() -> None:
    """Each member leaves out one example: the estimate is exact leave-one-out."""
    points = Neighbours(12, seed=3)
    kept = ~np.eye(12, dtype=bool)
    expected = np.empty(12)
    for i in range(12):
        others = np.delete(np.arange(12), i)
        without = points.y[others[points.distance[i, others].argmin()]] == points.y[i]
        expected[i] = 1.0 - without  # with it, it is its own nearest neighbour
    assert 0 < expected.sum() < 12
    np.testing.assert_array_equal(feldman(ensemble_of(kept, points.right(kept))).values, expected)
    np.testing.assert_allclose(points.closed_form(11), expected, atol=1e-9)


# The estimator against its definition


def random_ensemble(members: int = 30, n: int = 25, m: int = 7, seed: int = 0) -> Ensemble:
    random = np.random.default_rng(seed)
    kept = random.random((members, n)) < 0.6
    kept[:, 3] = True  # never left out
    kept[:, 5] = False  # never left in
    kept[:, 8], kept[4, 8] = True, False  # left out once
    p = random.uniform(0.01, 0.99, (members, n))
    return ensemble_of(kept, random.random((members, n)) < 0.6, confidence=p, unseen=random.random((members, m)) < 0.5)


def test_correctness_against_a_loop_over_examples() -> None:
    ensemble = random_ensemble()
    scores = feldman(ensemble)
    assert scores.name == "feldman"
    assert scores.ids is ensemble.train.ids
    assert scores.error is not None
    for i in range(25):
        inside = [bool(ensemble.train.correct[k, i]) for k in range(30) if ensemble.kept[k, i]]
        outside = [bool(ensemble.train.correct[k, i]) for k in range(30) if not ensemble.kept[k, i]]
        if not inside or not outside:
            assert i in (3, 5)
            assert np.isnan(scores.values[i])
            assert np.isnan(scores.error[i])
            continue
        p, q = np.mean(inside), np.mean(outside)
        assert scores.values[i] == pytest.approx(p - q, abs=1e-12)
        moved = [((sum(side) + 2) / (len(side) + 4), len(side) - 0.5) for side in (inside, outside)]
        assert scores.error[i] == pytest.approx(np.sqrt(sum(s * (1 - s) / n for s, n in moved)), abs=1e-12)


def test_confidence_against_a_loop_over_examples() -> None:
    ensemble = random_ensemble(seed=1)
    scores = feldman(ensemble, measure="confidence")
    assert scores.name == "feldman-confidence"
    assert scores.error is not None
    p = 1 / (1 + np.exp(-ensemble.train.phi.astype(np.float64)))
    for i in range(25):
        inside, outside = p[ensemble.kept[:, i], i], p[~ensemble.kept[:, i], i]
        if i in (3, 5):
            assert np.isnan(scores.values[i])
            assert np.isnan(scores.error[i])
            continue
        assert scores.values[i] == pytest.approx(inside.mean() - outside.mean(), abs=1e-6)
        if i == 8:  # one member has no sample variance
            assert np.isnan(scores.error[i])
            continue
        variance = inside.var(ddof=1) / len(inside) + outside.var(ddof=1) / len(outside)
        assert scores.error[i] == pytest.approx(np.sqrt(variance), rel=1e-4)


@pytest.mark.parametrize("spread", [1e-4, 1e-7, 1e-10])
def test_confidences_near_1_keep_their_digits(spread: float) -> None:
    """Squares in single precision would leave an error of 0, or one of rounding alone."""
    kept = np.arange(40)[:, None] < np.full(3, 25)
    below = spread * np.random.default_rng(0).uniform(1, 2, kept.shape)  # 1 - p
    ensemble = ensemble_of(kept, np.ones_like(kept), confidence=1 - below)
    scores = feldman(ensemble, measure="confidence")
    assert scores.error is not None
    below = 1 / (1 + np.exp(ensemble.train.phi.astype(np.float64)))  # log-odds are kept in single precision
    inside, outside = below[:25], below[25:]
    np.testing.assert_allclose(scores.values, outside.mean(0) - inside.mean(0), rtol=1e-4)
    expected = np.sqrt(inside.var(0, ddof=1) / 25 + outside.var(0, ddof=1) / 15)
    np.testing.assert_allclose(scores.error, expected, rtol=1e-4)


def test_settings_say_how_it_was_estimated() -> None:
    ensemble = random_ensemble()
    settings = feldman(ensemble, measure="confidence", name="ensemble").settings
    assert settings["members"] == 30
    assert settings["measure"] == "confidence"
    assert settings["kept"] == pytest.approx(ensemble.kept.mean())
    assert feldman(ensemble, name="ensemble").name == "ensemble"


def test_influence_against_a_double_loop() -> None:
    ensemble = random_ensemble(seed=2)
    assert ensemble.unseen is not None
    found = influence_matrix(ensemble)
    assert found.shape == (25, 7)
    for i in range(25):
        inside = ensemble.kept[:, i]
        for j in range(7):
            right = ensemble.unseen.correct[:, j]
            if inside.all() or not inside.any():
                assert np.isnan(found[i, j])
            else:
                assert found[i, j] == pytest.approx(right[inside].mean() - right[~inside].mean(), abs=1e-6)
    assert np.isnan(found).all(1).sum() == 2


def test_influence_needs_outputs_on_unseen_examples() -> None:
    with pytest.raises(um.UserError, match="unseen"):
        influence_matrix(replace(random_ensemble(), unseen=None))


def test_an_example_that_decides_has_all_the_influence() -> None:
    kept = leave_out_masks(20, 40, keep=0.5, seed=0)
    found = influence_matrix(ensemble_of(kept, kept, unseen=kept[:, [4, 4, 11]]))
    assert found[4].tolist() == [1, 1, pytest.approx(float(found[4, 2]))]
    assert found[11, 2] == 1


# Reliability


def repeated(members: int, n: int, *, noise: bool, seed: int = 0) -> Ensemble:
    random = np.random.default_rng(seed)
    kept = leave_out_masks(n, members, keep=0.5, seed=seed)
    p_in, p_out = np.full(n, 0.95), 0.95 - 0.9 * np.arange(n) / n
    p = np.where(kept, p_in, p_out) if not noise else random.uniform(0.05, 0.95, (members, n))
    return ensemble_of(kept, random.random((members, n)) < (0.5 if noise else p), confidence=p)


def test_a_score_without_noise_is_wholly_reliable() -> None:
    assert reliability(repeated(40, 60, noise=False), measure="confidence") > 0.999


def test_coin_flips_are_not_reliable() -> None:
    assert abs(reliability(repeated(400, 300, noise=True))) < 0.25
    assert abs(reliability(repeated(400, 300, noise=True), measure="confidence")) < 0.25


def test_reliability_is_the_mean_over_halves_stepped_up() -> None:
    ensemble = repeated(40, 80, noise=False)
    random = np.random.default_rng(7)
    found: list[float] = []
    for _ in range(5):
        order = random.permutation(40)
        values: list[Floats] = []
        for half in (order[:20], order[20:]):
            correct, kept = ensemble.train.correct[half], ensemble.kept[half]
            values.append(np.array([correct[kept[:, i], i].mean() - correct[~kept[:, i], i].mean() for i in range(80)]))
        found.append(float(spearmanr(*values).statistic))
    rho = np.mean(found)
    assert 0.5 < rho < 0.99
    assert reliability(ensemble, repeats=5, seed=7) == pytest.approx(2 * rho / (1 + rho), abs=1e-6)


def test_reliability_predicts_the_agreement_of_whole_ensembles() -> None:
    """Spearman–Brown: what it says of all members is what a second set of as many gives."""
    between = spearmanr(*(feldman(repeated(60, 300, noise=False, seed=s)).values for s in (1, 2))).statistic
    assert reliability(repeated(60, 300, noise=False, seed=1)) == pytest.approx(between, abs=0.04)


def test_reliability_needs_four_members() -> None:
    with pytest.raises(um.UserError, match="members"):
        reliability(random_ensemble(members=3 + 2).members([0, 1, 2]))


# Real networks


def test_planted_wrong_labels_are_on_top() -> None:
    data = um.load("digits", limit=200, flip=0.1)
    recipe = um.Recipe(model="mlp", epochs=20, batch_size=16)
    ensemble = train_members(recipe, data.train, leave_out_masks(len(data.train), 12, keep=0.7, seed=0))
    for measure, least in (("correct", 0.9), ("confidence", 0.9)):
        scores = feldman(ensemble, measure=measure)  # pyright: ignore
        assert not np.isnan(scores.values).any()
        assert scores.auroc(data.flipped) > least


@pytest.mark.slow
def test_trained_models_agree_with_leave_one_out_by_brute_force() -> None:
    """Memorization by its definition, with trainings of its own: all examples against all but one."""
    n, runs = 10, 3
    data = um.load("digits", limit=200).train
    two = data.at(np.flatnonzero(np.isin(data.labels.numpy(), [0, 1]))[:n])
    labels = two.labels.clone()
    labels[-1] = 1 - labels[-1]  # a wrong label, which only its own presence can teach
    tiny = replace(two, labels=labels, n_classes=2)
    recipe = um.Recipe(model="mlp", epochs=60, batch_size=16, lr=0.1)

    def right(examples: um.Examples, seed: int) -> NDArray[np.bool_]:
        return (um.predict(um.train(recipe, examples, seed=seed), tiny).argmax(1) == tiny.labels).numpy()

    everything = np.mean([right(tiny, seed) for seed in range(runs)], axis=0)
    without = [
        np.mean([right(tiny.drop([name]), 100 + seed)[i] for seed in range(runs)]) for i, name in enumerate(tiny.ids)
    ]
    kept = np.tile(~np.eye(n, dtype=bool), (runs, 1))  # each member without one example
    found = feldman(train_members(recipe, tiny, kept, seed=1000))
    error = found.error
    assert error is not None
    truth = everything - without
    # Both are estimates from a few models: four standard errors apart at most, and none of a chance that is never seen.
    assert np.all(np.abs(found.values - truth) <= 4 * np.maximum(error, 0.5 / runs))
    assert truth[-1] == found.values[-1] == 1.0
    assert np.mean(np.abs(found.values - truth)) < 0.1
