"""A user's own code: modules by name, also of the folder that the command runs in, and files."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_beside: set[str] = set()  # names of modules that files of users imported from beside them


def module_at(place: str) -> ModuleType:
    """`package.module`, or the module in `path/to/file.py`. Raises whatever its import raises."""
    return _from_file(Path(place)) if place.endswith(".py") else _imported(place)


def _from_file(path: Path) -> ModuleType:
    """The module in a file, under a name that is the same in every process, so that its classes can be pickled, and
    another once the file is changed."""
    path = path.resolve(strict=True)
    name = f"unmem_own_{hashlib.sha256(str(path).encode() + path.read_bytes()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _forget_those_beside_others(path.parent)
    known = set(sys.modules)
    sys.path.insert(0, str(path.parent))  # its imports of files beside it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
        _beside.update(one for one in set(sys.modules) - known if _lies_beside(one, path.parent))
    return module


def _forget_those_beside_others(folder: Path) -> None:
    """A `utils.py` beside one file of a user's is not that beside another."""
    for name in [one for one in _beside if one in sys.modules and not _lies_beside(one, folder)]:
        del sys.modules[name]


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
