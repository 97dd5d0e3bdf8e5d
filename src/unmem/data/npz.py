"""Arrays in an .npz file, in the layout of Keras."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmem.data.examples import Examples, Ids
from unmem.data.scaling import Scaling
from unmem.data.splits import Splits
from unmem.errors import Phrase, UserError


def npz(path: str | Path) -> Splits:
    """A file in the Keras layout: x_train, y_train, and if it has them x_test, y_test, ids_train.

    uint8 images become [-1, 1]; other numbers reach the model as they are. Without a test set the file is split
    70/15/15; with one, half of it becomes the holdout, so that the training set stays exactly the user's.
    """
    arrays = _npz_arrays(Path(path))
    labels = [arrays[name] for name in ("y_train", "y_test") if name in arrays]
    n_classes = 1 + max((int(y.max()) for y in labels if y.dtype.kind in "ui" and y.size), default=0)
    train = _npz_examples(arrays, "train", arrays.get("ids_train"), n_classes)
    name = Path(path).name
    if "x_test" not in arrays:
        return Splits.of(name, train)
    test = _npz_examples(arrays, "test", unseen_ids(len(arrays["x_test"]), taken=train.ids), n_classes)
    if test.input_shape != train.input_shape:
        raise UserError("x_test", test.input_shape, f"x_train has shape {train.input_shape}", "make the shapes equal")
    return Splits.of(name, train, test=test)


def _npz_arrays(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise UserError("data", str(path), "no such file", "check the path")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        reason = "it holds one array without a name" if isinstance(error, TypeError) else error
        raise UserError(
            "data", str(path), f"cannot be read as .npz ({reason})", "save it with numpy.savez, without object arrays"
        ) from error
    missing = [name for name in ("x_train", "y_train") if name not in arrays]
    if ("x_test" in arrays) != ("y_test" in arrays):
        missing.append("y_test" if "x_test" in arrays else "x_test")
    if missing:
        raise UserError(
            "data",
            str(path),
            f"has no {' and no '.join(missing)} (it has {', '.join(sorted(arrays)) or 'nothing'})",
            "name the arrays x_train, y_train, x_test, y_test",
        )
    return arrays


def _npz_examples(arrays: dict[str, NDArray[Any]], part: str, ids: Any, n_classes: int) -> Examples:
    x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
    if y.ndim == 2 and y.shape[1] == 1:  # Keras stores CIFAR labels as a column
        y = y[:, 0]
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[-1] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        x = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    if x.dtype.kind not in "uif":
        raise UserError(f"x_{part}", Phrase(f"of type {x.dtype}"), "inputs are numbers", "encode them as numbers")
    if x.dtype == np.uint8:
        return Examples.of(x, y, ids=ids, n_classes=n_classes, scaling=Scaling(2 / 255, -1.0))
    return Examples.of(x.astype(np.float32), y, ids=ids, n_classes=n_classes)


def unseen_ids(n: int, *, taken: Ids | None = None) -> list[str]:
    """Ids of test examples, which have none of their own: "test-0", …, unless a training example has such an id."""
    prefix = "test-"
    while taken is not None and any(name.startswith(prefix) for name in taken):
        prefix += "-"
    return [f"{prefix}{i}" for i in range(n)]
