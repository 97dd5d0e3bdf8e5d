"""Arrays in an .npz file, in the layout of Keras."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmem.data.examples import Examples, Ids
from unmem.data.images import PIXELS, channels_first
from unmem.data.parting import USUAL_PARTING, Parting
from unmem.data.parts import NAMES, by_part
from unmem.data.splits import Splits
from unmem.data.unlabelled import check_classes, check_train, unlabelled
from unmem.errors import Phrase, UserError
from unmem.plainfiles import NotArraysError, read_npz

MOST_CLASSES = 10_000_000  # more are ids or the like, and a network for them would fit into no memory
KINDS = ("x", "y", "ids")


def npz(path: str | Path, parting: Parting = USUAL_PARTING) -> Splits:
    """A file in the Keras layout: x_train, y_train, and if it has them x_test, y_test, x_val, y_val, and ids_train, ….

    Parts go by the names in `parts`, whatever the case. uint8 images become [-1, 1]; other numbers reach the model as
    they are. Without unseen examples the file is split 70/15/15; with one set of them, half of it becomes the holdout,
    so that the training set stays exactly the user's. What else the file holds is named in a note.
    """
    arrays, others = _by_part(_npz_arrays(Path(path)), str(path))
    notes = [f"arrays of {Path(path).name} that are not used: {', '.join(others)}"] if others else []
    flat = next((name for name, one in arrays.items() if one.ndim == 0), None)
    if flat is not None:
        raise UserError(flat, Phrase("of shape ()"), "is one value and no array", "give a value for each example")
    check_train(unlabelled(arrays["y_train"]))
    for name, one in arrays.items():
        if name.startswith("y_") and _classes_in(one) > MOST_CLASSES:
            problem = f"as class indices these need {_classes_in(one):,} classes"
            raise UserError(name, int(one.max()), problem, "renumber the classes 0, 1, …")
    train_classes = _classes_in(arrays["y_train"])
    parts: dict[str, Examples] = {}
    for part in (one for one in NAMES if f"x_{one}" in arrays):
        if part != "train" and unlabelled(arrays[f"y_{part}"]):
            notes.append(f"{part} of {Path(path).name} has examples without a label and was left out")
            continue
        ids = arrays.get(f"ids_{part}")
        if ids is None and part != "train":
            ids = unseen_ids(len(arrays[f"x_{part}"]), taken=parts["train"].ids, prefix=f"{part}-")
        classes = max(train_classes, _classes_in(arrays[f"y_{part}"]))
        parts[part] = array_examples(
            arrays.pop(f"x_{part}"), arrays[f"y_{part}"], ids=ids, n_classes=classes, field=f"x_{part}"
        )
        if parts[part].input_shape != parts["train"].input_shape:
            raise UserError(
                f"x_{part}",
                parts[part].input_shape,
                f"x_train has shape {parts['train'].input_shape}",
                "make the shapes equal",
            )
    check_classes(parts)
    return replace(Splits.of_parts(Path(path).name, parts, parting=parting), notes=tuple(notes))


def _classes_in(labels: NDArray[Any]) -> int:
    return 1 + int(labels.max()) if labels.dtype.kind in "ui" and labels.size else 1


def _by_part(arrays: dict[str, NDArray[Any]], source: str) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The arrays as x_PART, y_PART and ids_PART, and the names of the others."""
    pieces = {name: name.split("_", 1) for name in arrays if "_" in name}
    found: dict[str, NDArray[Any]] = {}
    used: set[str] = set()
    for kind in KINDS:
        names = {
            rest: name for name, (first, rest) in pieces.items() if first.lower() in (kind, kind.removesuffix("s"))
        }
        for part, rest in by_part(names, source=source).items():
            found[f"{kind}_{part}"] = arrays[names[rest]]
            used.add(names[rest])
    for part in NAMES:
        missing = [one for one in (f"x_{part}", f"y_{part}") if one not in found]
        if missing and (part == "train" or len(missing) == 1):
            raise UserError(
                "data",
                source,
                f"has no {' and no '.join(missing)} (it has {', '.join(sorted(arrays)) or 'nothing'})",
                "name the arrays x_train, y_train, x_test, y_test",
            )
    return found, sorted(set(arrays) - used)


def _npz_arrays(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise UserError("data", str(path), "no such file", "check the path")
    try:
        return read_npz(path)
    except (OSError, NotArraysError) as error:
        raise UserError(
            "data", str(path), f"cannot be read as .npz ({error})", "save it with numpy.savez, without object arrays"
        ) from error


def array_examples(x: NDArray[Any], y: NDArray[Any], *, ids: Any, n_classes: int, field: str) -> Examples:
    """Examples of one part: bytes become [−1, 1], other numbers stay as they are. field: What the inputs are called."""
    for name, one, least in ((field, x, 2), (f"y{field.removeprefix('x')}", y, 1)):
        if one.ndim < least or (one.size == 0 and len(one)):
            fix = "give one row of numbers for each example, and one label"
            raise UserError(name, Phrase(f"of shape {one.shape}"), "has no value for each example", fix)
    if y.ndim == 2 and y.shape[1] == 1:  # Keras stores CIFAR labels as a column
        y = y[:, 0]
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4:
        x = channels_first(x)
    if x.dtype.kind not in "uif":
        raise UserError(field, Phrase(f"of type {x.dtype}"), "inputs are numbers", "encode them as numbers")
    if x.dtype == np.uint8:
        return Examples.of(x, y, ids=ids, n_classes=n_classes, scaling=PIXELS)
    return Examples.of(x.astype(np.float32), y, ids=ids, n_classes=n_classes)


def unseen_ids(n: int, *, taken: Ids | None = None, prefix: str = "test-") -> list[str]:
    """Ids of examples that have none of their own: "test-0", …, unless a training example has such an id."""
    while taken is not None and any(name.startswith(prefix) for name in taken):
        prefix += "-"
    return [f"{prefix}{i}" for i in range(n)]
