"""Results of a benchmark that are written as soon as they are known, so that a stopped run continues."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unmem.store import write_text


@dataclass
class Kept:
    """A JSON file of named results, all determined by the same facts.

    Attributes:
        path: The file.
        about: What determines the results, as plain values. A file with other facts is replaced.
        values: The results, by name.
    """

    path: Path
    about: Mapping[str, Any]
    values: dict[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def open(cls, path: Path, about: Mapping[str, Any]) -> Kept:
        """Read the results that a stopped run left, if they are of the same facts."""
        plain = json.loads(json.dumps(about))
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls(path, plain)
        return cls(path, plain, found["values"] if found.get("about") == plain else {})

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the result of this name; `make` computes it if it is not known yet."""
        if name not in self.values:
            self.values[name] = json.loads(json.dumps(make()))  # the same whether computed now or read
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps({"about": self.about, "values": self.values}))
        return self.values[name]
