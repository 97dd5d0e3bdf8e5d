"""Optional packages, and what a user without one is told."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from unmem.errors import UserError

# Package -> extra that brings it, where it has not an extra of its own name.
_EXTRA = {
    **dict.fromkeys(("datasets", "tokenizers", "transformers"), "hf"),
    **dict.fromkeys(("accelerate", "tensorboard"), "log"),
    **dict.fromkeys(("distributed", "cryptography"), "dask"),
}


def require(package: str, *, field: str, value: str | None = None) -> None:
    """Refuse a choice whose package is not there. Imports nothing, so that work need not begin to find out."""
    if not _is_there(package):
        extra = _EXTRA.get(package, package)
        raise UserError(field, value, f"the package {package} is not installed", f"pip install 'unmem[{extra}]'")


def imported(package: str, *, field: str, value: str | None = None) -> Any:
    """The package; refused as by `require`, or if it is there but broken."""
    require(package, field=field, value=value)
    try:
        return import_module(package)
    except Exception as error:  # built for another PyTorch, say: what it raises then is its own affair
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        problem = f"the package {package} cannot be imported ({reason})"
        raise UserError(field, value, problem, f"install {package} again, in a version for this PyTorch") from error


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # a module that was put together by hand, without a place
        return True
