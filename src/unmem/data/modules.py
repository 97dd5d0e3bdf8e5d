"""A user's own code: modules by name, also of the folder that the command runs in, and files."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_OWN = "unmem_own_"
_beside: dict[str, bytes] = {}  # by name of a module that a user's file imported from beside it, its file's hash then


def module_at(place: str) -> ModuleType:
    """`package.module`, or the module in `path/to/file.py`. Raises whatever its import raises."""
    return _from_file(Path(place)) if place.endswith(".py") else _imported(place)


def _from_file(path: Path) -> ModuleType:
    """The module in a file, under a name that is the same in every process, so that its classes can be pickled, and
    another once the file is changed."""
    path = path.resolve(strict=True)
    content = b"".join(one.read_bytes() for one in sources_beside(path, path.stem))
    name = f"{_OWN}{hashlib.sha256(str(path).encode() + content).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _forget_others(path.parent)
    known = set(sys.modules)
    sys.path.insert(0, str(path.parent))  # its imports of files beside it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
        for one in set(sys.modules) - known:
            if _lies_beside(one, path.parent):
                _beside[one] = _hash_of(one)
    return module


def sources_beside(path: Path, name: str) -> tuple[Path, ...]:
    """The file of a module, and the files that it imports from the folder that its own imports are found from.

    Args:
        path: The file.
        name: Of the module, with those of its packages: for `a.b` in `DIR/a/b.py` the folder is DIR.
    """
    parents = 0 if name.startswith(_OWN) else name.count(".") + (path.name == "__init__.py")
    root = path.parent.joinpath(*[".."] * parents).resolve()
    found, waiting = {path.resolve()}, [path.resolve()]
    while waiting:
        for one in _imports(waiting.pop(), root) - found:
            found.add(one)
            waiting.append(one)
    return tuple(sorted(found))


def _imports(path: Path, root: Path) -> set[Path]:
    """Files below `root` that the statements of a file import, wherever in it they stand."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return set()  # importing it says what is wrong
    found: set[Path] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found |= _files_of(root, alias.name)
        elif isinstance(node, ast.ImportFrom):
            start = path.parent.joinpath(*[".."] * (node.level - 1)) if node.level else root
            for alias in node.names:
                found |= _files_of(start, ".".join(part for part in (node.module, alias.name) if part))
    return found


def _files_of(folder: Path, name: str) -> set[Path]:
    """What `import name` reads from this folder: the packages on the way and the module; nothing of other places."""
    places = [folder.joinpath(*name.split(".")[:k]) for k in range(1, name.count(".") + 2)]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    return {file.resolve() for file in files if file.is_file()}


def _forget_others(folder: Path) -> None:
    """A `utils.py` beside one file of a user's is not that beside another, nor what it was before it was edited; and
    what has imported from an edited file holds on to what was there."""
    there = [one for one in _beside if one in sys.modules]
    edited = any(_hash_of(one) != _beside[one] for one in there)
    for name in there:
        if edited or not _lies_beside(name, folder):
            del sys.modules[name], _beside[name]


def _hash_of(name: str) -> bytes:
    """Of the file of a module, empty once the file is gone."""
    file = Path(getattr(sys.modules[name], "__file__", None) or "")
    return hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b""


def _lies_beside(name: str, folder: Path) -> bool:
    """Whether a module was found from this folder by its name: a file, a package, or a part of a package."""
    file = getattr(sys.modules[name], "__file__", None)
    place = folder.joinpath(*name.split("."))
    return file is not None and Path(file).resolve() in (place.with_suffix(".py"), place / "__init__.py")


def _imported(name: str) -> ModuleType:
    """The module by its name, also from the folder that the command runs in."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    return importlib.import_module(name)
