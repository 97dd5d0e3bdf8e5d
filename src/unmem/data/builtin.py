"""scikit-learn's digits and Fashion-MNIST: sets that need no download."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmem.data.examples import Examples
from unmem.data.npz import unseen_ids
from unmem.data.parting import USUAL_PARTING, Parting
from unmem.data.scaling import Scaling, named_scalings
from unmem.data.splits import Splits
from unmem.errors import UserError

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def digits(parting: Parting = USUAL_PARTING) -> Splits:
    """scikit-learn's 1,797 scanned digits, 8×8 in 17 grey levels; ids are the row numbers there. Split 70/15/15."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images = bunch.images.astype(np.uint8)[:, None]
    return Splits.of("digits", Examples.of(images, bunch.target, scaling=Scaling(1 / 8, -1.0)), parting=parting)


def fashion_mnist(folder: str | Path | None = None, parting: Parting = USUAL_PARTING) -> Splits:
    """Fashion-MNIST (Xiao et al. 2017): 60,000 training and 10,000 test images, 28×28, from its four IDX files."""
    where = DEBIAN_FASHION_MNIST if folder is None else Path(folder)
    arrays = {
        (part, kind): _idx(where, f"{part}-{kind}-ubyte")
        for part in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    }
    counts = {"train": 60_000, "t10k": 10_000}
    for (part, kind), array in arrays.items():
        if len(array) != counts[part]:
            problem = f"{part}-{kind}-ubyte has {len(array):,} entries, and Fashion-MNIST {counts[part]:,}"
            raise UserError("folder", str(where), problem, "fetch the file again")
    scaling = named_scalings(1)["fashion-mnist"]
    train, test = (
        Examples.of(
            arrays[part, "images-idx3"][:, None],
            arrays[part, "labels-idx1"].astype(np.int64),
            ids=ids,
            n_classes=10,
            scaling=scaling,
        )
        for part, ids in (("train", range(counts["train"])), ("t10k", unseen_ids(counts["t10k"])))
    )
    return Splits.of("fashion-mnist", train, test=test, parting=parting)


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
