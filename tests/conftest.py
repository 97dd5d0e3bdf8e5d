"""Fixtures for all tests. Tests that need a trained model import it from `fitted`."""

from __future__ import annotations

import pytest
import torch

# The models are tiny: on busy cores, several threads spend more time waiting for each other than computing.
torch.set_num_threads(1)


@pytest.fixture
def random_state() -> torch.Tensor:
    """The global random state before the test, to compare with `torch.get_rng_state()` after it."""
    return torch.get_rng_state()
