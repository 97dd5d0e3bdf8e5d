"""Batch norm: running statistics recomputed from given examples."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from unmem.data import Examples
from unmem.recipe import Recipe
from unmem.training import autocast, evaluating, is_batchnorm, is_frozen_batchnorm


@torch.no_grad()
def recompute_batchnorm(
    model: nn.Module, examples: Examples, *, recipe: Recipe | None = None, batch_size: int = 256
) -> None:
    """Replace the running statistics of batch norm by averages over `examples`; all else stays in evaluation mode.

    recipe: the averages are taken in its precision, as its training takes them; None is fp32.
    Frozen layers keep theirs (see `unmem.training.is_frozen_batchnorm`).
    """
    layers: list[Any] = [
        layer
        for layer in model.modules()
        if is_batchnorm(layer) and layer.track_running_stats and not is_frozen_batchnorm(layer)
    ]
    if not layers or len(examples) < 2:  # one example has no variance
        return
    momenta = [layer.momentum for layer in layers]
    with evaluating(model):
        for layer in layers:
            layer.train()
            layer.reset_running_stats()
            layer.momentum = None  # a plain average over the batches below
        # Of equal size, so that each counts the same, and mixed: in data sorted by class each chunk would have a mean
        # of its own, and the average of their variances would miss the spread between them.
        chunks = -(-len(examples) // batch_size)
        mixed = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0)).to(examples.device)
        for _, inputs, _ in examples.batches(mixed.tensor_split(chunks)):
            with nullcontext() if recipe is None else autocast(recipe, inputs):
                model(inputs)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
