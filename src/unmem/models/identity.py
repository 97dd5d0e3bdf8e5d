"""What a network is: a hash of what determines the function that it computes before it is trained.

A name such as `net.py:make` stays while what it stands for changes: its file, modules beside it, a package, a
constant read from elsewhere. So the hash is of the network as built from seed 0: its layers, the code of their classes
and the weights that it begins with.
"""

from __future__ import annotations

import hashlib
import inspect
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

_OURS = ("torch.", "unmem.")  # their versions stand for these


def identity(model: nn.Module) -> str:
    """SHA-256 of a network that was just built."""
    whole = hashlib.sha256()
    for name, layer in model.named_modules():
        kind = type(layer)
        whole.update(f"{name} {kind.__module__}.{kind.__qualname__} {layer.extra_repr()}\n".encode())
    for kind in sorted({type(layer) for layer in model.modules()}, key=lambda one: (one.__module__, one.__qualname__)):
        if not kind.__module__.startswith(_OURS):
            whole.update(repr(_methods(kind)).encode())
    for name, value in model.state_dict().items():
        whole.update(f"{name} {tuple(value.shape) if isinstance(value, Tensor) else ''}\n".encode())
        if not isinstance(value, Tensor):  # extra state
            whole.update(repr(value).encode())
        elif value.numel():
            whole.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def _methods(kind: type) -> list[Any]:
    """The code of the methods that a class and its own bases define, wherever they were typed."""
    found: list[Any] = []
    for base in inspect.getmro(kind):
        if base is object or base.__module__.startswith(_OURS) or base.__module__ == "torch":
            continue
        for name, value in sorted(vars(base).items()):
            function = inspect.unwrap(value) if callable(value) else value
            if isinstance(function, FunctionType):
                found.append((base.__qualname__, name, instructions(function.__code__)))
            elif isinstance(value, int | float | str | bool | tuple) and not name.startswith("__"):
                found.append((base.__qualname__, name, repr(value)))
    return found


def instructions(code: CodeType) -> Any:
    """What a function does, whatever file and line it stands in."""
    inner = [instructions(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    return code.co_code, inner, code.co_names
