"""Results of a benchmark that are written as soon as they are known, so that a stopped run continues."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmem.store import write_text


@dataclass
class Kept:
    """A JSON file of named results.

    Attributes:
        path: The file.
        about: What determines all of the results, as plain values.
        by: By name of a result, what else determines it, such as a method with its fields; None: nothing else.
        values: The results, by name.
    """

    path: Path
    about: Any
    by: Mapping[str, Any]
    values: dict[str, Any]

    @classmethod
    def open(cls, path: Path, about: Mapping[str, Any], wanted: Mapping[str, Any]) -> Kept:
        """Read the results that an earlier run left, as far as the same facts determine them.

        wanted: What else determines each result of this run; results with other names stay in the file.
        """
        about, wanted = _plain(about), _plain(wanted)
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        same = found.get("about") == about
        values, by = (found.get("values", {}), found.get("by", {})) if same else ({}, {})
        known = {name: value for name, value in values.items() if by.get(name) == wanted.get(name, by.get(name))}
        return cls(path, about, {**by, **wanted}, known)

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the result of this name; `make` computes it if it is not known yet."""
        if name not in self.values:
            self.values[name] = _plain(make())  # the same whether computed now or read
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps({"about": self.about, "by": self.by, "values": self.values}))
        return self.values[name]


def kept_results(
    path: Path, about: Mapping[str, Any], wanted: Mapping[str, Any], fill: Callable[[Kept], None]
) -> dict[str, Any]:
    """Return the wanted results, by name.

    Args:
        path: The file that they are kept in.
        about: What determines all of them.
        wanted: By name of a result, what else determines it, as in `Kept.by`.
        fill: Computes them by `Kept.get`; not called if all are there.
    """
    kept = Kept.open(path, about, wanted)
    if wanted.keys() - kept.values.keys():
        fill(kept)
    return {name: kept.values[name] for name in wanted}


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
