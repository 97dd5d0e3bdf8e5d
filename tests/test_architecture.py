"""Imports point down only: walks the syntax trees of the package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import unmem as um

SOURCE = Path(um.__file__).parent
# From bottom to top; a room may import from those before it, and from itself.
ROOMS = (
    *(
        "errors",
        "interrupts",
        "plainfiles",
        "plaintext",
        "metrics",
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
        "requests",
        "targets",
        "unlearning",
        "evaluation",
        "scenarios",
        "report",
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


def test_every_public_name_is_there() -> None:
    assert all(getattr(um, name) is not None for name in um.__all__)
    with pytest.raises(AttributeError, match="no attribute 'forgetful'"):
        um.forgetful  # noqa: B018 (looked up for its error)
