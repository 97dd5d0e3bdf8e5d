"""Batches of the forget set next to those of the retain set, and the outputs of a fixed model on a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import torch
from torch import Tensor, nn

from unmem.data import Examples
from unmem.recipe import Recipe
from unmem.training import LOGITS, Batch, evaluating, predict, views

MOST_KNOWN = 16 * LOGITS  # logits of a fixed model that are kept for a run: 256 MB


def cycle(examples: Examples, batch_size: int, recipe: Recipe, *, seed: int) -> Iterator[Batch]:
    """Yield batches without end: every example once per round, in a new random order each round.

    They are augmented by the recipe, like the batches of the training loop.
    """
    found = (Batch(*one) for one in examples.batches(_rounds(examples, batch_size, seed)))
    # A generator of its own: a stream draws the order of its batches before the batches are used.
    state = int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])
    return views(found, examples, recipe, torch.Generator().manual_seed(state))


def answers(model: nn.Module, examples: Examples, recipe: Recipe) -> Callable[[Batch], Tensor]:
    """Return a function that gives the logits [B, C] of a fixed model for a batch of `examples`.

    The logits are float32, in evaluation mode and without gradients. Without augmentation they are computed once before
    the run, unless there would be more than `MOST_KNOWN`. With augmentation they are computed for each batch, so that
    the fixed model sees the same views as the model that learns from it.
    """
    if recipe.augment == "none" and len(examples) * examples.n_classes <= MOST_KNOWN:
        known = predict(model, examples)
        return lambda batch: known[batch.index]

    def asked(batch: Batch) -> Tensor:
        with evaluating(model), torch.no_grad(), torch.autocast(batch.inputs.device.type, enabled=False):
            return model(batch.inputs).float()

    return asked


def _rounds(examples: Examples, batch_size: int, seed: int) -> Iterator[Tensor]:
    order = torch.Generator().manual_seed(seed)
    chunks = -(-len(examples) // batch_size)
    for _ in count():
        permutation = torch.randperm(len(examples), generator=order).to(examples.device)
        yield from permutation.tensor_split(chunks)
