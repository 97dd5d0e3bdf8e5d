from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import unmem as um
from tests.helpers import points, shuffled
from unmem.data import Examples
from unmem.ensembles import fold_masks
from unmem.memorization import CrossFit, crossfit
from unmem.training import predict, train

RECIPE = um.Recipe(model="mlp", epochs=4, batch_size=16)


@pytest.fixture(scope="module")
def data() -> Examples:
    return points(50)


@pytest.fixture(scope="module")
def fitted(data: Examples) -> CrossFit:
    return crossfit(RECIPE, data, folds=3, seed=2)


def margin_of(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.array([row[y] - np.delete(row, y).max() for row, y in zip(log_probs, labels, strict=True)])


def test_each_prediction_is_of_the_model_that_never_saw_the_example(data: Examples, fitted: CrossFit) -> None:
    kept = fold_masks(data.labels, 3, seed=2)
    seen = np.zeros(50, dtype=int)
    for k in range(3):
        model = train(RECIPE, data.at(np.flatnonzero(kept[k])), seed=2 + k)
        held_out = np.flatnonzero(~kept[k])
        expected = predict(model, data).log_softmax(1).numpy()[held_out]
        assert np.array_equal(fitted.log_probs[held_out], expected)
        seen[held_out] += 1
    assert (seen == 1).all()


def test_margin_and_phi_are_those_of_the_log_probabilities(data: Examples, fitted: CrossFit) -> None:
    log_probs, labels = fitted.log_probs.astype(np.float64), data.labels.numpy()
    np.testing.assert_allclose(np.exp(log_probs).sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(fitted.margin, margin_of(log_probs, labels), atol=1e-5)
    others = [np.logaddexp.reduce(np.delete(row, y)) for row, y in zip(log_probs, labels, strict=True)]
    np.testing.assert_allclose(fitted.phi, log_probs[np.arange(50), labels] - others, atol=1e-5)
    scores = fitted.scores()
    assert scores.name == "crossfit"
    assert list(scores.ids) == list(data.ids)
    np.testing.assert_array_equal(scores.values, -fitted.margin.astype(np.float64))
    assert fitted.settings["folds"] == 3
    assert fitted.seconds > 0


def test_the_gap_is_what_training_on_an_example_adds_to_its_margin(data: Examples, fitted: CrossFit) -> None:
    model = train(RECIPE, data)
    gap = fitted.gap(model, data)
    assert gap.name == "crossfit-gap"
    log_probs = predict(model, data).double().log_softmax(1).numpy()
    expected = margin_of(log_probs, data.labels.numpy()) - fitted.margin
    np.testing.assert_allclose(gap.values, expected, atol=1e-5)
    # Matched by id, not by position.
    np.testing.assert_allclose(fitted.gap(model, shuffled(data)).of(data.ids), expected, atol=1e-5)
    with pytest.raises(um.UserError, match="not an id"):
        fitted.gap(model, points(50, prefix="x"))


def test_the_seed_decides_the_folds_and_the_models(data: Examples, fitted: CrossFit) -> None:
    torch.manual_seed(99)
    again, other = (crossfit(RECIPE, data, folds=3, seed=seed) for seed in (2, 3))
    assert np.array_equal(again.log_probs, fitted.log_probs)
    assert not np.array_equal(other.log_probs, fitted.log_probs)


def test_members_are_kept_and_told(data: Examples, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    first = crossfit(RECIPE, data, folds=2, folder=tmp_path, on_member=lambda *args: seen.append(args))
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(stamps) == 2
    assert seen == [(1, 2), (2, 2)]
    again = crossfit(RECIPE, data, folds=2, folder=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps
    assert np.array_equal(first.log_probs, again.log_probs)


def test_too_few_folds_are_refused(data: Examples) -> None:
    with pytest.raises(um.UserError, match="folds 1"):
        crossfit(RECIPE, data, folds=1)


def test_planted_wrong_labels_are_on_top() -> None:
    digits = um.load("digits", limit=200, flip=0.1)
    recipe = um.Recipe(model="mlp", epochs=20, batch_size=16)
    fitted = crossfit(recipe, digits.train, folds=4)
    assert fitted.scores().auroc(digits.flipped) > 0.9
    assert fitted.gap(train(recipe, digits.train), digits.train).auroc(digits.flipped) > 0.9
