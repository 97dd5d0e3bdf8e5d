"""Which device to compute on."""

from __future__ import annotations

import torch

from unmem.errors import UserError


def pick_device(name: str) -> str:
    """`auto` is the GPU where PyTorch sees one, else the CPU; any other name is checked to be there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros((), device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError("device", name, "PyTorch cannot use it here", "choose auto or cpu") from error
    return name
