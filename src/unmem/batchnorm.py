"""Recomputation of the running statistics of batch norm from given examples."""

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
    """Replace the running statistics of batch norm by averages over `examples`, with other layers in evaluation mode.

    The forward passes use the precision of `recipe`, or fp32 without a recipe. Frozen layers keep their statistics (see
    `unmem.training.is_frozen_batchnorm`).
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
        # Chunks have equal size, so that each has the same weight. They are shuffled: in data sorted by class their
        # means would differ, and the average of their variances would omit the variance between chunks.
        chunks = -(-len(examples) // batch_size)
        mixed = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0)).to(examples.device)
        for _, inputs, _ in examples.batches(mixed.tensor_split(chunks)):
            with nullcontext() if recipe is None else autocast(recipe, inputs):
                model(inputs)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
