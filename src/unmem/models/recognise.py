"""Which network a state dict belongs to, by its keys and shapes, where nobody says."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unmem.errors import UserError
from unmem.models.checkpoints import Checkpoint
from unmem.models.layouts import LAYOUTS
from unmem.models.names import MODELS


def recognise(found: Checkpoint, input_shape: tuple[int, ...]) -> str | None:
    """The network that has these keys and, but for the number of outputs, these shapes; None if there is none."""
    states = [found.without(prefix) for prefix in found.prefixes()]
    for name, make in (MODELS | LAYOUTS).items():
        try:
            with torch.device("meta"):  # shapes alone: nothing is drawn
                model = make(input_shape, 2)
        except UserError:  # not for inputs of this shape
            continue
        if any(_fits(model, state) for state in states):
            return name
    return None


def _fits(model: nn.Module, state: dict[str, Tensor]) -> bool:
    own = model.state_dict()
    # Every network here ends in a linear layer, which alone depends on the number of classes.
    last = list(own)[-2:]
    return own.keys() == state.keys() and all(
        state[key].shape == value.shape or (key in last and state[key].shape[1:] == value.shape[1:])
        for key, value in own.items()
    )
