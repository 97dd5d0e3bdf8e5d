"""Batches of the forget set beside those of the retain set."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import torch
from torch import Tensor

from unmem.data import Examples
from unmem.training import Batch


def cycle(examples: Examples, batch_size: int, *, seed: int) -> Iterator[Batch]:
    """Batches without end: every example once a round, in a new random order each round."""
    for found in examples.batches(_rounds(examples, batch_size, seed)):
        yield Batch(*found)


def _rounds(examples: Examples, batch_size: int, seed: int) -> Iterator[Tensor]:
    order = torch.Generator().manual_seed(seed)
    chunks = -(-len(examples) // batch_size)
    for _ in count():
        permutation = torch.randperm(len(examples), generator=order).to(examples.device)
        yield from permutation.tensor_split(chunks)
