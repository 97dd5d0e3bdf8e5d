"""Imports point down only, and never in a circle: walks the syntax trees of the package.

Imports count wherever they stand, in functions too: such an import only puts the circle off until the call. Imports
under `TYPE_CHECKING` never run, so between rooms they count like any other, whereas between files they have a test of
their own, which lists the circles that are there. A file that imports names from its own folder's `__init__.py` is in
a circle with it. `unmem/__init__.py` itself is left out: it names the public classes for type checkers, and imports
none of them.
"""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

import unmem as um

SOURCE = Path(um.__file__).parent
# From bottom to top; a room may import from those before it, and from itself.
ROOMS = (
    *(
        "errors",
        "interrupts",
        "counted",
        "plainfiles",
        "plaintext",
        "metrics",
        "predictions",
        "extras",
        "html",
        "allocator",
        "recipe",
        "augmentation",
        "store",
        "data",
        "models",
        "training",
        "rehearsal",
        "batchnorm",
        "tracking",
    ),
    *(
        "clusters",
        "executors",
        "ensembles",
        "memorization",
        "targets",
        "unlearning",
        "requests",
        "evaluation",
        "report",
        "cli",
    ),
)
FILES = sorted(path for path in SOURCE.rglob("*.py") if path not in (SOURCE / "__init__.py", SOURCE / "__main__.py"))
# Circles by imports for types. Results show themselves through these files, which take them as arguments; each circle
# goes once a result gives its own table to one renderer that knows no result. Nothing may be added.
CIRCLES_OF_TYPES = [
    [
        "unmem.evaluation.audit",
        "unmem.evaluation.evidence_rows",
        "unmem.evaluation.frames",
        "unmem.evaluation.notebook",
        "unmem.evaluation.outcome",
        "unmem.evaluation.rows",
    ],
    ["unmem.memorization.notebook", "unmem.memorization.scores"],
]


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms named in any import of the file, at the top, in a function or for types alone."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            names += [f"{node.module}.{alias.name}" if node.module == "unmem" else node.module for alias in node.names]
    rooms = {name.split(".")[1] for name in names if name.startswith("unmem.")}
    return rooms - {"__version__"}


def test_every_room_is_listed() -> None:
    assert {room_of(path) for path in FILES} == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    below = ROOMS[: ROOMS.index(room_of(path)) + 1]
    assert imported_rooms(path) <= set(below)


def module_of(path: Path) -> str:
    """The dotted name of a file; that of its folder for an `__init__.py`."""
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imported_files(path: Path, *, types: bool) -> set[str]:
    """Modules of the package that the file imports by name. types: also those under `TYPE_CHECKING`."""
    tree = ast.parse(path.read_text())
    guards = [one for one in ast.walk(tree) if isinstance(one, ast.If) and "TYPE_CHECKING" in ast.unparse(one.test)]
    typing = {node for guard in guards for statement in guard.body for node in ast.walk(statement)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in typing and not types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                found.add(below if below in MODULES else str(node.module))
    return found & MODULES.keys()


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Files that reach each other by imports: strongly connected components of two files or more, or of one file that
    imports itself."""
    names = sorted(imports)
    edges = np.array([[other in imports[name] for other in names] for name in names])
    _, component = connected_components(edges, connection="strong")
    groups = [[name for name, one in zip(names, component, strict=True) if one == k] for k in np.unique(component)]
    return sorted(group for group in groups if len(group) > 1 or group[0] in imports[group[0]])


def test_circles_are_found() -> None:
    imports = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set[str](), "e": {"a", "e"}, "f": {"d"}}
    assert circles(imports) == [["a", "b", "c"], ["e"]]


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circles({name: imported_files(path, types=False) for name, path in MODULES.items()}) == []


def test_circles_by_imports_for_types_are_those_that_are_known() -> None:
    assert circles({name: imported_files(path, types=True) for name, path in MODULES.items()}) == CIRCLES_OF_TYPES


def test_every_public_name_is_there() -> None:
    assert all(getattr(um, name) is not None for name in um.__all__)
    with pytest.raises(AttributeError, match="no attribute 'forgetful'"):
        um.forgetful  # noqa: B018 (looked up for its error)
