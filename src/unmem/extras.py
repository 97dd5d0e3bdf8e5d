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
    "distributed": "dask",
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
    except ImportError as error:
        raise UserError(
            field, value, f"the package {package} cannot be imported ({error})", f"install {package} again"
        ) from error


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # a module that was put together by hand, without a place
        return True
