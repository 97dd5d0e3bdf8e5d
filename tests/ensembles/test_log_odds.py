"""phi and margin of logits, against the probabilities behind them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unmem.ensembles import log_odds


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
