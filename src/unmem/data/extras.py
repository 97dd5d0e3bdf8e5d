"""Optional packages."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from unmem.errors import UserError


def imported(package: str, field: str) -> Any:
    """A package of the extra "hf"."""
    try:
        return import_module(package)
    except ImportError as error:
        raise UserError(
            field, None, f"needs the package {package}, which cannot be imported", "pip install 'unmem[hf]'"
        ) from error
