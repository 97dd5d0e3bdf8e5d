"""The file of one member: named by a hash of all that determines it, whole or not there, and checked when read.

A member takes its name only once it is on disk, so a run may be stopped at any point, and two runs may fill one folder:
where both make the same member, they write the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from unmem.errors import UserError
from unmem.plainfiles import read_npz
from unmem.store import atomic_path

Arrays = Mapping[str, NDArray[Any]]
PREFIX = "member-"
MOVED = "moved"  # paths of the files that hold deleted rows, from the folder of the member
# What a member says of training examples, a row for each, and how the row of one that was forgotten is left empty.
ROWS: dict[str, float] = {"train_phi": np.nan, "train_margin": np.nan, "train_prediction": -1, "logits": np.nan}
_NEEDED = {"kept", "about", "sha256", "train_phi", "seconds"}


def key(about: Mapping[str, Any]) -> str:
    """A hash of all that determines a member."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def place(folder: Path, about: Mapping[str, Any]) -> Path:
    return folder / f"{PREFIX}{key(about)}.npz"


def weights_of(path: Path) -> Path:
    return path.with_suffix(".safetensors")


def write(path: Path, about: Mapping[str, Any], arrays: Arrays, weights: Arrays | None = None) -> None:
    """Keep a finished member, its weights first if they are to be kept. Raises `UserError` if the disk is full."""
    stored = dict(arrays) | {"about": np.array(json.dumps(about))}
    try:
        if weights is not None:
            with atomic_path(weights_of(path)) as temporary:
                save_file(dict(weights), temporary)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **stored, sha256=np.array(digest(stored)))  # pyright: ignore[reportArgumentType]
    except OSError as error:
        raise UserError(
            "the folder of the members",
            str(path.parent),
            f"cannot be written ({error.strerror})",
            "make room there; what is finished is kept, and the same command goes on from it",
        ) from error


def digest(arrays: Arrays) -> str:
    """SHA-256 over names, types, shapes and contents."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {value.dtype.str} {value.shape} ".encode() + value.tobytes())
    return found.hexdigest()


@dataclass(frozen=True, eq=False)
class Member:
    """A member file as it was found. problem: why it cannot be used, None if it is whole."""

    path: Path
    about: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    problem: str | None = None


def read(path: Path) -> Member | None:
    """The member in a file, which may be damaged; None if there is no such file."""
    try:
        found = read_npz(path)
        missing = sorted(_NEEDED - found.keys())
        if missing:
            return Member(path, {}, {}, f"lacks {', '.join(missing)}")
        expected = str(found.pop("sha256"))
        if digest(found) != expected:
            return Member(path, {}, {}, "its contents do not match their checksum")
        about = json.loads(str(found.pop("about")))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:  # NotArraysError is a ValueError
        return Member(path, {}, {}, f"cannot be read ({' '.join(str(error).split())[:200]})")
    problem = _fault(about, found)
    return Member(path, about, found) if problem is None else Member(path, {}, {}, problem)


def _fault(about: Any, arrays: Arrays) -> str | None:
    """Why a member with a right checksum cannot be used: what it says, or holds, is not what `write` was given."""
    kinds = {"recipe": dict, "versions": dict, "data": str, "device": str, "seed": int}
    if not isinstance(about, dict) or not all(isinstance(about.get(key), kind) for key, kind in kinds.items()):  # pyright: ignore
        return "does not say how it was made"
    if arrays["kept"].dtype != np.uint8 or arrays["kept"].ndim != 1:
        return "does not say which examples it was trained on"
    if arrays["seconds"].ndim or arrays["seconds"].dtype.kind not in "fiu" or not np.isfinite(arrays["seconds"]):
        return "does not say how long its training took"
    erased = MOVED in arrays  # the rows of forgotten examples are then empty
    for name, one in arrays.items():
        if name == MOVED and one.dtype.kind == "U":
            continue
        if one.dtype.kind not in "fiub" or (np.isnan(one).any() and not (erased and name in ROWS)):
            return f"{name} holds NaN or no numbers"
    return None


def members_in(folder: Path) -> Iterator[Member]:
    """All members in a folder, whole and damaged, in the order of their names."""
    for path in sorted(folder.glob(f"{PREFIX}*.npz")) if folder.is_dir() else []:
        found = read(path)
        if found is not None:
            yield found


def leftovers_in(folder: Path) -> list[Path]:
    """What stopped writers left: temporary files, and weights without their member."""
    parts = sorted(folder.glob(f".{PREFIX}*.partial"))
    lone = [path for path in sorted(folder.glob(f"{PREFIX}*.safetensors")) if not path.with_suffix(".npz").exists()]
    return [*parts, *lone]


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """In which fields two members were made otherwise, in words; those of the recipe by their own names."""
    flat = [{**about, **about.get("recipe", {}), **about.get("versions", {})} for about in (theirs, ours)]
    said: list[str] = []
    for name in flat[1]:
        if name in ("recipe", "versions") or flat[0].get(name) == flat[1][name]:
            continue
        long = any(len(str(one.get(name))) > 30 for one in flat)
        said.append(f"other {name}" if long else f"{name} {flat[0].get(name)} instead of {flat[1][name]}")
    return said
