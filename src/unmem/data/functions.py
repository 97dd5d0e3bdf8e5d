"""Data sets returned by a function in the user's own code."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from unmem.data.modules import module_at
from unmem.data.objects import from_object
from unmem.data.reading import Reading
from unmem.data.splits import Splits
from unmem.errors import UserError


def from_function(source: str, how: Reading) -> Splits:
    """`package.module:function` or `path/to/file.py:function`.

    It is called without arguments, or with split="train" and split="test" if it takes `split`.
    """
    where, _, name = source.rpartition(":")
    function = _function(source, where, name)
    try:
        if "split" in inspect.signature(function).parameters:
            found: Any = {part: function(split=part) for part in ("train", "test")}
        else:
            found = function()
    except Exception as error:
        raise UserError(
            "data",
            source,
            f"failed ({type(error).__name__}: {error})".splitlines()[0],
            'it is called without arguments, or with split="train" and split="test"',
        ) from error
    return from_object(found, how, name=name, module=where)


def _function(source: str, where: str, name: str) -> Callable[..., Any]:
    try:
        module = module_at(where)
    except Exception as error:
        raise UserError(
            "data", source, f"{where} cannot be imported ({type(error).__name__}: {error})", "check the path or module"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError("data", source, f"{where} has no function {name}", "check the name after the colon")
    return function
