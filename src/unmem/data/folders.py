"""Trees of images: DIR/CLASS/IMAGE, or DIR/train/CLASS/IMAGE beside DIR/test and perhaps DIR/val."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from unmem.data.examples import Examples
from unmem.data.images import Files, pictures
from unmem.data.reading import Reading
from unmem.data.scaling import Scaling
from unmem.data.splits import Splits
from unmem.data.streaming import Stream
from unmem.errors import UserError

HOLDOUT_NAMES = ("val", "valid", "validation", "holdout")
PIXELS = Scaling(2 / 255, -1.0)  # bytes become [-1, 1]


def image_folder(root: Path, how: Reading) -> Splits:
    """Images by class folder; the id of an image is its path below `root`, with slashes."""
    how.only("a folder of images", "size", "grey", "scaling", "stream")
    parts = _parts(root)
    classes = _folders(parts["train"])
    if not classes:
        raise UserError("data", str(root), "has no class folders", "lay images out as DIR/CLASS/IMAGE")
    found = {part: _images(root, folder, classes) for part, folder in parts.items()}
    names = np.array([name for images, _, _ in found.values() for name in images], dtype=np.str_)
    encoded, marks = pictures(Files(root, names), names, how)
    examples: dict[str, Examples] = {}
    for part, (images, labels, _) in found.items():
        examples[part] = Examples.of(np.arange(len(images)), labels, ids=images, n_classes=len(classes))
    ignored = sum(others for _, _, others in found.values())
    notes = (f"{ignored:,} files in {root} are no images and were left out",) if ignored else ()
    splits = Splits.of_parts(root.resolve().name, _numbered(examples), classes=tuple(classes))
    splits = splits.filled(Stream.of(encoded, loaders=how.loaders), scaling=PIXELS, marks=marks)
    return replace(splits, notes=notes)


def _numbered(parts: dict[str, Examples]) -> dict[str, Examples]:
    """Row numbers as inputs, that go on from one part to the next."""
    numbered: dict[str, Examples] = {}
    first = 0
    for name, part in parts.items():
        numbered[name] = part.with_inputs(part.inputs[:] + first)
        first += len(part)
    return numbered


def _parts(root: Path) -> dict[str, Path]:
    """The folder of each part; the root itself where there is no folder of a training set."""
    if not (root / "train").is_dir() or not _folders(root / "train"):
        return {"train": root}
    parts = {"train": root / "train"}
    if (root / "test").is_dir():
        parts["test"] = root / "test"
    holdout = next((root / name for name in HOLDOUT_NAMES if (root / name).is_dir()), None)
    return parts if holdout is None else parts | {"holdout": holdout}


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(root: Path, folder: Path, classes: list[str]) -> tuple[list[str], list[int], int]:
    """Names below the root, labels, and the number of other files."""
    from PIL import Image

    suffixes = set(Image.registered_extensions())
    unknown = sorted(set(_folders(folder)) - set(classes))
    if unknown:
        raise UserError(
            "data", str(folder / unknown[0]), "is a class that the training set does not have", "rename or remove it"
        )
    names: list[str] = []
    labels: list[int] = []
    others = 0
    for label, name in enumerate(classes):
        files = [path for path in sorted((folder / name).rglob("*")) if path.is_file() and path.name[0] != "."]
        images = [path.relative_to(root).as_posix() for path in files if path.suffix.lower() in suffixes]
        if not images and (folder / name).is_dir():
            raise UserError("data", str(folder / name), "the class folder has no images", "fill or remove it")
        names += images
        labels += [label] * len(images)
        others += len(files) - len(images)
    if not names:
        raise UserError("data", str(folder), "has no images in class folders", "lay images out as DIR/CLASS/IMAGE")
    return names, labels, others
