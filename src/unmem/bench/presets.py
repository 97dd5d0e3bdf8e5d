"""The presets by name, and the files of a result."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unmem import __version__
from unmem.bench import claims, continual, proxies, unlearning, uses
from unmem.bench.plan import read_plan
from unmem.bench.work import Result, Work
from unmem.tables import Table

PLANS: Mapping[str, type[Any]] = {
    "proxies": proxies.Plan,
    "unlearning": unlearning.Plan,
    "continual": continual.Plan,
    "uses": uses.Plan,
}
_RUN: Mapping[str, Callable[[Any, Work], Result]] = {
    "proxies": proxies.run,
    "unlearning": unlearning.run,
    "continual": continual.run,
    "uses": uses.run,
}
SCHEMA = 1


@dataclass(frozen=True)
class Preset:
    """A plan that was read and checked.

    Attributes:
        name: Name of the preset.
        plan: Its plan.
        plain: The plan as plain values, for files.
    """

    name: str
    plan: Any
    plain: Mapping[str, Any]

    @classmethod
    def read(cls, source: str, size: str) -> Preset:
        """Read a plan. `source` is the name of a preset or the path of a YAML file.

        Raises:
            UserError: There is no such preset, file, size or entry, or an entry has the wrong type.
        """
        return cls(*read_plan(source, size, PLANS))

    def run(self, work: Work) -> Result:
        """Run the preset."""
        return _RUN[self.name](self.plan, work)

    def to_dict(self, size: str, result: Result) -> dict[str, Any]:
        """Return `result.json`: hardware, versions, plan, tables and claims."""
        return {
            "schema": SCHEMA,
            "command": "bench",
            "preset": self.name,
            "size": size,
            "plan": dict(self.plain),
            "hardware": {"machine": platform.machine(), "cores": os.cpu_count()},
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "unmem": __version__},
            "claims": [claim.to_dict() for claim in result.claims],
            "tables": {name: table.to_dict() for name, table in result.tables.items()},
            "runs": dict(result.data),
        }


def all_tables(result: Result) -> dict[str, Table]:
    """Return the tables of a result by name, the claims first."""
    return {"claims": claims.table(result.claims), **result.tables}


def write_tables(folder: Path, tables: Mapping[str, Table]) -> None:
    """Write each table as Markdown, CSV and LaTeX."""
    folder.mkdir()
    for name, table in tables.items():
        (folder / f"{name}.md").write_text(table.to_markdown() + "\n", encoding="utf-8")
        (folder / f"{name}.csv").write_text(table.to_csv(), encoding="utf-8")
        (folder / f"{name}.tex").write_text(table.to_latex() + "\n", encoding="utf-8")
