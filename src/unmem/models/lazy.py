"""Layers whose sizes or numbers are settled late: lazy layers, and weights in half precision."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import is_lazy

_HALF = (torch.float16, torch.bfloat16)


def materialized(model: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
    """The network with every weight there, in float32: as optimisers and model files need it.

    Lazy layers take their sizes from a batch of zeros; halves of a number are too coarse for the steps of training.
    """
    if any(is_lazy(value) for value in (*model.parameters(), *model.buffers())):
        with torch.no_grad():
            model.eval()(torch.zeros(2, *input_shape))
            model.train()
    return model.float() if any(value.dtype in _HALF for value in model.parameters()) else model
