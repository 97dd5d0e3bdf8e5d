"""What all tests share; the rooms that need a trained model take it from `fitted`."""

from __future__ import annotations

import pytest
import torch

# The models here are tiny: on busy cores several threads wait for each other far longer than they compute.
torch.set_num_threads(1)


@pytest.fixture
def random_state() -> torch.Tensor:
    """The global random state before the test, to compare with `torch.get_rng_state()` after it."""
    return torch.get_rng_state()
