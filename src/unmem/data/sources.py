"""Where data sets come from: one function a source, each giving `Splits`; `load` picks by name or path."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unmem.data.examples import Examples, Ids, Scaling
from unmem.data.splits import Splits, flip_labels, stratified_sample, stratified_split
from unmem.errors import Phrase, UserError, nearest

# A data set keeps one split whatever the seed of a run is: a model trained under one seed must never meet its own
# training examples in the holdout or test set of a run under another.
SPLIT_SEED = 0
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def load(
    source: str | Path,
    *,
    folder: str | Path | None = None,
    limit: int | None = None,
    flip: float = 0.0,
    seed: int = 0,
    device: str = "cpu",
) -> Splits:
    """The data set called `source` ("digits", "fashion-mnist") or in the file `source` (".npz").

    folder: where the files of "fashion-mnist" lie, if not where Debian's package puts them.
    limit: keep a stratified sample of this many training examples, drawn with `seed`.
    flip: plant this share of wrong training labels, drawn with `seed`; their ids are `.flipped`.
    """
    splits = _read(str(source), folder)
    if limit is not None:
        splits = Splits(splits.name, stratified_sample(splits.train, limit, seed=seed), splits.holdout, splits.test)
    if flip:
        splits = flip_labels(splits, flip, seed=seed)
    return splits.to(device)


def _read(source: str, folder: str | Path | None) -> Splits:
    if folder is not None and source != "fashion-mnist":
        raise UserError("folder", folder, f"only fashion-mnist reads from a folder, not {source!r}", "leave it out")
    if source == "digits":
        return digits()
    if source == "fashion-mnist":
        return fashion_mnist(folder)
    if source.endswith(".npz"):
        return npz(source)
    raise UserError(
        "data",
        source,
        "neither a data set nor the path of an .npz file",
        nearest(source, ["digits", "fashion-mnist"]),
    )


def digits() -> Splits:
    """scikit-learn's 1,797 scanned digits, 8×8 in 17 grey levels; ids are the row numbers there. Split 70/15/15."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images = bunch.images.astype(np.uint8)[:, None]
    return _split("digits", Examples.of(images, bunch.target, scaling=Scaling(1 / 8, -1.0)))


def fashion_mnist(folder: str | Path | None = None) -> Splits:
    """Fashion-MNIST (Xiao et al. 2017): 60,000 training and 10,000 test images, 28×28, from its four IDX files."""
    where = DEBIAN_FASHION_MNIST if folder is None else Path(folder)
    arrays = {
        (part, kind): _idx(where, f"{part}-{kind}-ubyte")
        for part in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    }
    # Mean and standard deviation of the 60,000 training images, as everywhere in the literature: 0.2860 and 0.3530.
    scaling = Scaling(1 / (255 * 0.3530), -0.2860 / 0.3530)
    train, test = (
        Examples.of(
            arrays[part, "images-idx3"][:, None],
            arrays[part, "labels-idx1"].astype(np.int64),
            ids=ids,
            n_classes=10,
            scaling=scaling,
        )
        for part, ids in (("train", range(60_000)), ("t10k", _test_ids(10_000)))
    )
    return _with_holdout("fashion-mnist", train, test)


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
        return _split(name, train)
    test = _npz_examples(arrays, "test", _test_ids(len(arrays["x_test"]), taken=train.ids), n_classes)
    if test.input_shape != train.input_shape:
        raise UserError("x_test", test.input_shape, f"x_train has shape {train.input_shape}", "make the shapes equal")
    return _with_holdout(name, train, test)


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


def _idx(folder: Path, name: str) -> NDArray[np.uint8]:
    """One IDX file of unsigned bytes, plain or gzipped. Format: 0, 0, 8, rank, big-endian sizes, then the bytes."""
    for path, opener in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
        if path.is_file():
            try:
                with opener(path, "rb") as file:
                    return _idx_array(file.read())
            except (ValueError, EOFError, OSError, zlib.error) as error:
                raise UserError("folder", str(path), "not a whole IDX file of bytes", "fetch the file again") from error
    raise UserError(
        "folder",
        str(folder),
        f"has no {name} or {name}.gz",
        f"name the folder with the four Fashion-MNIST files, or put them in {DEBIAN_FASHION_MNIST} by "
        "'apt-get install dataset-fashion-mnist'",
    )


def _idx_array(raw: bytes) -> NDArray[np.uint8]:
    if raw[:3] != b"\0\0\x08" or len(raw) < 4:
        raise ValueError("not the header of an IDX file of bytes")
    rank = raw[3]
    shape = tuple(int(size) for size in np.frombuffer(raw[4 : 4 + 4 * rank], dtype=">u4"))
    if len(shape) != rank or rank == 0:
        raise ValueError("the sizes are cut off")
    return np.frombuffer(raw[4 + 4 * rank :], dtype=np.uint8).reshape(shape).copy()


def _split(name: str, examples: Examples) -> Splits:
    train, holdout, test = stratified_split(examples, (0.70, 0.15, 0.15), seed=SPLIT_SEED)
    return Splits(name, train, holdout, test)


def _with_holdout(name: str, train: Examples, test: Examples) -> Splits:
    holdout, rest = stratified_split(test, (0.5, 0.5), seed=SPLIT_SEED)
    return Splits(name, train, holdout, rest)


def _test_ids(n: int, *, taken: Ids | None = None) -> list[str]:
    """Ids of test examples, which have none of their own: "test-0", …, unless a training example has such an id."""
    prefix = "test-"
    while taken is not None and any(name.startswith(prefix) for name in taken):
        prefix += "-"
    return [f"{prefix}{i}" for i in range(n)]


def pick_device(name: str) -> str:
    """`auto` is the GPU where PyTorch sees one, else the CPU; any other name is checked to be there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros((), device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError("device", name, "PyTorch cannot use it here", "choose auto or cpu") from error
    return name
