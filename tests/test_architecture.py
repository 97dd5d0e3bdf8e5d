"""Imports point down only, and never in a circle: walks the syntax trees of the package.

Two rules hold. A room imports only from the rooms below it. No files import each other in a circle, inside a folder
either.

Imports inside functions count in both rules: they only delay a circle until the call. So do imports under
`TYPE_CHECKING`, which never run. A file that imports from the `__init__.py` of its own folder is in a circle with it.
`unmem/__init__.py` is not checked, because it imports the public names lazily and lists them for type checkers only.
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
        "tables",
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
        "requests",
        "targets",
        "unlearning",
        "evaluation",
        "scenarios",
        "report",
        "bench",
        "cli",
    ),
)
FILES = sorted(path for path in SOURCE.rglob("*.py") if path not in (SOURCE / "__init__.py", SOURCE / "__main__.py"))


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
    """The name by which a file is imported."""
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imported_files(path: Path) -> set[str]:
    """Files of the package that a file imports, as module names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                found.add(below if below in MODULES else str(node.module))
    return found & MODULES.keys()


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Groups of files that import each other: the strongly connected components of the graph with two files or more,
    and files that import themselves."""
    names = sorted(imports)
    edges = np.array([[other in imports[name] for other in names] for name in names])
    _, component = connected_components(edges, connection="strong")
    groups = [[name for name, one in zip(names, component, strict=True) if one == k] for k in np.unique(component)]
    return sorted(group for group in groups if len(group) > 1 or group[0] in imports[group[0]])


def test_circles_are_found() -> None:
    imports = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set[str](), "e": {"a", "e"}, "f": {"d"}}
    assert circles(imports) == [["a", "b", "c"], ["e"]]


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circles({name: imported_files(path) for name, path in MODULES.items()}) == []


def test_every_public_name_is_there() -> None:
    assert all(getattr(um, name) is not None for name in um.__all__)
    with pytest.raises(AttributeError, match="no attribute 'forgetful'"):
        um.forgetful  # noqa: B018 (looked up for its error)
