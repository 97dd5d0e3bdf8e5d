"""A user's own network: a function that makes it, named `package.module:function` or `path/to/file.py:function`."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
from torch import nn

from unmem.data import module_at, sources_beside
from unmem.errors import UserError, nearest
from unmem.models.identity import instructions
from unmem.models.logits import Logits
from unmem.recipe import OwnNetwork

_SIGNATURES = "give it the parameters (input_shape, n_classes), num_classes, n_classes or none"


def is_own(name: str) -> bool:
    return ":" in name and not name.startswith(("timm/", "torchvision/", "transformers/"))


def own(name: str, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """What the function gives for these data, made to give logits."""
    function = _function(name)
    arguments, keywords = _arguments(name, function, input_shape, n_classes)
    try:
        model = function(*arguments, **keywords)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            "model", name, f"its function failed ({type(error).__name__}: {error})", "call it by hand to see why"
        ) from error
    if not isinstance(model, nn.Module):
        raise UserError("model", name, f"its function gave a {type(model).__name__}", "return an nn.Module")
    return Logits(model)


def source_of(name: str) -> str:
    """SHA-256 of the file that the function is in and of the files beside it that this imports."""
    if isinstance(name, OwnNetwork):
        name.digest = name.digest or hashlib.sha256(repr(_facts(name.make)).encode()).hexdigest()
        return name.digest
    module = _module(name)
    file = inspect.getsourcefile(module)
    whole = hashlib.sha256()
    for path in sources_beside(Path(file), module.__name__) if file else ():
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def _facts(function: Any) -> Any:
    """What a function does, as far as it can be told: its code, its file, and the values that it holds."""
    if isinstance(function, partial):
        return _facts(function.func), cloudpickle.dumps((function.args, function.keywords))
    try:
        file = Path(inspect.getsourcefile(function) or "")
        beside = sources_beside(file, function.__module__) if file.is_file() else ()
        source = b"".join(path.read_bytes() for path in beside) or inspect.getsource(function).encode()
    except (TypeError, OSError):  # typed into a session
        source = b""
    code = getattr(function, "__code__", None)
    if code is None:
        return source, str(getattr(function, "__qualname__", type(function)))
    held = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    return source, instructions(code), cloudpickle.dumps((held, function.__defaults__, function.__kwdefaults__))


def _function(name: str) -> Callable[..., Any]:
    if isinstance(name, OwnNetwork):
        return name.make
    module, wanted = _module(name), name.rpartition(":")[2]
    found = getattr(module, wanted, None)
    if not callable(found):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError("model", name, f"{wanted!r} is no function there", nearest(wanted, known))
    return found


def _module(name: str) -> ModuleType:
    try:
        return module_at(name.rpartition(":")[0])
    except FileNotFoundError as error:
        raise UserError("model", name, "no such file", "check the path") from error
    except Exception as error:
        raise UserError(
            "model", name, f"cannot be imported ({type(error).__name__}: {error})", "import it by hand to see why"
        ) from error


def _arguments(
    name: str, function: Callable[..., Any], input_shape: tuple[int, ...], n_classes: int
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """How to call the function, by its signature."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError) as error:
        raise UserError("model", name, "its function has no signature", _SIGNATURES) from error
    known: dict[str, Any] = {"input_shape": input_shape, "n_classes": n_classes, "num_classes": n_classes}
    keywords = {p.name: known[p.name] for p in parameters if p.name in known and p.kind != p.POSITIONAL_ONLY}
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needed = [p for p in plain if p.default is p.empty]
    if all(p.name in keywords for p in needed):
        if not keywords and any(p.kind == p.VAR_KEYWORD for p in parameters):
            return (), {"num_classes": n_classes}
        return (), keywords
    if len(needed) == 2 and all(p.kind != p.KEYWORD_ONLY for p in needed):
        return (input_shape, n_classes), {}
    raise UserError("model", name, f"its function needs {', '.join(p.name for p in needed)}", _SIGNATURES)
