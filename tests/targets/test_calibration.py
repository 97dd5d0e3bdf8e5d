"""The map from the log-odds of a weaker model to those of the original: planted maps are recovered."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmem.predictions import class_log_odds, label_log_odds
from unmem.targets.calibration import LIMIT, Calibration, with_label

Float64 = NDArray[np.float64]
CLASSES = 2  # so that an odd map of the log-odds of one class is the same map of those of the other


def rows(phi: Float64, labels: NDArray[np.int64]) -> Tensor:
    """[N, 2] logits with the log-odds `phi` for the label."""
    return torch.from_numpy(np.where(np.arange(CLASSES) == labels[:, None], phi[:, None], 0.0))


def holdout(n: int = 2000, *, seed: int = 0) -> tuple[Float64, NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    return random.normal(1.5, 1.5, n), random.integers(0, CLASSES, n)


@pytest.mark.parametrize(
    "planted", [lambda x: x, lambda x: 2 * x, lambda x: x + 0.1 * x**3], ids=["same", "sharper", "bent"]
)
def test_a_planted_map_is_recovered(planted: Callable[[Float64], Float64]) -> None:
    weak, labels = holdout()
    asked = np.linspace(-1, 4, 50)
    found = Calibration.fit(rows(weak, labels), rows(planted(weak), labels), torch.from_numpy(labels), asked)  # pyright: ignore
    np.testing.assert_allclose(found(asked), np.clip(planted(asked), -LIMIT, LIMIT), atol=0.35)


def test_the_share_of_known_examples_is_that_of_the_original() -> None:
    """A regression would pull the unknown ones over the line: the weaker model tells little of each."""
    random = np.random.default_rng(9)

    def drawn(seed: int) -> tuple[Float64, Float64, NDArray[np.int64]]:
        weak, labels = holdout(4000, seed=seed)
        return weak + 1.5, 1.2 * (weak + 1.5) + random.normal(0, 4, len(weak)), labels

    weak, original, labels = drawn(0)
    fitted = Calibration.fit(rows(weak, labels), rows(original, labels), torch.from_numpy(labels), weak[:400])  # pyright: ignore
    fresh, truth, _ = drawn(1)
    assert float((1.2 * fresh > 0).mean()) - float((truth > 0).mean()) > 0.15  # what regression would say
    assert float((fitted(fresh) > 0).mean()) == pytest.approx(float((truth > 0).mean()), abs=0.05)


@pytest.mark.parametrize(("wrong", "kind"), [(0.0, 0), (1.0, 1)], ids=["right", "wrong"])
def test_right_and_wrong_labels_are_told_apart(wrong: float, kind: int) -> None:
    weak, labels = holdout()
    weak = np.abs(weak) + 2
    z = rows(weak, labels)
    fresh, theirs = holdout(200, seed=3)
    x = class_log_odds(rows(np.abs(fresh) + 2, theirs))
    named = (theirs + 1) % CLASSES if wrong else theirs
    found = Calibration.fit(z, 1.5 * z, torch.from_numpy(labels), x[np.arange(200), named].astype(np.float32))
    assert found.shares[kind] > 0.8
    assert sum(found.shares) == pytest.approx(1)


def test_log_odds_of_classes_and_labels_agree_and_stay_finite() -> None:
    z = torch.tensor([[40.0, 0.0, -5.0], [0.1, 0.2, 0.3]])
    labels = torch.tensor([0, 2])
    every = class_log_odds(z)
    assert np.isfinite(every).all()
    np.testing.assert_allclose(every[[0, 1], labels], label_log_odds(z, labels), rtol=1e-5)
    p = z[1].double().softmax(0)
    np.testing.assert_allclose(every[1], (p / (1 - p)).log(), rtol=1e-9)


def test_with_label_sets_the_log_odds_and_keeps_the_other_classes_in_proportion() -> None:
    log_probs = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]).log()
    found = with_label(log_probs, torch.tensor([0, 2]), np.array([-1.0, 3.0], dtype=np.float32))
    np.testing.assert_allclose(np.exp(found).sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(label_log_odds(torch.from_numpy(found), torch.tensor([0, 2])), [-1.0, 3.0], rtol=1e-5)
    assert found[0, 1] - found[0, 2] == pytest.approx(np.log(1.5), rel=1e-5)
