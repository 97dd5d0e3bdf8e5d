"""Quantities computed from logits, against the probabilities behind them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers import kl
from unmem.predictions import accuracy_of, confidence, label_log_odds, label_probability, log_odds, symmetric_kl


def test_log_odds_are_those_of_the_probabilities() -> None:
    random = np.random.default_rng(0)
    z = random.normal(scale=4, size=(50, 6))
    y = random.integers(0, 6, 50)
    phi, margin = log_odds(torch.from_numpy(z), torch.from_numpy(y))
    assert phi.dtype == margin.dtype == torch.float64
    for i in range(50):
        p = np.exp(z[i]) / np.exp(z[i]).sum()
        others = np.delete(p, y[i])
        assert phi[i] == pytest.approx(np.log(p[y[i]]) - np.log(others.sum()), abs=1e-9)
        assert margin[i] == pytest.approx(np.log(p[y[i]]) - np.log(others.max()), abs=1e-9)


def test_a_constant_added_to_the_logits_changes_no_log_odds() -> None:
    random = torch.Generator().manual_seed(0)
    z, y = torch.randn(20, 5, generator=random, dtype=torch.float64), torch.arange(20) % 5
    shift = torch.linspace(-500, 500, 20, dtype=torch.float64)[:, None]
    for before, after in zip(log_odds(z, y), log_odds(z + shift, y), strict=True):
        torch.testing.assert_close(before, after, rtol=0, atol=1e-10)


def test_extreme_logits_give_finite_log_odds() -> None:
    z = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [80.0, -80.0, -80.0]])
    phi, margin = log_odds(z, torch.tensor([0, 0, 0]))
    torch.testing.assert_close(phi, torch.tensor([1e4, -2e4, 160 - np.log(2)], dtype=torch.float64))
    torch.testing.assert_close(margin, torch.tensor([1e4, -2e4, 160.0], dtype=torch.float64))


def test_two_classes_have_equal_phi_and_margin() -> None:
    z = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    phi, margin = log_odds(z, torch.arange(9) % 2)
    torch.testing.assert_close(phi, margin)


def test_probabilities_from_logits_log_probabilities_and_log_odds_are_one() -> None:
    z = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    y = torch.arange(30) % 5
    expected = label_probability(z, y).numpy()
    log_probs, phi = z.log_softmax(1).numpy(), label_log_odds(z, y).numpy()
    np.testing.assert_allclose(confidence(y.numpy(), phi, log_probs), expected, rtol=1e-5)
    np.testing.assert_allclose(confidence(y.numpy(), phi, None), expected, rtol=1e-5)


def test_accuracy_is_not_rounded_to_float32() -> None:
    rows = torch.eye(3)[[0, 1, 2]]
    assert accuracy_of(rows, torch.tensor([0, 1, 1])) == 2 / 3


def test_symmetric_kl_is_that_of_the_probabilities() -> None:
    z, w = torch.from_numpy(np.random.default_rng(0).normal(scale=3, size=(2, 20, 5))).log_softmax(2)
    found = symmetric_kl(z, w)
    assert found.dtype == torch.float64
    for i in range(20):
        p, q = (v[i].exp().numpy() for v in (z, w))
        assert found[i] == pytest.approx(0.5 * kl(p, q) + 0.5 * kl(q, p), rel=1e-9)
    assert torch.equal(found, symmetric_kl(w, z))


def test_symmetric_kl_of_certain_predictions_is_finite() -> None:
    sure = torch.tensor([[1000.0, 0.0, -1000.0]]).double()
    logp, moved, turned = (one.log_softmax(1) for one in (sure, sure + 77, sure.flip(1)))
    assert symmetric_kl(logp, logp).tolist() == [0]
    assert symmetric_kl(logp, moved).tolist() == [0]
    assert symmetric_kl(logp, turned).tolist() == [2000]
